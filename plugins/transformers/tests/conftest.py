"""What the tests of the transformers source share: tiny models, made by tiny.py."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="session")
def transformers(torch):
    return pytest.importorskip("transformers")


@pytest.fixture(scope="session")
def tiny(transformers):
    """The module tiny.py, which imports torch and transformers."""
    spec = importlib.util.spec_from_file_location("mx_transformers_tiny", Path(__file__).with_name("tiny.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
