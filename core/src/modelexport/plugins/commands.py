"""Commands of `mx` from other distributions: an entry point in the group `mx.commands` names a `click.Command`.

They are listed by their entry points alone and imported when they are asked for, so a broken one breaks nothing
but itself. A name that `mx` has a command of its own for stays its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from ..errors import TargetError, a, first_line
from . import entries, entrypoints, known
from .entries import Entry

if TYPE_CHECKING:
    import click


def installed(own: Collection[str]) -> dict[str, Entry]:
    """The commands of other distributions, by name; not those with one of `mx`'s `own`, or with none at all."""
    named = entries.find(entries.COMMANDS).items()
    return {name: entry for name, entry in named if name not in own and is_name(name)}


def is_name(name: str) -> bool:
    """Whether a command can have this name: one word that is no option."""
    return name.isprintable() and not name.startswith("-") and name.split() == [name]


def lines(own: Collection[str]) -> Mapping[str, str]:
    """A line for `mx --help` on every installed command, and on those that are known and could be installed."""
    commands = installed(own)
    said = {name: entrypoints.summary(entry.point) or f"from {entry}" for name, entry in commands.items()}
    absent = {name: f"{what} Not installed: {install}" for name, (what, install) in known.COMMANDS.items()}
    return said | {name: line for name, line in absent.items() if name not in said}


def load(name: str, own: Collection[str]) -> click.Command | None:
    """The command called `name`; None where no distribution has one.

    Raises TargetError for a broken one, and for a known one that is not installed.
    """
    entry = installed(own).get(name)
    if entry is not None:
        return check(entry)
    if name in known.COMMANDS:
        raise TargetError(f"command {name!r} is not installed", known.COMMANDS[name][1])
    return None


def failed(entry: Entry, error: Exception) -> TargetError:
    """The error for a command that raised what is no expected failure of its own."""
    return TargetError(
        f"command {entry.name!r} ({entry}) failed: {type(error).__name__}: {first_line(error)}",
        f"--debug shows the whole trace; it is {entry.distribution}'s to mend",
    )


def check(entry: Entry) -> click.Command:
    """Import the command of an entry. Raises TargetError where it can't be, or is no command."""
    import click

    entries.refuse_rivals(entry)
    command = entries.load(entry)
    if not isinstance(command, click.Command):
        raise entries.broken(entry, f"{entry.point.value} is no click command, but {a(type(command).__name__)}")
    return command
