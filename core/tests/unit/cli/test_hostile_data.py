"""Files of data that strangers made: each is refused in one line, at once and in little memory."""

import json
import shutil
import warnings

import pytest

from core.tests.fuzz import evil
from core.tests.fuzz.bounds import bounded
from core.tests.unit.cli.conftest import ARTIFACT, INPUT

pytestmark = [
    pytest.mark.usefixtures("toys"),
    pytest.mark.skipif(not hasattr(__import__("os"), "mkfifo"), reason="needs FIFOs"),
]


def table(kinds):
    return pytest.mark.parametrize("kind", kinds, ids=lambda kind: kind.replace(" ", "-"))


@pytest.fixture
def refused(mx):
    """Run a command that must end with one line and a hint, within bounds of time and memory."""

    def run(arguments, *codes):
        with bounded(), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            result = mx(*arguments)
        assert result.error, arguments
        assert result.hint, result.err
        assert "internal error" not in result.err
        assert "out of memory" not in result.err
        assert len(result.err) < 4000
        assert result.code in codes, result.err
        assert not [each for each in warned if each.category not in (DeprecationWarning, ResourceWarning)]
        return result

    return run


def evil_file(tmp_path, name, make):
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / name
    make(path)
    return path


# --------------------------------------------------------------------------------------- arrays


@table(evil.NPZ)
def test_every_reader_of_a_npz_refuses_it(refused, artifact, nets, tmp_path, kind):
    path = evil_file(tmp_path, "x.npz", evil.NPZ[kind])
    refused(["run", artifact, "--input", path], INPUT)
    refused(["benchmark", artifact, "--input", path], INPUT)
    refused(["export", nets("two", "two"), "-t", "tape", "-o", tmp_path / "out", "--sample", path], INPUT)
    refused(["quantize", artifact, "-o", tmp_path / "q", "--calibration", path], INPUT)


#: but for what takes a minute to hash, as any file of an artifact that is so large
GOLDEN = [kind for kind in evil.NPZ if kind != "8 GB of one file"]


@table(GOLDEN)
def test_every_reader_of_golden_data_refuses_it(refused, copy, tmp_path, kind):
    golden = copy / "golden.npz"
    golden.unlink()
    evil.NPZ[kind](golden)
    trust(copy, "golden.npz")
    refused(["verify", copy], ARTIFACT)


def trust(artifact, name):
    """The manifest says that the file is what was written."""
    from modelexport.store.digests import sha256

    files = json.loads((artifact / "manifest.json").read_text())["files"]
    entry = {"path": name, "size": (artifact / name).stat().st_size, "sha256": sha256(artifact / name)}
    change(artifact, files=[*(each for each in files if each["path"] != name), entry])


def change(artifact, **values):
    file = artifact / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@table(evil.NPY)
def test_a_npy_is_refused(refused, artifact, rounded, tmp_path, kind):
    path = tmp_path / "x.npy"
    path.write_bytes(evil.NPY[kind])
    refused(["run", artifact, "--input", f"x={path}", "--input", "ids=1"], INPUT)
    refused(["quantize", rounded / "net.rounder", "-o", tmp_path / "q", "--calibration", path], INPUT)


