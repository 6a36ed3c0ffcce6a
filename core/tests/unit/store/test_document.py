"""Everything that a manifest says is read by one schema, and its files are those that it lists."""

import copy
import json
import os
import shutil
from pathlib import Path

import modelexport
import pytest
from modelexport.contract.parity import PRECISIONS
from modelexport.errors import ArtifactError
from modelexport.gate.budgets import BUDGETS
from modelexport.store import manifest, schema

OLD = Path(__file__).parents[2] / "data" / "artifacts_of_0_1_0" / "quantized.rounder"
DATA = json.loads((OLD / "manifest.json").read_text(encoding="utf-8"))

TEXT = {"tokenizer": "processing/tokenizer.json", "inputs": {"x": "ids"}, "pad_id": 0}
IMAGE = {"input": "x", "size": [4, 4], "crop": None, "resample": "bicubic", "rescale": None, "mean": [0.5],
         "std": [0.5], "color": "RGB", "layout": "NCHW"}  # fmt: skip


def put(way, value):
    """The old manifest with `value` at `way`."""
    data = copy.deepcopy(DATA)
    *holders, last = [int(step) if step.isdigit() else step for step in way.split(".")]
    holder = data
    for step in holders:
        holder = holder[step]
    holder[last] = value
    return data


@pytest.mark.parametrize(
    ("way", "value", "said"),
    [
        ("entry", "/dev/zero", "entry: expected a path"),
        ("precision", "int3", "precision: expected one of float64, "),
        ("format", "../x", "format: expected a name"),
        ("dims.batch", {"min": 5, "max": 4, "multiple": 1}, "dims.batch: expected a size between min and max"),
        ("dims.batch", {"min": 5, "max": 7, "multiple": 8}, "dims.batch: expected a size between min and max"),
        ("dims.batch.max", 2**63, "dims.batch.max: expected a whole number of at most 64 bits"),
        ("dims.batch.multiple", 0, "dims.batch.multiple: expected 1 or more"),
        ("inputs.0.shape.1", -1, r"inputs\[0\].shape\[1\]: expected 0 or more"),
        ("inputs.0.shape.0", "nobody", r"inputs\[0\].shape\[0\]: expected the name of one of dims"),
        ("inputs.0.shape", [1] * 65, r"inputs\[0\].shape: expected at most 64 axes"),
        ("inputs.0.dtype", "object", r"inputs\[0\].dtype: expected one of float16, "),
        ("inputs.0.values", [2, 1], r"inputs\[0\].values: expected low before high"),
        ("outputs.1.name", "scores", "outputs: expected names that differ"),
        ("verified", 1, "verified: expected true or false or one of structure"),
        ("parity.outputs.0.used", "much", r"parity.outputs\[0\].used: expected a finite number"),
        ("lineage.0.source.fingerprint", "x", r"lineage\[0\].source.fingerprint: expected a sha256"),
        ("lineage.1.source.goal", 1, r"lineage\[1\].source.goal: expected an object"),
        ("lineage.0.options", [1], r"lineage\[0\].options: expected an object"),
        ("details.quantization.layers", [{}], r"layers\[0\].name: expected a value"),
        ("details.layers", [{"name": "a", "kind": "b"}], r"layers\[0\].precision: expected a value"),
        ("details.stands_in", {"format": "x", "entry": "../y"}, "stands_in.entry: expected a path"),
        ("details.notes", "one", "notes: expected a list"),
        ("files.0.size", -1, r"files\[0\].size: expected 0 or more"),
        ("files.0.sha256", "0", r"files\[0\].sha256: expected a sha256"),
        ("files.0.path", "manifest.json", "files: expected paths that differ in more than case"),
        ("processing.text", {**TEXT, "tokenizer": "/etc/hostname"}, "processing.text.tokenizer: expected a path"),
        ("processing.text", {**TEXT, "pad_id": 2**40}, "processing.text.pad_id: expected a token's number"),
        ("processing.text", {**TEXT, "truncation_side": "up"}, "processing.text.truncation_side: expected one of"),
        ("processing.image", {**IMAGE, "size": [10**9, 9]}, r"processing.image.size\[0\]: expected 1 to 16384"),
        ("processing.image", {**IMAGE, "std": [0]}, "processing.image.std: expected numbers other than 0"),
        ("processing.image", {**IMAGE, "mean": [1, 2]}, "processing.image: expected a mean and a std"),
        ("processing.camera", {}, "expected one of the keys task, text, image, "),
        ("extra", 1, "expected one of the keys schema, format, "),
    ],
)  # fmt: skip
def test_what_the_schema_does_not_allow_is_refused_with_its_place(way, value, said):
    with pytest.raises(ArtifactError, match=said):
        schema.from_json(put(way, value), OLD)


