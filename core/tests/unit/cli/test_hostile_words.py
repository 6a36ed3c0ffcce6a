"""Paths, names and numbers on the command line that lead nowhere: refused in one line, before any work."""

import os
from pathlib import Path

import numpy as np
import pytest
from modelexport.errors import ArtifactError, InputError, OutputError, SourceError

from core.tests.fuzz import evil
from core.tests.fuzz.bounds import bounded
from core.tests.unit.cli.conftest import ARTIFACT, INPUT, OPTION, OUTPUT, SOURCE

pytestmark = pytest.mark.usefixtures("toys")


def table(kinds):
    return pytest.mark.parametrize("kind", kinds, ids=lambda kind: kind.replace(" ", "-"))


@pytest.fixture
def says(mx, tmp_path, monkeypatch):
    """Run a command that must end with one line and a hint, and leave nothing behind."""
    monkeypatch.chdir(tmp_path)

    def run(arguments, *codes):
        before = sorted(os.listdir(tmp_path))
        with bounded():
            result = mx(*arguments)
        assert result.error, arguments
        assert result.hint, result.err
        assert "internal error" not in result.err
        assert "out of memory" not in result.err
        assert len(result.err) < 6000
        assert result.code in codes, result.err
        assert sorted(os.listdir(tmp_path)) == before
        return result

    return run


# --------------------------------------------------------------------------------------- paths

WORDS = {
    "nothing": "",
    "300 characters": "a" * 300,
    "300 characters of a folder": f"{'a' * 300}/b",
    "5000 characters": "a/" * 2500 + "a",
    "a surrogate": "a\ud800b",
    "an escaped byte": "a\udcffb",
    "NUL": "a\0b",
    "lines": "a\nb\x1b[2Jc",
}

#: those that can stand on a command line
SPELLED = [kind for kind in WORDS if kind not in ("a surrogate", "NUL")]

#: suffixes that lead to different readers
SOURCES = ("", ".pt2", ".tape", ".py:f", ".safetensors", ".onnx")


@table(WORDS)
def test_a_word_is_no_source(says, artifact, nets, kind):
    word = WORDS[kind]
    for suffix in SOURCES:
        says(["export", word + suffix, "-t", "tape"], SOURCE)
    says(["benchmark", artifact, "--baseline", f"{word}.py:f"], SOURCE)
    says(["verify", artifact, "--source", f"{word}.py:f"], SOURCE)
    says(["export", nets("two", "two"), "-t", "tape", "--register", word], SOURCE)
    if word and kind in SPELLED:
        says(["benchmark", artifact, "--baseline", word], SOURCE)
        says(["export", nets("two", "two"), "-t", "tape", "--weights", f"{word}.safetensors"], SOURCE)


@table(WORDS)
def test_a_word_is_no_data_and_no_option(says, artifact, nets, kind):
    word = WORDS[kind]
    for suffix in (".npz", ".npy", ".txt", ".jsonl", ".csv", ".py:f", ""):
        says(["quantize", artifact, "--calibration", word + suffix], INPUT)
    says(["quantize", artifact, "--evaluate", f"{word}.py:f"], OPTION)
    says(["export", nets("two", "two"), "-t", "tape", "-k", f"licence={word}"], OPTION)
    if word and kind in SPELLED:
        says(["run", artifact, "--input", f"{word}.npz"], INPUT)
        says(["run", artifact, "--input", f"{word}.json"], INPUT)
        says(["run", artifact, "--input", "ids=1", "--input", f"x={word}.npy"], INPUT)
        says(["benchmark", artifact, "--input", f"{word}.npz"], INPUT)
        says(["export", nets("two", "two"), "-t", "tape", "--sample", f"{word}.npz"], INPUT)


@table([kind for kind in SPELLED if kind not in ("nothing", "lines")])
def test_a_word_is_no_artifact_and_no_place(says, artifact, rounded, nets, kind):
    word = WORDS[kind]
    for command in (["run", word, "--input", "x=1"], ["inspect", word], ["verify", word], ["benchmark", word]):
        says(command, ARTIFACT)
    says(["export", nets("two", "two"), "-t", "tape", "-o", word], OUTPUT)
    says(["quantize", rounded / "net.rounder", "-o", word], OUTPUT)
    says(["run", artifact, "--input", "x=1", "--input", "ids=1", "--output", f"{word}.npz"], OUTPUT)


