"""The options that commands share, and completion of their values."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from .show import tables

if TYPE_CHECKING:
    from pathlib import Path

F = TypeVar("F", bound=Callable[..., Any])


def standard_options(function: F) -> F:
    """--json and --debug, on every command. `--debug` is read by `main`, which has the error in hand.

    With --json, nothing but that is on stdout: what models and plugins print goes to stderr.
    """
    function = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")(
        _json_alone(function)
    )
    return click.option("--debug", is_flag=True, expose_value=False, help="Show the whole trace of an error.")(
        function
    )


def working(function: F) -> F:
    """For a command that does work: it leaves nothing in the temporary folder, however it ends."""

    @wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        from .stopping import tidy

        with tidy():
            return function(*args, **kwargs)

    return cast(F, command)


def _json_alone(function: F) -> F:
    @wraps(function)
    def run(*arguments: Any, **options: Any) -> Any:
        with tables.json_alone() if options["as_json"] else nullcontext():
            return function(*arguments, **options)

    return cast(F, run)


def calibration_options(function: F) -> F:
    """What a quantized copy is calibrated on, judged by, and may lose."""
    from ..accuracy.metrics import METRICS

    options = [
        click.option("--calibration", metavar="REF",
                     help="Real inputs: .npz, folder of images, .txt, .csv, .jsonl, folder of `datasets`, or "
                     "pkg.mod:iterator. A quarter of them is held out to judge the copy on."),
        click.option("--samples", default=128, show_default=True, help="Samples of it to take, at most."),
        click.option("--seed", default=0, show_default=True, help="Seed that draws the samples."),
        click.option("--column", help="Column of a table that holds the texts or images; two for pairs."),
        click.option("--metric", default=METRICS[0], show_default=True,
                     help=f"What is judged: {', '.join(METRICS)}, or {METRICS[0]}:OUTPUT for one output."),
        click.option("--evaluate", metavar="REF",
                     help="Your own score instead: file.py:score or pkg.mod:score, a function of a Session; "
                     "more is better."),
        click.option("--max-drop", type=float,
                     help="How much less than ARTIFACT itself the copy may score, such as 0.005."),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def examples(*lines: str) -> str:
    """An epilog that click does not reflow."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def complete_targets(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from ..plugins import entries, known

    names = {*entries.find(entries.TARGETS), *known.TARGETS}
    return sorted(name for name in names if name.startswith(incomplete))


def complete_languages(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from ..plugins import entries, manager

    names = {name for target in entries.find(entries.TARGETS) for name in manager.target(target).target.snippets}
    return sorted(name for name in names if name.startswith(incomplete))


def option_help(target: str, kind: type, verb: str = "export") -> None:
    """`-k help`: every option of one verb of a target, with type, default and what it is for."""
    from ..contract.options import describe_options

    rows = [[d.key, d.type, d.default or "–", d.help] for d in describe_options(kind)]
    step = "" if verb == "export" else f" to {verb}"
    click.echo(f"options of target {target!r}{step} (-k key=value):")
    tables.columns([["  " + row[0], *row[1:]] for row in [["option", "type", "default", ""], *rows]])


def artifact_help(artifact: Path, verb: str) -> None:
    """`-k help` for a verb on an artifact: the options of its own target."""
    from ..plugins import manager
    from ..store import manifest

    name = manifest.load(artifact).format
    plugin = manager.target(name) if verb == "run" else manager.require(name, verb)
    option_help(name, plugin.target.verb(verb).options, "export" if verb == "run" else verb)
