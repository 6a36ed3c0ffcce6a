"""The contents of manifest.json ↔ Artifact. The format is documented in docs/reference/manifest.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from ..contract.artifacts import Artifact, FileEntry, StandIn, Step
from ..contract.compiled import CompiledLayer
from ..contract.parity import Budget, Comparison, Parity
from ..contract.quantization import QuantizationReport
from ..contract.tensors import Dim, TensorSpec
from ..errors import ArtifactError

VERSION = 1

#: the file in an artifact's folder
NAME = "manifest.json"


def to_json(artifact: Artifact) -> dict[str, Any]:
    dims = {d.name: d for spec in (*artifact.inputs, *artifact.outputs) for d in spec.dims}
    return {
        "schema": VERSION,
        "format": artifact.format,
        "entry": artifact.entry,
        "precision": artifact.precision,
        "dims": {name: {"min": d.min, "max": d.max, "multiple": d.multiple} for name, d in dims.items()},
        "inputs": [_spec_to_json(spec) for spec in artifact.inputs],
        "outputs": [_spec_to_json(spec) for spec in artifact.outputs],
        "verified": artifact.parity.verified,
        "parity": {key: value for key, value in parity_to_json(artifact.parity).items() if key != "verified"},
        "lineage": [asdict(step) for step in artifact.lineage],
        "processing": dict(artifact.processing),
        "details": _details_to_json(artifact),
        "files": [asdict(file) for file in artifact.files],
    }


def from_json(data: Mapping[str, Any], root: Path) -> Artifact:
    """The artifact that `data` describes. Raises ArtifactError for a newer schema or an unsafe path."""
    schema = data["schema"]
    if not isinstance(schema, int) or schema < 1:
        raise ArtifactError(f"{root / NAME} has no valid schema version: {schema!r}", "export the model again")
    if schema > VERSION:
        raise ArtifactError(
            f"{root / NAME} has schema {schema}, this modelexport reads up to {VERSION}",
            "upgrade with `pip install -U modelexport`",
        )
    dims = {name: Dim(name, d["min"], d["max"], d["multiple"]) for name, d in data["dims"].items()}
    files = tuple(FileEntry(f["path"], f["size"], f["sha256"]) for f in data["files"])
    for path in [data["entry"], *(file.path for file in files)]:
        _refuse_escape(path, root)
    return Artifact(
        path=root,
        format=data["format"],
        entry=data["entry"],
        precision=data["precision"],
        inputs=tuple(_spec_from_json(spec, dims) for spec in data["inputs"]),
        outputs=tuple(_spec_from_json(spec, dims) for spec in data["outputs"]),
        parity=parity_from_json({**data["parity"], "verified": data["verified"]}),
        lineage=tuple(Step(**step) for step in data["lineage"]),
        processing=data["processing"],
        **_details_from_json(data["details"]),
        files=files,
    )


def _refuse_escape(path: str, root: Path) -> None:
    pure = PurePosixPath(path)
    outside = pure.is_absolute() or ".." in pure.parts or "\\" in path or ":" in path or not path
    if outside or not (root / pure).resolve().is_relative_to(root.resolve()):
        raise ArtifactError(
            f"{root / NAME} lists {path!r}, which lies outside the artifact",
            "don't use this artifact: it was not written by modelexport",
        )


# --------------------------------------------------------------------------------------- details


def _details_to_json(artifact: Artifact) -> dict[str, Any]:
    """The target's own facts, and beside them what has fields of its own in `Artifact`."""
    details = dict(artifact.details)
    if artifact.notes:
        details["notes"] = list(artifact.notes)
    if artifact.quantization is not None:
        details["quantization"] = artifact.quantization.to_json()
    if artifact.layers:
        details["layers"] = [asdict(layer) for layer in artifact.layers]
    if artifact.stand_in is not None:
        details["stands_in"] = asdict(artifact.stand_in)
    return details


def _details_from_json(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an Artifact that `_details_to_json` wrote."""
    own = dict(data)
    notes, layers = own.pop("notes", ()), own.pop("layers", ())
    report, stand_in = own.pop("quantization", None), own.pop("stands_in", None)
    return {
        "details": own,
        "notes": tuple(notes),
        "layers": tuple(CompiledLayer(**layer) for layer in layers),
        "quantization": None if report is None else QuantizationReport.from_json(report),
        "stand_in": None if stand_in is None else StandIn(**stand_in),
    }


# --------------------------------------------------------------------------------------- parity


def parity_to_json(parity: Parity) -> dict[str, Any]:
    return {**asdict(parity), "outputs": [_comparison_to_json(compared) for compared in parity.outputs]}


def parity_from_json(data: Mapping[str, Any]) -> Parity:
    return Parity(
        verified=data["verified"],
        reason=data["reason"],
        outputs=tuple(_comparison_from_json(row) for row in data["outputs"]),
        cases=tuple(data["cases"]),
        skipped=data["skipped"],
        environment=data["environment"],
    )


def _comparison_to_json(compared: Comparison) -> dict[str, Any]:
    """One flat row: the budget's own `cosine` and `equal` are called `min_cosine` and `min_equal` in it."""
    row, budget = asdict(compared), compared.budget
    del row["budget"]
    row |= {"atol": budget.atol, "rtol": budget.rtol, "noise": budget.noise}
    return row | {"min_cosine": budget.cosine, "min_equal": budget.equal}


def _comparison_from_json(row: Mapping[str, Any]) -> Comparison:
    equal = row.get("min_equal", 1.0)  # manifests of before there were budgets for integers
    budget = Budget(row["atol"], row["rtol"], row["noise"], row["min_cosine"], equal)
    figures = {key: row[key] for key in ("max_abs", "max_rel", "cosine", "top1", "used")}
    return Comparison(row["name"], budget, row["ok"], **figures, problem=row["problem"], case=row["case"])


# --------------------------------------------------------------------------------------- tensors


def _spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    shape = [size.name if isinstance(size, Dim) else size for size in spec.shape]
    data: dict[str, Any] = {"name": spec.name, "dtype": spec.dtype, "shape": shape}
    if spec.values is not None:
        data["values"] = spec.values if isinstance(spec.values, str) else list(spec.values)
    return data


def _spec_from_json(data: Mapping[str, Any], dims: Mapping[str, Dim]) -> TensorSpec:
    values = data.get("values")
    return TensorSpec(
        name=data["name"],
        dtype=data["dtype"],
        shape=tuple(dims[size] if isinstance(size, str) else int(size) for size in data["shape"]),
        values=(values[0], values[1]) if isinstance(values, list) else values,
    )
