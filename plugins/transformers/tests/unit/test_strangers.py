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


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "tokenizer.json", "vocab.txt", "chat_template.jinja", "bpe.codes", "x.vocab", "merges"],
)
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


MEAN = {"pooling_mode_mean_tokens": True}


@pytest.fixture
def sentences(tmp_path, tiny):
    """A folder of sentence-transformers, with folders within it."""
    tiny.sentence_folder(tmp_path / "st", ["Transformer", "Pooling", "Normalize"], MEAN)
    return tmp_path / "st"


@pytest.mark.parametrize("name", ["0_Transformer", "1_Pooling", "2_Normalize"])
def test_folders_within_are_no_links_out(name, sentences, tiny):
    place, outside = sentences / name, sentences.parent / "outside"
    if place.exists():
        place.rename(outside)
    place.symlink_to(outside)
    with pytest.raises(UnsafeFileError, match=f"{name} is a link that leads out of"):
        tiny.load(str(sentences))


@pytest.mark.parametrize("name", ["0_Transformer/config.json", "1_Pooling/config.json", "1_Pooling/more"])
def test_what_lies_in_folders_within_is_no_link_out(name, sentences, tiny):
    outside = sentences.parent / "outside.json"
    if (sentences / name).exists():
        (sentences / name).rename(outside)
    outside.touch()
    (sentences / name).symlink_to(outside)
    with pytest.raises(UnsafeFileError, match=f"{name} is a link that leads out of its folder"):
        tiny.load(str(sentences))


@pytest.mark.parametrize("path", ["a\0b", "\ud800", "../other", "/etc"])
def test_modules_are_named_by_texts_within_the_folder(path, sentences, tiny):
    entries = json.loads((sentences / "modules.json").read_text())
    entries[0]["path"] = path
    (sentences / "modules.json").write_text(json.dumps(entries))
    with pytest.raises(SourceError, match="outside its folder"):
        tiny.load(str(sentences))


def test_a_folder_within_that_leads_round_in_circles(sentences, tiny):
    shutil.rmtree(sentences / "1_Pooling")
    (sentences / "1_Pooling").symlink_to("1_Pooling")
    with pytest.raises(SourceError, match=r"1_Pooling"):
        tiny.load(str(sentences))


def test_the_hubs_cache_has_folders_within_of_links(sentences, tmp_path, tiny):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0f1e"
    blobs.mkdir()
    for number, file in enumerate(file for file in sorted(sentences.rglob("*")) if file.is_file()):
        shutil.copy(file, blobs / str(number))
        link = snapshot / file.relative_to(sentences)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blobs / str(number), link.parent))
    assert "embedding" in tiny.load(str(snapshot)).processing


@pytest.mark.parametrize(
    "name",
    [
        *("special_tokens_map.json", "chat_template.jinja", "added_tokens.json", "tokenizer.model", "vocab.txt"),
        *("bpe.codes", "prophetnet.tokenizer", "merges", ".vocab"),
    ],
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
