"""A model with an operator of the user's own."""

from modelexport import Source
from softplus_op import shifted_softplus
from torch import nn


class Net(nn.Module):
    def forward(self, x):
        return shifted_softplus(x, 0.25) * 2


def net():
    return Source(Net(), inputs=("x:float32[batch=1..4,6]",))
