"""model.bpte: a program with test cases of its own inside, which ExecuTorch's tools check on a device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Captured
from modelexport.toolkit import call_arguments, generate_cases, steps, to_torch

from .files import BUNDLE

if TYPE_CHECKING:
    from modelexport.contract import Arrays


def write(program: Any, captured: Captured, out: Path) -> dict[str, Any]:
    """Write the bundle of a finished program, its cases answered by the captured one. Returns what it holds."""
    from executorch.devtools import BundledProgram
    from executorch.devtools.bundled_program.config import MethodTestCase, MethodTestSuite
    from executorch.devtools.bundled_program.serialize import serialize_from_bundled_program_to_flatbuffer

    cases = generate_cases(captured.inputs, minimal=True)
    tests = []
    for case in steps(cases, "answer the cases of the bundle"):
        inputs, outputs = _answered(captured, case.inputs)
        tests.append(MethodTestCase(inputs=inputs, expected_outputs=outputs))
    bundled = BundledProgram(program, [MethodTestSuite("forward", tests)])
    (out / BUNDLE).write_bytes(serialize_from_bundled_program_to_flatbuffer(bundled))
    return {"file": BUNDLE, "cases": [case.name for case in cases]}


def _answered(captured: Captured, arrays: Arrays) -> tuple[list[Any], list[Any]]:
    """Inputs and outputs of one call of the captured program, as tensors in its order."""
    import torch

    tensors = {name: to_torch(array) for name, array in arrays.items()}
    args, kwargs = call_arguments(captured.program, captured.inputs, tensors)
    with torch.no_grad():
        outputs = captured.program.module()(*args, **kwargs)
    inputs = [tensors[spec.name] for spec in captured.inputs]
    return inputs, [value.contiguous() for value in torch.utils._pytree.tree_leaves(outputs)]