@pytest.mark.parametrize("word", ["", "a\ud800b", "a\0b", "a" * 300, "a/" * 2500])
def test_paths_in_python_that_lead_nowhere(artifact, rounded, nets, tmp_path, word, monkeypatch):
    import modelexport

    monkeypatch.chdir(tmp_path)
    two, net = nets("two", "two"), rounded / "net.rounder"
    with pytest.raises(SourceError, match=r"can't read|no model"):
        modelexport.export(word, "tape")
    if word:
        with pytest.raises(OutputError, match="can't read"):
            modelexport.export(two, "tape", word)
        with pytest.raises(OutputError, match="can't read"):
            modelexport.quantize(net, word)
        with pytest.raises(SourceError, match="can't read"):
            modelexport.export(two, "tape", weights=word)
        with pytest.raises(InputError, match="can't read"):
            modelexport.export(two, "tape", sample=word)
        with pytest.raises(InputError, match="can't read"):
            modelexport.benchmark(artifact, input_file=word)
    with pytest.raises(InputError, match="can't read"):
        modelexport.quantize(net, calibration=word)
    with pytest.raises(ArtifactError, match="can't read"):
        modelexport.load(word)


@table([kind for kind in evil.PLACES if kind not in ("absent", "folder", "dangling")])
def test_what_is_no_regular_file_is_no_source(says, artifact, nets, tmp_path, kind):
    for suffix in (".pt2", ".tape", ".py", ".safetensors", ".pt", ""):
        place = tmp_path / f"x{suffix}"
        evil.PLACES[kind](place)
        ref = f"{place}:f" if suffix == ".py" else place
        says(["export", ref, "-t", "tape"], SOURCE)
        if suffix in (".safetensors", ".pt", ""):
            says(["export", nets("two", "two"), "-t", "tape", "--weights", place], SOURCE)
        says(["run", place, "--input", "x=1"], ARTIFACT)
        says(["export", nets("two", "two"), "-t", "tape", "-k", f"licence={place}"], OPTION)
    says(["export", nets("two", "two"), "-t", "tape", "-o", tmp_path / "x"], OUTPUT)
    says(["quantize", artifact, "-o", tmp_path / "x"], OUTPUT)


@table([kind for kind in evil.PLACES if kind not in ("absent", "dangling")])
def test_outputs_go_into_regular_files(says, artifact, tmp_path, kind):
    for suffix in (".npz", ".json"):
        place = tmp_path / f"x{suffix}"
        evil.PLACES[kind](place)
        says(["run", artifact, "--input", "x=1", "--input", "ids=1", "--output", place], OUTPUT)


def test_an_index_of_weights_that_leads_nowhere(says, nets, tmp_path):
    index = tmp_path / "x.index.json"
    for text in ("[" * 100_000, "[]", '{"weight_map": 1}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": []}}',
                 '{"weight_map": {"a": "x.index.json"}}', '{"weight_map": {"a": "../x"}}',
                 '{"weight_map": {"a": "gone"}}', '{"weight_map": {"a": "fifo"}}'):  # fmt: skip
        index.write_text(text)
        if not (tmp_path / "fifo").exists():
            evil.fifo(tmp_path / "fifo")
        says(["export", nets("two", "two"), "-t", "tape", "--weights", index], SOURCE)


# --------------------------------------------------------------------------------------- names

NAMES = [
    "", ".", "..", ".hidden", "a/b", "/a", "a\\b", "a\0b", "a\nb", "a\x1bb", "a\ud800", "a\udcff", "a\u200eb",
    "a" * 129, "ä" * 65, "CON", "nul.x", "Com1", "a:b", "a?", "a*", 'a"b', "a<b", "a|b", "a.", "a ",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:20])
def test_names_that_are_none(says, nets, name):
    says(["export", nets("two", "two"), "-t", "tape", "--name", name], OPTION)


@pytest.mark.parametrize("name", ["a" * 128, "ä" * 64, "a b", "конь", "-a", "con2", "a.b-c+d", "a=b", "50%"])
def test_names_that_are_some(mx, nets, tmp_path, name):
    result = mx("export", nets("two", "two"), "-t", "tape", "-o", tmp_path, f"--name={name}")
    assert (result.code, result.err) == (0, "")
    assert (tmp_path / f"{name}.tape" / "manifest.json").is_file()


def test_the_name_of_a_source_may_be_long(mx, tmp_path, nets):
    source = tmp_path / "two.py"
    text = Path(nets("two", "").removesuffix(":")).read_text(encoding="utf-8")
    source.write_text(text.replace("def two(", f"def {'a' * 300}("))
    result = mx("export", f"{source}:{'a' * 300}", "-t", "tape", "-o", tmp_path)
    assert (result.code, result.err) == (0, "")
    assert (tmp_path / f"{'a' * 128}.tape").is_dir()


# --------------------------------------------------------------------------------------- numbers

DIMS = [
    "10" * 15, "9" * 5000, "²", "٣", "0", "-1", "1.5", "0x10", "1_0", "batch=1..1" + "0" * 30,
    f"batch={'1' * 30}..", "batch=²..9", "batch=1..9/" + "9" * 30, "batch=9..1", "batch=1..²", "[" * 1000,
    "4294967296",
]  # fmt: skip

