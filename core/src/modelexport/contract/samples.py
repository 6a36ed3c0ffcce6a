"""The user's real inputs, as a plugin sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .tensors import Arrays


class Calibration(Protocol):
    """Samples for an artifact: iterating gives one at a time, by input name, the same ones every time.

    A sample is one row of the batch, or a whole batch where the artifact's batch size is fixed. `ref` is what the
    user named, `notes` holds lines that the user should see.
    """

    @property
    def ref(self) -> str: ...
    @property
    def notes(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Arrays]:
        """One sample at a time. Raises InputError naming the row that does not fit."""
        ...

    def batches(self, rows: int, uniform: bool = False) -> Iterator[Arrays]:
        """The samples stacked, up to `rows` rows a batch, or one sample where the artifact takes no more.

        Texts of a batch are padded to its longest; of other samples, only those of one shape are stacked. With
        `uniform` every batch has one shape on every axis but the first: texts are padded to the longest of all.
        Raises InputError when `uniform` can't be kept because two samples differ in shape.
        """
        ...

    def split(self, share: float) -> tuple[Calibration, Calibration]:
        """Two disjoint parts, drawn by the seed: the first has `share` of the samples, each has one at least."""
        ...

    def fingerprint(self) -> str:
        """The sha256 over the samples: names, dtypes, shapes and bytes of their arrays, in order."""
        ...
