"""Images into pixel arrays, as the artifact's `image` section says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import errors
from ..contract.artifacts import Artifact
from ..contract.tensors import cast
from ..errors import InputError
from .sections import check_rows, need, section

if TYPE_CHECKING:
    from ..contract.tensors import Array, Arrays

#: the most pixels of an image after resizing
LARGEST = 1 << 28


def image_inputs(artifact: Artifact, images: Sequence[Path | Any]) -> Arrays:
    """The input that `images` make, one row an image: paths, or Pillow images.

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
    rows = [pixels(_open(image) if isinstance(image, Path) else image, settings) for image in images]
    if len(shapes := {row.shape for row in rows}) > 1:
        raise InputError(f"the images make rows of different shapes: {sorted(shapes)}", "give images of one size")
    return {spec.name: cast(np.stack(rows), spec.dtype)}


def _open(path: Path) -> Any:
    """A Pillow image, decoded, and turned the way its EXIF data says it was taken."""
    need("PIL", "reading images")
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except FileNotFoundError as error:
        raise InputError(f"no image {path}", "give the path of an image file") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is no image that Pillow knows", "give a JPEG, PNG, WebP… file") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"can't read the image {path}: {errors.first_line(error)}", "the file is damaged, or no image"
        ) from error


def pixels(image: Any, settings: Mapping[str, Any]) -> Array:
    """One Pillow image as a float32 array, as the `image` section says: resized, cropped, scaled, normalised."""
    import numpy as np

    color = settings["color"]
    image = image.convert("L" if color == "L" else "RGB")
    if (size := settings["size"]) is not None:
        from PIL import Image

        width, height = _target_size(image.size, size)
        if width * height > LARGEST or not width * height:
            raise InputError(f"an image would be resized to {width} × {height} pixels", "give one less long")
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
