"""An artifact as the commands print it: its verdict, parity, notes and compiled layers."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import click

from .tables import table

if TYPE_CHECKING:
    from ...contract.artifacts import Artifact


def verdict(artifact: Artifact) -> str:
    return {True: "verified", False: "not verified", "structure": "structure only"}[artifact.parity.verified]


def parity(artifact: Artifact) -> None:
    """The parity table of one artifact, and what there is to say about it."""
    verdict = artifact.parity
    if verdict.outputs:
        rows = [
            [
                compared.name,
                "ok" if compared.ok else compared.problem or "over budget",
                f"{compared.max_abs:.2e}",
                f"{compared.max_rel:.2e}",
                f"{compared.cosine:.7f}",
                "–" if compared.top1 is None else f"{compared.top1:.3f}",
                f"{compared.used * 100:.2g} %",
                compared.case,
            ]
            for compared in verdict.outputs
        ]
        table(["output", "", "max abs", "max rel", "cosine", "top-1", "of budget", "worst case"], rows)
        for budget in sorted({compared.budget for compared in verdict.outputs}, key=astuple):
            exact = f", {budget.equal:.0%} of integers equal" if budget.equal < 1 else ""
            click.echo(
                f"  budget: {budget.atol:g} + {budget.rtol:g}·|r| + {budget.noise:g}·max|r|, "
                f"cosine ≥ {budget.cosine:g}{exact}"
            )
    if verdict.cases:
        click.echo(f"  {len(verdict.cases)} cases, each called twice: {', '.join(verdict.cases)}")
    for reason in dict.fromkeys(verdict.skipped.values()):
        left = ", ".join(repr(case) for case, why in verdict.skipped.items() if why == reason)
        click.echo(f"  left out {left}: {reason}")
    if verdict.reason:
        click.echo(f"  {verdict.reason}")


def notes(artifact: Artifact) -> None:
    """What the target has to say about the artifact it made."""
    for line in artifact.notes:
        click.echo(f"  note: {line}")


def layers(artifact: Artifact) -> None:
    """The layers of a compiled model, and how many there are of each kind and precision."""
    from collections import Counter

    from ...contract.compiled import by_kind
    from .charts import shortened

    rows = artifact.layers
    computing = [row for row in rows if row.precision]
    if not computing:
        return
    table(
        ["layer", "kind", "precision", "from"],
        [[shortened(row.name), row.kind, row.precision, shortened(row.source)] for row in computing],
        width=200,
    )
    precisions = sorted({row.precision for row in computing})
    counts = [[kind, *(str(of[p] or "–") for p in precisions)] for kind, of in by_kind(computing).items()]
    total = ["all", *(str(sum(row.precision == p for row in computing)) for p in precisions)]
    table(["kind", *precisions], [*counts, total])
    if others := Counter(row.kind for row in rows if not row.precision):
        counted = ", ".join(f"{count} {kind}" for kind, count in others.most_common())
        click.echo(f"  besides, what computes nothing: {counted}")


def summary(artifact: Artifact) -> dict[str, Any]:
    """The artifact for --json: its path, and its manifest."""
    from ...store import schema

    return {"path": str(artifact.path), **schema.to_json(artifact)}
