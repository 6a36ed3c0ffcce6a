"""Two inputs that share a dim: floats, and integers with a vocabulary."""

import torch
from modelexport import Source
from torch import nn


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.line = nn.Embedding(10, 4), nn.Linear(4, 4)

    def forward(self, x, ids):
        return self.line(x) + self.table(ids).mean(1)


def two():
    torch.manual_seed(0)
    return Source(Two(), inputs=("x:float32[batch=1..8,4]", "ids:int64[batch=1..8,seq=1..6]=0..9"))
