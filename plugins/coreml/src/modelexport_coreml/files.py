"""model.mlpackage: reading it from disk, what is in it, and whether that is what was asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Captured, TensorSpec
from modelexport.errors import ConversionError, RuntimeFailure, first_line
from modelexport.toolkit import read_json

from .backend import coremltools, quiet

if TYPE_CHECKING:
    from modelexport.contract import Array

FILE = "model.mlpackage"

#: the name of a classifier's answer, a class; its probabilities are a dictionary beside it
LABEL = "classLabel"

#: dtype of a model → dtype of the array that stands for it in Core ML
ARRAYS = {
    **{dtype: dtype for dtype in ("float32", "float16", "int32")},
    **dict.fromkeys(("int64", "int16", "int8", "uint16", "uint8"), "int32"),
    **dict.fromkeys(("float64", "bfloat16", "bool"), "float32"),
}

#: Core ML's codes of array types in a specification
_CODES = {65568: "float32", 65552: "float16", 131104: "int32", 65600: "float64", 131080: "int8"}

#: what tells an array from others without regard to the order of its values: dtype, size, two sums over its bits
Checksum = tuple[str, int, int, int]


# --------------------------------------------------------------------------------------- reading


def load_spec(path: Path) -> Any:
    """The specification of a package. Raises RuntimeFailure for a damaged one, and for another kind of model."""
    with quiet():
        try:
            spec = coremltools().utils.load_spec(str(_root_model(path)))
        except Exception as error:
            raise RuntimeFailure(
                f"{path.name} is no Core ML package, or a damaged one: {first_line(error)}", "export it again"
            ) from error
    if spec.WhichOneof("Type") != "mlProgram":
        raise RuntimeFailure(
            f"{path.name} holds a {spec.WhichOneof('Type')}, not an ML Program",
            "older kinds of Core ML models run on macOS only",
        )
    return spec


def weights_folder(path: Path) -> Path:
    """Where a package keeps its weights."""
    return path / "Data" / "com.apple.CoreML" / "weights"


def _root_model(path: Path) -> Path:
    """The specification's file in a package, or the file itself.

    coremltools finds it too, but writes Manifest.json anew whenever it looks into a package (9.0): who reads an
    artifact must not write into it.
    """
    if not path.is_dir():
        return path
    manifest = read_json(path / "Manifest.json", RuntimeFailure)
    root = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
    place = Path(path, "Data", root).resolve()
    if not place.is_relative_to(path.resolve()):
        raise RuntimeFailure(f"{root!r} is outside of it", "don't use this package")
    return place


def load_program(path: Path, spec: Any | None = None) -> Any:
    """The ML Program of a package, read back from disk. Raises RuntimeFailure for a damaged one."""
    spec = load_spec(path) if spec is None else spec
    weights = weights_folder(path)
    with quiet():
        reader = coremltools("converters.mil.frontend.milproto.load")
        try:
            return reader.load(spec, spec.specificationVersion, file_weights_dir=str(weights))
        except Exception as error:
            raise RuntimeFailure(
                f"coremltools can't read {path.name} back: {type(error).__name__}: {first_line(error)}",
                "export it again; a newer coremltools may read it",
            ) from error


def array_type(feature: Any) -> str:
    """The dtype of an input or output in a specification; `image`, `dictionary`… for what is no array."""
    kind = feature.type.WhichOneof("Type")
    if kind != "multiArrayType":
        return str(kind).removesuffix("Type")
    return _CODES.get(feature.type.multiArrayType.dataType, "unknown")


def takes(feature: Any, shape: Sequence[int]) -> bool:
    """Whether Core ML takes an input of this shape: a fixed one, one of a list, or within ranges."""
    kind = feature.type.multiArrayType
    if feature.type.WhichOneof("Type") != "multiArrayType":
        return True
    flexible = kind.WhichOneof("ShapeFlexibility")
    if flexible == "enumeratedShapes":
        return any(list(listed.shape) == list(shape) for listed in kind.enumeratedShapes.shapes)
    if flexible == "shapeRange":
        ranges = kind.shapeRange.sizeRanges
        return len(ranges) == len(shape) and all(
            r.lowerBound <= size and (r.upperBound < 0 or size <= r.upperBound)
            for r, size in zip(ranges, shape, strict=True)
        )
    return list(kind.shape) == list(shape)


# --------------------------------------------------------------------------------------- programs


def operations(program: Any) -> Iterator[Any]:
    """Every operation of a program's main function, those in nested blocks included."""

    def walk(block: Any) -> Iterator[Any]:
        for op in block.operations:
            yield op
            for inner in op.blocks:
                yield from walk(inner)

    return walk(program.functions["main"])


def count_operators(program: Any) -> dict[str, int]:
    """How many of each operator an ML Program has, constants left out."""
    counts = Counter(op.op_type for op in operations(program) if op.op_type != "const")
    return dict(sorted(counts.items()))


def precision(program: Any) -> str:
    """What a program computes in: float16 where any of its operators gives that, else float32."""
    half = coremltools("converters.mil.mil.types").fp16
    computed = [var for op in operations(program) if op.op_type not in ("const", "cast") for var in op.outputs]
    return "float16" if any(getattr(var, "dtype", None) is half for var in computed) else "float32"


def class_labels(program: Any) -> list[Any]:
    """A classifier's labels, in the order of its probabilities."""
    (classes,) = [op.inputs["classes"].val for op in operations(program) if op.op_type == "classify"]
    return [getattr(label, "val", label) for label in classes]


