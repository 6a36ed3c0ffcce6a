"""Folders that lead out of themselves: to code on the hub, to files elsewhere, into endless ones; and links."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from modelexport.errors import SourceError, UnsafeFileError


@pytest.fixture(scope="module")
def good(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("good") / "model"
    tiny.save(folder, "BertModel", tiny.bert())
    tiny.save_tokenizer(folder)
    return folder


@pytest.fixture
def folder(good, tmp_path):
    return shutil.copytree(good, tmp_path / "model")


def changed(file, **values):
    """The JSON file with these entries."""
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**content, **values}))


KERNELS = {
    "attention": {"_attn_implementation": "evil/kernel"},
    "attention, public": {"attn_implementation": "evil/kernel@main:attend"},
    "attention of a part": {"text_config": {"_attn_implementation": "evil/kernel"}},
    "attention by part": {"_attn_implementation": {"text_config": "evil/kernel"}},
    "attention, inside": {"_attn_implementation_internal": "evil/kernel"},
    "another package": {"_attn_implementation": "flash_attention_2"},
    "paged": {"_attn_implementation": "paged|evil/kernel"},
    "a list": {"_attn_implementation": ["evil/kernel"]},
    "experts": {"experts_implementation": "evil/kernel"},
    "layers": {"use_kernels": True},
    "mapping": {"kernel_config": {"kernel_mapping": {"RMSNorm": "evil/kernel:RMSNorm"}}},
}


@pytest.mark.parametrize("entry", KERNELS.values(), ids=KERNELS)
def test_kernels_of_the_hub_are_not_fetched(entry, folder, tiny):
    changed(folder / "config.json", **entry)
    with pytest.raises(UnsafeFileError, match=r"config\.json asks for") as caught:
        tiny.load(str(folder))
    assert "out of the file" in caught.value.hint


def test_what_pytorch_computes_is_loaded(folder, tiny):
    changed(
        folder / "config.json", _attn_implementation="eager", use_kernels=False, text={"attn_implementation": None}
    )
    assert tiny.load(str(folder)).processing["text"]


def test_weights_elsewhere_are_not_read(folder, tiny):
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    for name in ("../outside.safetensors", str(folder.parent / "outside.safetensors")):
        index = {"metadata": {}, "weight_map": {"embeddings.word_embeddings.weight": name}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(UnsafeFileError, match="names a file outside its folder"):
            tiny.load(str(folder))
    (folder / "model.safetensors.index.json").unlink()
    changed(folder / "config.json", transformers_weights="../outside.safetensors")
    with pytest.raises(UnsafeFileError, match="names weights outside its folder"):
        tiny.load(str(folder))


def test_an_adapter_is_no_model(folder, tiny):
    changed(folder / "adapter_config.json", base_model_name_or_path="/somewhere/else", peft_type="LORA")
    with pytest.raises(SourceError, match="holds an adapter of another model"):
        tiny.load(str(folder))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "vocab.txt", "chat_template.jinja"])
def test_links_lead_nowhere_else(name, folder, tiny):
    (folder / name).unlink(missing_ok=True)
    secret = folder.parent / "secret"
    secret.write_text("secret")
    (folder / name).symlink_to(secret)
    with pytest.raises(UnsafeFileError, match="a link that leads out of its folder"):
        tiny.load(str(folder))


def test_the_hubs_cache_is_made_of_links(good, tmp_path, tiny):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0f1e"
    shutil.copytree(good, blobs)
    snapshot.mkdir(parents=True)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    assert tiny.load(str(snapshot)).processing["text"]


@pytest.mark.parametrize(
    "name", ["special_tokens_map.json", "chat_template.jinja", "added_tokens.json", "tokenizer.model", "vocab.txt"]
)
def test_no_pipe_is_waited_for(name, folder, tiny):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(SourceError, match="is a FIFO"):
        tiny.load(str(folder))


def test_a_device_is_no_template(folder, tiny):
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "zero.jinja").symlink_to("/dev/zero")
    with pytest.raises(SourceError, match="is a device"):
        tiny.load(str(folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "model.safetensors.index.json"])
def test_nesting_without_end(name, folder, tiny):
    (folder / name).write_text('{"model_type": "bert", "more": ' + "[" * 200_000)
    with pytest.raises(SourceError, match=r"json is damaged"):
        tiny.load(str(folder))


def test_code_in_the_folder_is_not_run(folder, tiny):
    marker = folder.parent / "lit"
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(marker)!r})\nclass Evil: pass\n")
    auto = dict.fromkeys(("AutoConfig", "AutoModel", "AutoTokenizer", "AutoImageProcessor"), "evil.Evil")
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"):
        changed(folder / name, auto_map=auto, custom_generate="./evil")
    tiny.load(str(folder))
    changed(
        folder / "tokenizer_config.json", tokenizer_class="Evil", auto_map={"AutoTokenizer": ["evil.Evil", None]}
    )
    tiny.load(str(folder))
    assert not marker.exists()


def test_templates_of_chats_are_not_followed(folder, tiny):
    (folder / "chat_template.jinja").write_text(
        "{% for i in range(10 ** 12) %}{{ ''.__class__.__mro__ }}{% endfor %}"
    )
    assert tiny.load(str(folder)).processing["text"]


def test_files_that_a_tokenizer_names_are_not_read(folder, tiny):
    secret = folder.parent / "secret.txt"
    secret.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "secret"]))
    names = ("vocab_file", "tokenizer_file", "merges_file", "special_tokens_map_file", "added_tokens_file")
    changed(folder / "tokenizer_config.json", **dict.fromkeys(names, str(secret)), tokenizer_class="BertTokenizer")
    source = tiny.load(str(folder))
    assert not any("secret" in file.read_text() for name, file in source.files.items() if "config" not in name)
