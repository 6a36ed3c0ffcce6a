"""Models for the tests of the ExecuTorch target."""

import torch
from torch import nn


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 8, 3), nn.ReLU())
        self.head = nn.Linear(8, 4)

    def forward(self, image):
        return self.head(self.body(image).mean((2, 3), keepdim=True).flatten(1))


class DeepCnn(nn.Module):
    """Three convolutions, weights and statistics spread as those of trained nets."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        parts = []
        for wide in (3, 16, 16, 16):
            parts += [nn.Conv2d(wide, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU6()]
        self.body, self.head = nn.Sequential(*parts), nn.Linear(16, 10)
        torch.manual_seed(0)
        for part in self.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.uniform_(-2, 2)
                part.running_var.uniform_(0.05, 8)

    def forward(self, image):
        return self.head(self.body(image).mean((2, 3), keepdim=True).flatten(1))


class Words(nn.Module):
    """A transformer's beginning: positions are computed with whole numbers, as BERT's are."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.places = nn.Embedding(50, 32), nn.Embedding(40, 32)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0)
        self.head = nn.Linear(32, 8)

    def forward(self, ids):
        places = torch.arange(ids.shape[1]) + 2
        return self.head(self.layer(self.words(ids) + self.places(places)))


class Lines(nn.Module):
    """A convolution over one dim, and reshapes with two dynamic dims."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(4, 4, 3, padding=1)

    def forward(self, x):
        return (self.conv(x).unsqueeze(-1) * 2).squeeze(-1)


class Stranger(nn.Module):
    """Two operators that the runtime has no kernel for."""

    def forward(self, x):
        return torch.histc(x, 4) + x.median()


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Stranger()

    def forward(self, x):
        return self.inner(x)


class Histogram(nn.Module):
    def forward(self, x):
        return torch.histc(x, 4)


class Sorted(nn.Module):
    """Operators that others stand for."""

    def forward(self, x):
        values, places = x.sort(-1, descending=True)
        return values.round(decimals=1), places, x.argsort(0)


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        return torch.cond(x.sum() > 0, self.up, self.down, (x,))


class Counter(nn.Module):
    """State: how often it was called, from 3 on."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.full((2,), 3.0))

    def forward(self, x):
        self.count.add_(1)
        return x * self.count


class Complex(nn.Module):
    def forward(self, x):
        return x * 2


class Named(nn.Module):
    """Names that are no identifiers, a word of C++, several dtypes, and two dynamic dims."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.mix = nn.Embedding(10, 6), nn.Linear(6, 3)

    def forward(self, ids, float, scale):
        mixed = self.mix(self.table(ids) + float)
        return mixed * scale, mixed.argmax(-1)
