"""The model's interface as Core ML sees it: inputs, flexible shapes, images, class labels, metadata."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Captured, Dim, TensorSpec
from modelexport.errors import ConversionError, OptionError

if TYPE_CHECKING:
    from . import ExportOptions

#: shapes that Core ML takes in a list
MOST_SHAPES = 128

#: the name of a classifier's answer; its probabilities are a dictionary beside it
LABEL = "classLabel"

#: what becomes of dtypes that Core ML's arrays don't have
DTYPES = {"int64": "int32", "int16": "int32", "int8": "int32", "uint8": "int32", "uint16": "int32"}
DTYPES |= {"float64": "float32", "bool": "float32", "bfloat16": "float32"}


@dataclass(frozen=True)
class Image:
    """An input that takes an image: the model gets `pixel * scale + bias`, channel by channel."""

    name: str
    scale: float
    bias: tuple[float, ...]
    color: str

    @classmethod
    def parse(cls, text: str) -> Image:
        """Read `name,scale,bias,color`; all but the name may be left out. Raises OptionError."""
        parts = [part.strip() for part in text.split(",")]
        parts += ["1", "0", "RGB"][len(parts) - 1 :]
        name, scale, bias, color = (*parts[:4],)
        try:
            found = cls(name, float(scale), tuple(float(part) for part in bias.split("/")), color.upper())
        except ValueError as error:
            raise OptionError(f"can't read image-input={text}", _IMAGE_HINT) from error
        if len(parts) > 4 or not name or found.scale == 0 or found.color not in ("RGB", "BGR", "GRAYSCALE"):
            raise OptionError(f"can't use image-input={text}", _IMAGE_HINT)
        return found


_IMAGE_HINT = "write name,scale,bias,color, as in x,0.017,-2.1/-2.0/-1.8,RGB; color is RGB, BGR or GRAYSCALE"


def image_of(captured: Captured, options: ExportOptions) -> Image | None:
    """The image input asked for. Raises OptionError where the model has no such input, or it is no image."""
    if options.image_input is None:
        return None
    image = Image.parse(options.image_input)
    spec = next((spec for spec in captured.inputs if spec.name == image.name), None)
    if spec is None:
        names = ", ".join(spec.name for spec in captured.inputs)
        raise OptionError(f"image-input names {image.name!r}, which is no input", f"one of {names}")
    channels = 1 if image.color == "GRAYSCALE" else 3
    if len(spec.shape) != 4 or spec.shape[:2] != (1, channels) or spec.dtype != "float32":
        raise OptionError(
            f"input {spec} takes no {image.color} image",
            f"Core ML's images are {image.name}:float32[1,{channels},height,width]: declare it so with --input",
        )
    if len(image.bias) not in (1, channels):
        raise OptionError(f"image-input gives {len(image.bias)} biases for {channels} channels", _IMAGE_HINT)
    return image


def identifiers(captured: Captured) -> dict[str, str]:
    """What Core ML calls each input and output: identifiers, so that Swift can name them, and all different."""
    found: dict[str, str] = {}
    for spec in (*captured.inputs, *captured.outputs):
        name = re.sub(r"\W", "_", spec.name, flags=re.ASCII)
        name = f"_{name}" if not name or name[0].isdigit() else name
        while name in found.values():
            name += "_"
        found[spec.name] = name
    return found


def inputs(
    captured: Captured, names: Mapping[str, str], image: Image | None, enumerated: bool, bound: int
) -> list[Any]:
    """coremltools' input types, with the dtypes and dims that were declared. Raises OptionError."""
    import coremltools as ct
    import numpy as np

    shapes = _enumerated(captured.inputs) if enumerated else _ranged(captured.inputs, bound)
    found = []
    for spec in captured.inputs:
        if image is not None and spec.name == image.name:
            bias = list(image.bias) if len(image.bias) > 1 else image.bias[0]
            layout = ct.colorlayout[image.color]
            name = names[spec.name]
            found.append(ct.ImageType(name, shapes[spec.name], scale=image.scale, bias=bias, color_layout=layout))
            continue
        dtype = np.dtype(DTYPES.get(spec.dtype, spec.dtype)).type
        found.append(ct.TensorType(names[spec.name], shapes[spec.name], dtype=dtype))
    return found


def lists_shapes(captured: Captured, options: ExportOptions) -> bool:
    """Whether sizes are listed: where it was asked, and for dims in steps, which a range can't say."""
    dims = [dim for spec in captured.inputs for dim in spec.dims]
    return bool(dims) and (options.shapes == "enumerated" or any(dim.multiple > 1 for dim in dims))


def _ranged(specs: Sequence[TensorSpec], bound: int) -> dict[str, Any]:
    import coremltools as ct

    dims = {dim.name: dim for spec in specs for dim in spec.dims}
    ranges = {
        name: ct.RangeDim(dim.min, max(dim.min, bound) if dim.max is None else dim.max, default=dim.min)
        for name, dim in dims.items()
    }
    return {
        spec.name: ct.Shape([ranges[size.name] if isinstance(size, Dim) else size for size in spec.shape])
        for spec in specs
    }


