"""Captured program → file, by litert-torch: one signature for each set of sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.toolkit import translated

from . import operators
from .backend import quiet

if TYPE_CHECKING:
    from modelexport.contract import Arrays, Captured


def convert(captured: Captured, samples: Mapping[str, Arrays], path: Path, nhwc: Sequence[str] = ()) -> None:
    """Write a file with one signature for each of `samples`: inputs of the sizes that it is for.

    Inputs in `nhwc` have their channels last in the file. Raises ConversionError: operators without a translation
    all at once, with module and source line.
    """
    with quiet():
        import litert_torch

        module = named(captured, nhwc)
        converter = litert_torch.Converter()
        for key, arrays in samples.items():
            converter.signature(key, module, (), _tensors(arrays, nhwc))
        with translated(lambda error: operators.refused(error, captured.program)):
            # not its own way into a file: on a full disk, that ends the process
            path.write_bytes(converter.convert().model_content())


def _tensors(arrays: Arrays, nhwc: Sequence[str]) -> dict[str, Any]:
    import numpy as np
    from modelexport.toolkit import to_torch

    return {name: to_torch(np.moveaxis(array, 1, -1) if name in nhwc else array) for name, array in arrays.items()}


def named(captured: Captured, nhwc: Sequence[str] = ()) -> Any:
    """The program as a module that takes and returns tensors by the model's own names.

    litert-torch takes the names of keyword arguments and of a returned dict into the file.
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
