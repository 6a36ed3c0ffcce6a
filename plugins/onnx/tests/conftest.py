"""What the tests of the ONNX target share: nets/zoo.py and graphs.py, exports of them, and samples for them."""

import contextlib
import hashlib
import importlib.util
import io
import os
from pathlib import Path

import numpy as np
import pytest
from modelexport.testing import beside

IMAGES = ["x:float32[batch=1..8,3,16,16]"]
TOKENS = ["ids:int64[batch=1..8,length=1..32]=0..199", "mask:int64[batch=1..8,length=1..32]=mask"]

#: name → the net and its inputs
ZOO = {
    "convolutions": ("Convolutions", IMAGES),
    "perceptron": ("perceptron", ["x:float32[batch=1..16,64]"]),
    "encoder": ("Encoder", TOKENS),
    "recurrent": ("Recurrent", ["x:float32[batch=1..4,12,24]"]),
    "depthwise": ("Depthwise", IMAGES),
    "detector": ("Detector", IMAGES),
}


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="session")
def onnx():
    return pytest.importorskip("onnx")


@pytest.fixture(scope="session")
def nets(torch):
    return beside(__file__, "nets/zoo")


@pytest.fixture(scope="session")
def graphs(onnx):
    return beside(__file__, "graphs")


@pytest.fixture(scope="session")
def zoo(nets, onnx, tmp_path_factory):
    """`zoo(name)`: the artifact of a net, exported once."""
    import modelexport as mx

    folder, made = tmp_path_factory.mktemp("zoo"), {}

    def get(name):
        if name not in made:
            net, inputs = ZOO[name]
            module = getattr(nets, net)().eval()
            (made[name],) = mx.export(module, "onnx", folder, inputs=inputs, name=name, verify=False)
        return made[name]

    return get


@pytest.fixture
def export(torch, tmp_path):
    """Export a module whose inputs are declared, without the gate."""
    import modelexport as mx

    def run(module, inputs, name="net", **more):
        (artifact,) = mx.export(module.eval(), "onnx", tmp_path, inputs=inputs, name=name, verify=False, **more)
        return artifact

    return run


@pytest.fixture
def foreign(graphs, onnx, tmp_path):
    """An artifact of a model made of onnx.helper's nodes."""
    import modelexport as mx

    def make(*arguments, **keywords):
        onnx.save(graphs.graph_of(*arguments, **keywords), tmp_path / "foreign.onnx")
        (artifact,) = mx.export(tmp_path / "foreign.onnx", "onnx", tmp_path, name="net", verify=False)
        return artifact

    return make


@pytest.fixture(scope="session")
def data():
    """`data(name)`: samples of one row for a net of the zoo."""

    def draw(name, count=24, seed=0):
        generator = np.random.default_rng(seed)

        def sample():
            if name == "encoder":
                length = int(generator.integers(2, 32))
                return {"ids": generator.integers(0, 200, (1, length)), "mask": np.ones((1, length), np.int64)}
            shape = {"perceptron": (1, 64), "recurrent": (1, 12, 24)}.get(name, (1, 3, 16, 16))
            return {"x": generator.standard_normal(shape).astype(np.float32)}

        return [sample() for _ in range(count)]

    return draw


@pytest.fixture(scope="session")
def quantized(zoo, data, tmp_path_factory):
    """`quantized(name, **options)`: a quantized copy of a net, made once; with real data unless `data` is None."""
    import modelexport as mx

    folder, made = tmp_path_factory.mktemp("quantized"), {}

    def get(name, **options):
        key = (name, *sorted((key, str(value)) for key, value in options.items()))
        if key not in made:
            real = options.pop("data", ...)
            made[key] = mx.quantize(
                zoo(name).path,
                folder / f"{len(made)}.onnx",
                options=options,
                calibration=data(name) if real is ... else real,
                verify=False,
            )
        return made[key]

    return get


@pytest.fixture(scope="session")
def answers():
    """The first output of an artifact for every sample."""
    import modelexport as mx

    def run(artifact, samples):
        with mx.run(artifact.path) as session:
            return [next(iter(session(sample).values())) for sample in samples]

    return run


@pytest.fixture(scope="session")
def noise():
    """Noise power relative to the signal's."""

    def ratio(got, want):
        a, b = (np.concatenate([array.ravel() for array in arrays]) for arrays in (got, want))
        return float(((a - b) ** 2).sum() / (b**2).sum())

    return ratio


@pytest.fixture(scope="session")
def digests():
    """The sha256 of every file below a folder."""

    def of(path):
        return {
            file.relative_to(path): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(path.rglob("*"))
            if file.is_file()
        }

    return of


@pytest.fixture(scope="session")
def mx_command():
    """Run `mx` in this process: (exit code, stdout, stderr)."""
    from modelexport import cli

    def run(*arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli._run([str(argument) for argument in arguments])
        return code, out.getvalue(), err.getvalue()

    return run


@pytest.fixture(scope="session")
def package_folder():
    """The folder of a package of weights; without it the test is skipped, or fails where skips are not allowed."""

    def find(name):
        spec = importlib.util.find_spec(name)
        if spec is None:
            (pytest.fail if os.environ.get("MX_REQUIRE") else pytest.skip)(f"{name} is not installed")
        return Path(spec.submodule_search_locations[0])

    return find