def test_files_that_differ_in_case_alone():
    data = copy.deepcopy(DATA)
    data["files"].append({**data["files"][0], "path": data["files"][0]["path"].upper()})
    with pytest.raises(ArtifactError, match="files: expected paths that differ in more than case"):
        schema.from_json(data, OLD)


def test_there_is_a_budget_for_every_precision_that_a_manifest_may_have():
    assert tuple(BUDGETS) == PRECISIONS


@pytest.fixture
def place(tmp_path):
    return shutil.copytree(OLD, tmp_path / "a.rounder")


def write(place, data):
    (place / "manifest.json").write_text(json.dumps(data), encoding="utf-8")


@pytest.mark.parametrize("path", ["x" * 300, "/dev/null/x", "nothing"])
def test_a_path_where_no_artifact_can_be(path):
    assert not manifest.is_in(Path(path))
    with pytest.raises(ArtifactError, match="no artifact at"):
        manifest.read(path)


@pytest.mark.parametrize("way", ["entry", "details.stands_in", "processing.text"])
def test_what_the_manifest_names_must_be_among_its_files(way, place):
    (place / "other").write_text("here", encoding="utf-8")
    value = {"entry": "other", "details.stands_in": {"format": "tape", "entry": "other"}}.get(
        way, {**TEXT, "tokenizer": "other"}
    )
    write(place, put(way, value))
    with pytest.raises(ArtifactError, match="names 'other', which is not among its files"):
        manifest.read(place, check_files=False)


@pytest.mark.parametrize("name", ["source/captured.pt2", "processing/tokenizer.json", "deep/er/x"])
def test_files_in_folders_that_are_not_listed(name, place):
    (place / name).parent.mkdir(parents=True)
    (place / name).write_bytes(b"x")
    with pytest.raises(ArtifactError, match=f"{name} is not among the files of the manifest"):
        modelexport.load(place)


def test_golden_data_that_is_not_listed(place):
    data = copy.deepcopy(DATA)
    data["files"] = [file for file in data["files"] if file["path"] != "golden.npz"]
    write(place, data)
    with pytest.raises(ArtifactError, match=r"golden\.npz is not among the files"):
        modelexport.load(place)


def test_notes_beside_the_manifest_and_hidden_folders_are_let_be(place):
    (place / "README.md").write_text("mine", encoding="utf-8")
    (place / ".cache").mkdir()
    (place / ".cache" / "x").write_text("mine", encoding="utf-8")
    assert modelexport.load(place).format == "rounder"


def test_hard_links_are_files_like_others(place, tmp_path):
    os.link(place / "model.npz", tmp_path / "other")
    assert modelexport.load(place).format == "rounder"


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "loop", "outside"])
def test_a_listed_file_that_is_no_file(kind, place, tmp_path):
    model = place / "model.npz"
    model.rename(tmp_path / "model.npz")
    {
        "fifo": lambda: os.mkfifo(model),
        "device": lambda: model.symlink_to("/dev/zero"),
        "folder": model.mkdir,
        "loop": lambda: model.symlink_to("model.npz"),
        "outside": lambda: model.symlink_to(tmp_path / "model.npz"),
    }[kind]()
    with pytest.raises(ArtifactError, match=r"is no regular file|outside the artifact|Too many levels"):
        modelexport.load(place)


@pytest.mark.parametrize(
    ("name", "said"),
    [("x" * 300, "File name too long"), ("a/b", "is missing"), ("model.npz/b", "is missing"), ("ü", "is missing")],
)
def test_a_listed_file_that_can_not_be(name, said, place):
    data = copy.deepcopy(DATA)
    data["files"].append({"path": name, "size": 1, "sha256": "0" * 64})
    write(place, data)
    with pytest.raises(ArtifactError, match=said):
        modelexport.load(place)


@pytest.mark.parametrize("name", ["extra.data", "notes/pipe"])
def test_a_fifo_beside_the_files(name, place):
    (place / name).parent.mkdir(exist_ok=True)
    os.mkfifo(place / name)
    with pytest.raises(ArtifactError, match="is no regular file"):
        modelexport.load(place)


@pytest.mark.parametrize(
    "text",
    [
        '{"schema": 1, "schema": 1}',
        '{"schema": NaN}',
        '{"schema": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"schema": ' + "9" * 10_000 + "}",
        '{"format": "\\ud800"}',
        "[]",
        "null",
        "",
    ],
)
def test_text_that_is_no_manifest(text, place):
    (place / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"manifest\.json (is|has)"):
        modelexport.load(place)
