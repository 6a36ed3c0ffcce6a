"""What the tests of the TensorRT target share: nets.py, the players of players.py, and data to quantize with."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from modelexport.testing import beside

NETS = Path(__file__).with_name("nets.py")

#: net → the input of its calibration data
SHAPES = {"cnn": ("image", (48, 3, 16, 16)), "linear": ("x", (48, 256))}


@pytest.fixture(scope="session")
def trt():
    return pytest.importorskip("tensorrt_rtx")


@pytest.fixture(scope="session")
def cuda(trt):
    return pytest.importorskip("cuda.bindings")


@pytest.fixture(scope="session")
def onnx():
    return pytest.importorskip("onnx")


@pytest.fixture(scope="session")
def players(cuda):
    """players.py, which imports what it plays."""
    return beside(__file__, "players")


@pytest.fixture(scope="session")
def nets(trt):
    """The reference of a net, by the name of its factory."""
    pytest.importorskip("torch")
    return lambda factory: f"{NETS}:{factory}"


@pytest.fixture(scope="session")
def line_of():
    """The place in nets.py at which a text stands the given time, as TensorRT's refusals name it."""

    def find(text, time=1):
        numbers = [n for n, line in enumerate(NETS.read_text().splitlines(), 1) if text in line]
        return f"{NETS}:{numbers[time - 1]}"

    return find


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Files of real inputs, by the net that takes them."""
    folder = tmp_path_factory.mktemp("data")
    for name, (key, shape) in SHAPES.items():
        np.savez(folder / f"{name}.npz", **{key: np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")})
    return lambda name: folder / f"{name}.npz"


@pytest.fixture(scope="session")
def kernels():
    """The layers of an engine that compute in a precision."""
    return lambda artifact, precision: [layer for layer in artifact.layers if layer.precision == precision]


@pytest.fixture
def no_gpu():
    from modelexport_tensorrt import flavours

    if flavours.gpus():
        pytest.skip("this machine has a GPU")


@pytest.fixture(scope="session")
def package_folder():
    """The folder of a package of weights; without it the test is skipped, or fails where skips are not allowed."""

    def find(name):
        spec = importlib.util.find_spec(name)
        if spec is None:
            (pytest.fail if os.environ.get("MX_REQUIRE") else pytest.skip)(f"{name} is not installed")
        return Path(spec.submodule_search_locations[0])

    return find
