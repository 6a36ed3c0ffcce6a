"""Models for the tests of the ONNX target; whoever loads this file has torch."""

import torch
from torch import nn
from torch.nn import functional as F

# --------------------------------------------------------------------------------------- to quantize


class Convolutions(nn.Module):
    """BatchNorm and ReLU6 to fold away, a sum around a convolution, and a Gemm at the end."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.second, self.third = nn.Conv2d(16, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)
        self.head = nn.Linear(32, 40)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        x = F.relu6(self.norm(self.first(x)) * 3)
        x = F.relu(self.second(x))
        x = F.relu6(x + self.third(x))
        return self.head(x.mean((2, 3)))


def perceptron():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 96), nn.ReLU(), nn.Linear(96, 10))


class Encoder(nn.Module):
    """A transformer whose LayerNorms make one channel far larger than all others, as trained ones do."""

    def __init__(self, size=64, heads=4):
        super().__init__()
        torch.manual_seed(0)
        self.heads, self.embed = heads, nn.Embedding(200, size)
        parts = {"qkv": (size, 3 * size), "out": (size, size), "up": (size, 2 * size), "down": (2 * size, size)}
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {name: nn.Linear(*sizes) for name, sizes in parts.items()}
                | {name: nn.LayerNorm(size) for name in ("first", "second")}
            )
            for _ in range(2)
        )
        for layer in self.layers:
            with torch.no_grad():
                layer["first"].weight[5] = layer["second"].weight[5] = 40.0

    def attend(self, layer, x, mask):
        batch, length, size = x.shape
        split = [
            part.view(batch, length, self.heads, size // self.heads).transpose(1, 2)
            for part in layer["qkv"](x).chunk(3, -1)
        ]
        seen = (mask[:, None, None, :] > 0).expand(batch, 1, length, length)
        mixed = F.scaled_dot_product_attention(*split, attn_mask=seen)
        return layer["out"](mixed.transpose(1, 2).reshape(batch, length, size))

    def forward(self, ids, mask):
        x = self.embed(ids)
        for layer in self.layers:
            x = x + self.attend(layer, layer["first"](x), mask)
            x = x + layer["down"](F.gelu(layer["up"](layer["second"](x))))
        return x


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.lstm, self.head = nn.LSTM(24, 48, batch_first=True), nn.Linear(48, 12)

    def forward(self, x):
        return self.head(self.lstm(x)[0])


class Depthwise(nn.Module):
    """MobileNet's blocks; channels of one depthwise weight differ a thousandfold, which one scale can't hold."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.deep = nn.ModuleList(nn.Conv2d(32, 32, 3, padding=1, groups=32) for _ in range(2))
        self.point = nn.ModuleList(nn.Conv2d(32, 32, 1) for _ in range(2))
        self.head = nn.Conv2d(32, 12, 1)
        sizes = torch.logspace(-3, 0, 32)
        with torch.no_grad():
            self.deep[0].weight.mul_(sizes[:, None, None, None])
            self.deep[0].bias.mul_(sizes)
            self.point[0].weight.div_(sizes[None, :, None, None])

    def forward(self, x):
        x = F.relu6(self.stem(x))
        for deep, point in zip(self.deep, self.point, strict=True):
            x = F.relu(point(deep(x)))
        return self.head(x).flatten(2)


class Detector(nn.Module):
    """Boxes in pixels and scores in one tensor."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1, stride=2), nn.Conv2d(16, 16, 3, padding=1)
        self.boxes, self.scores = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 6, 1)

    def forward(self, x):
        x = F.relu(self.second(F.relu(self.first(x))))
        return torch.cat([self.boxes(x).sigmoid() * 500, self.scores(x).sigmoid()], 1).flatten(2)


class Counting(nn.Module):
    """It answers differently every time, which no ONNX file can."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(48, 48)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls.add_(1)
        return self.layer(x) + self.calls


# --------------------------------------------------------------------------------------- to compile


