"""What the tests of the Core ML target share: the nets of nets.py, and exports that one process verifies."""

import importlib.util
import os
from dataclasses import replace
from pathlib import Path

import pytest
from modelexport.testing import beside


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="session")
def coremltools(torch):
    """coremltools as the plugin imports it, or a module of it by its path."""
    from modelexport_coreml import backend

    if importlib.util.find_spec("coremltools") is None:
        pytest.skip("coremltools is not installed")
    return backend.coremltools


@pytest.fixture(scope="session")
def ct(coremltools):
    return coremltools()


@pytest.fixture(scope="session")
def nets(torch):
    return beside(__file__, "nets")


@pytest.fixture(scope="session")
def gate(ct):
    """One fresh process for all gates: each of its own would import coremltools for seconds."""
    from modelexport.gate import worker

    with worker.start("verifying coreml") as child:
        yield child


@pytest.fixture(scope="session")
def make(gate):
    """As `mx.export` of a Source or a path, with the shared process for the gate."""
    from modelexport.contract import LoadOptions
    from modelexport.model import resolve
    from modelexport.work import convert, prepare
    from modelexport.work.requests import Verification

    def run(source, folder, inputs=(), verify=True, **chosen):
        verification = Verification(verify, child=gate)
        source = str(source) if isinstance(source, Path) else source
        job = prepare.prepare(resolve.resolve(source, LoadOptions(inputs=tuple(inputs))), verification)
        folder.mkdir(exist_ok=True)
        return convert.make(job, "coreml", folder / f"{job.source.name}.coreml", verification, chosen)

    return run


@pytest.fixture(scope="session")
def export(make, torch):
    """Export a net by its class: `export(nets.Line, folder, "x:float32[2,64]", bound=32)`."""
    import modelexport as mx

    def run(net, folder, *inputs, outputs=(), verify=True, **chosen):
        torch.manual_seed(0)
        source = mx.Source(net().eval(), inputs=inputs, outputs=outputs, name="net")
        return make(source, folder, verify=verify, **chosen)

    return run


@pytest.fixture(scope="session")
def quantize(gate):
    """As `mx.quantize`, with the shared process for the gate."""
    from modelexport import api
    from modelexport.gate import verify

    def run(artifact, folder, calibration=None, **chosen):
        options = {key.replace("_", "-"): str(value) for key, value in chosen.items()}
        made = api.quantize(
            artifact.path, folder / "small.coreml", options=options, calibration=calibration, verify=False
        )
        return replace(made, parity=verify.verify_artifact(made, child=gate))

    return run


@pytest.fixture(scope="session")
def worst():
    """The largest difference that the gate saw in any output of an artifact."""
    return lambda artifact: max(row.max_abs for row in artifact.parity.outputs)


@pytest.fixture(scope="session")
def spec_of(ct):
    """The specification of an artifact's package."""
    from modelexport_coreml import files

    return lambda artifact: files.load_spec(artifact.entry_path)


@pytest.fixture(scope="session")
def files_in():
    """The files of a folder with their bytes, by their paths in it."""
    return lambda folder: {
        path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()
    }


# --------------------------------------------------------------------------------------- packages by others


@pytest.fixture(scope="session")
def trace(ct, torch):
    """A package as most are made: from a traced module."""
    from modelexport_coreml.backend import quiet

    def shape_of(kind):
        return kind.shape.default if hasattr(kind.shape, "default") else kind.shape.shape

    def run(net, path, *inputs, **chosen):
        torch.manual_seed(0)
        traced = torch.jit.trace(net().eval(), tuple(torch.zeros(tuple(shape_of(kind))) for kind in inputs))
        with quiet():
            model = ct.convert(
                traced, inputs=list(inputs), minimum_deployment_target=ct.target.iOS16, skip_model_load=True,
                compute_precision=ct.precision.FLOAT32, **chosen,
            )  # fmt: skip
            model.save(str(path))
        return path

    return run


@pytest.fixture(scope="session")
def sums(trace, ct, nets, tmp_path_factory):
    """A package with two inputs that share a range."""
    inputs = [ct.TensorType(name, ct.Shape([ct.RangeDim(2, 6, default=2), 4])) for name in ("x", "y")]
    outputs = [ct.TensorType("total"), ct.TensorType("scaled")]
    return trace(nets.Sums, tmp_path_factory.mktemp("sums") / "sums.mlpackage", *inputs, outputs=outputs)


@pytest.fixture(scope="session")
def shades(trace, ct, nets, tmp_path_factory):
    """A package of a classifier that takes images."""
    image = ct.ImageType(
        "image", (1, 3, 6, 8), scale=1 / 255, bias=[-0.5, 0.0, 0.5], color_layout=ct.colorlayout.RGB
    )
    labels = ct.ClassifierConfig(["red", "green", "blue", "gray"], predicted_feature_name="shade")
    path = tmp_path_factory.mktemp("shades") / "shades.mlpackage"
    return trace(nets.Shades, path, image, classifier_config=labels)


@pytest.fixture(scope="session")
def folder_of():
    """The folder of an installed distribution that carries a model."""

    def find(name):
        spec = importlib.util.find_spec(name)
        if spec is None:
            if os.environ.get("MX_REQUIRE"):
                pytest.fail(f"{name} is not installed")
            pytest.skip(f"{name} is not installed")
        return Path(spec.submodule_search_locations[0])

    return find
