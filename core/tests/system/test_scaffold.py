"""What `mx plugin new` writes is code as this repository's own is: linted, formatted, typed, in the one shape."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

#: what every target's folder has
SKELETON = {"__init__.py", "export.py", "session.py", "files.py", "operators.py", "backend.py", "py.typed"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """What mypy knows of core, from one test to the next."""
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.parametrize("consumes", ["captured", "module", "onnx"])
@pytest.mark.parametrize("parts", [(), ("quantize",), ("optimize", "quantize", "snippets", "source")], ids=len)
def test_a_new_plugin_is_clean_code(consumes, parts, tmp_path, cache):
    from modelexport import scaffold

    folder = scaffold.write("a-target", consumes, tmp_path, parts)
    package = folder / "src" / "modelexport_a_target"
    assert {path.name for path in package.iterdir()} == SKELETON | {f"{part}.py" for part in parts}
    environment = {**os.environ, "MYPYPATH": f"{ROOT / 'core' / 'src'}{os.pathsep}{folder / 'src'}"}
    for command in (
        ["ruff", "check", "--config", ROOT / "pyproject.toml", folder],
        ["ruff", "format", "--check", "--config", ROOT / "pyproject.toml", folder],
        ["mypy", "--strict", "--explicit-package-bases", "--cache-dir", cache, "-p", package.name],
    ):
        tool, *arguments = map(str, command)
        done = subprocess.run(
            [sys.executable, "-m", tool, *arguments], capture_output=True, text=True, cwd=folder, env=environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
