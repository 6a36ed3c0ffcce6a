"""The installed plugins and commands by name, before anything of them is imported; and importing one.

Needs neither pluggy nor the contract, so `mx --help` costs what click costs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import TargetError, __version__
from . import entrypoints
from .entrypoints import EntryPoint, FilePoint

TARGETS, SOURCES, EXTENSIONS, COMMANDS = "mx.targets", "mx.sources", "mx.extensions", "mx.commands"


class Entry(NamedTuple):
    """One installed entry point, not imported yet. `rivals` are the distributions that claim its name."""

    name: str
    point: EntryPoint
    rivals: tuple[str, ...] = ()

    @property
    def distribution(self) -> str:
        return self.point.distribution

    @property
    def version(self) -> str:
        return self.point.version

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


def find(group: str) -> dict[str, Entry]:
    """The installed entries of a group by name; where several distributions claim a name, all are listed."""
    claims: dict[str, dict[str, EntryPoint]] = {}
    for point in entrypoints.installed():
        if point.group == group:
            claims.setdefault(point.name, {}).setdefault(point.distribution, point)
    return {
        name: Entry(name, next(iter(points.values())), tuple(sorted(points)) if len(points) > 1 else ())
        for name, points in sorted(claims.items())
    }


def refuse_rivals(entry: Entry) -> None:
    """Raise TargetError where several distributions claim the name."""
    if entry.rivals:
        raise TargetError(
            f"{entry.name!r} is claimed by {' and '.join(entry.rivals)}", "uninstall all but one of them"
        )


def load(entry: Entry) -> Any:
    """Import what an entry names. Raises TargetError with distribution, version and cause."""
    if wanted := entrypoints.too_new(entry.point, __version__):
        raise TargetError(
            f"plugin {entry.name!r} ({entry}) is broken: it is for modelexport {wanted}, this is {__version__}",
            "pip install -U modelexport",
        )
    try:
        return entry.point.load()
    except (Exception, SystemExit) as error:
        raise broken(entry, f"its import raised {type(error).__name__}: {error}") from error


def broken(entry: Entry, cause: str) -> TargetError:
    """The error for a plugin that is installed and does not work."""
    cause = " ".join(cause.split())  # a cause of several lines would break the one that tells it
    named = isinstance(entry.point, FilePoint)
    fix = f"mend {entry.distribution}" if named else f"`pip install -U {entry.distribution}`, or uninstall it"
    return TargetError(f"plugin {entry.name!r} ({entry}) is broken: {cause}", fix)
