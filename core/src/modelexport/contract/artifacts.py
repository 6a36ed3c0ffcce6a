"""What a plugin wrote, and the finished artifact: a directory that needs nothing else to be run or verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ..errors import ArtifactError
from ..typed import Count, Format, InsidePath, Like, Sha256
from .compiled import CompiledLayer
from .lineage import Origin
from .parity import UNVERIFIED, Parity
from .quantization import QuantizationReport
from .tensors import TensorSpec

if TYPE_CHECKING:
    from .tensors import Arrays

#: the program that a later step starts from stands in `source/`, code to start from in `snippets/`
_NOT_DEPLOYED = ("golden.npz", "source/", "snippets/")


@dataclass(frozen=True)
class StandIn:
    """A file of the artifact that another target runs where this machine can't run the artifact itself.

    It computes the same: the model that an engine was built from. `format` is that other target, `entry` the
    file's path in the artifact, `details` what a session of the other target reads.
    """

    format: Format
    entry: InsidePath
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Build:
    """What `mx_export`, `mx_optimize` and `mx_quantize` return: what they wrote into `out`.

    `entry`         the file (or folder) that a session loads, relative to `out`
    `tools`         distributions whose versions belong in the lineage
    `precision`     picks the parity budget; None: the precision of what it was built from
    `details`       the target's own facts about the files, for the manifest and its later hooks: what
                    `Target.details` declares
    `notes`         lines that the user is shown at once
    `quantization`  what quantization did, layer by layer
    `layers`        what a compiler made of the model, layer by layer
    `stand_in`      what is measured in place of the artifact on machines that can't run it
    `samples`       real inputs that an export took the ranges of activations from: the gate checks it on these,
                    since random inputs would show saturation only
    """

    entry: str
    tools: tuple[str, ...] = ()
    precision: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    quantization: QuantizationReport | None = None
    layers: tuple[CompiledLayer, ...] = ()
    stand_in: StandIn | None = None
    samples: tuple[Arrays, ...] = ()


@dataclass(frozen=True)
class Step:
    """One verb of an artifact's lineage: what was done, with which options, tools and source."""

    verb: Format
    target: Format
    options: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    source: Annotated[Mapping[str, Any], Like(Origin)] = field(default_factory=dict)


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and sha256 of one file, by its path relative to the artifact (with `/`)."""

    path: InsidePath
    size: Count
    sha256: Sha256


@dataclass(frozen=True)
class Artifact:
    """A model on disk, complete: the directory `path` with `manifest.json`, the target's files, golden.npz.

    `details` are the target's own facts; before a hook sees them they have passed `Target.details`. What every
    target may say besides has fields of its own, as in `Build`. `processing` is data that `Processing` describes.
    """

    path: Path
    format: str
    entry: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precision: str = "float32"
    lineage: tuple[Step, ...] = ()
    files: tuple[FileEntry, ...] = ()
    parity: Parity = UNVERIFIED
    processing: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    quantization: QuantizationReport | None = None
    layers: tuple[CompiledLayer, ...] = ()
    stand_in: StandIn | None = None

    @property
    def entry_path(self) -> Path:
        return self.path / self.entry

    @property
    def golden(self) -> Path:
        return self.path / "golden.npz"

    @property
    def size(self) -> int:
        """Bytes of what is deployed: golden data is left out, and what only later steps read or people do."""
        return sum(file.size for file in self.files if not file.path.startswith(_NOT_DEPLOYED))

    def quantization_report(self) -> QuantizationReport:
        """What quantization did to it, layer by layer. Raises ArtifactError where it is not quantized."""
        if self.quantization is None:
            raise ArtifactError(f"{self.path} is not quantized", "quantize it with `mx quantize`")
        return self.quantization
