"""An existing `.mlpackage` as a source: inputs and outputs are read from it, and it is its own reference.

The reference is what a session of the artifact would be: Core ML's predictor on macOS, the interpreter elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Build, Dim, LoadOptions, Source, TensorSpec, key_of
from modelexport.errors import OptionError, SourceError, a
from modelexport.toolkit import copy_as, declared, importable, reading, size_in_file

from . import files, session, systems
from .files import FILE

if TYPE_CHECKING:
    from modelexport.contract import Array, Arrays

    from . import ExportOptions

#: specification → the oldest system that reads it
_SYSTEMS = {version: name for name, version in systems.VERSIONS.items()}

#: colour of an image → its name as an option has it, and how many channels it has
_COLORS = {10: ("GRAYSCALE", 1), 20: ("RGB", 3), 30: ("BGR", 3)}

#: what helps against an input, an output or a state that a session can't give, take or reset
_CUT = "convert the model again without it"


def load(path: Path, options: LoadOptions) -> Source:
    """Raises SourceError where the package is missing or damaged, or has what a session can't give or take."""
    _check_kind(path)
    for module in ("coremltools", "torch"):
        if not importable(module):
            raise SourceError(f"reading {path} needs {module}", "pip install 'modelexport-coreml[run]'")
    with reading(path, "Core ML package"):
        spec = files.load_spec(path)
        outputs, details = _outputs(path, spec), _details(path, spec)
        inputs = _inputs(path, spec, options)
        reference = _reference(path, inputs, outputs, details)
        return Source(inputs=inputs, outputs=outputs, format="coreml", path=path, reference=reference)


def copy_package(source: Source, out: Path, options: ExportOptions) -> Build:
    """Carry an existing package into `out`, byte for byte.

    Raises OptionError for options that would need another conversion.
    """
    assert source.path is not None
    fixed = [f for f in fields(options) if f.name != "compute_units"]
    if asked := [key_of(f.name) for f in fixed if getattr(options, f.name) != f.default]:
        raise OptionError(
            f"{source.path} is copied as it is: {', '.join(asked)} can't be changed",
            "leave the option out, or export the model that the package was made from",
        )
    copy_as(source, out / FILE)
    spec = files.load_spec(out / FILE)
    program = files.load_program(out / FILE, spec)
    details = {
        **_details(source.path, spec),
        "operators": files.count_operators(program),
        "deployment_target": _SYSTEMS.get(spec.specificationVersion, f"specification {spec.specificationVersion}"),
        "compute_units": options.compute_units,
    }
    return Build(FILE, ("coremltools",), files.precision(program), details)


def _check_kind(path: Path) -> None:
    if not path.exists():
        raise SourceError(f"no package {path}", "give the path of a .mlpackage")
    if path.suffix == ".mlmodelc":
        raise SourceError(f"{path} is compiled for the device", "give the .mlpackage that it was compiled from")
    if path.suffix == ".mlmodel" or not path.is_dir():
        raise SourceError(
            f"{path} is a model in one file, from before ML Programs; it runs on macOS only",
            "convert the model again, from where it was trained, to a .mlpackage: "
            'coremltools.convert(…, convert_to="mlprogram")',
        )


# --------------------------------------------------------------------------------------- inputs


def _inputs(path: Path, spec: Any, options: LoadOptions) -> tuple[TensorSpec, ...]:
    """The inputs as `--input` declares them, else as the package does."""
    features = spec.description.input
    if not options.inputs:
        return tuple(_spec(path, feature) for feature in features)
    return declared(path, [_outline(path, feature) for feature in features], options)


def _spec(path: Path, feature: Any) -> TensorSpec:
    if files.array_type(feature) == "image":
        return TensorSpec(feature.name, "float32", _image_shape(path, feature), (0, 255))
    return TensorSpec(feature.name, _dtype(path, feature), _shape(path, feature))


def _outline(path: Path, feature: Any) -> TensorSpec:
    """An input's dtype and rank, where its sizes are declared: those of the package need be no dims then."""
    if files.array_type(feature) == "image":
        return _spec(path, feature)
    kind = feature.type.multiArrayType
    flexible = kind.WhichOneof("ShapeFlexibility")
    rank = len(kind.shapeRange.sizeRanges if flexible == "shapeRange" else kind.shape)
    sizes = tuple(size_in_file(None, feature.name, axis) for axis in range(rank))
    return TensorSpec(feature.name, _dtype(path, feature), sizes)


