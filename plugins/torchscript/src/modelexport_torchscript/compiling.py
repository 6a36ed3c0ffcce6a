"""The two ways to TorchScript: a trace records one run of the module, scripting compiles its source.

A trace takes any Python, and keeps whichever side of a branch, and whichever sizes, that one run took. A script
keeps control flow, and refuses most of Python. Both share the module's parameters until they are saved.
"""

from __future__ import annotations

import inspect
import linecache
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

from modelexport.contract import TensorSpec
from modelexport.errors import ConversionError, first_line
from modelexport.toolkit import (
    DescribedSource,
    ModuleState,
    call_arguments,
    name_outputs,
    to_torch,
    trace_inputs,
    user_frame,
)

from .deprecation import quiet

#: an error of torch.jit shows the line it means underlined, under the file and number of that line
_UNDERLINED = re.compile(
    r'File "(?P<file>[^"\n]+)", line (?P<line>\d+)[^~]*?\n(?P<code>[^\n~]*)\n *~+[^\n]*<--- HERE'
)


@dataclass(frozen=True)
class Traced:
    """A traced module, and the user's lines at which the tracer lost sight of the data."""

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
    inputs = trace_inputs(described)
    module = source.module

    def arguments() -> tuple[tuple[Any, ...], dict[str, Any]]:
        tensors = {spec.name: to_torch(inputs[spec.name]) for spec in specs}
        return call_arguments(source.module, specs, tensors)

    with untouched(source.module), torch.no_grad(), quiet() as caught:
        args, kwargs = arguments()
        try:
            outputs = module(*args, **kwargs)
            args, kwargs = arguments()
            if not _typed(outputs):
                module, args, kwargs = (
                    _named(module, specs, source.outputs, args, kwargs),
                    (*args, *kwargs.values()),
                    {},
                )
            traced = torch.jit.trace(
                module, args or None, example_kwarg_inputs=kwargs or None, strict=False, check_trace=False
            )
        except Exception as error:
            where = user_frame(error)
            raise ConversionError(
                f"torch.jit.trace can't follow the model{f' at {where}' if where else ''}: "
                f"{type(error).__name__}: {shorten(first_line(error), 300, placeholder=' …')}",
                "try -k mode=script; --debug shows the whole trace",
            ) from error
    inside = str(Path(torch.__file__).parent)
    places = [(w.filename, w.lineno) for w in caught if issubclass(w.category, torch.jit.TracerWarning)]
    doubts = [place_of(file, line) for file, line in places if not file.startswith(inside)]
    return Traced(traced, tuple(dict.fromkeys(doubts)))


def script(module: Any) -> Any:
    """Compile the module. Raises ConversionError with the user's line."""
    import torch

    with untouched(module), quiet():
        try:
            compiled = torch.jit.script(module)
        except Exception as error:
            where, reason = underlined(error), str(error).partition('File "')[0] or type(error).__name__
            raise ConversionError(
                f"torch.jit.script can't compile the model{f' at {where}' if where else ''}: "
                f"{shorten(reason, 300, placeholder=' …').rstrip(': ')}",
                "write that line in the part of Python that TorchScript knows, or mark its method with "
                "@torch.jit.unused; -k mode=trace takes any Python, but one side of each branch only",
            ) from error
    if not hasattr(compiled, "forward"):  # nn.LSTM and its like have one for each kind of input
        raise ConversionError(
            f"torch.jit.script compiles several forwards of {type(module).__name__}, and none that can be called",
            "call it from the forward of a module of your own; or give -k mode=trace",
        )
    return compiled


def exported_methods(module: Any) -> tuple[str, ...]:
    """The module's methods marked @torch.jit.export: both ways compile them, to be called beside forward."""
    from torch._jit_internal import FunctionModifiers, get_torchscript_modifier

    methods = inspect.getmembers(type(module), inspect.isfunction)
    return tuple(name for name, f in methods if get_torchscript_modifier(f) is FunctionModifiers.EXPORT)


def underlined(error: BaseException, last: bool = False) -> str:
    """`file:line (code)` of the first (or last) line of the user that an error of torch.jit underlines, if any."""
    found = [match for match in _UNDERLINED.finditer(str(error)) if not match["file"].startswith("code/__torch__")]
    if not found:
        return ""
    match = found[-1 if last else 0]
    return f"{match['file']}:{match['line']} ({match['code'].strip()})"


def place_of(file: str, line: int) -> str:
    """`file:line (code)`."""
    return f"{file}:{line} ({linecache.getline(file, line).strip()})"


def _typed(outputs: Any, top: bool = True) -> bool:
    """Whether the tracer has a type for these outputs."""
    import torch

    if isinstance(outputs, torch.Tensor):
        return True
    if isinstance(outputs, tuple):
        return bool(outputs) and all(_typed(item, top=False) for item in outputs)
    if type(outputs) in (dict, list) and outputs:
        items = outputs.values() if isinstance(outputs, Mapping) else outputs
        return all(isinstance(item, torch.Tensor) for item in items)
    return False


def _named(
    module: Any,
    specs: Sequence[TensorSpec],
    outputs: Sequence[str],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """The module with its outputs in one dict, by the names they have in the artifact."""
    import torch

    taken = [spec.name for spec in specs]

    class Named(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.module = module
            self.training = False

        def forward(self, *tensors: Any) -> Any:
            given = dict(zip(kwargs, tensors, strict=True)) if kwargs else {}
            found = module(**given) if kwargs else module(*tensors)
            return name_outputs(found, outputs, taken)

    # The tracer names a forward's inputs after its signature.
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    Named.forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, kind) for name in ("self", *taken)]
    )
    return Named()
