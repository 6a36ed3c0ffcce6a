"""`--weights`: a state dict in every form that is read, laid over the module of a factory."""

import json

import modelexport
import numpy as np
import pytest
from modelexport.errors import SourceError

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)


@pytest.fixture
def capture(nets, tmp_path):
    """Export a factory's module, or another source, with these weights."""

    def export(weights=None, source=None):
        source = source or nets("sources", "with_tuple")
        (made,) = modelexport.export(source, "captured", tmp_path / "out", verify=False, weights=weights)
        return made

    return export


def constant(value):
    import torch

    return {"weight": torch.full((3, 4), float(value)), "bias": torch.zeros(3)}


def shards(folder, save, suffix):
    """Two files and the index that names them, as Hugging Face writes them."""
    state, index = constant(5), {}
    for number, (name, tensor) in enumerate(state.items(), 1):
        index[name] = f"model-{number}-of-2{suffix}"
        save({name: tensor}, folder / index[name])
    file = folder / f"model{suffix}.index.json"
    file.write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return file


def written(kind, folder):
    import torch
    from safetensors.torch import save_file

    file = folder / "weights.pt"
    if kind == "safetensors":
        save_file(constant(5), folder / "w.safetensors")
        return folder / "w.safetensors"
    if kind == "safetensors index":
        return shards(folder, save_file, ".safetensors")
    if kind == "torch index":
        return shards(folder, torch.save, ".bin")
    if kind == "folder":
        return shards(folder, save_file, ".safetensors").parent
    nested = {"state dict": constant(5), "checkpoint": {"epoch": 3, "state_dict": constant(5)}}
    torch.save(nested[kind], file)
    return file


KINDS = ["safetensors", "safetensors index", "torch index", "folder", "state dict", "checkpoint"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.replace(" ", "-"))
def test_weights_are_laid_over_the_factorys_module(capture, tmp_path, kind):
    with modelexport.run(capture(written(kind, tmp_path)).path) as session:
        got = session({"input": X})["output"]
    assert np.allclose(got, 5 * X.sum(1, keepdims=True).repeat(3, 1), atol=1e-5)


def test_weights_change_the_fingerprint(capture, tmp_path):
    plain, again, other = (
        capture(weights).lineage[0].source["fingerprint"]
        for weights in (None, None, written("safetensors", tmp_path))
    )
    assert plain == again != other


def test_weights_for_a_program_are_refused(capture, tmp_path):
    import torch

    program = torch.export.export(torch.nn.Linear(4, 3), (torch.zeros(2, 4),))
    torch.export.save(program, tmp_path / "model.pt2")
    with pytest.raises(SourceError, match="has its own"):
        capture(written("safetensors", tmp_path), source=tmp_path / "model.pt2")


def test_a_shard_outside_the_folder_is_refused(capture, tmp_path):
    file = tmp_path / "model.safetensors.index.json"
    file.write_text(json.dumps({"weight_map": {"weight": "../elsewhere.safetensors"}}))
    with pytest.raises(SourceError, match="outside its folder"):
        capture(file)
