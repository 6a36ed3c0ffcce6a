"""A few dozen changed manifests; `make fuzz` tries more, of more formats. See tests/fuzz/manifests.py."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from modelexport.contract import Artifact, Dim, TensorSpec
from modelexport.store import manifest

onnx = pytest.importorskip("onnx")

FUZZER = Path(__file__).parents[1] / "fuzz" / "manifests.py"


@pytest.fixture
def artifacts(tmp_path):
    """A folder with the artifact of y = relu(x), as `mx export` would have written it."""
    place = tmp_path / "artifacts" / "net.onnx"
    place.mkdir(parents=True)
    tensors = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 3]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "net", tensors[:1], tensors[1:])
    opset = onnx.helper.make_opsetid("", 20)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), place / "model.onnx")
    x, y = (TensorSpec(name, "float32", (Dim("batch", 1, 8), 3)) for name in "xy")
    files = manifest.list_files(place)
    manifest.write(Artifact(place, "onnx", "model.onnx", (x,), (y,), files=files, details={"opset": 20}))
    return place.parent


def test_no_changed_manifest_does_harm(artifacts):
    pytest.importorskip("onnxruntime")
    asked = ["--count", "80", "--seed", "3", "--slow", "0", "--artifacts", str(artifacts)]
    done = subprocess.run([sys.executable, str(FUZZER), *asked], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.splitlines()[:-1]) == (0, []), done.stdout + done.stderr
    figures = dict(re.findall(r"(\w+ \w+) (\d+)", done.stdout))
    assert int(figures["inspect refused"]) > 40, "most changes mean something"
    assert int(figures["run 0"]) > 0, "and some do not"
