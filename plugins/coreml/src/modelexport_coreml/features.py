"""The model's interface as Core ML sees it: names, flexible shapes, images, class labels, metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Captured, Dim, TensorSpec, check_file, dims_of
from modelexport.errors import OptionError
from modelexport.toolkit import open_regular, size_combinations

from .backend import coremltools
from .files import ARRAYS

if TYPE_CHECKING:
    from modelexport.contract import Source

    from . import ExportOptions

#: shapes that Core ML takes in a list
MOST_SHAPES = 128

#: the most bytes of a file of labels
LABELS = 16 << 20

#: the value of `labels` that stands for those that the source carries
CARRIED = "processing"

#: colour of an image → its channels
_CHANNELS = {"RGB": 3, "BGR": 3, "GRAYSCALE": 1}

_IMAGE_HINT = "write name,scale,bias,color, as in x,0.017,-2.1/-2.0/-1.8,RGB; color is RGB, BGR or GRAYSCALE"


# --------------------------------------------------------------------------------------- before the work


def check_alone(options: ExportOptions) -> None:
    """Raise OptionError for labels and images that are wrong whatever the model is."""
    if options.labels is not None and options.labels != CARRIED:
        check_file("labels", options.labels)
        _lines(Path(options.labels))
    if options.image_input is not None:
        Image.parse(options.image_input)


def check(options: ExportOptions, source: Source) -> None:
    """Raise OptionError for labels that the source doesn't carry, and for what is no image of its inputs."""
    image_of(source.specs, options.image_input)
    if options.labels == CARRIED:
        _carried(source.processing)


# --------------------------------------------------------------------------------------- images


@dataclass(frozen=True)
class Image:
    """An input that takes an image: the model gets `pixel * scale + bias`, channel by channel."""

    name: str
    scale: float = 1.0
    bias: tuple[float, ...] = (0.0,)
    color: str = "RGB"

    @classmethod
    def parse(cls, text: str) -> Image:
        """Read `name,scale,bias,color`; all but the name may be left out. Raises OptionError.

        >>> Image.parse("x,0.5,-1/0/1,bgr")
        Image(name='x', scale=0.5, bias=(-1.0, 0.0, 1.0), color='BGR')
        """
        parts = [part.strip() for part in text.split(",")]
        name, scale, bias, color = (*parts, *["1", "0", "RGB"][len(parts) - 1 :])[:4]
        try:
            image = cls(name, float(scale), tuple(float(part) for part in bias.split("/")), color.upper())
        except ValueError as error:
            raise OptionError(f"can't read image-input={text}", _IMAGE_HINT) from error
        if len(parts) > 4 or not name or image.scale == 0 or image.color not in _CHANNELS:
            raise OptionError(f"can't use image-input={text}", _IMAGE_HINT)
        if len(image.bias) not in (1, image.channels):
            raise OptionError(
                f"image-input gives {len(image.bias)} biases for {image.channels} channels", _IMAGE_HINT
            )
        return image

    @property
    def channels(self) -> int:
        return _CHANNELS[self.color]

    @property
    def details(self) -> dict[str, Any]:
        """As the manifest keeps it."""
        return {"input": self.name, "scale": self.scale, "bias": list(self.bias), "color": self.color}


def image_of(specs: Sequence[TensorSpec], text: str | None) -> Image | None:
    """The image input asked for. Raises OptionError where the model has no such input, or it is no image."""
    if text is None:
        return None
    image = Image.parse(text)
    spec = next((spec for spec in specs if spec.name == image.name), None)
    if spec is None:
        names = ", ".join(spec.name for spec in specs)
        raise OptionError(f"image-input names {image.name!r}, which is no input", f"one of {names}")
    if len(spec.shape) != 4 or spec.shape[:2] != (1, image.channels) or spec.dtype != "float32":
        raise OptionError(
            f"input {spec} takes no {image.color} image",
            f"declare it as {image.name}:float32[1,{image.channels},HEIGHT,WIDTH] with --input",
        )
    return image


# --------------------------------------------------------------------------------------- names and shapes


def identifiers(captured: Captured) -> dict[str, str]:
    """What Core ML calls each input and output: identifiers, so that Swift can name them, and all different.

    Only what Swift can't have in a name is changed: reserved words stay, unlike in the toolkit's `identifier`.
    """
    names: dict[str, str] = {}
    for spec in (*captured.inputs, *captured.outputs):
        name = re.sub(r"\W", "_", spec.name, flags=re.ASCII)
        name = f"_{name}" if not name or name[0].isdigit() else name
        while name in names.values():
            name += "_"
        names[spec.name] = name
    return names


