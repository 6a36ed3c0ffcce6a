"""Programs to start from: the C++ one is built and run with the Python package's library, the others parsed."""

import importlib.metadata
import importlib.util
import shutil
import subprocess
from pathlib import Path

import modelexport as mx
import numpy as np
import pytest
from modelexport import api
from modelexport.plugins import calls, manager

#: LiteRT's C API as the program uses it
HEADERS = Path(__file__).parents[1] / "litert_headers"


@pytest.fixture(scope="module")
def artifact(nets, tmp_path_factory):
    import torch

    torch.manual_seed(0)
    inputs = ("ids:int64[rows=1..4,seq=4..12/4]=0..8", "image:float32[rows=1..4,3,6,5]")
    source = mx.Source(nets.Mixed().eval(), inputs=inputs, name="net")
    (made,) = mx.export(source, ["tflite"], tmp_path_factory.mktemp("net"), options={"layout": "nhwc"})
    return made


def snippet(artifact, language):
    ((name, text),) = calls.call(manager.target("tflite"), "snippet", artifact=artifact, language=language).items()
    return name, text


def test_every_language_has_the_models_own_interface(artifact):
    assert artifact.parity.verified is True
    for language in manager.target("tflite").target.snippets:
        _, text = snippet(artifact, language)
        assert "ROWS = 1" in text
        assert "rows=1..4" in text
        assert "SEQ = 4" in text
        assert "a signature for each size, 3 in all" in text
        assert '"seq_4"' in text
        assert "[ROWS, 6, 5, 3], channels last" in text.replace("]; channels", "], channels")
        assert "int64 in the model" in text
        assert '"found"' in text or "found " in text
        assert "best" in text


def built(folder, text):
    package = Path(importlib.util.find_spec("ai_edge_litert").origin).parent
    if shutil.which("g++") is None or not (package / "libLiteRt.so").exists():
        pytest.skip("needs g++ and libLiteRt.so")
    major, minor, *_ = importlib.metadata.version("ai-edge-litert").split(".")
    if (int(major), int(minor)) < (2, 3):  # LiteRtCreateModelFromFile has had other arguments
        pytest.skip("needs LiteRT 2.3")
    (folder / "main.cpp").write_text(text)
    library = [f"-L{package}", "-l:libLiteRt.so", f"-Wl,-rpath,{package}"]
    strict = ["-std=c++17", "-Wall", "-Wextra", "-Werror"]
    command = ["g++", *strict, "main.cpp", "-I", HEADERS, *library, "-o", "main"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "main"


def run(program, artifact):
    return subprocess.run([program, artifact.entry_path], capture_output=True, text=True)


def shown(printed):
    """Name → the shape and the first values that the program shows."""
    found = {}
    for line in printed.splitlines():
        head, values = line.split(" ]")
        name, sizes = head.split(" [")
        found[name] = ([int(size) for size in sizes.split()], [float(value) for value in values.split()])
    return found


def filled(text, before, values):
    """The program with `values` in place of the zeros it starts from."""
    kind = before[: before.index("(")]
    changed = text.replace(before, f"{kind}{{{', '.join(map(str, values.reshape(-1).tolist()))}}}")
    assert changed != text
    return changed


@pytest.mark.parametrize(("rows", "seq"), [(1, 4), (3, 8)])
def test_cpp_is_built_and_run(artifact, tmp_path, rows, seq):
    random = np.random.default_rng(0)
    ids = random.integers(0, 9, (rows, seq))
    image = random.standard_normal((rows, 3, 6, 5)).astype(np.float32)
    _, text = snippet(artifact, "cpp")
    text = text.replace("ROWS = 1;", f"ROWS = {rows};").replace("SEQ = 4;", f"SEQ = {seq};")
    text = text.replace('"seq_4"', f'"seq_{seq}"')
    text = filled(text, "std::vector<int32_t>(ROWS * SEQ)", ids)
    text = filled(text, "std::vector<float>(ROWS * 6 * 5 * 3)", image.transpose(0, 2, 3, 1))
    done = run(built(tmp_path, text), artifact)
    assert done.returncode == 0, done.stderr
    with api.run(artifact.path) as session:
        want = session({"ids": ids, "image": image})
    got = shown(done.stdout)
    assert list(got) == ["found", "best"]
    for name, (shape, values) in got.items():
        assert shape == list(want[name].shape)
        np.testing.assert_allclose(values, want[name].reshape(-1)[:5], rtol=1e-4)


def test_cpp_runs_inputs_of_fixed_sizes_and_integers(nets, tmp_path):
    source = mx.Source(nets.Scaled(), inputs=("x:float32[2,3]", "by:float32[]", "keep:bool[2,3]"), name="scaled")
    (made,) = mx.export(source, ["tflite"], tmp_path / "made")
    _, text = snippet(made, "cpp")
    assert 'Resize("' not in text
    text = filled(text, "std::vector<float>(2 * 3)", np.arange(6.0))
    text = filled(text, "std::vector<float>(1)", np.array(-2.5))
    text = filled(text, "std::vector<uint8_t>(2 * 3)", np.array([0, 1, 0, 1, 0, 1]))
    done = run(built(tmp_path, text), made)
    assert done.returncode == 0, done.stderr
    assert shown(done.stdout) == {"y": ([2, 3], [0, -2.5, 2, -7.5, 4])}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("SEQ = 4;", "SEQ = 8;", "LiteRtCompiledModelResizeInputTensor"),
        ('"seq_4"', '"seq_5"', "the file has no seq_5"),
        ("std::vector<int32_t>(ROWS * SEQ)", "std::vector<int64_t>(ROWS * SEQ)", "ids takes 16 bytes"),
    ],
)
def test_cpp_says_what_is_wrong(artifact, tmp_path, before, after, said):
    _, text = snippet(artifact, "cpp")
    done = run(built(tmp_path, text.replace(before, after)), artifact)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stdout == ""


def nodes(node):
    yield node
    for child in node.children:
        yield from nodes(child)


def wrong(text, language):
    tree_sitter = pytest.importorskip("tree_sitter")
    grammar = pytest.importorskip(f"tree_sitter_{language}")
    tree = tree_sitter.Parser(tree_sitter.Language(grammar.language())).parse(text.encode())
    return [node.start_point[0] + 1 for node in nodes(tree.root_node) if node.is_error or node.is_missing]


@pytest.mark.parametrize("language", ["kotlin", "java", "swift"])
def test_the_others_parse(artifact, language):
    _, text = snippet(artifact, language)
    assert wrong(text, language) == []
    assert wrong(text.replace("= ", "= = ", 1), language) != []
