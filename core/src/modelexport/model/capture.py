"""Capture a live module with torch.export, once for every target.

Dynamic dims are traced at size 2 or more whatever the example's size, because torch.export specialises
sizes 0 and 1; dims of one name share one `torch.export.Dim`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from .. import errors
from ..contract.sources import Captured
from ..contract.tensors import Dim, TensorSpec, dims_of, fits
from ..errors import CaptureError, MxError
from ..gate import cases
from ..plugins import known
from ..quiet import quiet
from ..usercode import user_frame
from . import guards, reference
from .inputs import DescribedSource

_WAYS_OUT = (
    f"write the branch with torch.cond; or export to a target that compiles both sides, {known.KEEPS_BRANCHES}; "
    "or fix the branch with a constant if your inputs always take it"
)


def capture(described: DescribedSource) -> Captured:
    """The captured program of a live module. Raises CaptureError naming the user's line where it stopped."""
    import torch

    source, specs = described.source, described.specs
    inputs = trace_inputs(described)
    tensors = {name: reference.to_torch(array) for name, array in inputs.items()}
    args, kwargs = reference.arguments(source.module, specs, tensors)
    shapes = dynamic_shapes(specs)
    dynamic = tuple(shapes.values()) if args else shapes
    has_dims = any(shape for shape in shapes.values())

    def trace(**keywords: Any) -> Any:
        shapes = dynamic if has_dims else None
        return torch.export.export(source.module, args, kwargs, dynamic_shapes=shapes, strict=False, **keywords)

    with quiet("torch.fx", "torch._dynamo", "torch._export"):
        try:
            program = trace()
            problem = guards.violated(program)
        except MxError:
            raise
        except Exception as error:
            program = _deferred(trace) if has_dims and not _data_dependent(error) else None
            if program is None:
                raise _translate(error, specs) from error
        else:
            if problem is not None:
                program = _deferred(trace)
            if program is None:
                raise CaptureError(
                    f"the model takes another path at some of the declared sizes: captured for {problem}",
                    "declare narrower bounds with --input, or fix the size",
                )
    return Captured(program, specs, dynamic_shapes=dynamic, processing=source.processing)


def _deferred(trace: Callable[..., Any]) -> Any | None:
    """A program with assertions instead of guards: torch.export can't prove, say, that a pool in ceil mode fits.

    None when that fails too, or when an assertion does not hold at every size declared.
    """
    import torch

    try:
        with torch.fx.experimental._config.patch(backed_size_oblivious=True):
            program = trace(prefer_deferred_runtime_asserts_over_guards=True)
    except Exception:  # noqa: BLE001  the caller has the first attempt's error, which says more
        return None
    return program if guards.violated(program) is None else None


def trace_inputs(described: DescribedSource) -> dict[str, Any]:
    """What to trace a model with: values at sizes of 2 or more, the example itself where nothing is dynamic."""
    specs = described.specs
    dims = dims_of(specs)
    if not dims and described.example is not None and fits(described.example, specs):
        return described.example
    return cases.generate_at(specs, cases.middle_sizes(specs), described.example)


def dynamic_shapes(specs: Sequence[TensorSpec]) -> dict[str, dict[int, Any]]:
    """Axis → `torch.export.Dim` for every input; equal names give the same object."""
    import torch

    def symbol(dim: Dim) -> Any:
        if dim.multiple == 1:
            return torch.export.Dim(dim.name, min=dim.min, max=dim.max)
        high = None if dim.max is None else dim.max // dim.multiple
        return dim.multiple * torch.export.Dim(f"{dim.name}_steps", min=dim.min // dim.multiple, max=high)

    dims = {dim.name: symbol(dim) for dim in dims_of(specs)}
    return {
        spec.name: {axis: dims[size.name] for axis, size in enumerate(spec.shape) if isinstance(size, Dim)}
        for spec in specs
    }


def _translate(error: Exception, specs: Sequence[TensorSpec]) -> CaptureError:
    where = user_frame(error)
    at = f" at {where}" if where else ""
    text = str(error)
    name = type(error).__name__
    if _data_dependent(error):
        return CaptureError(f"torch.export can't follow control flow that depends on the data{at}", _WAYS_OUT)
    if match := re.search(r"Constraints violated \(([^)]*)\)", text):
        return CaptureError(
            f"the model does not take every size of {match[1]}: {_reason(text)}", _suggestion(text, specs)
        )
    return CaptureError(
        f"torch.export can't capture the model{at}: {name}: {errors.first_line(error)}",
        "write that line with torch operators only; --debug shows the whole trace",
    )


def _data_dependent(error: Exception) -> bool:
    return type(error).__name__.startswith("GuardOnDataDependent") or "data-dependent" in str(error)


def _reason(text: str) -> str:
    reason = next((line.strip(" -") for line in text.splitlines() if line.strip().startswith("- ")), "")
    if match := re.search(
        r"marked (\S+) as dynamic but your code specialized it to be a constant \((\d+)\)", reason
    ):
        return f"its code works with the one size {match[1]} was traced at ({match[2]})"
    return re.sub(r"\s+", " ", reason).replace("L['", "").replace("']", "").split(". ")[0]


def _suggestion(text: str, specs: Sequence[TensorSpec]) -> str:
    fixes = [line.strip() for line in text.partition("Suggested fixes:")[2].splitlines() if " = " in line]
    fixes = [line for line in fixes if not line.startswith("_")]
    dims = {dim.name for dim in dims_of(specs)}
    names = [line.partition(" = ")[0] for line in fixes if line.partition(" = ")[0] in dims]
    suggested = f"torch.export suggests {'; '.join(fixes)}. " if fixes else ""
    name = names[0] if names else "that dim"
    return f"{suggested}Give {name} a fixed size in --input, or narrower bounds"
