"""Rows and figures for people, and JSON for programs."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from rich.table import Table

_out: ContextVar[TextIO | None] = ContextVar("out", default=None)


@contextmanager
def json_alone() -> Iterator[None]:
    """Keep stdout for `as_json`: whatever else is printed meanwhile goes to stderr."""
    with _native_to_stderr() as out, redirect_stdout(sys.stderr):
        token = _out.set(out)
        try:
            yield
        finally:
            _out.reset(token)


@contextmanager
def _native_to_stderr() -> Iterator[TextIO]:
    """A stream to where stdout leads; what native code writes to that descriptor goes to stderr meanwhile."""
    out, kept = sys.stdout or io.StringIO(), -1
    with suppress(AttributeError, OSError, ValueError):  # it is closed, or no file
        kept = os.dup(1) if out.fileno() == 1 else -1
    if kept < 0:
        yield out
        return
    out.flush()
    os.dup2(2, 1)
    try:
        with os.fdopen(kept, "w", encoding=out.encoding, errors=out.errors, closefd=False) as stream:
            yield stream
    finally:
        _flush_native()
        os.dup2(kept, 1)
        os.close(kept)


def _flush_native() -> None:
    import ctypes

    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)


def as_json(value: Any) -> None:
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str), file=_out.get())


def columns(rows: Sequence[Sequence[str]]) -> None:
    """Plain aligned columns, for output that must appear at once; the last column is not padded."""
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(len(rows[0]) - 1)] if rows else []
    for row in rows:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*padded, row[-1]]).rstrip())


#: the fewest columns that the first column of a table is squeezed into
NARROW = 16


def table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None, width: int = 160
) -> None:
    """A table on stdout: the first column to the left, figures to the right, and no figure broken.

    Where the terminal is too narrow for that, each row is a paragraph with a line for each figure.
    """
    from rich.cells import cell_len
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else width)
    drawn = _drawn(headings, rows, title)
    first = max(cell_len(row[0]) for row in [headings, *rows])
    wanted = console.measure(drawn, options=console.options.update(max_width=1 << 20)).maximum
    if wanted - max(0, first - NARROW) <= console.width:
        console.print(drawn)
    else:
        _paragraphs(headings, rows, title)


def _paragraphs(headings: Sequence[str], rows: Sequence[Sequence[str]], title: str | None) -> None:
    if title:
        click.echo(title)
    for row in rows:
        click.echo(f"\n{row[0]}")
        columns([[f"  {heading}", cell] for heading, cell in zip(headings[1:], row[1:], strict=True)])


def _drawn(headings: Sequence[str], rows: Sequence[Sequence[str]], title: str | None) -> Table:
    from rich import box
    from rich.table import Table

    drawn = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for index, heading in enumerate(headings):
        drawn.add_column(heading, justify="left" if index == 0 else "right", overflow="fold", no_wrap=index > 0)
    for row in rows:
        drawn.add_row(*row)
    return drawn


def size(count: float | None) -> str:
    """Bytes for people."""
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def number(value: float | None, digits: int) -> str:
    """A figure that may not be there."""
    return "–" if value is None else f"{value:.{digits}f}"
