"""Which Python modules and distributions are installed; nothing is imported to find out."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence


def importable(module: str) -> bool:
    """Whether `module` can be found, without importing it."""
    try:
        return module in sys.modules or importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Installed versions of distributions, for the lineage; those absent are left out."""
    from importlib import metadata

    by_package = {}
    for package in packages:
        try:
            by_package[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return by_package
