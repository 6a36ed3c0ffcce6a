"""Models for the tests of the TorchScript target; each factory returns a Source that declares its inputs."""

from typing import Dict, NamedTuple  # noqa: UP035  TorchScript knows these names

import torch
from modelexport import Source
from torch import Tensor, nn


def _source(build, *declarations, **more):
    torch.manual_seed(0)
    return Source(build(), inputs=declarations or ("x:float32[batch=1..8,6]",), **more)


def classifier():
    return _source(lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(8, 3)))


class Branch(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x * 2
        return x - 1


def branch():
    return _source(Branch)


class RareBranch(nn.Module):
    """No check draws inputs as large as this."""

    def forward(self, x):
        if x.sum() > 1e6:
            return x * 2
        return x - 1


def rare_branch():
    return _source(RareBranch)


class Stuck(nn.Module):
    """A branch that a trace freezes, in Python that TorchScript does not know."""

    def __init__(self):
        super().__init__()
        self.names = ["a", 3]

    def forward(self, x):
        if x.sum() > 0:
            return x * len(self.names)
        return x - 1


def stuck():
    return _source(Stuck)


class FrozenLength(nn.Module):
    def forward(self, x):
        return torch.zeros(x.shape[0], int(x.shape[1])) + x.mean()


def frozen_length():
    return _source(FrozenLength, "x:float32[batch=1..4,seq=2..9]")


class Python(nn.Module):
    """What no script can be made of, and a trace can."""

    def forward(self, x, **options):
        return sorted([x + 1, x], key=lambda y: 0)[0]


def python():
    return _source(Python)


class Conditional(nn.Module):
    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda t: t * 2, lambda t: t - 1, (x,))


def conditional():
    return _source(Conditional)


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(6))

    def forward(self, x):
        self.seen += x.mean(0)
        return self.seen


class Replacing(Counter):
    def forward(self, x):
        self.seen = self.seen + x.mean(0)
        return x + self.seen


def counter():
    return _source(Counter)


def replacing():
    return _source(Replacing)


class InPlace(nn.Module):
    def forward(self, x):
        x += 1
        return x


def in_place():
    return _source(InPlace)


class Same(nn.Module):
    def forward(self, x):
        return x


def same():
    return _source(Same)


class WithMethods(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, x):
        return self.helper(x)

    def helper(self, x):
        return self.linear(x)

    @torch.jit.export
    def scaled(self, x, by: float) -> Tensor:
        return self.linear(x) * by


def with_methods():
    return _source(WithMethods)


class Dictionary(nn.Module):
    def forward(self, x) -> Dict[str, Tensor]:  # noqa: UP006
        return {"zeta": x * 2, "alpha": x.sum(1), "x": x.long()}


class Pair(nn.Module):
    def forward(self, x):
        return x + 1, (x.sum(1), x.long())


class Named(NamedTuple):
    logits: Tensor
    hidden: Tensor


class NamedOutputs(nn.Module):
    def forward(self, x):
        return Named(x * 2, x.sum(1))


class Nested(nn.Module):
    """Outputs that TorchScript has no type for."""

    def forward(self, x):
        return {"logits": x * 2, "hidden": (x + 1, [x - 1]), "none": None, "x": x * 3}


class NestedWithMethods(Nested):
    @torch.jit.export
    def scaled(self, x, by: float) -> Tensor:
        return x * by


class Picky(nn.Module):
    def forward(self, x):
        if x.sum() > 1e6:
            raise ValueError("too large")
        return x


def nested_with_methods():
    return _source(NestedWithMethods)


def picky():
    return _source(Picky)


def dictionary():
    return _source(Dictionary)


def pair():
    return _source(Pair, outputs=("plus", "total", "whole"))


def named_outputs():
    return _source(NamedOutputs)


def nested():
    return _source(Nested)


class Options(nn.Module):
    """Inputs in another order than forward takes them, and one left out."""

    def forward(self, a, b, offset: float = 0.0):
        return a - b + offset


def options():
    return _source(Options, "b:float32[batch=1..4,6]", "a:float32[batch=1..4,6]")


class Scalars(nn.Module):
    def forward(self, x, by: float, plus: int, on: bool):
        return x * by + plus if on else x


class Noisy(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5)


def noisy():
    return _source(Noisy)


def bfloat16():
    return _source(lambda: nn.Linear(6, 3).to(torch.bfloat16), "x:bfloat16[batch=1..4,6]")


def lstm():
    return _source(lambda: nn.LSTM(6, 8, batch_first=True), "x:float32[batch=1..4,seq=1..9,6]")


def convolutions():
    def layers():
        return nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)

    return _source(lambda: nn.Sequential(*layers()), "x:float32[batch=1..4,3,16,16]")
