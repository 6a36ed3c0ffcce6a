"""Dims held narrower than the model takes them: `--dim NAME=SIZE`, for every target or `TARGET.NAME=SIZE` for one.

Some converters keep no dim dynamic. The model is captured once, as wide as it is declared; for a target that wants
less, the captured program is exported again with that dim fixed, or within narrower bounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..contract.sources import Captured
from ..contract.tensors import Dim, TensorSpec, dims_of
from ..errors import CaptureError, OptionError, first_line
from ..gate import cases
from ..quiet import quiet
from . import capture, reference
from .inputs import DescribedSource

if TYPE_CHECKING:
    from ..contract.tensors import Arrays

#: dim → its size, or its narrower bounds
Dims = Mapping[str, int | Dim]

_FORM = "write --dim NAME=SIZE, NAME=LOW..HIGH or NAME=LOW..HIGH/STEP, with TARGET. before it for one target"


def parse(texts: Sequence[str], targets: Sequence[str]) -> dict[str, dict[str, int | Dim]]:
    """Target → what `texts` say about dims for it; "" stands for every target.

    Raises OptionError for what can't be read, and for a target that is not among `targets`.
    """
    by_target: dict[str, dict[str, int | Dim]] = {"": {}, **{target: {} for target in targets}}
    for text in texts:
        place, equals, size = text.partition("=")
        target, _, name = place.rpartition(".")
        if not equals or not name.isidentifier():
            raise OptionError(f"can't read --dim {text!r}", _FORM)
        if target not in by_target:
            raise OptionError(f"--dim {text!r} is for a target that is not asked for", f"add -t {target}")
        if name in by_target[target]:
            raise OptionError(f"--dim {place} is given twice", "give it once")
        by_target[target][name] = _size(name, size, text)
    return by_target


def _size(name: str, size: str, text: str) -> int | Dim:
    try:
        (read,) = TensorSpec.parse(f"x:bool[{size if size.isdigit() else f'{name}={size}'}]").shape
    except OptionError as error:
        raise OptionError(f"can't read --dim {text!r}: it is no size, and no range of sizes", _FORM) from error
    return read


def specs(declared: Sequence[TensorSpec], dims: Dims) -> tuple[TensorSpec, ...]:
    """`declared` with narrower dims. Raises OptionError for a dim it lacks, or sizes that it does not take."""
    known = {dim.name: dim for dim in dims_of(declared)}
    for name, wanted in dims.items():
        if name not in known:
            has = f"its dynamic dims are {', '.join(known)}" if known else "it has none: every size is fixed"
            raise OptionError(f"the model has no dynamic dim {name!r}", has)
        if not _within(wanted, known[name]):
            raise OptionError(f"{name} can't be {_shown(wanted)}: the model takes {known[name]}", "narrow it only")
    return tuple(
        replace(spec, shape=tuple(dims.get(s.name, s) if isinstance(s, Dim) else s for s in spec.shape))
        for spec in declared
    )


def _within(wanted: int | Dim, declared: Dim) -> bool:
    if isinstance(wanted, int):
        return declared.allows(wanted)
    below = declared.max is None or (wanted.max is not None and wanted.max <= declared.max)
    return wanted.min >= declared.min and below and wanted.multiple % declared.multiple == 0


def _shown(wanted: int | Dim) -> str:
    return str(wanted).partition("=")[2] or str(wanted) if isinstance(wanted, Dim) else str(wanted)


def program(captured: Captured, described: DescribedSource) -> Captured:
    """`captured`, exported again for the narrower inputs of `described`. Raises CaptureError."""
    try:
        return recaptured(captured, described.specs, capture.trace_inputs(described))
    except Exception as error:
        raise CaptureError(
            f"the captured program can't be narrowed: {type(error).__name__}: {first_line(error)}",
            "declare the sizes with --input, for every target",
        ) from error


def recaptured(
    captured: Captured, specs: tuple[TensorSpec, ...], inputs: Arrays | None = None, module: Any = None
) -> Captured:
    """The program captured again for inputs `specs`, or `module`, which takes the same ones, in its place.

    It is traced on `inputs`, random ones by default. Raises what torch.export does.
    """
    import torch
    from torch.utils import _pytree

    if inputs is None:
        inputs = cases.generate_at(specs, cases.middle_sizes(specs))
    tensors = {name: reference.to_torch(array) for name, array in inputs.items()}
    args, kwargs = reference.arguments(captured.program, specs, tensors)
    module = module or captured.program.module()
    by_input = capture.dynamic_shapes(specs)
    leaves = [by_input[spec.name] or None for spec in specs]
    positional, named = _pytree.tree_unflatten(leaves, captured.program.call_spec.in_spec)
    shapes = dict(zip(reference.parameters(module), positional, strict=False)) | named
    dynamic = shapes if dims_of(specs) else None
    with quiet("torch.fx", "torch._dynamo", "torch._export"):
        program = torch.export.export(module, args, kwargs, dynamic_shapes=dynamic, strict=False)
    kept = tuple(by_input.values()) if args else by_input
    return replace(captured, program=program, inputs=specs, dynamic_shapes=kept)
