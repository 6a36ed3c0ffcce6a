"""Everything that a reference may name: factories of every kind, classes, modules, Sources."""

from collections import namedtuple

import modelexport
import torch
from torch import nn


def line():
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def with_tuple():
    return line(), (torch.zeros(2, 4),)


def with_list():
    return line(), [torch.zeros(2, 4)]


def with_tensor():
    return line(), torch.zeros(2, 4)


def with_dict():
    return line(), {"input": torch.zeros(2, 4)}


def as_source():
    inputs = ("input:float32[batch=1..8,4]",)
    return modelexport.Source(line(), inputs, outputs=("scores",), name="scorer")


def as_program():
    return torch.export.export(line(), (torch.zeros(2, 4),))


class Line(nn.Linear):
    def __init__(self):
        torch.manual_seed(0)
        super().__init__(4, 3)


instance = line()
ready = modelexport.Source(line(), ("input:float32[batch=1..8,4]",))


class Two(nn.Module):
    def forward(self, left, right):
        return left - 2 * right


def two():
    return Two()


Pair = namedtuple("Pair", "mean largest")


class Answers(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        mean, largest = x.mean(1), x.amax(1)
        match self.kind:
            case "tuple":
                return mean, largest
            case "dict":
                return {"mean": mean, "largest": largest}
            case "named":
                return Pair(mean, largest)
            case "nested":
                return {"both": (mean, largest), "x": x + 1}
            case "none":
                return mean, None, largest


def answers(kind):
    return lambda: (Answers(kind), (torch.zeros(2, 4),))


tuple_, dict_, named, nested, none = map(answers, ("tuple", "dict", "named", "nested", "none"))