def _enumerated(specs: Sequence[TensorSpec]) -> dict[str, Any]:
    """Every combination of the sizes that the declared dims allow, in one order for all inputs."""
    import coremltools as ct

    dims = list({dim.name: dim for spec in specs for dim in spec.dims}.values())
    count = 1
    for dim in dims:
        count *= len(dim.sizes) if dim.max is not None else MOST_SHAPES + 1
    if count > MOST_SHAPES:
        raise OptionError(
            f"the dims {', '.join(map(str, dims))} allow more than the {MOST_SHAPES} shapes that Core ML can list",
            "declare fewer sizes, in steps: seq=64..512/64; or use -k shapes=range",
        )
    names = [dim.name for dim in dims]
    combinations = [
        dict(zip(names, sizes, strict=True)) for sizes in itertools.product(*(dim.sizes for dim in dims))
    ]
    return {
        spec.name: ct.EnumeratedShapes([_sized(spec, sizes) for sizes in combinations])
        if spec.dims
        else spec.shape
        for spec in specs
    }


def _sized(spec: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sizes[size.name] if isinstance(size, Dim) else size for size in spec.shape)


# --------------------------------------------------------------------------------------- labels, metadata


def labels(captured: Captured, options: ExportOptions) -> list[str] | None:
    """The class labels asked for. Raises OptionError where they are missing or don't fit the output."""
    if options.labels is None:
        return None
    if options.labels == "processing":
        found = _carried(captured.processing)
    else:
        path = Path(options.labels)
        if not path.is_file():
            raise OptionError(f"labels={options.labels}: there is no such file", "a text file, one label a line")
        found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if len(captured.outputs) != 1:
        names = ", ".join(spec.name for spec in captured.outputs)
        raise OptionError(f"a classifier has one output, this model has {names}", "leave out -k labels")
    shape = captured.outputs[0].shape
    if not shape or shape[-1] != len(found) or any(size != 1 for size in shape[:-1]):
        raise OptionError(
            f"{len(found)} labels don't fit the output {captured.outputs[0]}",
            f"Core ML's classifiers give one row: [1,{len(found)}]; fix the batch to 1 with --input",
        )
    return found


def _carried(processing: Mapping[str, Any]) -> list[str]:
    found = processing.get("labels")
    if not found:
        raise OptionError("the source carries no labels", "give a text file: -k labels=classes.txt")
    if isinstance(found, Mapping):
        return [str(found[key]) for key in sorted(found, key=int)]
    return [str(label) for label in found]


def describe(model: Any, options: ExportOptions) -> None:
    """Set the metadata that Xcode shows."""
    for field, value in (
        ("author", options.author),
        ("license", options.license),
        ("version", options.version),
        ("short_description", options.description),
    ):
        if value is not None:
            setattr(model, field, value)


def refuse_state(program: Any, options: ExportOptions) -> None:
    """Raise ConversionError for a state that Core ML can't keep: its states are float16, and begin as zeros.

    `program` is a lowered one: only there does the signature say which buffers are written to.
    """
    names = list(program.graph_signature.buffers_to_mutate.values())
    if not names:
        return
    if options.deployment_target != "iOS18":
        raise ConversionError(
            f"the model updates its buffer {names[0]!r}: Core ML has states since iOS 18",
            "-k deployment-target=iOS18; or take the state as an input and return it",
        )
    if options.compute_precision != "float16":
        raise ConversionError(
            f"the model updates its buffer {names[0]!r}: Core ML keeps states in float16",
            "-k compute-precision=float16; or take the state as an input and return it",
        )
    started = [name for name in names if name in program.state_dict and program.state_dict[name].any()]
    if started:
        raise ConversionError(
            f"the buffer {started[0]!r} begins with values: Core ML's states begin with zeros",
            "set it to zeros before the export; or take the state as an input and return it",
        )


def refuse(captured: Captured) -> None:
    """Raise ConversionError for inputs and outputs that Core ML has no type for."""
    for kind, specs in (("input", captured.inputs), ("output", captured.outputs)):
        for spec in specs:
            if spec.dtype.startswith("complex"):
                raise ConversionError(
                    f"{kind} {spec.name!r} is {spec.dtype}, which Core ML doesn't have",
                    "take and return pairs of real numbers instead: torch.view_as_complex, torch.view_as_real",
                )
            if len(spec.shape) > 5:
                raise ConversionError(
                    f"{kind} {spec.name!r} has {len(spec.shape)} dims, Core ML takes five", "reshape it inside"
                )
    scalars = [spec.name for spec in captured.inputs if not spec.shape]
    if scalars:
        raise ConversionError(
            f"input {scalars[0]!r} has no dims, Core ML's inputs have one at least", "declare it as [1]"
        )
