"""Commands that must fail: a place to give them, and what holds for every one."""

import shutil

import pytest

USAGE, PARITY, SOURCE, TARGET, OPTION, OUTPUT, ARTIFACT, INPUT = 2, 3, 4, 5, 6, 7, 8, 9
REFERENCE, UNSAFE = 12, 14


@pytest.fixture
def place(tmp_path, monkeypatch, nets, artifact):
    """An empty current folder; beside it the nets in a file, a copy of the artifact, and what is no model."""
    (tmp_path / "here").mkdir()
    shutil.copyfile(nets("faulty", "").removesuffix(":"), tmp_path / "nets.py")
    (tmp_path / "broken.py").write_text("import torch\n\ndef net(:\n    pass\n")
    (tmp_path / "lacks.py").write_text("import torch\nimport no_such_package\n")
    shutil.copytree(artifact, tmp_path / "two.tape")
    (tmp_path / "holds.tape").mkdir()
    (tmp_path / "holds.tape" / "precious.txt").write_text("mine")
    for name in ("weights.safetensors", "notes.txt", "weights.pth", "bad.file.tape"):
        (tmp_path / name).write_bytes(b"not what it says")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.fixture
def refused(mx, place):
    """Run a command that must fail, in which `@` is the place; gives the result after what holds for every one:
    one line that says what is wrong and where, a hint, no trace, and nothing on disk that was not there before."""

    def state():
        return {path: path.stat().st_mtime_ns for path in place.rglob("*") if "__pycache__" not in path.parts}

    def run(arguments, code, *facts):
        before = state()
        result = mx(*(str(argument).replace("@", f"{place}/") for argument in arguments))
        after = state()
        assert "Traceback" not in result.out + result.err
        assert result.error  # one line, and at most one more with the hint
        assert result.hint, result.err
        assert result.code == code, result.err
        for fact in facts:
            assert fact in result.err, result.err
        assert {str(path.relative_to(place)) for path in set(after) - set(before)} <= {"here/build"}
        assert {path for path in before if after.get(path) != before[path]} <= {place / "here"}
        return result

    return run
