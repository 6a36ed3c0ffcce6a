"""What the files mean, by their own definition, is what ModelOpt simulates and what the model was."""

import numpy as np
import pytest

FORMATS = ("fp8", "nvfp4", "int4-awq", "w8a8-smoothquant")


@pytest.fixture(autouse=True)
def _modelopt():
    pytest.importorskip("modelopt")


@pytest.mark.parametrize("name", ["fp8", "w8a8-smoothquant"])
def test_the_files_mean_what_modelopt_simulates(name, tmp_path, torch, tiny):
    """Our reading of the files, which knows nothing of ModelOpt, against ModelOpt's own simulation in memory.

    For the other two formats there is none to compare with: on a CPU it refuses nvfp4, and writing int4-awq
    smooths layers that share their input once more.
    """
    from modelexport_tensorrt_llm import backend, formats, model, modelopt

    folder = tiny.llama(tmp_path / "float", "float32")
    recipe = modelopt.Recipe(formats.FORMATS[name], "fp8")
    ids = torch.from_numpy(np.concatenate([sample["input_ids"] for sample in tiny.samples()]))
    with backend.silenced():
        simulated = modelopt.pretrained(folder, "auto")
        before = model.logits(simulated, ids, None)
        modelopt.calibrate(simulated, recipe, tiny.samples())
        wanted = model.logits(simulated, ids, None)
    modelopt.write(folder, tmp_path / "out", recipe, tiny.samples())
    got = model.logits(model.load(tmp_path / "out", "fp8"), ids, None)
    lost, apart = (wanted - before).abs().amax(dim=-1), (got - wanted).abs().amax(dim=-1)
    assert lost.median() > 0.05
    # a value halfway between two steps may go either way, and takes all tokens after it along; the others agree
    assert (apart < 1e-5).float().mean() > 0.3
    assert apart.mean() < 0.2 * lost.mean()


#: format → how far a weight may be from its quantized self, in steps of the scale: half the widest gap of the
#: format's numbers; for nvfp4 also what is cut off where the scale of a block was rounded down
STEPS = {"fp8": 16.0, "nvfp4": 1.0 + 6 / 16, "int4-awq": 0.5, "w8a8-smoothquant": 0.5}


@pytest.mark.parametrize("name", FORMATS)
def test_every_weight_is_within_half_a_step_of_what_it_was(name, tmp_path, torch, tiny):
    """What a layer multiplies its input by, the factors before it and in the norm before it counted."""
    from modelexport_tensorrt_llm import dequantize, formats, modelopt

    folder = tiny.llama(tmp_path / "float", "float32")
    recipe = modelopt.Recipe(formats.FORMATS[name])
    modelopt.write(folder, tmp_path / "out", recipe, tiny.samples())
    before, after = tiny.stored(folder), tiny.stored(tmp_path / "out")
    names = dequantize.names(after)
    assert len(names) == 14
    norms = {"q": "input", "k": "input", "v": "input", "gate": "post_attention", "up": "post_attention"}
    for layer in names:
        read = dequantize.layer(after, layer, formats.FORMATS[name].algorithm).weight
        wanted, scale = before[f"{layer}.weight"], after[f"{layer}.weight_scale"].float()
        factor = after.get(f"{layer}.pre_quant_scale", torch.ones(wanted.shape[1]))
        if (norm := norms.get(layer.split(".")[-1].removesuffix("_proj"))) is not None:
            key = f"{layer.split('.self_attn')[0].split('.mlp')[0]}.{norm}_layernorm.weight"
            factor = factor * after[key] / before[key]
        if scale.ndim == 1:
            scale = scale[:, None]
        scale = scale * after.get(f"{layer}.weight_scale_2", torch.tensor(1.0))
        if scale.ndim == 2:
            scale = scale.repeat_interleave(wanted.shape[1] // scale.shape[1], dim=1)
        off = ((read - wanted / factor).abs() / scale).max()
        assert off <= STEPS[name] * 1.001, layer
        assert off > STEPS[name] * 0.3, layer
