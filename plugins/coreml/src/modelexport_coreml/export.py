"""Captured program → model.mlpackage, through coremltools.

coremltools names outputs after nodes, and drops an unused input or an int64 without a word; so the interface is
given to it, and what was written is compared with what was asked. Whether the numbers are right, the gate says.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Build, Captured
from modelexport.errors import ConversionError, first_line, is_disk_error

from . import features, lowering, package, translations
from .package import FILE, quiet

if TYPE_CHECKING:
    from . import ExportOptions

#: operators named in one message, at most
_NAMED = 20


def export(captured: Captured, out: Path, options: ExportOptions) -> Build:
    """Write `model.mlpackage` into `out`.

    Raises OptionError for an interface that Core ML can't have, ConversionError for everything else; operators
    without a translation are listed all at once.
    """
    features.refuse(captured)
    with quiet():
        import coremltools  # noqa: F401  its import warns of what only macOS has
    image, labels = features.image_of(captured, options), features.labels(captured, options)
    listed = features.lists_shapes(captured, options)
    names = features.identifiers(captured)
    wanted = features.inputs(captured, names, image, listed, options.bound)
    outputs = [names[spec.name] for spec in captured.outputs]
    model, refused = _converted(captured.program, wanted, outputs, labels, options)
    features.describe(model, options)
    with quiet():
        model.save(str(out / FILE))
    operators, weights = package.check(out / FILE, model._mil_program, captured, names, labels is not None)
    details: dict[str, Any] = {
        "operators": operators,
        "weights": weights,
        "deployment_target": options.deployment_target,
        "compute_precision": options.compute_precision,
        "compute_units": options.compute_units,
        "shapes": "enumerated" if listed else "range",
        "names": {name: written for name, written in names.items() if name != written},
    }
    if image is not None:
        details["image"] = {
            "input": image.name,
            "scale": image.scale,
            "bias": list(image.bias),
            "color": image.color,
        }
    if labels is not None:
        details["classifier"] = {"labels": len(labels), "output": captured.outputs[0].name}
    notes = [f"attention and recurrence were taken apart: whole, {refused}"] if refused else []
    notes += _unbounded(captured, options.bound)
    return Build(FILE, ("torch", "coremltools"), options.compute_precision, details, tuple(notes))


def _unbounded(captured: Captured, bound: int) -> list[str]:
    names = sorted({dim.name for spec in captured.inputs for dim in spec.dims if dim.max is None})
    return [f"{name} has no upper bound, and Core ML wants one: it is {bound} (-k bound=…)" for name in names]


def _converted(
    source: Any, wanted: list[Any], outputs: list[str], labels: list[str] | None, options: ExportOptions
) -> tuple[Any, str]:
    """The converted model, and why attention and recurrence were taken apart, where they were.

    What Core ML has an operator for is given to the converter whole, and only where it refuses that, taken apart.
    """
    translations.register()
    program = lowering.lowered(source)
    features.refuse_state(program, options)
    whole = lowering.holds_composites(program)
    if missing := lowering.find_unsupported(program):
        raise _unsupported(missing)
    try:
        return _convert(program, wanted, outputs, labels, options), ""
    except ConversionError as error:
        if not whole:
            raise
        refused = error.message
    program = lowering.lowered(source, whole=False)
    if missing := lowering.find_unsupported(program):
        raise _unsupported(missing)
    return _convert(program, wanted, outputs, labels, options), refused


def _convert(
    program: Any, wanted: list[Any], outputs: list[str], labels: list[str] | None, options: ExportOptions
) -> Any:
    import coremltools as ct

    classifier = None if labels is None else ct.ClassifierConfig(labels, predicted_feature_name=features.LABEL)
    half = options.compute_precision == "float16"
    with quiet():
        try:
            return ct.convert(
                program,
                source="pytorch",
                convert_to="mlprogram",
                inputs=wanted,
                outputs=[ct.TensorType(name=name) for name in outputs],
                classifier_config=classifier,
                minimum_deployment_target=ct.target[options.deployment_target],
                compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
                compute_units=package.units(options.compute_units),
                skip_model_load=True,
            )
        except Exception as error:
            if is_disk_error(error):
                raise
            raise _translate(error) from error


def _unsupported(missing: list[lowering.Unsupported]) -> ConversionError:
    listed = "; ".join(map(str, missing[:_NAMED]))
    more = f"; and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    kinds = len({item.operator for item in missing})
    hints = list(dict.fromkeys(item.hint for item in missing if item.hint))
    return ConversionError(
        f"{kinds} operator{'s have' if kinds > 1 else ' has'} no Core ML translation: {listed}{more}",
        "; ".join(hints) or "replace them with operators that Core ML has",
    )


#: what the converter says → what helps
_KNOWN = (
    ("float64", "Core ML computes in float32 at most: cast the model with .float()"),
    ("symbolic", "it wants a size that is dynamic here to be fixed: declare that dim as a number with --input"),
    ("adaptive pooling", "fix the height and width with --input, in multiples of the pool's output"),
    (
        "both as function's input and output",
        "an output has the name of a buffer that is updated: name it otherwise",
    ),
    ("state", "Core ML has states since iOS18: -k deployment-target=iOS18"),
)


def _translate(error: Exception) -> ConversionError:
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    said = first_line(root)
    hint = next((hint for word, hint in _KNOWN if word in str(root).lower()), "")
    return ConversionError(
        f"coremltools can't convert the model: {type(root).__name__}: {said}",
        f"{hint}; --debug shows the whole trace".removeprefix("; "),
    )
