"""The two ways to TorchScript: a trace records one run of the module, scripting compiles its source.

A trace takes any Python, and keeps whichever side of a branch, and whichever sizes, that one run took. A script
keeps control flow, and refuses most of Python. Both share the module's parameters until they are saved.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelexport.contract import TensorSpec
from modelexport.toolkit import (
    DescribedSource,
    ModuleState,
    call_arguments,
    name_outputs,
    stage,
    to_torch,
    trace_inputs,
)

from . import operators
from .backend import silenced


@dataclass(frozen=True)
class Traced:
    """A traced module, and the user's lines at which the tracer took a value for a constant."""

    module: Any
    doubts: tuple[str, ...]


@contextmanager
def untouched(module: Any) -> Iterator[None]:
    """Give the module back as it was: buffers that a call updated, attributes that torch.jit.script left."""
    state = ModuleState(module)
    names = [(part, set(vars(part))) for part in module.modules()]
    try:
        yield
    finally:
        if state.changed():
            state.restore()
        for part, own in names:
            for name in set(vars(part)) - own:
                del vars(part)[name]


def trace(described: DescribedSource) -> Traced:
    """Trace the module at sizes that differ from each other, and with the example's values.

    Outputs that TorchScript has no type for (None among tensors, dicts of tuples, dataclasses) become a dict of
    tensors by the artifact's output names. Raises ConversionError with the user's line.
    """
    import torch

    source, specs = described.source, described.specs
    example = trace_inputs(described)

    def arguments() -> tuple[tuple[Any, ...], dict[str, Any]]:
        """New tensors for each call: a forward may write to what it is given."""
        tensors = {spec.name: to_torch(example[spec.name]) for spec in specs}
        return call_arguments(source.module, specs, tensors)

    stage("trace the model")
    with untouched(source.module), torch.no_grad(), silenced() as caught:
        module, (args, kwargs) = source.module, arguments()
        try:
            outputs = module(*args, **kwargs)
            args, kwargs = arguments()
            if not _typed(outputs):
                module = _named(module, specs, source.outputs, tuple(kwargs))
                args, kwargs = (*args, *kwargs.values()), {}
            traced = torch.jit.trace(
                module, args or None, example_kwarg_inputs=kwargs or None, strict=False, check_trace=False
            )
        except Exception as error:
            raise operators.untraceable(error) from error
    return Traced(traced, _doubts(caught))


def _doubts(caught: Sequence[warnings.WarningMessage]) -> tuple[str, ...]:
    """The lines of the user's at which the tracer warned, in order."""
    import torch

    inside = str(Path(torch.__file__).parent)
    places = [
        (each.filename, each.lineno) for each in caught if issubclass(each.category, torch.jit.TracerWarning)
    ]
    return tuple(
        dict.fromkeys(operators.place_of(file, line) for file, line in places if not file.startswith(inside))
    )


def script(module: Any) -> Any:
    """Compile the module. Raises ConversionError with the user's line."""
    import torch

    stage("script the model")
    with untouched(module), silenced():
        try:
            compiled = torch.jit.script(module)
        except Exception as error:
            raise operators.unscriptable(error) from error
    if not hasattr(compiled, "forward"):
        raise operators.several_forwards(module)
    return compiled


def exported_methods(module: Any) -> tuple[str, ...]:
    """The module's methods marked @torch.jit.export: both ways compile them, to be called beside forward."""
    from torch._jit_internal import FunctionModifiers, get_torchscript_modifier

    functions = inspect.getmembers(type(module), inspect.isfunction)
    return tuple(name for name, f in functions if get_torchscript_modifier(f) is FunctionModifiers.EXPORT)


def _typed(outputs: Any) -> bool:
    """Whether the tracer has a type for these outputs."""
    import torch

    if isinstance(outputs, torch.Tensor):
        return True
    if isinstance(outputs, tuple):
        return bool(outputs) and all(_typed(item) for item in outputs)
    if type(outputs) in (dict, list) and outputs:
        items = outputs.values() if isinstance(outputs, Mapping) else outputs
        return all(isinstance(item, torch.Tensor) for item in items)
    return False


def _named(module: Any, specs: Sequence[TensorSpec], outputs: Sequence[str], keywords: Sequence[str]) -> Any:
    """A module around `module` that returns one dict of tensors, by the names they have in the artifact.

    `keywords` are the names of the inputs, where `module` is called with names.
    """
    import torch

    inputs = [spec.name for spec in specs]

    class Named(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.module = module
            self.training = False

        def forward(self, *tensors: Any) -> Any:
            by_name = dict(zip(keywords, tensors, strict=True)) if keywords else {}
            returned = module(**by_name) if keywords else module(*tensors)
            return name_outputs(returned, outputs, inputs)

    # The tracer names a forward's inputs after its signature.
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    Named.forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, kind) for name in ("self", *inputs)]
    )
    return Named()
