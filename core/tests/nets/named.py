"""A model whose input and output are called as an argument of numpy's is."""

from modelexport import Source
from torch import nn


class Named(nn.Module):
    def forward(self, file):
        return {"file": file * 2}


def named():
    return Source(Named(), inputs=("file:float32[2]",))
