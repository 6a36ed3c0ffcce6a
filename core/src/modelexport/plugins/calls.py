"""Call a target's hooks: with options made from `key=value`, details that were checked, and errors translated."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import typed
from ..contract.artifacts import Artifact, Build
from ..contract.options import build_options, key_of, option_keys, suggest
from ..contract.sessions import Session
from ..errors import (
    ArtifactError,
    ConversionError,
    MxError,
    OptionError,
    OutputError,
    RuntimeFailure,
    TargetError,
    __version__,
    first_line,
    is_disk_error,
)
from . import entries, known, manager
from .entries import TARGETS, find
from .manager import Plugin

if TYPE_CHECKING:
    from ..contract.sources import Source

#: bytes that a disk must still take, for a failure not to be its own
_LITTLE = 1 << 20


def call(plugin: Plugin, verb: str, **arguments: Any) -> Any:
    """Call the hook `mx_VERB`; whatever the plugin did not translate itself becomes an MxError here.

    Raises ArtifactError for an artifact whose details aren't what its target says that they are: a hook sees none
    that a stranger made up.
    """
    for given in arguments.values():
        if isinstance(given, Artifact):
            check_details(given)
    try:
        result = getattr(plugin.hook, f"mx_{verb}")(**arguments)
    except Exception as error:
        if isinstance(error, MxError) and not isinstance(error, ConversionError):
            raise
        if full := _disk_cause(error) if is_disk_error(error) else _full(arguments.get("out")):
            raise OutputError(
                f"can't write the {plugin.target.name} artifact: {full}",
                "free some space, or choose another disk with -o",
            ) from error
        if isinstance(error, MxError):
            raise
        kind = RuntimeFailure if verb in ("run", "benchmark") else ConversionError
        raise kind(
            f"{plugin.entry.distribution} failed to {verb}: {type(error).__name__}: {first_line(error)}",
            "add --debug for the whole trace",
        ) from error
    if isinstance(result, Build):
        _check_built(plugin, result)
    return result


def check_details(artifact: Artifact) -> None:
    """Raise ArtifactError where the artifact's details, or its stand-in's, aren't what the target declares.

    Raises TargetError where the target is not installed; a stand-in's may be missing.
    """
    _check_declared(artifact, artifact.format, artifact.details)
    if (other := artifact.stand_in) is not None and other.format in find(TARGETS):
        _check_declared(artifact, other.format, other.details)


def _check_declared(artifact: Artifact, target: str, details: Mapping[str, Any]) -> None:
    plugin = manager.target(target)
    try:
        typed.read(plugin.target.details, details)
    except typed.Mismatch as error:
        raise ArtifactError(
            f"{artifact.path}: its details aren't those of target {target!r}: {error}",
            f"export it again, with {plugin.entry.distribution} {plugin.entry.version} or newer",
        ) from error


def _check_built(plugin: Plugin, build: Build) -> None:
    try:
        typed.read(plugin.target.details, typed.printable(build.details))
    except typed.Mismatch as error:
        raise TargetError(
            f"target {plugin.target.name!r} wrote details that it does not declare: {error}",
            "declare them in Target.details, or report it to the plugin's authors",
        ) from error


def check(
    plugin: Plugin, options: Mapping[str, Any], source: Source | None, precision: str | None, calibrated: bool
) -> None:
    """Let a target refuse what can't be before any work; `options` are those of its verbs, by verb."""
    call(plugin, "check", options=options, source=source, precision=precision, calibrated=calibrated)


def _disk_cause(error: BaseException | None) -> str:
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return str(error)


def _full(out: Path | None) -> str:
    """Why a little more can't be written where a hook writes, or keeps what it works with; empty where it can.

    Libraries tell of a full disk in words of their own, or of what came of it later.
    """
    for folder in () if out is None else (out, Path(tempfile.gettempdir())):
        try:
            with tempfile.TemporaryFile(dir=folder) as stream:
                stream.write(bytes(_LITTLE))
        except OSError as error:
            if is_disk_error(error):
                return f"{error} ({folder})"
    return ""


def open_session(artifact: Artifact, values: Mapping[str, Any]) -> Session:
    """Load an artifact with the run options in `values`. Raises CannotRunHere, RuntimeFailure, OptionError."""
    plugin = manager.require(artifact.format, "run")
    session = call(plugin, "run", artifact=artifact, options=options_for(artifact.format, "run", values))
    if not isinstance(session, Session):
        raise RuntimeFailure(
            f"target {artifact.format!r} returned no session", "report it to the plugin's authors"
        )
    return session


# --------------------------------------------------------------------------------------- options


class VerbCall(NamedTuple):
    """A verb of a target that will be called. `given` holds for its options where the user says nothing else;
    `asked`: the user named the target, which is not merely on the way to one."""

    target: str
    verb: str
    given: Mapping[str, Any] = {}
    asked: bool = True

    @property
    def kind(self) -> type:
        """The dataclass of its options."""
        return manager.target(self.target).target.verb(self.verb).options


def options_for(target: str, verb: str, values: Mapping[str, Any]) -> Any:
    """The options object of one verb from `key=value` or `target.key=value`.

    Raises OptionError for a key that it lacks or a value of the wrong type, TargetError for an unknown target.
    """
    return options_of([VerbCall(target, verb)], values)[0]


def options_of(calls: Sequence[VerbCall], values: Mapping[str, Any]) -> list[Any]:
    """The options object of each call, in their order.

    `key=value` is for every verb of a target the user asked for that has the key or, where none of these has it,
    of the targets on the way; `target.key=value` for the verbs of that target. Raises OptionError for a key that
    no verb has.
    """
    mine = [dict(call.given) for call in calls]
    for key, value in values.items():
        prefix, dot, rest = key.partition(".")
        named = dot and any(call.target == prefix for call in calls)
        if dot and not named:
            raise _of_another(key, prefix, calls)
        own = rest if named else key
        heard = [i for i, call in enumerate(calls) if not named or call.target == prefix]
        takers = [i for i in heard if key_of(own) in option_keys(calls[i].kind)]
        if not takers:
            target = calls[heard[0]].target
            known = {each for i in heard if calls[i].target == target for each in option_keys(calls[i].kind)}
            raise OptionError(f"target {target!r} has no option {own!r}", suggest(own, sorted(known)))
        asked = [i for i in takers if calls[i].asked]
        for i in takers if named else asked or takers:
            mine[i][own] = value
    pairs = zip(calls, mine, strict=True)
    return [build_options(call.kind, values_of, f"target {call.target!r}") for call, values_of in pairs]


def _of_another(key: str, prefix: str, calls: Sequence[VerbCall]) -> OptionError:
    """The error for `target.key` of a target that nothing is asked of."""
    here = ", ".join(dict.fromkeys(call.target for call in calls))
    targets = [*known.TARGETS, *entries.find(entries.TARGETS)]
    if prefix not in targets:
        return OptionError(f"-k {key}: there is no target {prefix!r}", f"the options here are those of {here}")
    return OptionError(
        f"-k {key} is for a target that is not asked for",
        f"the options here are those of {here}; for an export to {prefix} too, add -t {prefix}",
    )


# --------------------------------------------------------------------------------------- records


def in_force(options: Any) -> dict[str, Any]:
    """Every option of an options object by its key, as it is read back from a manifest: a tuple as a list."""
    values = asdict(options) if is_dataclass(options) and not isinstance(options, type) else {}
    return {key_of(key): list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def own_tools(plugin: Plugin) -> dict[str, str]:
    """The versions that every step depends on: core's, and the plugin's."""
    return {"modelexport": __version__, plugin.entry.distribution: plugin.entry.version}
