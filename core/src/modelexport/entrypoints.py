"""Read the entry points of what is installed, straight from the `.dist-info` folders on the import path.

`importlib.metadata` does the same and more, but importing it costs half as much again as all of click:
`mx targets` and shell completion would feel it. The format is the entry-points specification of PyPA
(https://packaging.python.org/en/latest/specifications/entry-points/).
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class EntryPoint:
    """`name = value` in a group, and the distribution that says so."""

    group: str
    name: str
    value: str
    distribution: str
    version: str

    def load(self) -> Any:
        """Import the module, and get the attribute if the value names one."""
        module, _, attributes = self.value.partition("[")[0].strip().partition(":")
        found = import_module(module.strip())
        for attribute in filter(None, attributes.strip().split(".")):
            found = getattr(found, attribute)
        return found


@lru_cache(maxsize=1)
def installed() -> tuple[EntryPoint, ...]:
    """Every entry point in a group of ours; of a distribution found twice, the first on the path counts."""
    found: list[EntryPoint] = []
    seen: set[str] = set()
    for folder in sys.path:
        for info in _info_folders(folder or os.curdir):
            name, _, version = os.path.basename(info).rpartition(".")[0].partition("-")  # noqa: PTH119
            normal = name.replace("_", "-").replace(".", "-").lower()
            if normal not in seen:
                seen.add(normal)
                found += _read(os.path.join(info, "entry_points.txt"), normal, version.partition("-")[0])  # noqa: PTH118
    return tuple(found)


def _info_folders(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.path for e in entries if e.name.endswith((".dist-info", ".egg-info")))
    except OSError:  # not a folder: a zip file, or a path that is not there
        return []


def _read(file: str, distribution: str, version: str) -> list[EntryPoint]:
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:  # noqa: PTH123
            text = stream.read()
    except OSError:  # most distributions have no entry points
        return []
    found, group = [], ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            group = line.strip("[]").strip()
        elif group.startswith("mx.") and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            found.append(EntryPoint(group, name.strip(), value.strip(), distribution, version))
    return found
