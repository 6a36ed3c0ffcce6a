"""Find, load and call plugins: the only module that touches pluggy.

Plugins are found through entry points and imported by name, on demand. Each lives in a plugin manager of
its own (with the extensions), so that a verb reaches one target only, and a broken plugin reaches nobody.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

from ..contract import hooks
from ..contract.target import Target
from ..errors import MxError, SourceError, TargetError, first_line
from . import known
from .entries import EXTENSIONS, SOURCES, TARGETS, Entry, broken, find, load, refuse_rivals
from .installed import importable

if TYPE_CHECKING:
    from ..contract.sources import LoadOptions, Source

#: set this environment variable to see every hook call with its time
TRACE = "MX_TRACE"

#: the verbs of the command line, each with the hook that implements it
VERBS = MappingProxyType({verb: f"mx_{verb}" for verb in ("export", "optimize", "quantize", "run", "benchmark")})


class Plugin(NamedTuple):
    """A loaded target: what it says about itself, and its hooks."""

    target: Target
    entry: Entry
    hook: Any
    verbs: tuple[str, ...]

    def missing(self, verb: str) -> tuple[str, ...]:
        """The modules `verb` needs that are not installed; nothing is imported to find out."""
        return tuple(module for module in self.target.verb(verb).needs if not importable(module))

    def lacks(self) -> Mapping[str, str]:
        """What this machine lacks for verbs whose modules are all there; see the hook `mx_machine`."""
        try:
            reasons = self.hook.mx_machine() or {}
        except Exception as error:
            raise broken(self.entry, f"mx_machine raised {type(error).__name__}: {error}") from error
        return {verb: reason for verb, reason in reasons.items() if verb in self.verbs and not self.missing(verb)}


# --------------------------------------------------------------------------------------- targets


@cache
def target(name: str) -> Plugin:
    """Load the target called `name`. Raises TargetError: unknown, not installed, or broken and why."""
    entries = find(TARGETS)
    if name not in entries:
        raise _absent(name, entries)
    entry = entries[name]
    refuse_rivals(entry)
    manager = _manager(entry)
    described = _describe(manager, entry)
    verbs = tuple(
        verb
        for verb, hook in VERBS.items()
        if any(not i.wrapper for i in getattr(manager.hook, hook).get_hookimpls())
    )
    return Plugin(described, entry, manager.hook, verbs)


def require(name: str, verb: str) -> Plugin:
    """Load a target and make sure that it can do `verb` here. Raises TargetError with the fix otherwise."""
    plugin = target(name)
    if verb not in plugin.verbs:
        raise TargetError(f"target {name!r} can't {verb}", f"it can {', '.join(plugin.verbs)}; see `mx targets`")
    missing = plugin.missing(verb)
    if missing:
        line = plugin.target.verb(verb).install or f"pip install {' '.join(missing)}"
        raise TargetError(f"to {verb}, target {name!r} needs {', '.join(missing)}", line)
    return plugin


def _absent(name: str, installed: Iterable[str]) -> TargetError:
    if name in known.TARGETS:
        return TargetError(f"target {name!r} is not installed", known.TARGETS[name][1])
    names = sorted({*installed, *known.TARGETS})
    from difflib import get_close_matches

    close = get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"one of {', '.join(names)}; see `mx targets`"
    return TargetError(f"unknown target {name!r}", hint)


def _manager(entry: Entry) -> pluggy.PluginManager:
    """A plugin manager with the specs, this one plugin, and every extension that works."""
    manager = pluggy.PluginManager(hooks.PROJECT)
    manager.add_hookspecs(hooks)
    if os.environ.get(TRACE):
        _trace(manager, entry.name)
    _register(manager, entry)
    for extension in find(EXTENSIONS).values():
        try:
            _register(manager, extension)
        except TargetError as error:
            print(f"warning: extension skipped: {error.message}", file=sys.stderr)  # noqa: T201
    return manager


def _trace(manager: pluggy.PluginManager, name: str) -> None:
    """Say on stderr what each hook call took."""
    begun: list[float] = []

    def before(*_: Any) -> None:
        begun.append(time.perf_counter())

    def after(outcome: Any, hook: str, *_: Any) -> None:
        took = time.perf_counter() - begun.pop()
        ended = "" if outcome.exception is None else f", raised {type(outcome.exception).__name__}"
        print(f"mx trace: {hook} of {name}: {took * 1e3:.1f} ms{ended}", file=sys.stderr)  # noqa: T201

    manager.add_hookcall_monitoring(before, after)


def _register(manager: pluggy.PluginManager, entry: Entry) -> None:
    """Import and register one plugin. Raises TargetError with distribution, version and cause."""
    module = load(entry)
    unmarked = [
        name
        for name in dir(module)
        if name.startswith("mx_")
        and callable(getattr(module, name))
        and not hasattr(getattr(module, name), "mx_impl")
    ]
    if unmarked:
        raise broken(entry, f"{unmarked[0]} lacks the @modelexport.hookimpl decorator")
    try:
        manager.register(module, name=entry.name)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        cause = " ".join(str(error).split())
        raise broken(entry, f"{cause}; hooks: {', '.join(_hook_names())}") from error


def check_entry(entry: Entry) -> None:
    """Import and register one plugin on its own. Raises TargetError when it is broken."""
    refuse_rivals(entry)
    manager = pluggy.PluginManager(hooks.PROJECT)
    manager.add_hookspecs(hooks)
    _register(manager, entry)


def _hook_names() -> list[str]:
    return [name for name in dir(hooks) if name.startswith("mx_")]


def _describe(manager: pluggy.PluginManager, entry: Entry) -> Target:
    try:
        described = manager.hook.mx_target()
    except Exception as error:
        raise broken(entry, f"mx_target raised {type(error).__name__}: {error}") from error
    if not isinstance(described, Target):
        raise broken(entry, "mx_target returns no modelexport.Target")
    if described.name != entry.name:
        raise broken(entry, f"mx_target says {described.name!r}, its entry point {entry.name!r}")
    return described


# --------------------------------------------------------------------------------------- sources


def load_source(ref: str, options: LoadOptions) -> Source | None:
    """Ask every installed source plugin for `ref`; the first that knows it answers.

    A source plugin that can't be imported is passed over while another one answers; when none does, its
    defect is raised, since it may be the one that was meant.
    """
    broken: list[TargetError] = []
    for entry in find(SOURCES).values():
        manager = pluggy.PluginManager(hooks.PROJECT)
        manager.add_hookspecs(hooks)
        try:
            _register(manager, entry)
        except TargetError as error:
            broken.append(error)
            continue
        source = _loaded(manager, entry, ref, options)
        if source is not None:
            return source
    if broken:
        raise broken[0]
    return None


def _loaded(manager: pluggy.PluginManager, entry: Entry, ref: str, options: LoadOptions) -> Source | None:
    """What one source plugin makes of `ref`; what it did not translate itself becomes a SourceError."""
    try:
        source: Source | None = manager.hook.mx_load(ref=ref, options=options)
    except MxError:
        raise
    except Exception as error:
        raise SourceError(
            f"{entry.distribution} failed to load {ref}: {type(error).__name__}: {first_line(error)}",
            "add --debug for the whole trace",
        ) from error
    return source
