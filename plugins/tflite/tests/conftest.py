"""Models to export, and a file that no converter made."""

import pytest
from modelexport.testing import beside


@pytest.fixture(scope="session")
def nets():
    """The models of nets.py, where they can be exported."""
    pytest.importorskip("torch")
    pytest.importorskip("litert_torch")
    return beside(__file__, "nets")


@pytest.fixture
def handmade():
    """How handmade.py writes a file without a converter."""
    pytest.importorskip("ai_edge_litert")
    return beside(__file__, "handmade")
