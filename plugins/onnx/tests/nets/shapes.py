"""Models whose inputs and outputs have names and dims worth a look, and one that ONNX can't hold."""

import torch
from modelexport import Source
from torch import nn


def _seeded(build, *declarations, **more):
    torch.manual_seed(0)
    return Source(build(), inputs=declarations, **more)


def line():
    return _seeded(lambda: nn.Linear(4, 3), "input:float32[batch=1..8,4]")


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x):
        return self.layers(x)


def example_of_one():
    torch.manual_seed(0)
    return Classifier(), (torch.randn(1, 6),)


class Scores(nn.Module):
    """Two inputs that share both of their dims."""

    def forward(self, ids, mask):
        weights = mask.to(torch.float32)
        return (ids * weights).sum(1) / weights.sum(1), ids * 2


def scores():
    return _seeded(Scores, "ids:int64[batch=1..4,seq=1..9]=0..30", "mask:int64[batch,seq]=mask")


class Nested(nn.Module):
    def forward(self, x):
        return {"logits": x * 2, "hidden": (x + 1, [x - 1]), "x": x * 3}


class Pair(nn.Module):
    def forward(self, x):
        return x + 1, (x.sum(1), x.long())


def nested():
    return _seeded(Nested, "x:float32[batch=1..4,6]")


def pair():
    return _seeded(Pair, "x:float32[batch=1..4,6]")


def named_pair():
    return _seeded(Pair, "x:float32[batch=1..4,6]", outputs=("plus", "total", "whole"))


class Bessel(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x) + torch.special.i1e(x)


class Unsupported(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.ReLU(), Bessel())

    def forward(self, x):
        values = torch.linalg.eigh(x)[0]
        return self.inner(values)


def unsupported():
    return _seeded(Unsupported, "x:float32[batch=1..4,3,3]")
