"""Captured program → model.onnx, through torch.onnx.

torch.onnx writes opset 18 for anything lower without a word, names outputs as it likes, and drops
align_corners of an antialiased resize. So what was asked is checked against what was written; what can't be
seen in the file is left to the parity gate.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Build, Captured, Source
from modelexport.errors import ConversionError, first_line, root_cause
from modelexport.toolkit import Unsupported, check_dtypes, refusal, stage, translated

from . import backend, contents, files, operators

if TYPE_CHECKING:
    from . import ExportOptions


def export(captured: Captured, out: Path, options: ExportOptions) -> Build:
    """Write `model.onnx` (and `model.onnx.data` where needed) into `out`.

    Raises ConversionError; operators without a translation are listed all at once.
    """
    # torch.onnx writes complex tensors as pairs of real ones, so that inputs and outputs change their shape.
    check_dtypes(captured.inputs, captured.outputs, lambda dtype: not dtype.startswith("complex"), "ONNX")
    model = _convert(captured, options)
    path = out / files.FILE
    external = options.external_data == "always" or _weight_bytes(captured) > files.INLINE_BYTES
    with backend.exporting():
        model.save(str(path), external_data=external)
    stage("check the file that was written")
    return Build(files.FILE, tools=("torch", "onnx", "onnxscript"), details=_check(path, captured, options))


def copy_file(source: Source, out: Path) -> Build:
    """Carry an existing .onnx file, with its external data, into `out`; its precision is read from it."""
    assert source.path is not None
    files.copy(source.path, out)
    return Build(files.FILE, tools=("onnx",), precision=contents.precision(files.load_graph(source.path)))


def _convert(captured: Captured, options: ExportOptions) -> Any:
    import torch

    table = operators.load_registered()
    with backend.exporting(), translated(lambda error: _refused(error, captured, table, options.opset)):
        return torch.onnx.export(
            captured.program,
            (),
            dynamo=True,
            opset_version=options.opset,
            input_names=[spec.name for spec in captured.inputs],
            output_names=[spec.name for spec in captured.outputs],
            dynamic_shapes=captured.dynamic_shapes,
            optimize=options.optimize,
            custom_translation_table=table or None,
            verbose=False,
        )


def _refused(error: Exception, captured: Captured, table: dict[Any, Any], opset: int) -> ConversionError:
    """The exporter stops at the first operator it can't translate: look for all of them."""
    if missing := _missing(error, captured, table, opset):
        return refusal(
            missing,
            "no ONNX translation",
            "replace them, or register a translation with --register (docs/how-to/custom-operators.md)",
        )
    root = root_cause(error)
    return ConversionError(
        f"torch.onnx can't convert the model: {type(root).__name__}: {_plain(first_line(root))}",
        "try another -k opset=…; --debug shows the whole trace",
    )


def _missing(error: Exception, captured: Captured, table: dict[Any, Any], opset: int) -> list[Unsupported]:
    stage("look for every operator without a translation")
    try:
        with backend.exporting():
            return operators.find_unsupported(captured.program, table, opset)
    except Exception as second:  # noqa: BLE001  explaining must not hide the error it explains
        if hasattr(error, "add_note"):  # Python 3.11
            error.add_note(f"listing unsupported operators failed as well: {second!r}")
        return []


def _plain(text: str) -> str:
    """Without the codes for colours on a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _weight_bytes(captured: Captured) -> int:
    tensors = [*captured.program.state_dict.values(), *captured.program.constants.values()]
    return sum(t.numel() * t.element_size() for t in tensors if hasattr(t, "element_size"))


# --------------------------------------------------------------------------------------- what was written


def _check(path: Path, captured: Captured, options: ExportOptions) -> dict[str, Any]:
    """Run the checker with shape inference and compare what was written with what was asked.

    Returns the details of the artifact. Raises ConversionError naming the first difference.
    """
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(
            f"torch.onnx wrote an invalid model: {first_line(error)}", "try another -k opset=…"
        ) from error
    model = files.load_graph(path)
    opset = contents.opset(model)
    if opset != options.opset:
        raise ConversionError(
            f"torch.onnx wrote opset {opset}, {options.opset} was asked", "give -k opset= what it writes"
        )
    for kind, wanted, written in (
        ("inputs", captured.inputs, model.graph.input),
        ("outputs", captured.outputs, model.graph.output),
    ):
        names, own = [spec.name for spec in wanted], [value.name for value in written]
        if own != names:
            raise ConversionError(
                f"torch.onnx wrote the {kind} {', '.join(own)}, the model has {', '.join(names)}",
                "an unused input is dropped by the exporter: take it out of the model's forward",
            )
    return {"opset": opset, "ir_version": model.ir_version, "operators": contents.operators(model)}
