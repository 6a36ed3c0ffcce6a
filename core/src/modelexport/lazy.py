"""Packages that hand on the names of modules, each imported on first use.

`from modelexport.contract import Target` then costs the one module that Target lives in, and neither numpy nor
pluggy is imported before a name that needs it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def face(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of `package`, which hands on the names in `homes`.

    A home is the module that has the name, as in a relative import from the package (".tensors", "..gate.cases"),
    with `:name` behind it where the name is another one there.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, other = homes[name].partition(":")
        value = getattr(import_module(module, package), other or name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted(homes)
