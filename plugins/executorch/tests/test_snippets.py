"""Programs to start from: the C++ one is built and run, the others are parsed."""

import shutil
import subprocess

import modelexport
import numpy as np
import pytest
import torch
from modelexport import Source, api
from modelexport.errors import ConversionError
from modelexport.plugins import manager
from torch import nn

LIBRARY = {"java": "tree_sitter_java", "kotlin": "tree_sitter_kotlin", "swift": "tree_sitter_swift"}


class Net(nn.Module):
    """Names that are no identifiers, a word of C++, several dtypes, and two dynamic dims."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.mix = nn.Embedding(10, 6), nn.Linear(6, 3)

    def forward(self, ids, float, scale):
        mixed = self.mix(self.table(ids) + float)
        return mixed * scale, mixed.argmax(-1)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    inputs = (
        "ids:int64[batch=1..4,length=3..9]=0..9",
        "float:float32[batch=1..4,length=3..9,6]",
        "scale:float32[]",
    )
    source = Source(Net().eval(), inputs=inputs, outputs=("mixed.1", "best"))
    (made,) = modelexport.export(source, "executorch", tmp_path_factory.mktemp("net"), verify=False)
    return made


def snippet(artifact, language):
    return manager.target("executorch").hook.mx_snippet(artifact=artifact, language=language)


def test_every_language_has_one(artifact):
    described = manager.target("executorch").target
    for language in described.snippets:
        texts = snippet(artifact, language)
        assert any("batch=1..4" in text and "model" in text for text in texts.values()), language


@pytest.mark.slow
def test_cpp_is_built_and_run(artifact, tmp_path):
    import executorch

    for tool in ("cmake", "g++"):
        assert shutil.which(tool), f"this test takes {tool}"
    for name, text in snippet(artifact, "cpp").items():
        (tmp_path / name).write_text(text)
    prefix = next(iter(executorch.__path__))
    steps = (
        ["cmake", "-B", "build", f"-DCMAKE_PREFIX_PATH={prefix}", f"-Dexecutorch_DIR={prefix}/share/cmake"],
        ["cmake", "--build", "build"],
        ["build/main", str(artifact.entry_path)],
    )
    for command in steps:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    with api.run(artifact.path) as session:
        zeros = {
            "ids": np.zeros((2, 3), np.int64),
            "float": np.zeros((2, 3, 6), np.float32),
            "scale": np.zeros((), np.float32),
        }
        want = session(zeros)
    lines = [line.split("]") for line in done.stdout.splitlines()]
    shown = {line[0].split(" [")[0]: (line[0].split("[")[1].split(), line[1].split()) for line in lines}
    assert shown["mixed.1"][0] == ["2", "3", "3"] and shown["best"][0] == ["2", "3"]
    assert [int(value) for value in shown["best"][1]] == want["best"].reshape(-1)[:5].tolist()


@pytest.mark.parametrize("language", LIBRARY)
def test_the_others_are_well_formed(artifact, language):
    import importlib

    import tree_sitter

    grammar = importlib.import_module(LIBRARY[language])
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
    (text,) = snippet(artifact, language).values()
    tree = parser.parse(text.encode())
    assert not tree.root_node.has_error, text
    for part in ("ids", "float_", "mixed_1", "best", "BATCH", "LENGTH"):
        assert part in text


def test_dtypes_that_a_language_lacks_are_refused(tmp_path):
    source = Source(nn.Linear(3, 2).half(), inputs=("input:float16[2,3]",))
    (made,) = modelexport.export(source, "executorch", tmp_path, verify=False)
    with pytest.raises(ConversionError, match="float16"):
        snippet(made, "kotlin")
    assert "Float16" in next(iter(snippet(made, "swift").values()))
