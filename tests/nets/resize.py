"""Resizes, which a converter to ONNX weakens without a word, each beside a twin that it gets right."""

import torch
from modelexport import Source
from torch import nn
from torch.nn import functional as F


def _seeded(build, *declarations):
    torch.manual_seed(0)
    return Source(build(), inputs=declarations)


class Resize(nn.Module):
    """With antialias, torch.onnx drops align_corners, and a scale factor that sizes round away from."""

    def __init__(self, mode, antialias, **how):
        super().__init__()
        self.how = {"mode": mode, "antialias": antialias, **how}

    def forward(self, x):
        return F.interpolate(x, **self.how)


def _resize(mode, antialias, **how):
    return _seeded(lambda: Resize(mode, antialias, **how), "x:float32[batch=1..3,3,20,30]")


def resize_bilinear():
    return _resize("bilinear", True, scale_factor=0.37)


def resize_bilinear_twin():
    return _resize("bilinear", False, scale_factor=0.37)


def resize_bicubic():
    return _resize("bicubic", True, scale_factor=0.37)


def resize_bicubic_twin():
    return _resize("bicubic", False, scale_factor=0.37)


def resize_corners():
    return _resize("bilinear", True, size=(7, 5), align_corners=True)


def resize_corners_twin():
    return _resize("bilinear", False, size=(7, 5), align_corners=True)


def resize_to_size():
    return _resize("bilinear", True, size=(7, 5))
