"""What the folder of a checkpoint says, and what transformers 4 finds in a config.json."""

import json

import pytest
from modelexport.errors import RuntimeFailure, SourceError
from modelexport_tensorrt_llm import files


def test_long_context_scaling_is_written_for_both():
    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e6}
    config = files.readable_by_older({"rope_parameters": rope, "dtype": "float16"})
    assert config["rope_scaling"] == {"rope_type": "linear", "factor": 2.0}
    assert (config["rope_theta"], config["torch_dtype"]) == (1e6, "float16")
    own = {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": rope}
    assert files.readable_by_older(own) == own  # what the checkpoint said itself stays


def test_how_a_checkpoint_is_quantized(tmp_path):
    assert files.quantization(tmp_path) == files.Quantization()
    values = {"quantization": {"quant_algo": "W4A16_AWQ", "kv_cache_quant_algo": None, "group_size": 64}}
    (tmp_path / files.QUANTIZATION).write_text(json.dumps(values))
    assert files.quantization(tmp_path) == files.Quantization("W4A16_AWQ", "", 64)


@pytest.mark.parametrize(
    ("content", "message"), [("{", "is missing or damaged"), ("[]", "holds no object"), (None, "is missing")]
)
def test_json_that_can_not_be_read(content, message, tmp_path):
    file = tmp_path / files.CONFIG
    if content is not None:
        file.write_text(content)
    for kind in (RuntimeFailure, SourceError):
        with pytest.raises(kind, match=rf"config\.json {message}"):
            files.read_json(file, kind)


def test_what_goes_with_the_weights_goes_along(tmp_path):
    original, written = tmp_path / "original", tmp_path / "written"
    for folder in (original, written):
        folder.mkdir()
    for name in ("tokenizer.json", "chat_template.jinja", "notes.md", "tokenizer.safetensors"):
        (original / name).write_text(name)
    (original / files.TOKENIZER).write_text('{"tokenizer_class": "TokenizersBackend"}')
    (original / files.CONFIG).write_text('{"bos_token_id": 1, "dtype": "float32", "torch_dtype": "float32"}')
    (written / files.CONFIG).write_text('{"dtype": "bfloat16"}')
    files.complete(original, written)
    assert {file.name for file in written.iterdir()} == {
        "tokenizer.json", "chat_template.jinja", files.TOKENIZER, files.CONFIG,
    }  # fmt: skip
    assert files.read_json(written / files.TOKENIZER)["tokenizer_class"] == "PreTrainedTokenizerFast"
    config = {"bos_token_id": 1, "dtype": "bfloat16", "torch_dtype": "bfloat16"}
    assert files.read_json(written / files.CONFIG) == config
