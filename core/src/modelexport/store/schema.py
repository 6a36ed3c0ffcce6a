"""The contents of manifest.json ↔ Artifact. The format is documented in docs/reference/manifest.md."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import typed
from ..contract.artifacts import Artifact
from ..contract.parity import Budget, Comparison, Parity
from ..contract.quantization import QuantizationReport
from ..contract.tensors import Dim, TensorSpec
from ..errors import ArtifactError
from .document import SAID, Document, FlatComparison, FlatParity, Said, Tensor

VERSION = 1

#: the file in an artifact's folder
NAME = "manifest.json"


def to_json(artifact: Artifact) -> dict[str, Any]:
    """What the manifest of `artifact` says; of control characters in texts, a mark is left."""
    dims = {d.name: d for spec in (*artifact.inputs, *artifact.outputs) for d in spec.dims}
    parity = {key: value for key, value in parity_to_json(artifact.parity).items() if key != "verified"}
    return {
        "schema": VERSION,
        "format": artifact.format,
        "entry": artifact.entry,
        "precision": artifact.precision,
        "dims": {name: {"min": d.min, "max": d.max, "multiple": d.multiple} for name, d in dims.items()},
        "inputs": [_spec_to_json(spec) for spec in artifact.inputs],
        "outputs": [_spec_to_json(spec) for spec in artifact.outputs],
        "verified": artifact.parity.verified,
        "parity": typed.printable(parity),
        "lineage": [typed.printable(asdict(step)) for step in artifact.lineage],
        "processing": typed.printable(artifact.processing),
        "details": typed.printable(_details_to_json(artifact)),
        "files": [asdict(file) for file in artifact.files],
    }


def from_json(data: Any, root: Path) -> Artifact:
    """The artifact that `data` describes.

    Raises ArtifactError for a newer schema, and for anything that the records in `document.py` don't allow; it
    names the place.
    """
    _check_version(data, root)
    try:
        document: Document = typed.read(Document, data)
        said: Said = typed.read(Said, {key: data["details"][key] for key in SAID if key in data["details"]})
        report = data["details"].get("quantization")
        quantization = None if report is None else QuantizationReport.from_json(report)
    except ValueError as error:
        raise ArtifactError(
            f"{root / NAME} is damaged: {error}", "don't use this artifact if it isn't yours; else export it again"
        ) from error
    dims = {name: Dim(name, d.min, d.max, d.multiple) for name, d in document.dims.items()}
    artifact = Artifact(
        path=root,
        format=document.format,
        entry=document.entry,
        precision=document.precision,
        inputs=tuple(_spec(tensor, dims) for tensor in document.inputs),
        outputs=tuple(_spec(tensor, dims) for tensor in document.outputs),
        parity=parity_from_json({**data["parity"], "verified": data["verified"]}),
        lineage=document.lineage,
        processing=document.processing,
        details={key: value for key, value in document.details.items() if key not in SAID},
        notes=said.notes,
        layers=said.layers,
        quantization=quantization,
        stand_in=said.stands_in,
        files=document.files,
    )
    _refuse_escape(artifact)
    return artifact


def _check_version(data: Any, root: Path) -> None:
    """Raise ArtifactError for a newer schema, of which nothing else is known."""
    schema = data.get("schema") if isinstance(data, Mapping) else None
    if isinstance(schema, int) and schema > VERSION:
        raise ArtifactError(
            f"{root / NAME} has schema {min(schema, 9999)}, this modelexport reads up to {VERSION}",
            "upgrade with `pip install -U modelexport`",
        )


def named_files(artifact: Artifact) -> list[str]:
    """The files and folders of the artifact that its manifest names outside the list of files."""
    text = artifact.processing.get("text")
    stand_in = artifact.stand_in
    named = [artifact.entry, *([text["tokenizer"]] if text else []), *([stand_in.entry] if stand_in else [])]
    return list(dict.fromkeys(named))


def _refuse_escape(artifact: Artifact) -> None:
    """Raise ArtifactError for a path that a link leads out of the artifact."""
    root = os.path.realpath(artifact.path)
    for path in [*named_files(artifact), *(file.path for file in artifact.files)]:
        if not Path(os.path.realpath(f"{root}/{path}")).is_relative_to(root):
            raise ArtifactError(
                f"{artifact.path / NAME} lists {path!r}, which lies outside the artifact",
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


# --------------------------------------------------------------------------------------- parity


def parity_to_json(parity: Parity) -> dict[str, Any]:
    return {**asdict(parity), "outputs": [_comparison_to_json(compared) for compared in parity.outputs]}


def parity_from_json(data: Any) -> Parity:
    """The verdict that `parity_to_json` gave. Raises typed.Mismatch for anything else."""
    found: FlatParity = typed.read(FlatParity, data)
    rows = tuple(_comparison(row) for row in found.outputs)
    return Parity(found.verified, found.reason, rows, found.cases, found.skipped, found.environment)


def _comparison_to_json(compared: Comparison) -> dict[str, Any]:
    """One flat row: the budget's own `cosine` and `equal` are called `min_cosine` and `min_equal` in it."""
    row, budget = asdict(compared), compared.budget
    del row["budget"]
    row |= {"atol": budget.atol, "rtol": budget.rtol, "noise": budget.noise}
    return row | {"min_cosine": budget.cosine, "min_equal": budget.equal}


def _comparison(row: FlatComparison) -> Comparison:
    budget = Budget(row.atol, row.rtol, row.noise, row.min_cosine, row.min_equal)
    max_abs, max_rel, cosine, used = (
        math.inf if value is None else value for value in (row.max_abs, row.max_rel, row.cosine, row.used)
    )
    return Comparison(row.name, budget, row.ok, max_abs, max_rel, cosine, row.top1, used, row.problem, row.case)


# --------------------------------------------------------------------------------------- tensors


def _spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    shape = [size.name if isinstance(size, Dim) else size for size in spec.shape]
    data: dict[str, Any] = {"name": spec.name, "dtype": spec.dtype, "shape": shape}
    if spec.values is not None:
        data["values"] = spec.values if isinstance(spec.values, str) else list(spec.values)
    return data


def _spec(tensor: Tensor, dims: Mapping[str, Dim]) -> TensorSpec:
    shape = tuple(dims[size] if isinstance(size, str) else size for size in tensor.shape)
    return TensorSpec(tensor.name, tensor.dtype, shape, tensor.values)
