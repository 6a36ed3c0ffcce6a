"""`--weights`: a state dict in every form that is read, laid over the module of a factory."""

import json
import os
import zipfile

import modelexport
import numpy as np
import pytest
from modelexport.errors import SourceError, UnsafeFileError

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


# --------------------------------------------------------------------------------------- files of strangers


class Bomb:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize("name", ["weights.pt", "weights.bin", "weights.pth", "weights.ckpt"])
def test_pickles_are_not_run(name, capture, tmp_path):
    import torch

    torch.save(Bomb(tmp_path / "lit"), tmp_path / name)
    with pytest.raises(UnsafeFileError, match="only be read by unpickling") as caught:
        capture(tmp_path / name)
    assert "--allow-pickle" in caught.value.hint
    assert not (tmp_path / "lit").exists()


def test_an_archive_packed_beyond_measure_is_not_unpacked(capture, tmp_path):
    import torch

    torch.save({"weight": torch.zeros(50_000_000)}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "packed.pt", "w", compression=zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(SourceError, match=r"would take 2000\d+ bytes, packed into"):
        capture(tmp_path / "packed.pt")


@pytest.mark.parametrize("name", ["pipe.pt", "pipe.safetensors", "pipe.safetensors.index.json"])
def test_a_pipe_is_not_waited_for(name, capture, tmp_path):
    os.mkfifo(tmp_path / name)
    with pytest.raises(SourceError, match="is a FIFO"):
        capture(tmp_path / name)


@pytest.mark.parametrize(
    "index",
    ["[" * 200_000, "[]", "{}", '{"weight_map": 1}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": ["b"]}}']
    + [f'{{"weight_map": {{"a": "{name}"}}}}' for name in ("../x.pt", "/x.pt", "w.index.json", "")],
)
def test_an_index_names_files_beside_it(index, capture, tmp_path):
    (tmp_path / "w.index.json").write_text(index)
    with pytest.raises(SourceError, match=r"w\.index\.json|is a folder"):
        capture(tmp_path / "w.index.json")


@pytest.mark.parametrize(
    "header", [b"\xff" * 8, (1 << 62).to_bytes(8, "little"), b"\x08" + bytes(7) + b'{"a":1}}', b""]
)
def test_headers_of_safetensors_are_bounded(header, capture, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(header)
    with pytest.raises(SourceError, match="is damaged"):
        capture(tmp_path / "w.safetensors")
