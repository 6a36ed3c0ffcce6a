"""Calibration data as rows that are read one at a time: images of a folder, and what the user's code yields.

Every kind of reference becomes a `Reader`, which reads a row when it is wanted and keeps none. Files of arrays are
read in `arrayfile.py`, tables in `tables.py`; `samples.py` makes the arrays of a model from rows.
"""

from __future__ import annotations

import hashlib
import os
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from .. import errors, usercode
from ..contract.tensors import TensorSpec
from ..errors import InputError, a
from ..regular import files_below, is_regular

if TYPE_CHECKING:
    from ..contract.tensors import Array, Arrays

IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

#: what a reference may be, for messages
FORMS = (
    "a .npz or .npy of arrays, a folder of images, a .txt, .jsonl or .csv, a folder that `datasets` saved, "
    "or file.py:NAME (package.module:NAME), an iterable of samples"
)

#: what goes with every model, for messages
ARRAYS = "give arrays: a .npz with NAME=array for every input, or file.py:NAME, an iterable of dicts of arrays"

Kind = Literal["text", "image", "arrays"]


@dataclass(frozen=True)
class Row:
    """One row: `where` it is, for messages, and its `value`.

    That is a text or a pair of them, an image (its path, or a Pillow image), or arrays by input name.
    """

    where: str
    value: Any


class Reader(Protocol):
    """Rows of one `kind`, which can be read again and again.

    `sequential`: row N is reachable only by reading 0..N-1, so samples are taken from the start. `notes` are lines
    that the user should see.
    """

    @property
    def kind(self) -> Kind: ...
    @property
    def sequential(self) -> bool: ...
    @property
    def notes(self) -> tuple[str, ...]: ...

    def count(self, most: int) -> int:
        """How many there are. Rows that the user's code has to make to be counted are counted up to `most`."""
        ...

    def read(self, indices: Sequence[int]) -> Iterator[Row]:
        """The rows at ascending `indices`, one at a time. Raises InputError naming the row that can't be read."""
        ...


#: how a value is written in a message, however long or deep it is
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlist = _SHORT.maxdict = _SHORT.maxtuple = 20


def shown(value: Any) -> str:
    """A value in a message: a few words of it."""
    text = "null" if value is None else _SHORT.repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


# --------------------------------------------------------------------------------------- images


@dataclass(frozen=True)
class ImageFolder:
    """The images below a folder, by path; hidden files are left out."""

    paths: tuple[str, ...]
    kind: Kind = "image"
    sequential: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, folder: Path) -> ImageFolder:
        named = (entry for entry in files_below(folder) if entry.name.lower().endswith(IMAGES))
        paths = [entry.path for entry in named if not entry.name.startswith(".") and is_regular(entry)]
        if not paths:
            raise InputError(f"{folder} holds no images", f"they end in {', '.join(IMAGES)}; else give {FORMS}")
        return cls(tuple(sorted(paths, key=lambda path: path.replace(os.sep, "\0"))))  # folder by folder

    def count(self, most: int) -> int:
        return len(self.paths)

    def read(self, indices: Sequence[int]) -> Iterator[Row]:
        return (Row(self.paths[index], Path(self.paths[index])) for index in indices)


# --------------------------------------------------------------------------------------- iterables


