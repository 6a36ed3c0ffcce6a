"""Models for the tests of the TensorRT target; factories that `mx export nets.py:NAME` takes."""

import modelexport as mx
import torch
from torch import nn


def classifier():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


class Doubled(nn.Module):
    """float64 on the way."""

    def forward(self, x):
        return (x.double() * 2).float()


def doubled():
    return Doubled()


class Embedding(nn.Module):
    """Integers in and out."""

    def __init__(self):
        super().__init__()
        self.embed, self.linear = nn.Embedding(50, 8), nn.Linear(8, 4)

    def forward(self, ids, scale):
        hidden = self.linear(self.embed(ids)).relu()
        return hidden, (hidden.sum(1) * scale).to(torch.int64)


def embedding():
    torch.manual_seed(0)
    return Embedding()


# --------------------------------------------------------------------------------------- to quantize


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.wide = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.point = nn.Conv2d(width, width, 1)

    def forward(self, x):
        return torch.relu(x + self.point(torch.relu(self.wide(x))))


def cnn():
    torch.manual_seed(0)
    first, last = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 10)
    net = nn.Sequential(first, nn.ReLU(), Block(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
    return mx.Source(net, inputs=("image:float32[batch=1..8,3,16,16]=-1..1",), outputs=("scores",))


def linear():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 64))
    return mx.Source(net, inputs=("x:float32[batch=1..8,256]=-1..1",), outputs=("y",))


# --------------------------------------------------------------------------------------- what TensorRT lacks


class Volume(nn.Module):
    def forward(self, x):
        return torch.linalg.det(x)


class Volumes(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.volume = nn.Linear(4, 4), Volume()

    def forward(self, x):
        return self.volume(self.linear(x)) + torch.linalg.det(x)


def volumes():
    return Volumes()


# --------------------------------------------------------------------------------------- edges


def relu():
    return mx.Source(nn.ReLU(), inputs=("x:float32[batch=1..8,256]",))


def cancelling():
    """Two channels of the second convolution differ by less than half precision rounds their weights by."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1), nn.ReLU(), nn.Conv2d(1, 4, 3))
    with torch.no_grad():
        net[0].weight[:] = 1.0
        net[0].bias[:] = 0.0
        net[2].weight[:] = torch.tensor([1000.3, -1000.1]).reshape(1, 2, 1, 1)
        net[2].bias[:] = 0.0
    return mx.Source(net, inputs=("image:float32[1,1,8,8]=0..1",), outputs=("y",))
