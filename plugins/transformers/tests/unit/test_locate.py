"""Which references are Hugging Face models, and where they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from modelexport.contract import LoadOptions
from modelexport.errors import SourceError
from modelexport_transformers import mx_load


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cache(hub: Path, ref: str) -> Path:
    """The layout of the hub's cache around one snapshot."""
    root = hub / f"models--{ref.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("0" * 40)
    return root / "snapshots" / ("0" * 40)


def test_a_cached_id_is_found(hub_cache, tiny):
    tiny.save(cache(hub_cache, "some/tiny-bert"), "BertModel", tiny.bert())
    source = tiny.load("some/tiny-bert")
    assert (source.ref, source.name) == ("some/tiny-bert", "tiny-bert")
    tiny.save(cache(hub_cache, "bare"), "BertModel", tiny.bert())
    assert tiny.load("bare").name == "bare"


def test_an_uncached_id_is_refused(hub_cache):
    with pytest.raises(SourceError, match="no model of that id in the local cache") as caught:
        mx_load("nobody/nothing", LoadOptions())
    assert str(hub_cache) in caught.value.message
    assert "--allow-download" in caught.value.hint
    assert mx_load("nothing", LoadOptions()) is None


@pytest.mark.parametrize(
    "ref",
    ["x.onnx", "models/x.onnx", "nets/model.py", "./a/b", "../a", "a/b/c", "a--b/c", "a/b-", "http://a/b", ""],
)
def test_other_references_are_left_to_others(ref, hub_cache):
    assert mx_load(ref, LoadOptions()) is None


def test_other_folders_are_left_to_others(tmp_path):
    assert mx_load(str(tmp_path), LoadOptions()) is None
    (tmp_path / "config.json").write_text('{"layers": 3}')
    assert mx_load(str(tmp_path), LoadOptions()) is None
    (tmp_path / "config.json").write_text("{")
    assert mx_load(str(tmp_path), LoadOptions()) is None
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(SourceError, match=r"config\.json is damaged"):
        mx_load(str(tmp_path), LoadOptions())


def test_a_download_that_fails_says_why(hub_cache, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match="nobody/nothing can't be downloaded") as caught:
        mx_load("nobody/nothing", LoadOptions(allow_download=True))
    assert caught.value.__cause__ is not None


def python(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_and_decision_are_light():
    code = """
import sys
from modelexport.contract import LoadOptions
import modelexport_transformers as plugin
assert plugin.mx_load("model.onnx", LoadOptions()) is None
assert plugin.mx_load("./nowhere/here", LoadOptions()) is None
print([m for m in ("torch", "transformers", "tokenizers", "huggingface_hub", "PIL", "numpy") if m in sys.modules])
assert plugin.mx_load("nothing-of-that-name", LoadOptions()) is None
print([m for m in ("torch", "transformers", "tokenizers", "PIL") if m in sys.modules])
"""
    assert python(code).split("\n") == ["[]", "[]"]