# --------------------------------------------------------------------------------------- checking


def check(
    path: Path, converted: Any, captured: Captured, names: Mapping[str, str], classifier: bool
) -> tuple[dict[str, int], dict[str, Any]]:
    """Load what was written and compare it with what was asked: names, order, dtypes, constants.

    `converted` is the converter's program, `names` says what each input and output of the model is called in it.
    Every constant must be, bit by bit, that of the converted program; and those that bear a parameter's name, the
    model's own. What the converter computed from weights (convolutions swallow normalizations) has nothing to be
    compared with here: the gate judges it.

    Returns how many of each operator there are, and how much of the model's weights is in the file as it was.
    Raises ConversionError naming the first difference.
    """
    try:
        spec = load_spec(path)
        program = load_program(path, spec)
    except RuntimeFailure as error:
        raise ConversionError(f"coremltools wrote a package that can't be read: {error.message}") from error
    _same_features("input", list(spec.description.input), captured.inputs, names)
    if not classifier:
        _same_features("output", list(spec.description.output), captured.outputs, names)
    elif spec.description.predictedFeatureName != LABEL:
        raise ConversionError("coremltools wrote no classifier", "leave out -k labels")
    _same_constants(program, converted)
    _same_parameters(program, captured.program)
    return count_operators(program), _weights(program, captured.program)


def _same_features(
    kind: str, features: Sequence[Any], specs: Sequence[TensorSpec], names: Mapping[str, str]
) -> None:
    written, asked = [feature.name for feature in features], [names[spec.name] for spec in specs]
    if written != asked:
        raise ConversionError(
            f"coremltools wrote the {kind}s {', '.join(written)}, the model has {', '.join(asked)}",
            f"an {kind} that is constant, unused or given twice is dropped: take it out of the model's forward",
        )
    for feature, spec in zip(features, specs, strict=True):
        dtype, expected = array_type(feature), ARRAYS[spec.dtype]
        if dtype not in (expected, "image") and (kind == "input" or dtype not in ("float32", "float16", "int32")):
            raise ConversionError(f"coremltools wrote {kind} {spec.name!r} as {dtype}, {expected} was asked")


def _same_constants(program: Any, converted: Any) -> None:
    """A blob that was cut short, shifted or damaged on its way to the disk ends here."""
    wanted, written = _constants(converted), Counter(map(_checksum, _constants(program).values()))
    lost = Counter(map(_checksum, wanted.values())) - written
    if lost:
        name = next(name for name, value in wanted.items() if _checksum(value) in lost)
        raise ConversionError(
            f"{lost.total()} of {len(wanted)} constants in the file are not those that were converted, such as "
            f"{name!r}",
            "the file was damaged as it was written: look at the disk, and export again",
        )


def _same_parameters(program: Any, source: Any) -> None:
    """The converter calls a constant after a parameter only where it is that one; what it computes is renamed."""
    import numpy as np
    from modelexport.toolkit import to_numpy

    signature, constants = source.graph_signature, _constants(program)
    for name, full_name in {**signature.inputs_to_parameters, **signature.inputs_to_buffers}.items():
        value = source.state_dict.get(full_name)
        if value is None or not value.is_floating_point():
            continue
        single = to_numpy(value, full_name).astype(np.float32)
        for constant, wanted in ((name, single), (f"{name}_to_fp16", _half(single))):
            written = constants.get(constant)
            if written is not None and (written.shape != wanted.shape or written.tobytes() != wanted.tobytes()):
                raise ConversionError(
                    f"the constant {constant!r} in the file is not the model's {full_name!r}",
                    "this is a defect of coremltools: please report it",
                )


def _constants(program: Any) -> dict[str, Array]:
    """The arrays of floats among a program's constants; what has 64 bits before it is written, in 32."""
    import numpy as np

    constants = {op.name: op.outputs[0].val for op in operations(program) if op.op_type == "const"}
    return {
        name: value.astype(np.float32) if value.dtype == np.float64 else value
        for name, value in constants.items()
        if isinstance(value, np.ndarray) and value.ndim and value.dtype.kind == "f"
    }


def _weights(program: Any, source: Any) -> dict[str, Any]:
    """How many of the source's weights are in the program bit by bit, in whatever order of their values."""
    import numpy as np
    from modelexport.toolkit import to_numpy

    arrays = list(_constants(program).values())
    written = {_checksum(array) for array in arrays}
    weights = [to_numpy(value, name).astype(np.float32) for name, value in source.state_dict.items()
               if value.is_floating_point() and value.numel() > 1]  # fmt: skip
    same = [w for w in weights if {_checksum(w), _checksum(_half(w))} & written]
    return {
        "constants": len(arrays),
        "bytes": sum(array.nbytes for array in arrays),
        "unchanged": len(same),
        "of": len(weights),
        "share": round(sum(w.size for w in same) / max(1, sum(w.size for w in weights)), 4),
    }


def _half(array: Array) -> Array:
    import numpy as np

    with np.errstate(over="ignore"):
        return array.astype(np.float16)


def _checksum(array: Array) -> Checksum:
    """Equal for arrays that hold the same values in any order and shape."""
    import numpy as np

    bits = np.ascontiguousarray(array).reshape(-1).view(f"u{array.dtype.itemsize}")
    mixed = (bits.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(7)
    return array.dtype.name, array.size, int(bits.sum(dtype=np.uint64)), int(mixed.sum(dtype=np.uint64))
