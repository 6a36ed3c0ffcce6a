"""What the tests of the transformers source share: tiny models, made by tiny.py."""

import pytest
from modelexport.testing import beside


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="session")
def transformers(torch):
    return pytest.importorskip("transformers")


@pytest.fixture(scope="session")
def tiny(transformers):
    """The module tiny.py, which imports torch and transformers."""
    return beside(__file__, "tiny")
