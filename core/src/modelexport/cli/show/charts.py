"""The charts, as PNG, SVG or PDF: of a quantization report, a bar for each layer; of a compiled artifact, one for
each kind of layer."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ArtifactError, OptionError, TargetError
from ...plugins import known
from ...plugins.installed import importable
from ...store import staging

if TYPE_CHECKING:
    from ...contract.quantization import QuantizationReport, QuantizedLayer

SUFFIXES = (".png", ".svg", ".pdf")

#: characters of a layer's name; what makes names differ is at both ends
NAME = 48

#: inches of a bar, and of what is above and below all bars; pixels an inch
BAR, FRAME, DPI = 0.2, 1.3, 110


def check(file: Path) -> None:
    """Raise now what would stop `layers` from writing `file`: OptionError, or TargetError for a missing module."""
    if file.suffix.lower() not in SUFFIXES:
        raise OptionError(f"can't draw {file}: unknown suffix {file.suffix!r}", f"one of {', '.join(SUFFIXES)}")
    if not importable("matplotlib"):
        raise TargetError("drawing a chart needs matplotlib", known.MODULES["matplotlib"])


def layers(report: QuantizationReport, file: Path, title: str) -> None:
    """Draw the layers of `report` in its order: SQNR, coloured by precision, and latency share where measured.

    Raises ArtifactError where nothing was measured, OutputError where `file` can't be written.
    """
    check(file)
    measures = [
        (name, label) for name, label in _MEASURES if any(getattr(row, name) is not None for row in report.layers)
    ]
    if not measures:
        raise ArtifactError("the report has no figures for its layers", "there is nothing to draw")
    _write(partial(_figure, report.layers, measures, title), file)


def kinds(rows: Mapping[str, Mapping[str, int]], file: Path, title: str) -> None:
    """Draw how many layers there are of each kind, coloured by precision: kind → precision → how many.

    Raises OutputError where `file` can't be written.
    """
    check(file)
    _write(partial(_kinds_figure, rows, title), file)


def _write(draw: Callable[[], Any], file: Path) -> None:
    import matplotlib

    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):  # names that can be searched for
        draw().savefig(stream, format=file.suffix[1:].lower(), dpi=DPI)
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


def _figure(rows: Sequence[QuantizedLayer], measures: Sequence[tuple[str, str]], title: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 + 3 * len(measures), FRAME + BAR * max(len(rows), 4)), layout="constrained")
    panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    colours = _colours(row.precision for row in rows)
    for panel, (name, label) in zip(panels, measures, strict=True):
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


def _kinds_figure(rows: Mapping[str, Mapping[str, int]], title: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, FRAME + 2 * BAR * max(len(rows), 4)), layout="constrained")
    panel = figure.subplots()
    begun = [0] * len(rows)
    for precision, colour in _colours(name for counts in rows.values() for name in counts).items():
        widths = [counts.get(precision, 0) for counts in rows.values()]
        panel.barh(range(len(rows)), widths, left=begun, color=colour, label=precision)
        begun = [start + width for start, width in zip(begun, widths, strict=True)]
    panel.set_yticks(range(len(rows)), [shortened(kind) for kind in rows], fontsize=8, parse_math=False)
    panel.set_ylim(len(rows) - 0.4, -0.6)  # the first row on top
    panel.set_xlabel("layers")
    panel.grid(axis="x", linewidth=0.4)
    panel.set_axisbelow(True)
    figure.suptitle(title, parse_math=False)
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), fontsize=8)
    return figure


def _colours(precisions: Iterable[str]) -> dict[str, Any]:
    from matplotlib import colormaps

    palette = colormaps["tab10"].colors  # type: ignore[attr-defined]
    return {name: palette[index % len(palette)] for index, name in enumerate(sorted(set(precisions)))}


def shortened(name: str, most: int = NAME) -> str:
    """`name` in `most` characters, without its middle where it is longer."""
    if len(name) <= most:
        return name
    head = (most - 1) // 2
    return f"{name[:head]}…{name[head + 1 - most :]}"
