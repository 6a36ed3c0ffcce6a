"""The model whose artifacts are damaged: small, with a convolution, a matrix and a look-up."""

import torch
from modelexport.contract import Source


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(2, 3, 3, padding=1)
        self.linear = torch.nn.Linear(3 * 4 * 4, 5)
        self.register_buffer("table", torch.randn(7, 3))

    def forward(self, x, i):
        y = torch.relu(self.conv(x)).flatten(1)
        return torch.softmax(self.linear(y), -1), self.table[i].sum(1)


def net():
    return Source(module=Net(), inputs=("x:float32[2,2,4,4]", "i:int64[5]=0..6"))
