"""What the tests of the whole share with core's own: `mx` in this process or a fresh one, and core's nets."""

import importlib.util
import os
import shutil
from pathlib import Path

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


@pytest.fixture(scope="session")
def package_folder():
    """The folder of a package of weights; without it the test is skipped, or fails where skips are not allowed."""

    def find(name):
        spec = importlib.util.find_spec(name)
        if spec is None:
            reason = f"{name} is not installed"
            if os.environ.get("MX_REQUIRE"):
                pytest.fail(reason)
            pytest.skip(reason)
        return Path(spec.submodule_search_locations[0])

    return find