class Yielded:
    """Samples that the user's code makes: an iterable, or a callable that returns one, gone through each time."""

    kind: Kind = "arrays"
    sequential = True
    notes: tuple[str, ...] = ()

    def __init__(self, name: str, origin: Any, specs: Sequence[TensorSpec]) -> None:
        if isinstance(origin, Iterator):
            raise InputError(
                f"{name} is {a(type(origin).__name__)}, which can be gone through only once",
                "give the function that makes it, or a list",
            )
        if not isinstance(origin, Iterable) and not callable(origin):
            raise InputError(f"{name} is {shown(origin)}, no iterable of samples", f"give {FORMS}")
        self.name, self.origin, self.specs = name, origin, tuple(specs)
        self.counted: int | None = None
        self.first = b""

    def count(self, most: int) -> int:
        if self.counted is None:
            try:
                self.counted = min(len(self.origin), most)
            except TypeError:  # it has no length, so it must be gone through
                self.counted = sum(1 for _ in self._items(most))
        return self.counted

    def read(self, indices: Sequence[int]) -> Iterator[Row]:
        wanted = iter(indices)
        at, seen, most = next(wanted, None), 0, indices[-1] + 1 if indices else 0
        for index, item in enumerate(self._items(most)):
            if index == 0:
                self._check_first(item)
            if index == at:
                yield Row(self._where(index), self._by_name(item, self._where(index)))
                at = next(wanted, None)
            seen = index + 1
        self.counted = seen if self.counted is None and seen < most else self.counted
        if self.counted is not None and seen != min(self.counted, most):
            raise InputError(
                f"{self.name} gave {seen} samples, and {self.counted} before",
                "it must give the same ones every time",
            )

    def _where(self, index: int) -> str:
        return f"sample {index} of {self.name}"

    def _items(self, most: int) -> Iterator[Any]:
        """The first `most` samples as the user's code gives them."""
        items: Iterator[Any] | None = None
        for index in range(most):
            try:
                items = iter(self._iterable()) if items is None else items
                item = next(items)
            except StopIteration:
                return
            except InputError:
                raise
            except Exception as error:
                where = usercode.user_frame(error)
                raise InputError(
                    f"{self.name} raised {type(error).__name__}{f' at {where}' if where else ''} "
                    f"while it made sample {index}: {errors.first_line(error)}",
                    "the code itself failed; --debug shows the whole trace",
                ) from error
            yield item

    def _iterable(self) -> Iterable[Any]:
        samples = self.origin if isinstance(self.origin, Iterable) else self.origin()
        if not isinstance(samples, Iterable) or isinstance(samples, (str, bytes, Mapping)):
            raise InputError(
                f"{self.name} gives {a(type(samples).__name__)}, no iterable of samples",
                "yield dicts: input name → array",
            )
        return samples

    def _check_first(self, item: Any) -> None:
        """A generator that shuffles anew, or ran dry, would calibrate on one set and be judged on another."""
        digest = hashlib.sha256()
        for name, value in self._by_name(item, self._where(0)).items():
            digest.update(f"{name} {value.dtype} {value.shape}".encode() + value.tobytes())
        if self.first and self.first != digest.digest():
            raise InputError(
                f"{self.name} starts with another sample each time it is gone through",
                "it must give the same samples in the same order: seed it, or do not shuffle",
            )
        self.first = digest.digest()

    def _by_name(self, item: Any, where: str) -> Arrays:
        names = [spec.name for spec in self.specs]
        if not isinstance(item, (Mapping, tuple)):
            if len(names) > 1:
                raise InputError(
                    f"{where} is {a(type(item).__name__)}, the model has {len(names)} inputs",
                    f"yield a dict, or a tuple in the order {', '.join(names)}",
                )
            item = (item,)
        if isinstance(item, tuple):
            if len(item) != len(names):
                raise InputError(
                    f"{where} has {len(item)} arrays, the inputs are {', '.join(names)}", "yield a dict"
                )
            item = dict(zip(names, item, strict=True))
        return {str(name): _as_array(value, f"{where}: input {name!r}") for name, value in item.items()}


def _as_array(value: Any, where: str) -> Array:
    """A copy, since the user's code may fill one buffer again and again."""
    import numpy as np

    if hasattr(value, "detach"):  # a torch tensor; torch itself is not needed here
        value = value.detach().cpu()
        value = value.float().numpy() if "bfloat16" in str(value.dtype) else value.numpy()
    try:
        array = np.array(value, order="C")
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{where} is no array: {errors.first_line(error)}", "give numpy arrays or tensors"
        ) from error
    if array.dtype.kind not in "biufc" and "float" not in array.dtype.name:
        raise InputError(
            f"{where} is {a(type(value).__name__)}, no array of numbers", "give numpy arrays or tensors"
        )
    return array
