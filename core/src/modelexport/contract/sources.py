"""A model to export: as it was loaded, as torch.export captured it, and what it remembers between calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import OptionError
from .artifacts import Step
from .tensors import TensorSpec, unify_dims

if TYPE_CHECKING:
    from .tensors import Arrays


class State(Protocol):
    """What a reference remembers between calls, and how to undo that."""

    def changed(self) -> bool: ...
    def restore(self) -> None: ...


class NoState:
    """The state of a reference that remembers nothing: every call stands for itself."""

    def changed(self) -> bool:
        return False

    def restore(self) -> None:
        pass


@dataclass(frozen=True)
class Source:
    """A model to export: what a factory may return, and what every source plugin returns.

    `module`     the live model: an `nn.Module` for `format="module"`, an `ExportedProgram` for `"captured"`
    `inputs`     one TensorSpec (or declaration string) an input, in the order the model takes them
    `example`    example inputs, a tuple in that order or a dict by name; their values set the value ranges
    `outputs`    names for the outputs, where the model's own are not wanted
    `processing` how to make inputs from text or images and read outputs; see docs/reference/manifest.md
    `files`      files to carry into the artifact, by the name they get there
    `reference`  for formats other than a live module: computes outputs from inputs, both by name
    `state`      what `reference` remembers between calls, a `State`
    `golden`     the golden.npz of an artifact that stands for the original model
    """

    module: Any = None
    inputs: tuple[TensorSpec | str, ...] = ()
    example: Any = None
    outputs: tuple[str, ...] = ()
    processing: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    format: str = "module"
    path: Path | None = None
    ref: str = ""
    name: str = ""
    reference: Callable[[Arrays], Arrays] | None = None
    state: State | None = None
    golden: Path | None = None
    lineage: tuple[Step, ...] = ()

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """The inputs as TensorSpecs, dims of one name unified."""
        return unify_dims([TensorSpec.parse(s) if isinstance(s, str) else s for s in self.inputs])


@dataclass(frozen=True)
class LoadOptions:
    """What the command line says about the source; a source plugin takes what concerns it.

    Raises OptionError for `inputs` that can't be read, or that contradict one another.
    """

    inputs: tuple[str, ...] = ()
    weights: Path | None = None
    task: str | None = None
    allow_pickle: bool = False
    allow_download: bool = False
    allow_file_access: bool = False

    def __post_init__(self) -> None:
        specs = unify_dims([TensorSpec.parse(text) for text in self.inputs])
        names = [spec.name for spec in specs]
        if twice := [name for name in names if names.count(name) > 1]:
            raise OptionError(f"input {twice[0]!r} is declared twice", "declare every input once")

    def refuse_idle(self, lacking: str) -> None:
        """Raise OptionError for what is said of a source where there is none; `lacking` is the option for one."""
        said = [f"--{each.name.replace('_', '-')}" for each in fields(self) if getattr(self, each.name)]
        if said:
            raise OptionError(f"{said[0]} says how a source is loaded, and there is none", f"add {lacking}")


@dataclass(frozen=True)
class Captured:
    """A model captured by torch.export: what a target that consumes `captured` is given.

    `program` is the `torch.export.ExportedProgram`. It is shared between targets: a target whose lowering
    changes the program must take a `copy.deepcopy` first. `dynamic_shapes` is the structure torch.export
    was given, for converters that want the dims' names again.
    """

    program: Any
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...] = ()
    dynamic_shapes: Any = None
    processing: Mapping[str, Any] = field(default_factory=dict)
    format: str = "captured"
