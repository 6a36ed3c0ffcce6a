"""Small nets, good and bad."""

import torch
from torch import nn


def good():
    torch.manual_seed(0)
    return nn.Linear(4, 3), (torch.zeros(2, 4),)


def without_inputs():
    return nn.Linear(4, 3)


def embedding():
    return nn.Embedding(10, 3)


def raises():
    sizes = {"hidden": 4}
    return nn.Linear(sizes["width"], 3)


def exits():
    raise SystemExit("no licence")


def nothing():
    pass


def text():
    return "a model"


def nan():
    model = nn.Linear(4, 3)
    model.weight.data[1, 2] = float("nan")
    return model, (torch.zeros(2, 4),)


class Fails(nn.Module):
    def forward(self, x):
        return x.reshape(-1, 7)


def fails():
    return Fails(), (torch.zeros(2, 4),)


def list_example():
    return nn.Linear(4, 3), ([torch.zeros(2, 4)],)
