"""Models that exporters get wrong without a word, each beside a twin that they get right.

Every factory returns a Source that declares its inputs, so that a test needs the factory's name only.
"""

import torch
from modelexport import Source
from torch import nn
from torch.nn import functional as F


def _seeded(build, *declarations, **more):
    torch.manual_seed(0)
    return Source(build(), inputs=declarations, **more)


# ------------------------------------------------------------------ a branch on values


class Branch(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x * 2
        return x - 1


class BranchTwin(nn.Module):
    def forward(self, x):
        return torch.where(x.sum() > 0, x * 2, x - 1)


def branch():
    return _seeded(Branch, "x:float32[batch=1..8,4]")


def branch_twin():
    return _seeded(BranchTwin, "x:float32[batch=1..8,4]")


# ------------------------------------------------------------------ branches on sizes


class SizeOne(nn.Module):
    def forward(self, x):
        if x.shape[0] == 1:
            return x * 2
        return x


class SizeOneTwin(nn.Module):
    def forward(self, x):
        return x * 2


class Square(nn.Module):
    def forward(self, x):
        if x.shape[1] == x.shape[2]:
            return x.transpose(1, 2) * 2
        return x


def size_one():
    return _seeded(SizeOne, "x:float32[batch=1..8,4]")


def size_one_twin():
    return _seeded(SizeOneTwin, "x:float32[batch=1..8,4]")


def square():
    return _seeded(Square, "x:float32[2,h=2..9,w=3..9]")


def square_twin():
    return _seeded(SizeOneTwin, "x:float32[2,h=2..9,w=3..9]")


# ------------------------------------------------------------------ sizes that a trace freezes


class FrozenLength(nn.Module):
    def forward(self, x):
        return torch.zeros(x.shape[0], int(x.shape[1])) + x.mean()


class FrozenLengthTwin(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x) + x.mean()


class FrozenResize(nn.Module):
    def forward(self, x):
        return F.interpolate(x, size=(int(x.shape[2]) * 2, int(x.shape[3]) * 2), mode="nearest")


class FrozenResizeTwin(nn.Module):
    def forward(self, x):
        return F.interpolate(x, scale_factor=2.0, mode="nearest")


class SwappedAxes(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2).contiguous()


def frozen_length():
    return _seeded(FrozenLength, "x:float32[batch=1..4,seq=2..9]")


def frozen_length_twin():
    return _seeded(FrozenLengthTwin, "x:float32[batch=1..4,seq=2..9]")


def frozen_resize():
    return _seeded(FrozenResize, "x:float32[1,3,h=4..9,w=4..9]")


def frozen_resize_twin():
    return _seeded(FrozenResizeTwin, "x:float32[1,3,h=4..9,w=4..9]")


def swapped_axes():
    return _seeded(SwappedAxes, "x:float32[2,h=4..9,w=4..9]")


def swapped_axes_twin():
    return _seeded(SwappedAxes, "x:float32[2,h=4..9,w=5..9]")


class FixedReshape(nn.Module):
    """A trace keeps the sizes as constants, and fails at any other size."""

    def forward(self, x):
        return x.reshape(int(x.shape[0]) * int(x.shape[1])).cumsum(0)


def fixed_reshape():
    return _seeded(FixedReshape, "x:float32[batch=2..4,seq=2..9]")


# ------------------------------------------------------------------ state and chance


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x):
        self.seen += x.mean(0)
        return x + self.seen


class CounterTwin(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("offset", torch.arange(4.0))

    def forward(self, x):
        return x + self.offset


class AttributeState(nn.Module):
    n = 0

    def forward(self, x):
        self.n += 1
        return x * self.n


class DropoutLeftOn(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5)


def counter():
    return _seeded(Counter, "x:float32[batch=1..4,4]")


def counter_twin():
    return _seeded(CounterTwin, "x:float32[batch=1..4,4]")


def attribute_state():
    return _seeded(AttributeState, "x:float32[batch=1..4,4]")


def dropout():
    return _seeded(DropoutLeftOn, "x:float32[batch=1..4,16]")


def dropout_twin():
    return _seeded(lambda: nn.Sequential(nn.Dropout(0.5)), "x:float32[batch=1..4,16]")


class Logarithm(nn.Module):
    def forward(self, x):
        return torch.log(x)


def logarithm():
    return _seeded(Logarithm, "x:float32[batch=1..4,4]")


def logarithm_twin():
    return _seeded(Logarithm, "x:float32[batch=1..4,4]=0.5..2")


# ------------------------------------------------------------------ plain models


class Affine(nn.Module):
    """What the rogue target of the toys can export: two outputs of equal shape."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x):
        y = self.linear(x)
        return {"scores": y, "doubled": y * 2 + 1}


def affine():
    return _seeded(Affine, "x:float32[batch=1..4,6]")


def wide():
    """A megabyte of weights, for disks that are smaller."""
    return _seeded(lambda: nn.Linear(512, 512), "x:float32[batch=1..4,512]")
