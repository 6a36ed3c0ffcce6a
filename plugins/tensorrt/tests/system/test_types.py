"""The calls of TensorRT and CUDA that no machine without a GPU can execute exist, and take what they are given."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "modelexport_tensorrt"
CONFIGURATION = """
[mypy]
strict = true
python_version = 3.11
mypy_path = {stubs}
[mypy-cuda.*,onnx.*,modelexport.*,modelexport_onnx.*,ml_dtypes.*]
follow_imports = skip
ignore_missing_imports = true
[mypy-tensorrt_rtx_bindings.*]
ignore_errors = true
"""


def chains(path):
    """`trt.A.B` and `self._trt.A.B` in a module, as ["A", "B"]."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        for owner in ("self._trt.", "trt."):
            if text.startswith(owner):
                yield text.removeprefix(owner).split(".")
                break


@pytest.mark.parametrize(("name", "least"), [("build", 5), ("session", 5), ("backend", 3), ("files", 2)])
def test_every_name_is_one_of_the_package(trt, name, least):
    found = list(chains(PACKAGE / f"{name}.py"))
    assert len(found) >= least
    for names in found:
        owner = trt
        for each in names:
            assert hasattr(owner, each), f"{name}.py: trt.{'.'.join(names)}"
            owner = getattr(owner, each)


def test_every_cuda_function_is_one_of_the_bindings(cuda):
    from cuda.bindings import runtime

    texts = [
        node.value
        for node in ast.walk(ast.parse((PACKAGE / "device.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and str(node.value).startswith("cuda")
    ]
    assert len(texts) > 15
    assert [text for text in texts if not hasattr(runtime, text)] == []


def test_calls_fit_the_packages_own_types(trt, tmp_path):
    """mypy, against stubs made from the package as it is installed."""
    stubs = tmp_path / "stubs"
    command = [sys.executable, "-m", "pybind11_stubgen", "tensorrt_rtx_bindings.tensorrt_rtx", "-o", str(stubs)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    made = stubs / "tensorrt_rtx_bindings" / "tensorrt_rtx.pyi"
    text = made.read_text().replace(", in: ", ", in_: ")  # what the package calls its parameters is no Python
    made.write_text(text.replace("power: Weights = None, channel_axis", "power: Weights = None, *, channel_axis"))
    (stubs / "tensorrt_rtx_bindings" / "__init__.pyi").touch()
    (stubs / "tensorrt_rtx").mkdir()
    (stubs / "tensorrt_rtx" / "__init__.pyi").write_text("from tensorrt_rtx_bindings.tensorrt_rtx import *\n")
    (tmp_path / "mypy.ini").write_text(CONFIGURATION.format(stubs=stubs))
    files = [str(PACKAGE / f"{name}.py") for name in ("build", "session", "device", "backend", "files")]
    command = [sys.executable, "-m", "mypy", "--config-file", str(tmp_path / "mypy.ini"), *files]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert "(checked 5 source files)" in done.stdout or "no issues found in 5" in done.stdout, done.stdout
    # Types of arguments are left out: the package converts what its signatures don't say that it takes.
    wrong = [
        line for line in done.stdout.splitlines() if re.search(r"\[(attr-defined|call-arg|call-overload)\]$", line)
    ]
    assert wrong == []