def _dtype(path: Path, feature: Any) -> str:
    kind = files.array_type(feature)
    if kind not in ("float32", "float16", "int32", "float64"):
        raise SourceError(f"input {feature.name!r} of {path} is {a(kind)}, not an array of numbers", _CUT)
    return kind


def _image_shape(path: Path, feature: Any) -> tuple[int, ...]:
    image = feature.type.imageType
    if image.WhichOneof("SizeFlexibility") or image.colorSpace not in _COLORS:
        raise SourceError(
            f"input {feature.name!r} of {path} takes images of several sizes, or of half precision",
            "convert it again with images of one size in RGB, BGR or GRAYSCALE",
        )
    return (1, _COLORS[image.colorSpace][1], image.height, image.width)


def _shape(path: Path, feature: Any) -> tuple[int | Dim, ...]:
    """Sizes as the package has them; dims are named after the input and the axis."""
    kind = feature.type.multiArrayType
    flexible = kind.WhichOneof("ShapeFlexibility")
    if flexible == "shapeRange":
        ends = [(max(1, r.lowerBound), _end(r.upperBound)) for r in kind.shapeRange.sizeRanges]
        return tuple(_size(feature, axis, low, high) for axis, (low, high) in enumerate(ends))
    if flexible == "enumeratedShapes":
        return _steps(path, feature, {tuple(listed.shape) for listed in kind.enumeratedShapes.shapes})
    if not kind.shape:
        raise SourceError(
            f"{path} does not say which shape input {feature.name!r} has", "convert the model again with one"
        )
    return tuple(kind.shape)


def _steps(path: Path, feature: Any, shapes: set[tuple[int, ...]]) -> tuple[int | Dim, ...]:
    """Dims whose sizes give the listed shapes, and no others. Raises SourceError where none do."""
    axes = [sorted(set(sizes)) for sizes in zip(*shapes, strict=True)]
    steps = [_size(feature, axis, own[0], own[-1], math.gcd(*own)) for axis, own in enumerate(axes)]
    if len(shapes) == math.prod(len(size.sizes) for size in steps if isinstance(size, Dim)):
        return tuple(steps)
    first = ", ".join(str(list(shape)) for shape in sorted(shapes)[:5])
    raise SourceError(
        f"input {feature.name!r} of {path} takes a list of shapes that no dims describe: {first}",
        "say which it is to take with --input",
    )


def _size(feature: Any, axis: int, low: int, high: int | None, step: int = 1) -> int | Dim:
    return low if low == high else Dim(f"{feature.name}_dim{axis}", low, high, step)


def _end(bound: int) -> int | None:
    """Core ML writes a range without an end as a negative one, or as the largest number."""
    return None if bound < 0 or bound >= 2**31 - 1 else bound


# --------------------------------------------------------------------------------------- outputs


def _outputs(path: Path, spec: Any) -> tuple[str, ...]:
    """The outputs' names; of a classifier, that of its probabilities."""
    if len(spec.description.state):
        raise SourceError(f"{path} keeps a state, which a source has no way to reset", _CUT)
    if spec.description.predictedFeatureName:
        return (spec.description.predictedProbabilitiesName,)
    for feature in spec.description.output:
        kind = feature.type.WhichOneof("Type")
        if kind != "multiArrayType":
            raise SourceError(
                f"output {feature.name!r} of {path} is {a(kind.removesuffix('Type'))}, no array", _CUT
            )
    return tuple(feature.name for feature in spec.description.output)


def _details(path: Path, spec: Any) -> dict[str, Any]:
    """What a session has to know of the package beyond its arrays: an input that is an image, class labels.

    A session gives an image the pixels themselves: the package scales them.
    """
    details: dict[str, Any] = {}
    images = [feature for feature in spec.description.input if files.array_type(feature) == "image"]
    if len(images) > 1:
        raise SourceError(f"{path} takes {len(images)} images, one is what a session can give", _CUT)
    for feature in images:
        color = _COLORS.get(feature.type.imageType.colorSpace, ("", 0))[0]
        details["image"] = {"input": feature.name, "scale": 1.0, "bias": [0.0], "color": color}
    if label := spec.description.predictedFeatureName:
        details["classifier"] = {"output": spec.description.predictedProbabilitiesName, "label": label}
    return details


def _reference(
    path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[str], details: Mapping[str, Any]
) -> Callable[[Mapping[str, Array]], Arrays]:
    import numpy as np

    evaluate, features, _ = session.open_package(path, details)
    compute = session.computer(evaluate, features, inputs, details)

    def reference(arrays: Mapping[str, Array]) -> Arrays:
        answers = compute(arrays)
        return {name: np.asarray(answers[name]) for name in outputs}

    return reference