def lists_shapes(specs: Sequence[TensorSpec], shapes: str) -> bool:
    """Whether sizes are listed: where it was asked, and for dims in steps, which a range can't say."""
    dims = dims_of(specs)
    return bool(dims) and (shapes == "enumerated" or any(dim.multiple > 1 for dim in dims))


def input_types(
    specs: Sequence[TensorSpec], names: Mapping[str, str], image: Image | None, listed: bool
) -> list[Any]:
    """coremltools' input types, with the dtypes and dims that were declared; no dim is open.

    Raises OptionError where `listed` shapes are too many.
    """
    shapes = _listed(specs) if listed else _ranges(specs)
    return [_input_type(spec, names[spec.name], shapes[spec.name], image) for spec in specs]


def _input_type(spec: TensorSpec, name: str, shape: Any, image: Image | None) -> Any:
    import numpy as np

    ct = coremltools()
    if image is None or spec.name != image.name:
        return ct.TensorType(name, shape, dtype=np.dtype(ARRAYS[spec.dtype]).type)
    bias = list(image.bias) if len(image.bias) > 1 else image.bias[0]
    return ct.ImageType(name, shape, scale=image.scale, bias=bias, color_layout=ct.colorlayout[image.color])


def _ranges(specs: Sequence[TensorSpec]) -> dict[str, Any]:
    ct = coremltools()
    ranges = {dim.name: ct.RangeDim(dim.min, dim.max, default=dim.min) for dim in dims_of(specs)}
    return {
        spec.name: ct.Shape([ranges[size.name] if isinstance(size, Dim) else size for size in spec.shape])
        for spec in specs
    }


def _listed(specs: Sequence[TensorSpec]) -> dict[str, Any]:
    """Every combination of the sizes that the declared dims allow, in one order for all inputs."""
    dims = dims_of(specs)
    combinations = size_combinations(dims, MOST_SHAPES)
    if combinations is None:
        raise OptionError(
            f"the dims {', '.join(map(str, dims))} allow more than the {MOST_SHAPES} shapes that Core ML can list",
            "declare fewer sizes, in steps: seq=64..512/64; or use -k shapes=range",
        )
    ct = coremltools()
    return {
        spec.name: ct.EnumeratedShapes([_sized(spec, sizes) for sizes in combinations])
        if spec.dims
        else spec.shape
        for spec in specs
    }


def _sized(spec: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sizes[size.name] if isinstance(size, Dim) else size for size in spec.shape)


# --------------------------------------------------------------------------------------- labels, metadata


def labels_of(captured: Captured, where: str | None) -> list[str] | None:
    """The class labels asked for: those of the file `where`, one a line, or those that the source carries.

    Raises OptionError where there are none, or they don't fit the output.
    """
    if where is None:
        return None
    labels = _carried(captured.processing) if where == CARRIED else _lines(Path(where))
    if len(captured.outputs) != 1:
        names = ", ".join(spec.name for spec in captured.outputs)
        raise OptionError(f"a classifier has one output, this model has {names}", "leave out -k labels")
    shape = captured.outputs[0].shape
    if not shape or shape[-1] != len(labels) or any(size != 1 for size in shape[:-1]):
        raise OptionError(
            f"{len(labels)} labels don't fit the output {captured.outputs[0]}",
            f"Core ML's classifiers give one row: [1,{len(labels)}]; fix the batch to 1 with --input",
        )
    return labels


def _lines(path: Path) -> list[str]:
    with open_regular(path, LABELS, OptionError) as stream:
        try:
            text = stream.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise OptionError(f"labels={path} is no text file", "give the labels one a line, in UTF-8") from error
    labels = [line.strip() for line in text.splitlines() if line.strip()]
    if not labels:
        raise OptionError(f"labels={path} has no labels in it", "give them one a line")
    return labels


def _carried(processing: Mapping[str, Any]) -> list[str]:
    labels = processing.get("labels")
    if not labels:
        raise OptionError("the source carries no labels", "give a text file: -k labels=classes.txt")
    if isinstance(labels, Mapping) and "logits" in labels:
        labels = labels["logits"]
    if isinstance(labels, Mapping):
        return [str(labels[key]) for key in sorted(labels, key=int)]
    return [str(label) for label in labels]


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
