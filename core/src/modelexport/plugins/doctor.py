"""What is installed, what is missing, what is broken, and the command that fixes it.

Plugins are imported to ask them, which is cheap by contract; no backend is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import TargetError, __version__
from . import commands, entries, known, manager
from .installed import versions


class Row(NamedTuple):
    """One plugin: `status` is ready, ahead of time, incomplete, broken, or not installed; `note` says why or how
    to fix it. What is ready but for running, since this machine is not the one it builds for, is ahead of time."""

    name: str
    status: str
    verbs: str = ""
    note: str = ""
    distribution: str = ""
    version: str = ""

    def to_json(self) -> dict[str, Any]:
        return self._asdict()


class Examination(NamedTuple):
    environment: Mapping[str, str]
    targets: tuple[Row, ...]
    sources: tuple[Row, ...]
    extensions: tuple[Row, ...]
    commands: tuple[Row, ...]

    @property
    def kinds(self) -> Mapping[str, tuple[Row, ...]]:
        """The rows by the kind of plugin that they are about."""
        return {
            "targets": self.targets,
            "sources": self.sources,
            "extensions": self.extensions,
            "commands": self.commands,
        }

    @property
    def broken(self) -> bool:
        return any(row.status == "broken" for rows in self.kinds.values() for row in rows)

    def to_json(self) -> dict[str, Any]:
        rows = {kind: [row.to_json() for row in rows] for kind, rows in self.kinds.items()}
        return {"environment": dict(self.environment), **rows}


def targets() -> tuple[Row, ...]:
    """Every target, installed ones first."""
    installed = entries.find(entries.TARGETS)
    rows = [_target(name, entry) for name, entry in installed.items()]
    return (*rows, *_absent(known.TARGETS, installed))


def _target(name: str, entry: entries.Entry) -> Row:
    try:
        plugin = manager.target(name)
        beyond = plugin.lacks()
    except TargetError as error:
        return _broken(name, entry, error)
    lacking = {verb: plugin.missing(verb) for verb in plugin.verbs}
    impossible = {*beyond, *(["benchmark"] if "run" in beyond else [])}  # what doesn't run isn't measured either
    ready = [verb for verb in plugin.verbs if not lacking[verb] and verb not in impossible]
    notes = [plugin.target.summary, *_beyond(beyond, ready)]
    for verb, modules in lacking.items():
        if modules:
            line = plugin.target.verb(verb).install or f"pip install {' '.join(modules)}"
            notes.append(f"{verb} needs {', '.join(modules)}: {line}")
    status = "incomplete" if any(lacking.values()) else "ahead of time" if beyond else "ready"
    return Row(name, status, ", ".join(ready), "; ".join(notes), entry.distribution, entry.version)


def _beyond(lacking: Mapping[str, str], ready: Sequence[str]) -> list[str]:
    """What this machine can't do, in words: one line for all verbs that lack the same."""
    verbs = {reason: [verb for verb, why in lacking.items() if why == reason] for reason in lacking.values()}
    builds = "builds ahead of time; " if "export" in ready else ""
    return [f"{builds}cannot {' or '.join(names)} here: {reason}" for reason, names in verbs.items()]


def _broken(name: str, entry: entries.Entry, error: TargetError) -> Row:
    owner = ", ".join(entry.rivals) if entry.rivals else entry.distribution
    return Row(name, "broken", "", f"{error.message}; {error.hint}", owner, entry.version)


def _absent(wanted: Mapping[str, tuple[str, str]], installed: Mapping[str, Any]) -> list[Row]:
    return [
        Row(name, "not installed", "", f"{summary}: {line}")
        for name, (summary, line) in wanted.items()
        if name not in installed
    ]


def examine(own: Collection[str]) -> Examination:
    """The whole report of `mx doctor`; `own` are the names of `mx`'s own commands."""
    import platform

    packages = ("torch", "numpy", "pluggy", "click")
    environment = {
        "modelexport": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        **versions(packages),
    }
    sources = entries.find(entries.SOURCES)
    return Examination(
        environment,
        targets(),
        (*(_other(entry, manager.check_entry) for entry in sources.values()), *_absent(known.SOURCES, sources)),
        tuple(_other(entry, manager.check_entry) for entry in entries.find(entries.EXTENSIONS).values()),
        _commands(own),
    )


def _commands(own: Collection[str]) -> tuple[Row, ...]:
    installed = entries.find(entries.COMMANDS)
    return (*(_command(entry, own) for entry in installed.values()), *_absent(known.COMMANDS, installed))


def _command(entry: entries.Entry, own: Collection[str]) -> Row:
    owner = (entry.distribution, entry.version)
    if entry.name in own:
        return Row(entry.name, "broken", "", f"mx has a command {entry.name!r} of its own", *owner)
    if not commands.is_name(entry.name):
        return Row(ascii(entry.name)[1:-1], "broken", "", "no command can have this name: it is no word", *owner)
    return _other(entry, commands.check)


def _other(entry: entries.Entry, check: Callable[[entries.Entry], object]) -> Row:
    try:
        check(entry)
    except TargetError as error:
        return _broken(entry.name, entry, error)
    return Row(entry.name, "ready", "", "", entry.distribution, entry.version)
