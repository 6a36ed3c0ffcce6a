"""What a toolchain can't take of a model, said all at once and with the place in the user's code."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..contract.tensors import TensorSpec
from ..errors import ConversionError
from .provenance import module_path, source_line
from .wording import listed


@dataclass(frozen=True)
class Unsupported:
    """An operator that a toolchain has no translation or kernel for, and where the model uses it.

    `operator` is its full name, as in `aten.cumprod.default` or `aten::cumprod.out`; `module` the module of the
    model, `line` the source line, empty where it is unknown.
    """

    operator: str
    module: str = "the model"
    line: str = ""

    @classmethod
    def at(cls, node: Any, operator: str = "") -> Unsupported:
        """What a node of a captured graph calls; `operator` is its name where the node's own says less."""
        target = node.target
        named = str(target) if hasattr(target, "overloadpacket") else getattr(target, "__name__", str(target))
        return cls(operator or named, module_path(node), source_line(node))

    @property
    def name(self) -> str:
        """The operator without namespace and overload.

        >>> [Unsupported(name).name for name in ("aten.cumprod.default", "aten::cumprod.out", "cond")]
        ['cumprod', 'cumprod', 'cond']
        """
        parts = re.split(r"::|\.", self.operator)
        return parts[min(1, len(parts) - 1)]

    def __str__(self) -> str:
        return f"{self.operator} in {self.module}" + (f" at {self.line}" if self.line else "")


def refusal(
    missing: Sequence[Unsupported], lacks: str, otherwise: str, hints: Mapping[str, str] | None = None
) -> ConversionError:
    """The error that names every operator of `missing` with its place.

    `lacks` says what they don't have ("no ONNX translation"). `hints` say by `Unsupported.name` what helps;
    `otherwise` stands where there is none.

    >>> refusal([Unsupported("aten.cumprod.default", "head (Head)", "net.py:7")], "no kernel", "").message
    '1 operator has no kernel: aten.cumprod.default in head (Head) at net.py:7'
    """
    missing = list(dict.fromkeys(missing))
    kinds = len({each.operator for each in missing})
    known = list(dict.fromkeys((hints or {})[each.name] for each in missing if each.name in (hints or {})))
    return ConversionError(
        f"{kinds} operator{'s have' if kinds > 1 else ' has'} {lacks}: {listed(map(str, missing))}",
        "; ".join(known) or otherwise,
    )


def check_dtypes(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], takes: Callable[[str], bool], runtime: str
) -> None:
    """Raise ConversionError for the first input or output of a dtype that `runtime` doesn't take or give."""
    for kind, specs in (("input", inputs), ("output", outputs)):
        for spec in specs:
            if not takes(spec.dtype):
                raise ConversionError(
                    f"{kind} {spec.name!r} is {spec.dtype}, which {runtime} doesn't take or give",
                    _cast(spec.dtype),
                )


def _cast(dtype: str) -> str:
    if dtype.startswith("complex"):
        return "take and return pairs of real numbers instead: torch.view_as_complex, torch.view_as_real"
    if dtype == "float64":
        return "cast the model with .float()"
    return "cast it within the model"
