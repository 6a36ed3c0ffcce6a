"""What a compiled artifact computes, layer by layer: plain data, alike for every target that compiles.

A target returns the layers as `Build.layers`; the manifest keeps them, `mx inspect` shows them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class CompiledLayer:
    """One step of the compiled model: a kernel, or several that run as one.

    `kind` is what it does (convolution, matrix product, pointwise…), `precision` the dtype it computes in, empty
    where it computes nothing (it waits, or computes sizes), and `source` names the model's own operators in it.
    """

    name: str
    kind: str
    precision: str
    source: str = ""


def by_kind(layers: Sequence[CompiledLayer]) -> dict[str, Counter[str]]:
    """How many layers of each kind there are in each precision, the most frequent kind first."""
    total = Counter(layer.kind for layer in layers)
    return {
        kind: Counter(layer.precision for layer in layers if layer.kind == kind) for kind, _ in total.most_common()
    }
