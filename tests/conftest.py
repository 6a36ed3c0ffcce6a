"""What the tests of the whole share with core's own: `mx` in this process or a fresh one, and core's nets."""

import shutil

import pytest

from core.tests.conftest import HERE, mx, mx_process, nets, read_manifest  # noqa: F401  fixtures


@pytest.fixture(scope="session")
def artifact(tmp_path_factory):
    """A good ONNX artifact with two inputs that share a dim; its source, two.py, is beside it."""
    import modelexport

    folder = tmp_path_factory.mktemp("good")
    shutil.copy(HERE / "nets" / "two.py", folder)
    (made,) = modelexport.export(f"{folder / 'two.py'}:two", "onnx", folder)
    return made.path
