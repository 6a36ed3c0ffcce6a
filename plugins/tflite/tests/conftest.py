"""Models to export, and a file that no converter made."""

import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def loaded(name):
    """A module of this folder, under a name that no other folder's has."""
    full = f"modelexport_tflite_tests_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, HERE / f"{name}.py")
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


@pytest.fixture(scope="session")
def nets():
    """The models of nets.py, where they can be exported."""
    pytest.importorskip("torch")
    pytest.importorskip("litert_torch")
    return loaded("nets")


@pytest.fixture
def handmade():
    """How handmade.py writes a file without a converter."""
    pytest.importorskip("ai_edge_litert")
    return loaded("handmade")
