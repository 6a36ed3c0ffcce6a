"""coremltools comes from one place."""

import ast
from pathlib import Path

import modelexport_coreml
import pytest


def test_no_other_module_imports_coremltools():
    """The first import decides what else is imported with it, for seconds."""
    users = set()
    for path in Path(modelexport_coreml.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            users |= {path.name for name in names if name.split(".")[0] == "coremltools"}
    assert users == set()


@pytest.mark.parametrize("name", ["all", "cpu-only", "cpu-and-gpu", "cpu-and-ne"])
def test_every_compute_unit_has_its_name(name, ct):
    from modelexport_coreml.backend import compute_unit

    assert compute_unit(name).name.lower().replace("_", "-") == name
