"""What the tests of the ExecuTorch target share: the models of nets.py, and artifacts of them."""

from pathlib import Path

import pytest
from modelexport.testing import beside

NETS = Path(__file__).parent / "nets.py"


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="session")
def nets(torch):
    return beside(__file__, "nets")


@pytest.fixture(scope="session")
def make(torch, tmp_path_factory):
    """Export a module, unverified: `make(module, "x:float32[2]", backend="portable") -> Artifact`."""
    import modelexport
    from modelexport import Source

    def export(module, *inputs, verify=False, outputs=(), progress=None, **options):
        source = Source(module.eval(), inputs=inputs, outputs=outputs)
        texts = {key.replace("_", "-"): str(value).lower() for key, value in options.items()}
        place = tmp_path_factory.mktemp("made")
        told = {} if progress is None else {"progress": progress}
        (artifact,) = modelexport.export(source, "executorch", place, options=texts, verify=verify, **told)
        return artifact

    return export


@pytest.fixture(scope="session")
def image():
    """The declaration of what `nets.Cnn` takes."""
    return "image:float32[batch=1..64,3,16,16]"


@pytest.fixture(scope="session")
def cnn(make, nets, image):
    return make(nets.Cnn(), image, bundle=True, etrecord=True)


@pytest.fixture(scope="session")
def answers():
    """The outputs of an artifact by name: `answers(artifact, x=array)`."""
    from modelexport import api

    def call(artifact, **inputs):
        with api.run(artifact.path) as session:
            return session(inputs)

    return call
