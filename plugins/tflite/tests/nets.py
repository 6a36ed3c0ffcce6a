"""Models of the tests, each with something in it that LiteRT makes trouble about."""

import torch
from torch import nn
from torch.nn import functional as F


class Small(nn.Module):
    """A CNN that flattens: the batch is in a constant of the converted file."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8),
            nn.AdaptiveAvgPool2d(3),
        )  # fmt: skip
        self.head = nn.Linear(72, 4)

    def forward(self, image):
        return self.head(self.body(image).flatten(1)).softmax(-1)


class Encoder(nn.Module):
    """Embedding, attention under a mask, mean pooling."""

    def __init__(self):
        super().__init__()
        self.words, self.qkv = nn.Embedding(50, 16), nn.Linear(16, 48)

    def forward(self, ids, mask):
        q, k, v = self.qkv(self.words(ids)).unflatten(-1, (2, 24)).transpose(1, 2).chunk(3, -1)
        mixed = F.scaled_dot_product_attention(q, k, v, mask.bool()[:, None, None, :])
        share = mask[..., None].float()
        return (mixed.transpose(1, 2).flatten(2) * share).sum(1) / share.sum(1).clamp(min=1e-6)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRU(4, 6, batch_first=True, bidirectional=True)

    def forward(self, x):
        return self.cell(x)[0]


class Upsampled(nn.Module):
    """A transposed convolution and a group norm."""

    def __init__(self):
        super().__init__()
        self.up, self.norm = nn.ConvTranspose2d(3, 8, 2, stride=2), nn.GroupNorm(2, 8)

    def forward(self, x):
        return self.norm(self.up(x)).flatten(2).mean(2)


class Rows(nn.Module):
    """Compares every row with every other: the batch is two axes of one tensor."""

    def forward(self, x):
        return (x[:, None] - x[None]).abs().sum(-1).flatten()


class Bessel(nn.Module):
    """Operators that have no translation."""

    def forward(self, x):
        return torch.special.bessel_j0(x) + torch.special.airy_ai(x)


class WithBessel(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Bessel()

    def forward(self, x):
        return self.inner(x) * 2


class Inverse(nn.Module):
    """An operator whose translation fails, and that there is a hint for."""

    def forward(self, x):
        return torch.linalg.inv(x)


class Counter(nn.Module):
    """A state: a buffer that the forward adds to."""

    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(3))

    def forward(self, x):
        self.total.add_(x.sum(0))
        return self.total * 2


class Mixed(nn.Module):
    """Two inputs of different dtypes, two outputs."""

    def __init__(self):
        super().__init__()
        self.words, self.conv = nn.Embedding(9, 4), nn.Conv2d(3, 4, 3)

    def forward(self, ids, image):
        found = self.conv(image).mean((2, 3)) + self.words(ids).mean(1)
        return {"found": found, "best": found.argmax(1)}


class Scaled(nn.Module):
    """A scalar and booleans as inputs."""

    def forward(self, x, by, keep):
        return {"y": torch.where(keep, x * by, x)}


class Convolutions(nn.Module):
    """Convolutions and a head, with a scale between that 8 bits can't hold beside the rest when `wild`."""

    def __init__(self, wild=False):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16 * 16, 6)
        self.wild = wild

    def forward(self, x):
        x = self.second(self.first(x).relu()).relu()
        if self.wild:  # one channel a thousand times the others, scaled back later
            scale = torch.ones(16, 1, 1)
            scale[3] = 2000.0
            x = (x * scale + 0.5) / scale
        return self.head(F.adaptive_avg_pool2d(x, 4).flatten(1))


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.first, self.second = nn.Embedding(50, 32), nn.Linear(32, 64), nn.Linear(64, 4)

    def forward(self, ids):
        return self.second(torch.relu(self.first(self.words(ids))))
