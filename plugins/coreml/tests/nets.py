"""Models of the tests, each with something in it that Core ML or its converter is particular about."""

import torch
from torch import nn
from torch.nn import functional as F


class Small(nn.Sequential):
    """A CNN with what CNNs have: strided and depthwise convolutions, pools, normalization, PReLU."""

    def __init__(self, classes=4):
        super().__init__(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.PReLU(8),
            nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU6(), nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(8, 16, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes),
        )  # fmt: skip


class Classifier(nn.Sequential):
    def __init__(self):
        super().__init__(Small(), nn.Softmax(-1))


class FiveClasses(Small):
    def __init__(self):
        super().__init__(5)


class Line(nn.Linear):
    def __init__(self):
        super().__init__(64, 64)


class Narrow(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)


class Encoder(nn.Module):
    """Two layers of a BERT: embeddings, masked attention, mean pooling."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(50, 32), nn.Embedding(32, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu")
        self.layers = nn.ModuleList([layer, nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)])

    def forward(self, ids, mask):
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        for layer in self.layers:
            heads = layer.self_attn
            q, k, v = F.linear(x, heads.in_proj_weight, heads.in_proj_bias).chunk(3, -1)
            q, k, v = (part.unflatten(-1, (4, 8)).transpose(1, 2) for part in (q, k, v))
            mixed = F.scaled_dot_product_attention(q, k, v, mask.bool()[:, None, None, :])
            x = layer.norm1(x + heads.out_proj(mixed.transpose(1, 2).flatten(2)))
            x = layer.norm2(x + layer.linear2(layer.activation(layer.linear1(x))))
        share = mask[..., None].float()
        return (x * share).sum(1) / share.sum(1).clamp(min=1e-6)


class Recurrent(nn.Module):
    def __init__(self, kind, both):
        super().__init__()
        self.cell = getattr(nn, kind)(4, 6, num_layers=2, batch_first=True, bidirectional=both)

    def forward(self, x):
        return self.cell(x)[0]


class Projected(nn.Module):
    """An LSTM that the converter takes apart only."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTM(4, 6, proj_size=3, batch_first=True)

    def forward(self, x):
        return self.cell(x)[0]


class Grouped(nn.Module):
    """Attention in which four heads share two keys, in pairs."""

    def forward(self, q, k):
        return F.scaled_dot_product_attention(q, k, k, enable_gqa=True)


class Rewritten(nn.Module):
    """Operators that the converter lacks, and that are written with others."""

    def forward(self, x):
        return F.adaptive_avg_pool2d(x, 4).round(decimals=2)


class Pool(nn.Module):
    """A pool whose stride is not given."""

    def __init__(self, name):
        super().__init__()
        self.pool = getattr(F, name)

    def forward(self, x):
        return self.pool(x, 2)


class Counter(nn.Module):
    """It keeps a sum of all it has seen."""

    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(3))

    def forward(self, x):
        self.total.add_(x.sum(0))
        return x + self.total


class CounterOfIntegers(Counter):
    def forward(self, ids):
        self.total.add_(ids.sum(0).float())
        return {"up.sum": ids + 1, "mean": self.total * 1.5}


class Named(nn.Module):
    """Outputs with names that are no identifiers, or an input's."""

    def forward(self, x, mask):
        return {"up.sum": x + mask, "down": x - mask.float(), "x": x * 2}


class Next(nn.Module):
    def forward(self, ids):
        return ids + 1


class Strange(nn.Module):
    """Operators that Core ML has nothing for."""

    def forward(self, x):
        return torch.special.bessel_j0(x) + torch.igamma(x.abs() + 1, x.abs() + 1)


class Spectrum(nn.Module):
    """An output of complex numbers."""

    def forward(self, x):
        return torch.fft.rfft(x)


class Wide(nn.Sequential):
    """Two layers that are worth compressing, and one that is not."""

    def __init__(self):
        super().__init__(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 8))


class Masked(nn.Module):
    """A mask of infinities among the constants."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 64)
        self.register_buffer("mask", torch.full((64, 64), -torch.inf).triu(1))

    def forward(self, x):
        return (self.linear(x) + self.mask).softmax(-1)


class Far(nn.Module):
    """An addition whose values are beyond half precision."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 64)

    def forward(self, x, far):
        return (self.layer(x) + torch.where(far > 0.5, -torch.inf, far)).softmax(-1)


class Branches(nn.Module):
    """A convolution, a pool, a sum of two branches, and a layer."""

    def __init__(self):
        super().__init__()
        self.stem, self.side = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 8)

    def forward(self, x):
        x = self.stem(x).relu()
        x = F.max_pool2d(x + self.side(x).relu(), 2)
        return self.head(x.mean((2, 3)))


class Sums(nn.Module):
    def forward(self, x, y):
        return x.sum(1) + 2 * y.sum(1), x.mean() * y


class Shades(nn.Module):
    """Probabilities of four classes from the means of an image's channels."""

    def forward(self, image):
        means = image.mean((2, 3))
        return torch.cat([means, means.sum(1, keepdim=True) / 3], 1).softmax(1)


class Stereo(nn.Module):
    def forward(self, left, right):
        return left - right


class Painter(nn.Module):
    def forward(self, left):
        return (255 - left).clamp(0, 255)
