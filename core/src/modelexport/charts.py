"""The chart of a quantization report: a bar for each layer, as PNG, SVG or PDF."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import known, plugins, staging
from .errors import ArtifactError, OptionError, TargetError

if TYPE_CHECKING:
    from .quantization import Layer, Report

SUFFIXES = (".png", ".svg", ".pdf")

#: characters of a layer's name; what makes names differ is at both ends
NAME = 48

#: inches of a bar, and of what is above and below all bars; pixels an inch
BAR, FRAME, DPI = 0.2, 1.3, 110


def check(file: Path) -> None:
    """Raise now what would stop `layers` from writing `file`: OptionError, or TargetError for a missing module."""
    if file.suffix.lower() not in SUFFIXES:
        raise OptionError(f"can't draw {file}: unknown suffix {file.suffix!r}", f"one of {', '.join(SUFFIXES)}")
    if not plugins.importable("matplotlib"):
        raise TargetError("drawing a chart needs matplotlib", known.MODULES["matplotlib"])


def layers(report: Report, file: Path, title: str) -> None:
    """Draw the layers of `report` in its order: SQNR, coloured by precision, and latency share where measured.

    Raises ArtifactError where nothing was measured, OutputError where `file` can't be written.
    """
    check(file)
    kinds = [
        (name, label) for name, label in _MEASURES if any(getattr(row, name) is not None for row in report.layers)
    ]
    if not kinds:
        raise ArtifactError("the report has no figures for its layers", "there is nothing to draw")
    import matplotlib

    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):  # names that can be searched for
        _figure(report.layers, kinds, title).savefig(stream, format=file.suffix[1:].lower(), dpi=DPI)
    with staging.output_errors(file):
        draft = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            draft.write_bytes(stream.getbuffer())
            draft.replace(file)
        finally:
            draft.unlink(missing_ok=True)


_MEASURES = (
    ("sqnr", "SQNR of the layer's output, dB"),
    ("output_sqnr", "SQNR of the model's outputs, dB"),
    ("latency", "share of the latency (1 is all)"),
)


def _figure(rows: Sequence[Layer], kinds: Sequence[tuple[str, str]], title: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 + 3 * len(kinds), FRAME + BAR * max(len(rows), 4)), layout="constrained")
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    colours = _colours(rows)
    for panel, (name, label) in zip(panels, kinds, strict=True):
        for precision, colour in colours.items():
            own = [(i, getattr(row, name)) for i, row in enumerate(rows) if row.precision == precision]
            drawn = [(i, value) for i, value in own if value is not None]
            panel.barh([i for i, _ in drawn], [value for _, value in drawn], color=colour, label=precision)
        panel.set_title(label, fontsize=9)
        panel.locator_params(axis="x", nbins=5)
        panel.grid(axis="x", linewidth=0.4)
        panel.set_axisbelow(True)
        panel.tick_params(axis="x", top=len(rows) > 40, labeltop=len(rows) > 40)
    panels[0].set_yticks(range(len(rows)), [shortened(row.name) for row in rows], fontsize=8, parse_math=False)
    panels[0].set_ylim(len(rows) - 0.4, -0.6)  # the first row on top
    figure.suptitle(title, parse_math=False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), fontsize=8)
    return figure


def _colours(rows: Sequence[Layer]) -> dict[str, Any]:
    from matplotlib import colormaps

    palette = colormaps["tab10"].colors  # type: ignore[attr-defined]
    precisions = sorted({row.precision for row in rows})
    return {precision: palette[index % len(palette)] for index, precision in enumerate(precisions)}


def shortened(name: str, most: int = NAME) -> str:
    """`name` in `most` characters, without its middle where it is longer."""
    if len(name) <= most:
        return name
    head = (most - 1) // 2
    return f"{name[:head]}…{name[head + 1 - most :]}"
