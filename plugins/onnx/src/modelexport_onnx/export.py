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
from modelexport.errors import ConversionError, OptionError, first_line, is_disk_error
from modelexport.toolkit import quiet

from . import modelfile, operators
from .modelfile import FILE, INLINE_BYTES

if TYPE_CHECKING:
    from . import ExportOptions

#: the opsets torch.onnx writes as asked (2.13)
OLDEST, NEWEST = 18, 25


def export(captured: Captured, out: Path, options: ExportOptions) -> Build:
    """Write `model.onnx` (and `model.onnx.data` where needed) into `out`.

    Raises OptionError for an opset that can't be written, ConversionError for everything else; operators
    without a translation are listed all at once.
    """
    if not OLDEST <= options.opset <= NEWEST:
        raise OptionError(
            f"opset {options.opset} can't be written: torch.onnx writes {OLDEST} to {NEWEST}",
            f"give -k opset={min(max(options.opset, OLDEST), NEWEST)}; onnx.version_converter can lower it later",
        )
    _refuse_complex(captured)
    model = _convert(captured, options)
    path = out / FILE
    external = options.external_data == "always" or _weight_bytes(captured) > INLINE_BYTES
    with quiet("torch.onnx", "onnxscript", "onnx_ir"):
        model.save(str(path), external_data=external)
    details = _check(path, captured, options)
    return Build(FILE, tools=("torch", "onnx", "onnxscript"), details=details)


def copy_file(source: Source, out: Path) -> Build:
    """Carry an existing .onnx file, with its external data, into `out`."""
    assert source.path is not None
    modelfile.copy(source.path, out)
    return Build(FILE, tools=("onnx",))


def _refuse_complex(captured: Captured) -> None:
    """torch.onnx writes complex tensors as pairs of real ones, so that inputs and outputs change their shape."""
    for kind, specs in (("input", captured.inputs), ("output", captured.outputs)):
        for spec in specs:
            if spec.dtype.startswith("complex"):
                raise ConversionError(
                    f"{kind} {spec.name!r} is {spec.dtype}, which ONNX runtimes don't take or give",
                    "take and return pairs of real numbers instead: torch.view_as_complex, torch.view_as_real",
                )


def _convert(captured: Captured, options: ExportOptions) -> Any:
    import torch

    table = operators.load_registered()
    with quiet("torch.onnx", "torch.onnx._internal.exporter._registration", "onnxscript", "onnx_ir"):
        try:
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
        except Exception as error:
            if is_disk_error(error):
                raise
            raise _translate(error, captured, table, options.opset) from error


def _translate(error: Exception, captured: Captured, table: dict[Any, Any], opset: int) -> ConversionError:
    """The exporter stops at the first operator it can't translate: look for all of them."""
    try:
        with quiet("torch.onnx", "torch.onnx._internal.exporter._registration"):
            missing = operators.find_unsupported(captured.program, table, opset)
    except Exception as second:  # noqa: BLE001  explaining must not hide the error it explains
        missing = []
        if hasattr(error, "add_note"):  # Python 3.11
            error.add_note(f"listing unsupported operators failed as well: {second!r}")
    if missing:
        listed = "; ".join(map(str, missing[:20])) + (
            f"; and {len(missing) - 20} more" if len(missing) > 20 else ""
        )
        kinds = len({item.operator for item in missing})
        return ConversionError(
            f"{kinds} operator{'s have' if kinds > 1 else ' has'} no ONNX translation: {listed}",
            "replace them, or register a translation with --register (docs/how-to/custom-operators.md)",
        )
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    return ConversionError(
        f"torch.onnx can't convert the model: {type(root).__name__}: {_plain(first_line(root))}",
        "try another -k opset=…; --debug shows the whole trace",
    )


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _weight_bytes(captured: Captured) -> int:
    tensors = [*captured.program.state_dict.values(), *captured.program.constants.values()]
    return sum(t.numel() * t.element_size() for t in tensors if hasattr(t, "element_size"))


# --------------------------------------------------------------------------------------- what was written


def _check(path: Path, captured: Captured, options: ExportOptions) -> dict[str, Any]:
    """Run the checker with shape inference and compare what was written with what was asked.

    Raises ConversionError naming the first difference.
    """
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(
            f"torch.onnx wrote an invalid model: {first_line(error)}", "try another -k opset=…"
        ) from error
    model = onnx.load(str(path), load_external_data=False)
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("") != options.opset:
        raise ConversionError(
            f"torch.onnx wrote opset {opsets.get('')}, {options.opset} was asked",
            "give -k opset= what it writes",
        )
    for kind, wanted, got in (
        ("inputs", captured.inputs, model.graph.input),
        ("outputs", captured.outputs, model.graph.output),
    ):
        names = [spec.name for spec in wanted]
        if [value.name for value in got] != names:
            raise ConversionError(
                f"torch.onnx wrote the {kind} {', '.join(v.name for v in got)}, the model has {', '.join(names)}",
                "an unused input is dropped by the exporter: take it out of the model's forward",
            )
    counts: dict[str, int] = {}
    for node in model.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return {
        "opset": opsets.get(""),
        "ir_version": model.ir_version,
        "operators": dict(sorted(counts.items())),
    }
