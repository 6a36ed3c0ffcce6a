"""A mean over the pixels of images of any size."""

from modelexport import Source
from torch import nn


class Mean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


def viewer():
    image = {
        "input": "x", "size": {"shortest_edge": 300}, "crop": None, "resample": "nearest", "rescale": 1 / 255,
        "mean": None, "std": None, "color": "RGB", "layout": "NCHW",
    }  # fmt: skip
    return Source(Mean(), inputs=("x:float32[batch,3,h,w]",), processing={"image": image})
