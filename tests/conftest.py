"""What several test files share: `mx` in this process, the nets, and toy plugins that are installed for a test."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Result:
    """What one `mx` command did."""

    code: int
    out: str
    err: str

    @property
    def error(self):
        """The one line that says what went wrong; fails when there is more than the error and its hint."""
        lines = self.err.strip().splitlines()
        assert lines, f"nothing on stderr; stdout: {self.out}"
        assert lines[0].startswith("error: "), self.err
        assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: ")), self.err
        return lines[0].removeprefix("error: ")

    @property
    def hint(self):
        return self.err.partition("hint: ")[2].strip()

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture(scope="session")
def mx():
    """Run `mx` in this process: `mx("export", SOURCE, "-t", TARGET) -> Result`."""
    from modelexport import cli

    def run(*arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli._run([str(argument) for argument in arguments])
        return Result(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def mx_process():
    """Run `mx` in a fresh process."""

    def run(*arguments, **keywords):
        command = [Path(sys.executable).with_name("mx"), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, **keywords)
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def nets():
    """Source references of the nets: `nets("traps", "branch")`."""
    return lambda file, factory: f"{HERE / 'nets' / file}.py:{factory}"


@pytest.fixture(scope="session")
def artifact(tmp_path_factory):
    """A good ONNX artifact with two inputs that share a dim; its source, two.py, is beside it."""
    import modelexport

    folder = tmp_path_factory.mktemp("good")
    shutil.copy(HERE / "nets" / "two.py", folder)
    inputs = ["x:float32[batch=1..8,4]", "ids:int64[batch=1..8,seq=1..6]=0..9"]
    (made,) = modelexport.export(f"{folder / 'two.py'}:two", "onnx", folder, inputs=inputs)
    return made.path


@pytest.fixture(scope="session")
def read_manifest():
    """manifest.json of an artifact, as it is on disk."""
    return lambda artifact: json.loads((Path(artifact) / "manifest.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def install_toys(tmp_path_factory):
    """Install targets of tests/toys as distributions of their own, here and in child processes."""
    from modelexport.plugins import entrypoints, manager

    def forget():
        entrypoints.installed.cache_clear()
        manager.target.cache_clear()

    patch = pytest.MonkeyPatch()

    def install(*names):
        site = tmp_path_factory.mktemp("site")
        for name in names:
            shutil.copyfile(HERE / "toys" / f"{name}.py", site / f"toy_{name}.py")
            info = site / f"toy_{name}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: toy-{name}\nVersion: 1.0\n")
            (info / "entry_points.txt").write_text(f"[mx.targets]\n{name} = toy_{name}\n")
        patch.syspath_prepend(site)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).rstrip(":"))
        forget()
        return site

    yield install
    patch.undo()
    for name in [name for name in sys.modules if name.startswith("toy_")]:
        del sys.modules[name]
    forget()
