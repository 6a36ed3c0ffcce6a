"""Quantized ExecuTorch programs: how close they stay, what is left in float32, and why."""

import modelexport
import numpy as np
import pytest
import torch
from modelexport import Source, api
from modelexport.errors import OptionError
from torch import nn


def trained_like(module):
    """Weights and statistics that spread as those of trained nets do."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-2, 2)
            part.running_var.uniform_(0.05, 8)
    return module.eval()


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        parts = []
        for wide in (3, 16, 16, 16):
            parts += [nn.Conv2d(wide, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU6()]
        self.body, self.head = nn.Sequential(*parts), nn.Linear(16, 10)

    def forward(self, image):
        return self.head(self.body(image).mean((2, 3), keepdim=True).flatten(1))


class Words(nn.Module):
    """A transformer's beginning: positions are computed with whole numbers, as BERT's are."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.places = nn.Embedding(50, 32), nn.Embedding(40, 32)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0)
        self.head = nn.Linear(32, 8)

    def forward(self, ids):
        places = torch.arange(ids.shape[1]) + 2
        return self.head(self.layer(self.words(ids) + self.places(places)))


@pytest.fixture(scope="module")
def cnn(tmp_path_factory):
    source = Source(trained_like(Cnn()), inputs=("image:float32[batch=1..8,3,16,16]",))
    (made,) = modelexport.export(source, "executorch", tmp_path_factory.mktemp("cnn"), verify=False)
    return made


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    source = Source(Words().eval(), inputs=("ids:int64[batch=1..4,length=2..16]=0..49",))
    (made,) = modelexport.export(source, "executorch", tmp_path_factory.mktemp("words"), verify=False)
    return made


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(path, image=np.random.default_rng(0).standard_normal((64, 3, 16, 16)).astype(np.float32))
    return path


def report(artifact):
    return artifact.quantization_report()


def precisions(artifact):
    return {layer.name: layer.precision for layer in report(artifact).layers}


@pytest.mark.slow
def test_static_on_calibration_data(cnn, images, tmp_path):
    made = modelexport.quantize(cnn.path, tmp_path / "out", calibration=images)
    found = report(made)
    assert (found.mode, found.calibrated, made.precision) == ("static", True, "int8")
    assert set(precisions(made).values()) == {"int8"} and len(found.layers) == 5
    assert made.details["delegated"]["share"] > 0.9
    assert found.score.drop < 0.005  # 0.03 where ReLU6 is rounded before it clamps
    assert made.entry_path.stat().st_size < 0.6 * cnn.entry_path.stat().st_size


def test_without_data_the_report_warns(cnn, tmp_path):
    made = modelexport.quantize(cnn.path, tmp_path / "out", verify=False)
    assert not report(made).calibrated
    assert any("--calibration" in line for line in report(made).warnings)


def test_layers_can_be_left_out(cnn, images, tmp_path):
    made = modelexport.quantize(
        cnn.path, tmp_path / "out", calibration=images, options={"exclude": "body.0,he*"}, verify=False
    )
    left = {layer.name: layer.note for layer in report(made).layers if layer.precision == "float32"}
    assert left == {"body.0": "excluded", "head": "excluded"}


@pytest.mark.slow
def test_layers_are_left_until_the_goal_holds(cnn, images, tmp_path):
    first = modelexport.quantize(cnn.path, tmp_path / "first", calibration=images, verify=False)
    budget = report(first).score.drop / 2
    made = modelexport.quantize(cnn.path, tmp_path / "out", calibration=images, max_drop=budget, verify=False)
    found = report(made)
    assert found.score.drop <= budget
    assert found.trials[-1].verdict == "kept" and found.trials[-1].left
    assert "float32" in precisions(made).values() and "int8" in precisions(made).values()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_positions_stay_whole_numbers(words, tmp_path, mode):
    """XNNPACK's quantizer makes floats of the numbers added to them, which no table can be asked for."""
    made = modelexport.quantize(words.path, tmp_path / "out", options={"mode": mode})
    kinds = {layer.name: (layer.kind, layer.precision) for layer in report(made).layers}
    assert kinds["head"] == ("linear", "int8")
    assert kinds["words"] == ("embedding", "float32")
    assert made.parity.verified is True


def test_auto_is_dynamic_for_a_transformer(words, tmp_path):
    assert report(modelexport.quantize(words.path, tmp_path / "out", verify=False)).mode == "dynamic"


@pytest.mark.slow
def test_four_bits_in_groups(words, tmp_path):
    made = modelexport.quantize(words.path, tmp_path / "out", options={"mode": "dynamic", "bits": "4"})
    assert made.precision == "int4"
    assert precisions(made)["head"] == "int4 weights"
    assert made.parity.verified is True
    with api.run(made.path) as session:
        assert session({"ids": np.ones((4, 16), np.int64)})["output"].shape == (4, 16, 8)


def test_it_takes_the_captured_program(tmp_path):
    source = Source(nn.Linear(3, 2), inputs=("input:float32[2,3]",))
    (made,) = modelexport.export(source, "executorch", tmp_path, options={"keep-program": "false"}, verify=False)
    assert not (made.path / "source").exists()
    with pytest.raises(OptionError, match="captured program") as error:
        modelexport.quantize(made.path, tmp_path / "out")
    assert "keep-program" in error.value.hint


@pytest.mark.parametrize(
    ("options", "said"),
    [({"mode": "static", "bits": "4"}, "4-bit"), ({"bits": "4", "group-size": "20"}, "groups of 20")],
)
def test_what_xnnpack_lacks_is_refused(words, tmp_path, options, said):
    with pytest.raises(OptionError, match=said):
        modelexport.quantize(words.path, tmp_path / "out", options=options)
