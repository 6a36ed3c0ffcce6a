"""Images into pixel arrays, as the artifact's `image` section says."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import errors
from ..contract.artifacts import Artifact
from ..contract.tensors import cast
from ..errors import InputError, MxError
from ..quiet import quiet
from ..regular import open_regular
from .sections import check_rows, need, section

if TYPE_CHECKING:
    from ..contract.tensors import Array, Arrays

#: the formats that are read; Pillow knows others, some of which it hands to other programs
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

#: the most bytes of an image's file, and the most pixels of an image: as many as Pillow opens without a warning
FILE, PIXELS = 512 << 20, 89_478_485

#: the most pixels of what a model gets: an image is resized first, by its shortest edge perhaps
MADE = 1 << 24


def image_inputs(artifact: Artifact, images: Sequence[Path | Any]) -> Arrays:
    """The input that `images` make, one row an image: paths, Pillow images, or what `datasets` keeps of one.

    Raises InputError when the artifact doesn't say how, or an image is missing or damaged.
    """
    import numpy as np

    settings = section(artifact, "image", "image preprocessing")
    spec = next((spec for spec in artifact.inputs if spec.name == settings["input"]), None)
    if spec is None or len(artifact.inputs) != 1:
        raise InputError(
            f"inputs {', '.join(s.name for s in artifact.inputs)} can't be made from images alone",
            "give them as arrays with --input",
        )
    if len(spec.shape) != 4:
        raise InputError(f"input {spec.name!r} takes no batch of images: it is {spec}", "give --input")
    check_rows(spec.shape[0], len(images), "image")
    rows = [_row(image, settings) for image in images]
    if len(shapes := {row.shape for row in rows}) > 1:
        raise InputError(f"the images make rows of different shapes: {sorted(shapes)}", "give images of one size")
    return {spec.name: cast(np.stack(rows), spec.dtype)}


def _row(image: Any, settings: Mapping[str, Any]) -> Array:
    need("PIL", "reading images")
    kept: Mapping[str, Any] = image if isinstance(image, Mapping) else {}
    name = image if isinstance(image, Path) else kept.get("path")
    with _readable(f"the image {name}" if name else "the image"):
        if kept.get("bytes") is not None:
            image = _opened(io.BytesIO(kept["bytes"]))
        elif name:
            with open_regular(Path(name), FILE) as stream:
                image = _opened(io.BytesIO(stream.read()))  # a file makes room for as much as is asked of it
        return pixels(image, settings)


def _opened(stream: io.BytesIO) -> Any:
    """A Pillow image, decoded, and turned the way its EXIF data says it was taken."""
    from PIL import Image, ImageOps
    from PIL.TiffImagePlugin import TiffImageFile

    with Image.open(stream, formats=FORMATS) as image:
        _check_pixels(image.width, image.height, PIXELS)
        with quiet(native=isinstance(image, TiffImageFile)):  # its library writes past Python
            image.load()
        return ImageOps.exif_transpose(image)


def _check_pixels(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise InputError(f"it has {width} × {height} pixels, {most} are read at most", "give a smaller one")
    if width < 1 or height < 1:
        raise InputError(f"it would have {width} × {height} pixels", "give one that is less long")


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """Whatever is wrong with an image becomes an InputError that says `what` it is; nothing is warned of."""
    from PIL import UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MemoryError:
        raise
    except MxError as error:
        said = error.message if what.rpartition(" ")[2] in error.message else f"{what}: {error.message}"
        raise InputError(said, error.hint) from error
    except UnidentifiedImageError as error:
        raise InputError(f"{what} is none that is read", f"give a file of one of {', '.join(FORMATS)}") from error
    except Exception as error:
        raise InputError(
            f"can't read {what}: {errors.first_line(error)}", "the file is damaged, or no image"
        ) from error


def pixels(image: Any, settings: Mapping[str, Any]) -> Array:
    """One Pillow image as a float32 array, as the `image` section says: resized, cropped, scaled, normalised."""
    import numpy as np

    color, (width, height) = settings["color"], image.size
    _check_pixels(width, height, PIXELS)
    if image.mode.startswith(("I", "F")):  # Pillow would cut their values off at 255
        raise InputError("its pixels are no colours of 8 bits", "save it with 8 bits a channel")
    if (size := settings["size"]) is not None:
        width, height = _target_size(image.size, size)
    _check_pixels(width, height, MADE)
    image = image.convert("L" if color == "L" else "RGB")
    if size is not None:
        from PIL import Image

        image = image.resize((width, height), Image.Resampling[settings["resample"].upper()])
    array = np.asarray(image)
    array = array[..., None] if array.ndim == 2 else array
    if settings["crop"] is not None:
        array = _center_crop(array, *settings["crop"])
    array = array[..., ::-1] if color == "BGR" else array
    if settings["rescale"] is not None:
        array = array.astype(np.float64) * settings["rescale"]
    array = array.astype(np.float32)
    if settings["mean"] is not None:
        array = (array - np.float32(settings["mean"])) / np.float32(settings["std"])
    return np.ascontiguousarray(array if settings["layout"] == "NHWC" else array.transpose(2, 0, 1))


def _target_size(current: tuple[int, int], size: Sequence[int] | Mapping[str, int]) -> tuple[int, int]:
    """(width, height) to resize to; a shortest edge keeps the proportions, rounding the longer edge down."""
    if not isinstance(size, Mapping):
        return size[1], size[0]
    edge, (width, height) = size["shortest_edge"], current
    return (edge, int(edge * height / width)) if width <= height else (int(edge * width / height), edge)


def _center_crop(array: Array, height: int, width: int) -> Array:
    """The middle of an image, with zeros around it where the image is smaller."""
    import numpy as np

    top, left = (array.shape[0] - height) // 2, (array.shape[1] - width) // 2
    cropped = np.zeros((height, width, array.shape[2]), array.dtype)
    inside = array[max(top, 0) : top + height, max(left, 0) : left + width]
    row, column = max(-top, 0), max(-left, 0)
    cropped[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
    return cropped