def linear():
    """The weights of two layers fit into blocks, those of the third don't."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 100), nn.ReLU(), nn.Linear(100, 64))


def cnn():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


class Unit(nn.Module):
    """Rows of length 1, and zeros for zeros."""

    def forward(self, x):
        return x / torch.clamp(x.norm(dim=-1, keepdim=True), min=1e-9)


def unit():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8, bias=False), Unit())


def cancelling():
    """Two channels of the second convolution differ by less than half precision rounds their weights by."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1), nn.ReLU(), nn.Conv2d(1, 4, 3))
    with torch.no_grad():
        net[0].weight[:] = 1.0
        net[0].bias[:] = 0.0
        net[2].weight[:] = torch.tensor([1000.3, -1000.1]).reshape(1, 2, 1, 1)
        net[2].bias[:] = 0.0
    return net


# --------------------------------------------------------------------------------------- to optimize


class Masked(nn.Module):
    """Two layers of a transformer with a mask, heads of 8; `never` makes the mask of numbers instead of truths."""

    def __init__(self, layers=2, size=32, heads=4, never=None):
        super().__init__()
        torch.manual_seed(0)
        self.heads, self.never = heads, never
        self.embed = nn.Embedding(50, size)
        self.start = nn.LayerNorm(size)
        parts = {"qkv": (size, 3 * size), "out": (size, size), "up": (size, 2 * size), "down": (2 * size, size)}
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {name: nn.Linear(*sizes) for name, sizes in parts.items()}
                | {name: nn.LayerNorm(size) for name in ("first", "second")}
            )
            for _ in range(layers)
        )

    def attend(self, layer, x, mask):
        batch, length, size = x.shape
        split = [
            part.view(batch, length, self.heads, size // self.heads).transpose(1, 2)
            for part in layer["qkv"](x).chunk(3, -1)
        ]
        seen = mask[:, None, None, :] > 0
        if self.never is None:
            mixed = F.scaled_dot_product_attention(*split, attn_mask=seen.expand(batch, 1, length, length))
        else:
            query, key, value = split
            scores = query @ key.transpose(2, 3) / (size // self.heads) ** 0.5
            mixed = (scores + torch.where(seen, 0.0, self.never)).softmax(-1) @ value
        return layer["out"](mixed.transpose(1, 2).reshape(batch, length, size))

    def forward(self, ids, mask):
        x = self.start(self.embed(ids))
        for layer in self.layers:
            x = layer["first"](x + self.attend(layer, x, mask))
            x = layer["second"](x + layer["down"](F.gelu(layer["up"](x))))
        return x


class Scaled(nn.Module):
    """Something in the middle of float16's range and something beyond its end, which is divided away again."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.last((self.first(x).exp() * 3e5).sqrt() / 500)


class Large(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(8, 4)

    def forward(self, x):
        small = self.layer(x).tanh()
        return small, (small + 2) * 1e5


class Elementwise(nn.Module):
    """Nothing to gain in half precision on a CPU: the casts take longer than the rest."""

    def forward(self, x):
        return torch.relu(x)


class Mixed(nn.Module):
    """Operators with inputs that must stay float32, attributes that hold a dtype, and a branch."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.scale = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.LayerNorm(16)

    def forward(self, x):
        y = F.interpolate(self.norm(self.conv(x)), scale_factor=2.0, mode="bilinear")
        y = self.scale(y) + torch.arange(16).float() / 16 + torch.zeros(x.shape[0], 1, 1, 1)
        positive = y.mean() > 100
        return torch.cond(positive, lambda a: a * 2, lambda a: a - a.mean(), (y,))


# --------------------------------------------------------------------------------------- to export


class Spectrum(nn.Module):
    def __init__(self, real):
        super().__init__()
        self.real = real

    def forward(self, x):
        spectrum = torch.fft.rfft(x)
        return torch.view_as_real(spectrum) if self.real else spectrum