SPECS = [
    *(f"x:float32[{dim}]" for dim in DIMS),
    "x:float32[" + "4," * 2000 + "4]", "x:float32[" * 1000, "a" * 5000 + ":float32[2]", "x\x1b:float32[2]",
    "x\ud800:float32[2]", "x:float32[2]=1.2.3..4", "x:float32[2]=1..1e999", "x:float32[2]=-1e999..1",
    "x:float32[2]=..", "x:float32[2]=1e..2", "x:float32[2]=" + "1.." * 1300 + "x", "x:uint8[2]=0..300",
    "x:int64[2]=0..1e30", "x:int8[2]=-1000..0", "x:float32[2]=nan..1", "x:float99[2]",
    "x:" + "f" * 4000 + "[2]", "", "[]", ":", "x:float32[2",
]  # fmt: skip


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec[:30].encode("ascii", "replace").decode())
def test_declarations_that_are_none(says, nets, spec):
    says(
        ["export", nets("two", "Two"), "-t", "tape", "--input", spec, "--input", "ids:int64[batch,4]=0..9"], OPTION
    )


@pytest.mark.parametrize("shape", ["2147483647,2147483647", "2147483647,4", "batch=2147483647..,4", "65536,65536"])
def test_declarations_of_more_than_memory_holds(says, nets, shape):
    arguments = ["--input", f"x:float32[{shape}]", "--input", "ids:int64[batch,4]=0..9"]
    says(["export", nets("two", "Two"), "-t", "tape", *arguments], INPUT)


@pytest.mark.parametrize("dim", DIMS, ids=lambda dim: dim[:20])
def test_dims_that_are_none(says, artifact, nets, dim):
    says(["export", nets("two", "two"), "-t", "tape", "--dim", f"batch={dim}"], OPTION)
    if dim != "٣":  # which Python knows as 3
        says(["benchmark", artifact, "--dim", f"seq={dim}"], OPTION)


TOLERANCES = [
    "",
    "x",
    "-1",
    "nan",
    "inf",
    "1e999",
    "atol=inf",
    "atol=nan",
    "a=b",
    "atol=",
    "=1",
    "9" * 5000,
    "atol=1e400",
]


@pytest.mark.parametrize("tolerance", TOLERANCES[1:], ids=lambda text: text[:20])
def test_tolerances_that_are_none(says, artifact, nets, tolerance):
    says(["verify", artifact, "--tolerance", tolerance], OPTION)


NUMBERS = [
    (["quantize", "@", "--samples", "1" + "0" * 30], 6), (["quantize", "@", "--samples", "9" * 5000], 2),
    (["quantize", "@", "--seed", "-1"], 6), (["quantize", "@", "--max-drop", "nan"], 6),
    (["quantize", "@", "--max-drop", "1e999"], 6), (["benchmark", "@", "--seconds", "nan"], 6),
    (["benchmark", "@", "--seconds", "1e999"], 6), (["benchmark", "@", "--runs", "9" * 5000], 2),
    (["run", "@", "--input", "x=1", "--input", "ids=1", "-k", "threads=" + "9" * 5000], 6),
    (["run", "@", "--input", "ids=1", "--input", "x=" + "[" * 100_000], 9),
    (["run", "@", "--input", "ids=1", "--input", "x=" + "[" * 900 + "]" * 900], 9),
    (["run", "@", "--input", "ids=1", "--input", "x=" + "9" * 5000], 9),
    (["run", "@", "--input", "ids=1", "--input", 'x="\\ud800"'], 9),
    (["run", "@", "--input", "ids=1", "--input", 'x=["' + "a" * 60_000 + '",' + '"",' * 20_000 + "1]"], 9),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "code"), NUMBERS, ids=[" ".join(row)[:40] for row, _ in NUMBERS])
def test_numbers_that_are_none(says, artifact, rounded, arguments, code):
    data = ["--calibration", rounded / "x.npz"] if arguments[0] == "quantize" else []
    place = rounded / "net.rounder" if data else artifact
    says([place if word == "@" else word for word in arguments] + data, code)


def test_an_input_may_have_any_name(mx, tmp_path, nets):
    """numpy.savez keeps the name `file` for itself."""
    result = mx("export", nets("named", "named"), "-t", "tape", "-o", tmp_path)
    assert (result.code, result.err) == (0, "")
    np.savez(tmp_path / "x", **{"file.npy": np.ones(2, np.float32)})
    place = tmp_path / "named.tape"
    assert mx("run", place, "--input", "file=2", "--output", tmp_path / "out.npz").code == 0
    assert mx("benchmark", place, "--runs", "1", "--seconds", "0").code == 0
