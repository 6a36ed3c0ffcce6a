"""What the tests of the work share: what the toys were asked to do, and code that a test may change."""

import shutil

import pytest


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """The steps that the toys were asked for since the last look: `steps() == ["export rounder"]`."""
    log = tmp_path / "log"
    monkeypatch.setenv("TOY_LOG", str(log))

    def look():
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line for line in lines if not line.endswith(" samples")]

    return look


@pytest.fixture
def code(rounded, tmp_path):
    """net.py and score.py in a folder of the test's own."""
    for name in ("net.py", "score.py"):
        shutil.copy(rounded / name, tmp_path)
    return tmp_path / "net.py"


def edit(file, *changes):
    """Change the user's code: each change is a text and what stands for it."""
    text = file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)


def files(folder):
    """Every file below a folder, with its bytes."""
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
