"""Read the entry points of what is installed, straight from the `.dist-info` folders on the import path.

`importlib.metadata` does the same and more, but importing it costs half as much again as all of click:
`mx targets` and shell completion would feel it. The format is the entry-points specification of PyPA
(https://packaging.python.org/en/latest/specifications/entry-points/).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple


class EntryPoint(NamedTuple):
    """`name = value` in a group, and the distribution that says so.

    A named tuple, as are the other values that `mx targets` needs: making a dataclass takes six times as long.
    """

    group: str
    name: str
    value: str
    distribution: str
    version: str
    info: str = ""

    def load(self) -> Any:
        """Import the module, and get the attribute if the value names one."""
        module, _, attributes = self.value.partition("[")[0].strip().partition(":")
        value = import_module(module.strip())
        for attribute in filter(None, attributes.strip().split(".")):
            value = getattr(value, attribute)
        return value


class FilePoint(EntryPoint):
    """A target in a single file, named with `mx --plugin FILE`, before there is any packaging."""

    def load(self) -> Any:
        from importlib.util import module_from_spec, spec_from_file_location

        name = f"mx_plugin_{self.name}"
        if name not in sys.modules:
            spec = spec_from_file_location(name, self.value)
            if spec is None or spec.loader is None:
                raise ImportError(f"{self.value} is no Python file")
            sys.modules[name] = module_from_spec(spec)
            try:
                spec.loader.exec_module(sys.modules[name])
            except BaseException:
                del sys.modules[name]
                raise
        return sys.modules[name]


#: the environment variable with the files of `--plugin`, so that child processes find them too
FILES = "MX_PLUGIN"


def add_files(files: Sequence[str]) -> None:
    """Make the targets in these files known to this process and its children. Raises TargetError."""
    from ..errors import TargetError

    for file in files:
        if not os.path.isfile(file):  # noqa: PTH113
            raise TargetError(f"no file {file}", "give --plugin the path of a Python file with a target")
    known = [file for file in os.environ.get(FILES, "").split(os.pathsep) if file]
    os.environ[FILES] = os.pathsep.join([*known, *map(os.path.abspath, files)])
    installed.cache_clear()


def _named_files() -> list[EntryPoint]:
    files = [file for file in os.environ.get(FILES, "").split(os.pathsep) if file]
    names = [os.path.basename(file).rpartition(".")[0] for file in files]  # noqa: PTH119
    return [FilePoint("mx.targets", name, file, file, "file") for name, file in zip(names, files, strict=True)]


@lru_cache(maxsize=1)
def installed() -> tuple[EntryPoint, ...]:
    """Every entry point in a group of ours; of a distribution found twice, the first on the path counts."""
    points = _named_files()
    seen: set[str] = set()
    for folder in sys.path:
        for info in _info_folders(folder or os.curdir):
            name, _, version = os.path.basename(info).rpartition(".")[0].partition("-")  # noqa: PTH119
            normal = name.replace("_", "-").replace(".", "-").lower()
            if normal not in seen:
                seen.add(normal)
                points += _read(info, normal, version.partition("-")[0])
    return tuple(points)


def _info_folders(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.path for e in entries if e.name.endswith((".dist-info", ".egg-info")))
    except OSError:  # not a folder: a zip file, or a path that is not there
        return []


def _read(info: str, distribution: str, version: str) -> list[EntryPoint]:
    points, group = [], ""
    for line in map(str.strip, _lines(info, "entry_points.txt")):
        if line.startswith("["):
            group = line.strip("[]").strip()
        elif group.startswith("mx.") and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            points.append(EntryPoint(group, name.strip(), value.strip(), distribution, version, info))
    return points


def _lines(info: str, name: str) -> list[str]:
    try:
        with open(os.path.join(info, name), encoding="utf-8", errors="replace") as stream:  # noqa: PTH118, PTH123
            return stream.read().splitlines()
    except OSError:  # most distributions have no entry points
        return []


def summary(point: EntryPoint) -> str:
    """What the point's distribution says of itself in one line; empty where it says nothing."""
    for line in _lines(point.info, "METADATA") if point.info else []:
        if not line:
            break  # the headers end here
        if line.startswith("Summary:"):
            text = line.removeprefix("Summary:").strip()
            return "".join(char for char in text if char.isprintable())  # none may steer the terminal
    return ""


def too_new(point: EntryPoint, version: str) -> str | None:
    """What the point's distribution requires of a core newer than `version`, or None."""
    for line in _lines(point.info, "METADATA") if point.info else []:
        if not line:
            break  # the headers end here
        name, _, wanted = line.removeprefix("Requires-Dist: modelexport").partition(">=")
        if not line.startswith("Requires-Dist: modelexport") or name.strip(" (") or not wanted:
            continue
        least = wanted.partition(",")[0].partition(";")[0].strip(" )")
        if _numbers(least) > _numbers(version):
            return least
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
