"""Models whose inputs and outputs have shapes worth a look."""

import torch
from modelexport import Source
from torch import nn


def _seeded(build, *declarations, **more):
    torch.manual_seed(0)
    return Source(build(), inputs=declarations, **more)


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


class UNet(nn.Module):
    """Halves its input three times, and joins what it halved: sides must be multiples of 8."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList(
            [nn.Conv2d(2 ** (i + 1), 2 ** (i + 2), 3, stride=2, padding=1) for i in range(3)]
        )
        self.up = nn.ModuleList([nn.ConvTranspose2d(2 ** (i + 2), 2 ** (i + 1), 2, stride=2) for i in range(3)])

    def forward(self, x):
        kept = []
        for layer in self.down:
            kept.append(x)
            x = torch.relu(layer(x))
        for layer in reversed(self.up):
            x = torch.relu(layer(x)) + kept.pop()
        return x


def unet():
    return _seeded(UNet, "x:float32[batch=1..2,2,height=16..48/8,width=16..64/16]")


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0]


def recurrent():
    return _seeded(Recurrent, "x:float32[batch=1..4,seq=2..9,4]")


class Eights(nn.Module):
    def forward(self, x):
        return x.view(-1, 8).sum(1)


def eights():
    return _seeded(Eights, "x:float32[count=8..64]")


class Small(nn.Module):
    """It takes five at most."""

    def forward(self, x):
        if x.shape[0] > 5:
            return x * 2
        return x


def small():
    return _seeded(Small, "x:float32[batch=1..8,4]")
