"""Models that torch.export captures under a condition on their sizes."""

from torch import nn


class CeilPool(nn.Module):
    """Right at every size, though torch.export can't prove it."""

    def forward(self, x):
        return nn.functional.max_pool2d(x, 2, 2, ceil_mode=True) + 1


class Branch(nn.Module):
    """Answers differently at one size only, which no case of the gate needs to hit."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        return x * 3 if x.shape[2] == self.size else x * 2


class Threshold(nn.Module):
    """Answers differently from some area on."""

    def forward(self, x):
        return x * 3 if x.shape[2] * x.shape[3] > 900 else x * 2
