"""What core's tests share: `mx` in this process or a fresh one, the nets, and the toys, which are targets.

Core is tested with no plugin but its own target `captured` and the toys. `tape` stands for any target.
"""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent

#: toys that load existing files as well
SOURCES = ("tape",)


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


def without_progress(err):
    """What was said beside the lines of work that lasts, which a busy machine has more of."""
    return re.sub(r"^.* \(\d+ s\)\n", "", err, flags=re.MULTILINE)


@pytest.fixture(scope="session")
def mx():
    """Run `mx` in this process: `mx("export", SOURCE, "-t", TARGET) -> Result`."""
    from modelexport import cli

    def run(*arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli._run([str(argument) for argument in arguments])
        return Result(code, out.getvalue(), without_progress(err.getvalue()))

    return run


@pytest.fixture(scope="session")
def mx_process():
    """Run `mx` in a fresh process."""

    def run(*arguments, **keywords):
        command = [Path(sys.executable).with_name("mx"), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, **keywords)
        return Result(done.returncode, done.stdout, without_progress(done.stderr))

    return run


@pytest.fixture(scope="session")
def nets():
    """Source references of the nets: `nets("traps", "branch")`."""
    return lambda file, factory: f"{HERE / 'nets' / file}.py:{factory}"


@pytest.fixture(scope="session")
def read_manifest():
    """manifest.json of an artifact, as it is on disk."""
    return lambda artifact: json.loads((Path(artifact) / "manifest.json").read_text(encoding="utf-8"))


# --------------------------------------------------------------------------------------- distributions of tests


def distribution(site, name, entry_points, **metadata):
    """Write what an installer leaves of a distribution: its metadata and its entry points."""
    headers = {"Metadata-Version": "2.1", "Name": name, "Version": "1.0", **metadata}
    info = site / f"{name.replace('-', '_')}-{headers['Version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("".join(f"{key}: {value}\n" for key, value in headers.items()))
    (info / "entry_points.txt").write_text(entry_points)


@contextlib.contextmanager
def installed(site):
    """What lies in the folder `site` is installed while the block lasts, here and in child processes."""
    from modelexport.plugins import entrypoints, manager

    def forget():
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None)).startswith(str(site)):
                del sys.modules[name]
        entrypoints.installed.cache_clear()
        manager.target.cache_clear()

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        before = os.environ.get("PYTHONPATH")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(site), *([before] if before else [])]))
        forget()
        yield site
    forget()


@pytest.fixture(scope="session")
def shelf(tmp_path_factory):
    """A folder with every toy as a distribution of its own, `toy-NAME` with the target NAME."""
    site = tmp_path_factory.mktemp("toys")
    for file in (HERE / "toys").glob("*.py"):
        shutil.copyfile(file, site / f"toy_{file.name}")
        groups = ["mx.targets", *(["mx.sources"] if file.stem in SOURCES else [])]
        points = "".join(f"[{group}]\n{file.stem} = toy_{file.stem}\n" for group in groups)
        distribution(site, f"toy-{file.stem}", points)
    return site


@pytest.fixture(scope="module")
def toys(shelf):
    """The toys are installed while the tests of a module run; the fixture gives their folder."""
    with installed(shelf):
        yield shelf


@pytest.fixture(scope="session")
def artifact(shelf, tmp_path_factory):
    """A good tape with two inputs that share a dim, for all tests; its source, two.py, is beside it."""
    import modelexport

    folder = tmp_path_factory.mktemp("good")
    shutil.copy(HERE / "nets" / "two.py", folder)
    with installed(shelf):
        (made,) = modelexport.export(f"{folder / 'two.py'}:two", "tape", folder)
    return made.path


@pytest.fixture
def copy(artifact, tmp_path):
    """A copy of the good tape, to change."""
    return shutil.copytree(artifact, tmp_path / "copy.tape")


@pytest.fixture(scope="session")
def rounded(shelf, tmp_path_factory):
    """What quantization starts from: net.py, score.py, the artifact net.rounder, real data (40 rows in x.npz, five
    of them in few.npz)."""
    import modelexport
    import numpy as np

    folder = tmp_path_factory.mktemp("rounded")
    for name in ("net.py", "score.py"):
        shutil.copy(HERE / "nets" / "rounded" / name, folder)
    with installed(shelf):
        modelexport.export(f"{folder / 'net.py'}:net", "rounder", folder)
    rows = np.random.default_rng(1).uniform(-1, 1, (40, 6)).astype(np.float32)
    np.savez(folder / "x.npz", x=rows)
    np.savez(folder / "few.npz", x=rows[:5])
    return folder
