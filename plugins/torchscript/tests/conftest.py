"""What the tests of the TorchScript target share: the nets of nets.py, exports of them, comparisons of answers."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from modelexport.testing import beside

NETS = Path(__file__).parent / "nets.py"


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch")


class Nets:
    """nets.py: a source by the name of its factory, and the line at which a text stands in the file."""

    def __init__(self):
        self.module = beside(__file__, "nets")

    def source(self, factory):
        return getattr(self.module, factory)()

    def line_of(self, text):
        return next(n for n, line in enumerate(NETS.read_text().splitlines(), 1) if text in line)


@pytest.fixture(scope="session")
def nets(torch):
    return Nets()


@pytest.fixture
def rows():
    """A batch of three for nets that take six features."""
    return np.linspace(-1, 2, 18, dtype=np.float32).reshape(3, 6)


@pytest.fixture
def export(torch, tmp_path):
    """Export a net; the gate takes a process of its own, so it is off where a test compares by itself."""
    import modelexport as mx

    def run(source, mode="auto", verify=False, **more):
        source = f"{NETS}:{source}" if isinstance(source, str) and source.isidentifier() else source
        (artifact,) = mx.export(source, "torchscript", tmp_path, options={"mode": mode}, verify=verify, **more)
        return artifact

    return run


@pytest.fixture(scope="session")
def eager():
    """What the live module of a source answers."""
    from modelexport.toolkit import eval_mode, module_reference

    def call(source, **inputs):
        with eval_mode(source):
            reference = module_reference(source.module, source.specs, source.outputs)
            return reference({name: np.array(array) for name, array in inputs.items()})

    return call


@pytest.fixture(scope="session")
def agree():
    """Assert that outputs have the same names, in the same order, and the same values."""

    def check(outputs, wanted):
        assert list(outputs) == list(wanted)
        for name, array in wanted.items():
            np.testing.assert_allclose(outputs[name].astype(float), array.astype(float), atol=1e-6, err_msg=name)

    return check


@pytest.fixture(scope="session")
def silero():
    """An archive as its authors saved it."""
    spec = importlib.util.find_spec("silero_vad")
    if spec is None:
        pytest.skip("silero-vad is not installed")
    return Path(spec.submodule_search_locations[0]) / "data/silero_vad.jit"
