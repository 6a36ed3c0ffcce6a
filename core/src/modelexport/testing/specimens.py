"""Tiny models, one for each thing that breaks exporters, for the compliance kit and for plugin authors.

Each takes milliseconds to run and under two seconds to capture. `SPECIMENS` maps names to them; a factory
gives a fresh `Source` with fixed weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..contract.sources import Source

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Specimen:
    """A model by name, what it is there to break, and the function that makes it."""

    name: str
    breaks: str
    make: Callable[[], Source]

    def source(self) -> Source:
        """A new module with the same weights every time."""
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(0)
            return replace(self.make(), name=self.name)


SPECIMENS: dict[str, Specimen] = {}


def _specimen(breaks: str) -> Callable[[Callable[[], Source]], Callable[[], Source]]:
    def keep(make: Callable[[], Source]) -> Callable[[], Source]:
        SPECIMENS[make.__name__] = Specimen(make.__name__, breaks, make)
        return make

    return keep


@_specimen("batch norm in training mode, and its folding into the convolution")
def conv_bn() -> Source:
    from torch import nn

    class ConvBn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
            self.bn = nn.BatchNorm2d(8)
            self.bn.running_mean.uniform_(-1, 1)
            self.bn.running_var.uniform_(0.5, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.bn(self.conv(x)).relu()

    return Source(ConvBn(), inputs=("x:float32[2,3,8,8]",))


@_specimen("order and names of several inputs and outputs")
def two_in_two_out() -> Source:
    import torch

    class Both(torch.nn.Module):
        def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
            return left - 2 * right, left * right

    return Source(Both(), inputs=("left:float32[2,3]", "right:float32[2,3]"), outputs=("difference", "product"))


@_specimen("outputs in a dict")
def dict_output() -> Source:
    import torch

    class Named(torch.nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"up": x + 1, "down": x - 1}

    return Source(Named(), inputs=("x:float32[2,3]",))


@_specimen("outputs in a nested tuple")
def tuple_output() -> Source:
    import torch

    class Nested(torch.nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            return x * 2, (x.sum(1), x.amax(1))

    return Source(Nested(), inputs=("x:float32[2,3]",))


@_specimen("a batch size frozen at the traced one")
def dynamic_batch() -> Source:
    from torch import nn

    return Source(
        nn.Sequential(nn.Linear(4, 512), nn.GELU(), nn.Linear(512, 2)), inputs=("input:float32[batch=1..8,4]",)
    )


@_specimen("a sequence length frozen, and attention under a mask")
def dynamic_sequence() -> Source:
    import torch
    from torch import nn

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(8, 24)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            heads = self.qkv(x).unflatten(-1, (2, 12)).transpose(1, 2)
            q, k, v = heads.chunk(3, dim=-1)
            keep = mask.bool()[:, None, None, :]
            mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=keep)
            return mixed.transpose(1, 2).flatten(2)

    shape = "[batch=1..4,sequence=1..16"
    return Source(Attention(), inputs=(f"x:float32{shape},8]", f"mask:int64{shape}]=mask"))


@_specimen("integer inputs outside the vocabulary, and indices narrowed to 32 bits")
def integer_ids() -> Source:
    from torch import nn

    return Source(nn.Sequential(nn.Embedding(11, 4), nn.Linear(4, 3)), inputs=("input:int64[batch=1..4,5]=0..10",))


@_specimen("a weight used twice, stored twice or once")
def shared_weights() -> Source:
    from torch import nn

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(7, 4)
            self.head = nn.Linear(4, 7, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.embed(ids).tanh())

    return Source(Tied(), inputs=("ids:int64[2,5]=0..6",))


@_specimen("buffers, persistent and not")
def buffers() -> Source:
    import torch

    class Buffered(torch.nn.Module):
        scale: Tensor
        shift: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.arange(1.0, 5.0))
            self.register_buffer("shift", torch.full((4,), 0.5), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale + self.shift

    return Source(Buffered(), inputs=("x:float32[2,4]",))


@_specimen("a branch on the data, written with torch.cond")
def control_flow() -> Source:
    import torch

    class Branch(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cond(x.sum() > 0, lambda t: t * 2, lambda t: t - 1, (x,))

    return Source(Branch(), inputs=("x:float32[2,3]",))


@_specimen("recurrence: an LSTM and its state")
def lstm() -> Source:
    from torch import nn

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(4, 6, batch_first=True)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            steps, (hidden, _) = self.lstm(x)
            return steps, hidden

    return Source(Recurrent(), inputs=("x:float32[batch=1..4,5,4]",), outputs=("steps", "hidden"))


@_specimen("resizing, where runtimes differ in coordinates")
def interpolate() -> Source:
    import torch

    class Resize(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.nn.functional.interpolate(x, size=(7, 9), mode="bilinear", align_corners=False)

    return Source(Resize(), inputs=("x:float32[1,2,5,6]",))


@_specimen("top-k: an integer output, and the order of equal values")
def top_k() -> Source:
    import torch

    class Best(torch.nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            # the ramp makes every value different, so the order has one answer
            values, indices = torch.topk(x.round(decimals=1) + torch.linspace(0, 0.05, 9), 3)
            return values, indices

    return Source(Best(), inputs=("x:float32[2,9]",), outputs=("values", "indices"))


@_specimen("an output without dimensions")
def scalar_output() -> Source:
    import torch

    class Mean(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.square().mean()

    return Source(Mean(), inputs=("x:float32[2,3]",))


@_specimen("half precision in and out")
def half() -> Source:
    from torch import nn

    return Source(nn.Linear(4, 3).half(), inputs=("input:float16[2,4]",))
