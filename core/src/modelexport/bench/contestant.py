"""Who takes part in a benchmark: artifacts, and the baseline that they are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..contract.artifacts import Artifact
from ..contract.options import key_of, option_keys
from ..contract.sources import LoadOptions
from ..errors import OptionError
from ..plugins import calls, manager
from ..store import manifest
from ..usercode import check_reference, names_object


@dataclass(frozen=True)
class Baseline:
    """What the others are compared with: an artifact by its path, or a source, run eagerly in PyTorch.

    `compiled` adds the source under torch.compile. `load` says how the source is loaded.
    """

    ref: str | None = None
    compiled: bool = False
    load: LoadOptions = LoadOptions()


@dataclass(frozen=True)
class Contestant:
    """What one child is asked to load: the artifact at a path, or a source.

    `size` is the artifact's in bytes, `options` are its run options by key; `compiled` puts a source under
    torch.compile.
    """

    name: str
    threads: int
    artifact: str | None = None
    size: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    load: LoadOptions = LoadOptions()
    compiled: bool = False
    is_baseline: bool = False

    def to_json(self) -> dict[str, Any]:
        load = asdict(self.load)
        load["weights"] = None if self.load.weights is None else str(self.load.weights)
        return {**asdict(self), "load": load}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Contestant:
        load = dict(data["load"])
        load["inputs"] = tuple(load["inputs"])
        load["weights"] = None if load["weights"] is None else Path(load["weights"])
        return cls(**{**data, "load": LoadOptions(**load)})


def contestants(
    artifacts: Sequence[Artifact], baseline: Baseline, values: Mapping[str, Any], threads: int
) -> list[Contestant]:
    """Everyone who takes part, the baseline first where it is none of the artifacts."""
    _check_options(artifacts, values)
    ref = baseline.ref
    is_source = ref is not None and _names_source(ref)
    if not is_source:
        _refuse_idle(baseline)
    if ref is None:
        return [_artifact(each, values, threads) for each in artifacts]
    if is_source:
        return [*_sources(artifacts, baseline, threads), *(_artifact(each, values, threads) for each in artifacts)]
    base = Path(ref).resolve()
    if base not in [each.path.resolve() for each in artifacts]:
        artifacts = [manifest.read(ref), *artifacts]
    return [
        replace(_artifact(each, values, threads), is_baseline=each.path.resolve() == base) for each in artifacts
    ]


def _refuse_idle(baseline: Baseline) -> None:
    """Raise OptionError for what is said of a baseline in PyTorch that there isn't."""
    baseline.load.refuse_idle("--baseline, a model in PyTorch")
    if baseline.compiled:
        raise OptionError("--compile is for a baseline in PyTorch, and there is none", "add --baseline SOURCE")


def _names_source(ref: str) -> bool:
    check_reference(ref)
    return names_object(ref) or not (Path(ref) / manifest.NAME).is_file()


def _artifact(artifact: Artifact, values: Mapping[str, Any], threads: int) -> Contestant:
    path = str(artifact.path)
    return Contestant(path, threads, path, artifact.size, _own_options(artifact, values))


def _sources(artifacts: Sequence[Artifact], baseline: Baseline, threads: int) -> list[Contestant]:
    assert baseline.ref is not None
    load = replace(baseline.load, inputs=tuple(str(spec) for spec in artifacts[0].inputs))
    name = Path(baseline.ref).name
    eager = Contestant(f"{name} (PyTorch eager)", threads, source=baseline.ref, load=load, is_baseline=True)
    compiled = replace(eager, name=f"{name} (torch.compile)", compiled=True, is_baseline=False)
    return [eager, compiled] if baseline.compiled else [eager]


def _own_options(artifact: Artifact, values: Mapping[str, Any]) -> dict[str, Any]:
    """The options that concern this artifact's target, when several targets compete."""
    mine = option_keys(manager.require(artifact.format, "run").target.verb("run").options)
    prefix = f"{artifact.format}."
    return {key: value for key, value in values.items() if key.startswith(prefix) or key_of(key) in mine}


def _check_options(artifacts: Sequence[Artifact], values: Mapping[str, Any]) -> None:
    """Raise OptionError for an option that no artifact's target has."""
    taken = {key for artifact in artifacts for key in _own_options(artifact, values)}
    if stray := {key: value for key, value in values.items() if key not in taken}:
        calls.options_for(artifacts[0].format, "run", stray)
