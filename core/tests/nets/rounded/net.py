"""One linear layer, which the toy `rounder` can export, and the largest of its scores."""

import torch
from modelexport import Source


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.linear = torch.nn.Linear(6, 4)

    def forward(self, x):
        scores = self.linear(x)
        return {"scores": scores, "best": scores.argmax(-1)}


def net():
    return Source(Net(), inputs=("x:float32[batch=1..32,6]",))