@table(evil.PLACES)
def test_what_is_no_regular_file_is_no_data(refused, artifact, nets, tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for suffix in (".npz", ".npy", ".jsonl", ".csv", ".txt", ".json"):
        path = evil_file(tmp_path, f"x{suffix}", evil.PLACES[kind])
        if suffix != ".json":
            refused(["quantize", artifact, "-o", tmp_path / "q", "--calibration", path], INPUT)
        if suffix in (".json", ".npz"):
            refused(["run", artifact, "--input", path], INPUT)
    refused(["run", artifact, "--input", "ids=1", "--input", f"x={tmp_path / 'x.npy'}"], INPUT)
    path = tmp_path / "x.npz"
    refused(["benchmark", artifact, "--input", path], INPUT)
    refused(["export", nets("two", "two"), "-t", "tape", "-o", tmp_path / "out", "--sample", path], INPUT)


@table([kind for kind in evil.PLACES if kind != "circle"])  # which the manifest's reader finds
def test_what_is_no_regular_file_is_no_golden_data(refused, copy, kind, monkeypatch):
    monkeypatch.chdir(copy)
    (copy / "golden.npz").unlink()
    evil.PLACES[kind](copy / "golden.npz")
    refused(["verify", copy], ARTIFACT)


# --------------------------------------------------------------------------------------- tables


@pytest.fixture(scope="module")
def reader(toys, artifact, tmp_path_factory):
    """An artifact that takes texts: the good tape, with a tokenizer said to be its own."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    place = shutil.copytree(artifact, tmp_path_factory.mktemp("reader") / "reader.tape")
    text = {"tokenizer": "processing/tokenizer.json", "pad_id": 0, "inputs": {"x": "ids", "ids": "ids"}}
    change(place, processing={"text": text})
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    (place / "processing").mkdir()
    tokenizer.save(str(place / "processing" / "tokenizer.json"))
    trust(place, "processing/tokenizer.json")
    return place


@pytest.fixture(scope="module")
def viewer(toys, nets, tmp_path_factory):
    """An artifact that takes images of any size, and resizes them by their shortest edge."""
    import modelexport

    (made,) = modelexport.export(nets("pictures", "viewer"), "tape", tmp_path_factory.mktemp("viewer"))
    return made.path


TABLES = [
    *((".txt", kind, make) for kind, make in evil.TEXTS.items()),
    *((".jsonl", kind, make) for kind, make in (evil.TEXTS | evil.JSONL).items()),
    *((".csv", kind, make) for kind, make in (evil.TEXTS | evil.CSV).items()),
]


@pytest.mark.parametrize(
    ("suffix", "kind", "make"), TABLES, ids=[f"{s[1:]}-{k}".replace(" ", "-") for s, k, _ in TABLES]
)
def test_a_table_is_refused(refused, artifact, tmp_path, suffix, kind, make):
    path = evil_file(tmp_path, f"x{suffix}", make)
    refused(["quantize", artifact, "-o", tmp_path / "q", "--calibration", path], INPUT)
    if suffix != ".txt":
        refused(["quantize", artifact, "-o", tmp_path / "q", "--calibration", path, "--column", "text"], INPUT)


# --------------------------------------------------------------------------------------- texts


LONG = {
    "a long text": "a " * 600_000,
    "a long word": "a" * 1_000_001,
    "a surrogate": "a \ud800",
    "an escaped byte": "a \udcff",
}


@table(LONG)
def test_a_text_is_refused(refused, reader, kind):
    refused(["run", reader, "--text", LONG[kind]], INPUT)
    refused(["run", reader, "--text", "a", "--context", LONG[kind]], INPUT)


# --------------------------------------------------------------------------------------- images


@table(evil.IMAGES)
def test_an_image_is_refused(refused, viewer, tmp_path, kind):
    path = evil_file(tmp_path / "images", "x.png", evil.IMAGES[kind])
    refused(["run", viewer, "--image", path], INPUT)
    refused(["quantize", viewer, "-o", tmp_path / "q", "--calibration", path.parent], INPUT)


@table(evil.PLACES)
def test_what_is_no_regular_file_is_no_image(refused, viewer, tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(["run", viewer, "--image", evil_file(tmp_path, "x.png", evil.PLACES[kind])], INPUT)


@table(evil.ODD_IMAGES)
def test_an_unusual_image_is_taken(mx, viewer, tmp_path, kind):
    path = evil_file(tmp_path, "x.png", evil.ODD_IMAGES[kind])
    with bounded():
        result = mx("run", viewer, "--image", path)
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize("size", [(1, 80_000), (80_000, 1)])
def test_an_image_is_not_made_larger_than_a_model_takes(refused, viewer, tmp_path, size):
    """By its shortest edge, a line of pixels would be resized to gigabytes."""
    from PIL import Image

    Image.new("L", size).save(tmp_path / "x.png")
    assert "24000000" in refused(["run", viewer, "--image", tmp_path / "x.png"], INPUT).error


def test_what_lies_among_images_is_passed_by(mx, viewer, tmp_path):
    from modelexport import load
    from modelexport.data.samples import open_samples

    folder = tmp_path / "images"
    deep = folder.joinpath(*("d" * 60))
    deep.mkdir(parents=True)
    evil.drawn("PNG")(deep / "x.png")
    evil.fifo(folder / "fifo.png")
    evil.circle(folder / "circle.png")
    evil.device(folder / "device.png")
    (folder / "round").symlink_to(folder)
    with bounded():
        assert [row.where for row in open_samples(load(viewer), folder).rows.read([0])] == [str(deep / "x.png")]


def test_the_entries_of_a_folder_are_bounded(refused, viewer, tmp_path, monkeypatch):
    monkeypatch.setattr("modelexport.regular.ENTRIES", 3)
    for index in range(4):
        evil.drawn("PNG")(tmp_path / f"{index}.png")
    assert "more than 3 entries" in refused(["quantize", viewer, "--calibration", tmp_path], INPUT).error
