"""The converter: calling litert-torch, and saying which operators it has no translation for."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.errors import ConversionError, first_line, is_disk_error
from modelexport.toolkit import module_path, source_line

from .terminal import quiet

if TYPE_CHECKING:
    from modelexport.contract import Arrays, Captured

#: operators named in one message, at most
_NAMED = 20


def module(captured: Captured, nhwc: Sequence[str] = ()) -> Any:
    """The program as a module that takes and returns tensors by the model's own names.

    litert-torch takes the names of keyword arguments and of a returned dict into the file. Inputs in `nhwc`
    have their channels last.
    """
    import torch
    from modelexport.toolkit import call_arguments, name_outputs

    inputs, outputs = captured.inputs, [spec.name for spec in captured.outputs]
    program = captured.program
    inner = program.module(check_guards=False)  # a batch is converted at a size of our own choice

    class Named(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = inner
            self.training = False

        def forward(self, **tensors: Any) -> Any:
            for name in nhwc:
                tensors[name] = tensors[name].permute(0, 3, 1, 2)
            args, kwargs = call_arguments(program, inputs, tensors)
            return name_outputs(self.model.forward(*args, **kwargs), outputs)  # no hook that checks sizes

    return Named()


def convert(captured: Captured, samples: Mapping[str, Arrays], path: Path, nhwc: Sequence[str] = ()) -> None:
    """Write a file with one signature for each of `samples`, which give the sizes.

    Raises ConversionError: operators without a translation all at once, with module and source line.
    """
    from modelexport.toolkit import to_torch

    with quiet():
        import litert_torch
        import numpy as np

        model = module(captured, nhwc)
        converter = litert_torch.Converter()
        for name, arrays in samples.items():
            given = {key: np.moveaxis(a, 1, -1) if key in nhwc else a for key, a in arrays.items()}
            converter.signature(name, model, (), {key: to_torch(array) for key, array in given.items()})
        try:
            converter.convert().export(str(path))
        except Exception as error:
            if is_disk_error(error):
                raise
            raise _translate(error, captured) from error


def _translate(error: Exception, captured: Captured) -> ConversionError:
    missing = find_unsupported(captured.program) if "owering not found" in str(error) else []
    if not missing:
        return ConversionError(
            f"litert-torch can't convert the model: {type(error).__name__}: {first_line(error)}",
            "--debug shows the whole trace, with the line of the model",
        )
    listed = "; ".join(map(str, missing[:_NAMED]))
    more = f"; and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    kinds = len({item.operator for item in missing})
    hints = list(dict.fromkeys(item.hint for item in missing if item.hint))
    return ConversionError(
        f"{kinds} operator{'s have' if kinds > 1 else ' has'} no LiteRT translation: {listed}{more}",
        "; ".join(hints) or "replace them with operators that LiteRT has",
    )


# --------------------------------------------------------------------------------------- what it lacks

#: operators people meet → what helps
HINTS = {
    "cond": "litert-torch takes no torch.cond: torch.where computes both sides",
    "while_loop": "litert-torch takes no loops from torch.export: unroll it",
    "nonzero": "its result has a size that depends on the data: keep a fixed size and a mask",
    "masked_select": "its result has a size that depends on the data: multiply by the mask",
    "unique2": "its result has a size that depends on the data: do it after the model",
    "linalg_inv": "compute the inverse beforehand, or after the model",
    "grid_sampler_2d": "gather the pixels with indices",
    "rand": "give the random numbers as an input",
    "randn": "give the random numbers as an input",
}


@dataclass(frozen=True)
class Unsupported:
    """An operator without a translation, and where the model uses it."""

    operator: str
    module: str
    line: str

    def __str__(self) -> str:
        return f"{self.operator} in {self.module}" + (f" at {self.line}" if self.line else "")

    @property
    def hint(self) -> str:
        name = self.operator.removeprefix("aten.").partition(".")[0]
        return HINTS.get(name, "")


def find_unsupported(program: Any) -> list[Unsupported]:
    """Every call of the program that the converter has no lowering for, asked of its own registry.

    The registry is private to litert-torch, which has no public query: it explains a failed export, and decides
    about none.
    """
    from litert_torch import fx_infra
    from litert_torch.backend import lowerings

    table = fx_infra.decomp.pre_convert_decomp()
    lowered = fx_infra.safe_run_decompositions(copy.deepcopy(program), table, can_skip=False)
    found: list[Unsupported] = []
    for node in lowered.graph.nodes:
        if node.op != "call_function" or "_assert" in str(node.target) or "getitem" in str(node.target):
            continue
        if lowerings.lookup(node.target) is None and "sym_size" not in str(node.target):
            found.append(Unsupported(str(node.target), module_path(node), source_line(node)))
    return list(dict.fromkeys(found))
