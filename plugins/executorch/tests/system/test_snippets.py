"""The C++ program is built with the libraries of ExecuTorch's Python package, and run."""

import shutil
import subprocess

import numpy as np
import pytest
from modelexport import api
from modelexport.plugins import manager


@pytest.fixture(scope="module")
def artifact(make, nets):
    return make(
        nets.Named(),
        "ids:int64[batch=1..4,length=3..9]=0..9",
        "float:float32[batch=1..4,length=3..9,6]",
        "scale:float32[]",
        outputs=("mixed.1", "best"),
    )


def test_cpp_is_built_and_run(artifact, tmp_path):
    import executorch

    for tool in ("cmake", "g++"):
        assert shutil.which(tool), f"this test takes {tool}"
    texts = manager.target("executorch").hook.mx_snippet(artifact=artifact, language="cpp")
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    prefix = next(iter(executorch.__path__))
    commands = (
        ["cmake", "-B", "build", f"-DCMAKE_PREFIX_PATH={prefix}", f"-Dexecutorch_DIR={prefix}/share/cmake"],
        ["cmake", "--build", "build"],
        ["build/main", str(artifact.entry_path)],
    )
    for command in commands:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    with api.run(artifact.path) as session:
        zeros = {
            "ids": np.zeros((2, 3), np.int64),
            "float": np.zeros((2, 3, 6), np.float32),
            "scale": np.zeros((), np.float32),
        }
        expected = session(zeros)
    lines = [line.split("]") for line in done.stdout.splitlines()]
    shown = {line[0].split(" [")[0]: (line[0].split("[")[1].split(), line[1].split()) for line in lines}
    assert shown["mixed.1"][0] == ["2", "3", "3"] and shown["best"][0] == ["2", "3"]
    assert [int(value) for value in shown["best"][1]] == expected["best"].reshape(-1)[:5].tolist()
