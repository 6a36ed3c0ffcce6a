"""Importing toolchains that look for other packages as they are imported, and import whatever they find."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*modules: str) -> Iterator[None]:
    """While the block lasts, importing `modules` fails as if they were not installed.

    For the import of a toolchain that takes seconds to import what it merely supports: coremltools imports
    TensorFlow, scikit-learn and XGBoost where it finds them. A module that is imported already stays.
    """
    hidden = [name for name in modules if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name, ...) is None:
                del sys.modules[name]
