"""What the file takes and gives, as source code needs it: by name, in the file's own dtypes and layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from modelexport.contract import Artifact, Dim, TensorSpec
from modelexport.errors import OptionError
from modelexport.toolkit import Value, commented, constant, quoted, signature

from .. import files


@dataclass(frozen=True)
class Port:
    """An input or output as the file has it; `note` says in what it differs from the model's, and its values."""

    value: Value
    note: str = ""

    @property
    def name(self) -> str:
        """Its name as a string literal."""
        return quoted(self.value.name)

    @property
    def is_fixed(self) -> bool:
        return all(isinstance(size, int) for size in self.value.sizes)

    @property
    def comment(self) -> str:
        return comment(f"[{self.value.shape}]", self.note)


@dataclass(frozen=True)
class Constant:
    """A dynamic dim: the size that a program begins with, and what else it may be."""

    name: str
    size: int
    note: str

    @property
    def comment(self) -> str:
        return comment(self.note)


@dataclass(frozen=True)
class Interface:
    """The file `entry`, its signature `key`, and what that takes and gives."""

    entry: str
    key: str
    constants: tuple[Constant, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def interface(artifact: Artifact) -> Interface:
    """Of the signature that a program begins with: the first. Raises OptionError for a file that has none."""
    model = files.read(artifact.entry_path)
    if not model.signatureDefs:
        raise OptionError(
            f"{artifact.entry} has no signature, and these programs call a model by the names in it",
            "convert it again, with a signature",
        )
    listed: Mapping[str, Mapping[str, int]] = artifact.details.get("signatures", {})
    key = next(iter(listed), files.signatures(model)[0])
    called = next(each for each in model.signatureDefs if each.signatureKey.decode() == key)
    graph, names = model.subgraphs[called.subgraphIndex], signature(artifact)
    dims = [_constant(dim, listed.get(key, {}), len(listed)) for dim in names.dims]
    nhwc = artifact.details.get("nhwc", ())
    return Interface(
        artifact.entry,
        key,
        tuple(dims),
        tuple(_ports(names.inputs, artifact.inputs, called.inputs, graph, nhwc)),
        tuple(_ports(names.outputs, artifact.outputs, called.outputs, graph, nhwc)),
    )


def _constant(dim: Dim, sizes: Mapping[str, int], count: int) -> Constant:
    """`sizes` are those of the signature that is called, one of `count`; another dim begins with its smallest."""
    note = str(dim) if "=" in str(dim) else f"{dim.name} of any size"
    if dim.name in sizes:
        note += f": a signature for each size, {count} in all; change its name too"
    return Constant(constant(dim), sizes.get(dim.name, dim.sizes[0]), note)


def _ports(
    values: Sequence[Value], specs: Sequence[TensorSpec], entries: Sequence[Any], graph: Any, nhwc: Sequence[str]
) -> Iterator[Port]:
    tensors = {entry.name.decode(): graph.tensors[entry.tensorIndex] for entry in entries}
    for value, spec in zip(values, specs, strict=True):
        tensor, sizes = tensors[spec.name], value.sizes
        if spec.name in nhwc:
            sizes = (sizes[0], *sizes[2:], sizes[1])
        notes = ["channels last"] if spec.name in nhwc else []
        notes += _notes(spec, tensor)
        yield Port(replace(value, dtype=files.dtype(tensor), sizes=sizes), ", ".join(notes))


def _notes(spec: TensorSpec, tensor: Any) -> Iterator[str]:
    dtype = files.dtype(tensor)
    if dtype == "int32" and spec.dtype == "int64":
        yield "int64 in the model"
    scale = getattr(tensor.quantization, "scale", None)
    if scale is not None and len(scale) and dtype != "float32":
        yield f"value = (integer - {int(tensor.quantization.zeroPoint[0])}) * {float(scale[0]):g}"
    if isinstance(spec.values, tuple):
        yield f"{spec.values[0]:g}..{spec.values[1]:g}"


# --------------------------------------------------------------------------------------- text


def comment(*notes: str) -> str:
    """A comment behind a line of code, in any of the languages."""
    said = "; ".join(note for note in notes if note)
    return f"  // {commented(said)}" if said else ""


def lines(indent: int, code: Sequence[str]) -> str:
    """Lines of code, each behind `indent` spaces."""
    return "\n".join(" " * indent + line for line in code)


def block(indent: int, code: Sequence[str]) -> str:
    """The same with an empty line behind them; nothing where there are none."""
    return lines(indent, code) + "\n" * bool(code)
