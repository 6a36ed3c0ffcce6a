"""What a plugin says about its target. In a module of its own, so that describing stays cheap to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Target:
    """What a plugin says about itself, as plain data: `mx targets` and the planner read nothing else.

    `name`        the target's name, equal to its entry point's
    `summary`     one line for `mx targets`
    `consumes`    the formats `mx_export` accepts, best first: "module", "captured", or another target's name
    `options`     one frozen dataclass of options for each verb that has any
    `needs`       the importable modules each verb takes
    `install`     the command that installs what a verb needs
    `mutates`     the export hook changes the live module or program it is given (core then hands it a copy)
    `precisions`  what `mx export --precision` means: precision → verb ("export", "optimize", "quantize") → its
                  options; verbs besides "export" follow it, in this order
    `snippets`    languages that `mx_snippet` writes code in, such as "cpp" or "swift"
    """

    name: str
    summary: str
    consumes: tuple[str, ...] = ("captured",)
    options: Mapping[str, type] = field(default_factory=dict)
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    install: Mapping[str, str] = field(default_factory=dict)
    mutates: bool = False
    precisions: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)
    snippets: tuple[str, ...] = ()
