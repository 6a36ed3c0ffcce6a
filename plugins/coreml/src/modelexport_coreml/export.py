"""Captured program → model.mlpackage, through coremltools.

coremltools names outputs after nodes, and drops an unused input or an int64 without a word; so the interface is
given to it, and what was written is compared with what was asked. Whether the numbers are right, the gate says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Build, Captured
from modelexport.errors import ConversionError
from modelexport.toolkit import bound_notes, bounded, bounds, stage, translated

from . import features, files, operators, rewrites
from .backend import compute_unit, coremltools, quiet
from .features import Image
from .files import FILE

if TYPE_CHECKING:
    from . import ExportOptions


@dataclass(frozen=True)
class _Interface:
    """The model's inputs and outputs as the converter is to write them.

    `inputs` are coremltools' types, `names` says what each input and output of the model is called in the package.
    Dims without an end go to the sizes in `bounds`; where sizes are `listed`, they are no ranges. `labels` are a
    classifier's.
    """

    inputs: Sequence[Any]
    names: Mapping[str, str]
    bounds: Mapping[str, int]
    listed: bool
    image: Image | None
    labels: Sequence[str] | None

    @classmethod
    def of(cls, captured: Captured, options: ExportOptions) -> _Interface:
        """Raises OptionError for one that Core ML can't have."""
        image = features.image_of(captured.inputs, options.image_input)
        labels = features.labels_of(captured, options.labels)
        largest = bounds(captured.inputs, options.bound)
        specs = [bounded(spec, largest) for spec in captured.inputs]
        listed = features.lists_shapes(specs, options.shapes)
        names = features.identifiers(captured)
        inputs = features.input_types(specs, names, image, listed)
        return cls(inputs, names, largest, listed, image, labels)


def export(captured: Captured, out: Path, options: ExportOptions) -> Build:
    """Write `model.mlpackage` into `out`.

    Raises OptionError for an interface that Core ML can't have, ConversionError for everything else; operators
    without a translation are listed all at once.
    """
    operators.check_interface(captured.inputs, captured.outputs)
    interface = _Interface.of(captured, options)
    model, refused = _converted(captured, interface, options)
    features.describe(model, options)
    stage("compare the package with the model")
    with quiet():
        model.save(str(out / FILE))
    classifier = interface.labels is not None
    counts, weights = files.check(out / FILE, model._mil_program, captured, interface.names, classifier)
    details = {"operators": counts, "weights": weights, **_details(captured, interface, options)}
    notes = [f"attention and recurrence were taken apart: whole, {refused}"] if refused else []
    notes += bound_notes(interface.bounds, "Core ML wants one")
    return Build(FILE, ("torch", "coremltools"), options.compute_precision, details, tuple(notes))


def _details(captured: Captured, interface: _Interface, options: ExportOptions) -> dict[str, Any]:
    """What a session, a quantizer and snippets read of the package's interface."""
    details: dict[str, Any] = {
        "deployment_target": options.deployment_target,
        "compute_precision": options.compute_precision,
        "compute_units": options.compute_units,
        "shapes": "enumerated" if interface.listed else "range",
        "bounds": dict(interface.bounds),
        "names": {name: written for name, written in interface.names.items() if name != written},
    }
    if interface.image is not None:
        details["image"] = interface.image.details
    if interface.labels is not None:
        details["classifier"] = {"labels": len(interface.labels), "output": captured.outputs[0].name}
    return details


def _converted(captured: Captured, interface: _Interface, options: ExportOptions) -> tuple[Any, str]:
    """The converted model, and why attention and recurrence were taken apart, where they were.

    What Core ML has an operator for is given to the converter whole, and only where it refuses that, taken apart.
    """
    outputs = [interface.names[spec.name] for spec in captured.outputs]
    rewrites.teach_converter()
    stage("lower the captured program")
    program = rewrites.lowered(captured.program)
    operators.check_state(program, options.deployment_target, options.compute_precision)
    operators.check_translated(program)
    whole = rewrites.holds_composites(program)
    try:
        return _convert(program, interface, outputs, options), ""
    except ConversionError as error:
        if not whole:
            raise
        refused = error.message
    stage("take attention and recurrence apart")
    program = rewrites.lowered(captured.program, whole=False)
    operators.check_translated(program)
    return _convert(program, interface, outputs, options), refused


def _convert(program: Any, interface: _Interface, outputs: Sequence[str], options: ExportOptions) -> Any:
    stage("convert with coremltools")
    ct, labels = coremltools(), interface.labels
    classifier = None if labels is None else ct.ClassifierConfig(list(labels), predicted_feature_name=files.LABEL)
    half = options.compute_precision == "float16"
    with quiet(), translated(operators.converter_refused):
        return ct.convert(
            program,
            source="pytorch",
            convert_to="mlprogram",
            inputs=list(interface.inputs),
            outputs=[ct.TensorType(name=name) for name in outputs],
            classifier_config=classifier,
            minimum_deployment_target=ct.target[options.deployment_target],
            compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
            compute_units=compute_unit(options.compute_units),
            skip_model_load=True,
        )
