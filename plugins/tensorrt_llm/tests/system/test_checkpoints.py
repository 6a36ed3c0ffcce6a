"""Checkpoints of a tiny language model: what is written, verified, and served."""

import subprocess

import modelexport as mx
import pytest
from modelexport.errors import ArtifactError, ConversionError

FORMATS = {
    "fp8": ("FP8", "fp8", "float8_e4m3fn"),
    "nvfp4": ("NVFP4", "nvfp4", "uint8"),
    "int4-awq": ("W4A16_AWQ", "int4", "uint8"),
    "w8a8-smoothquant": ("W8A8_SQ_PER_CHANNEL", "int8", "int8"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_quantized_checkpoint_is_written_and_verified(name, export, source, torch, tiny):
    algorithm, precision, dtype = FORMATS[name]
    artifact = export(name)
    assert artifact.parity.verified is True
    assert artifact.precision == precision
    real = [f"calibration {index}" for index in range(7)]
    random = {"low", "middle", "high sequence=64", "edges"}
    assert artifact.parity.cases == tuple(real) if name != "int4-awq" else random <= set(artifact.parity.cases)
    said = tiny.read(artifact.entry_path / "hf_quant_config.json")["quantization"]
    assert (said["quant_algo"], said["kv_cache_quant_algo"]) == (algorithm, "FP8")
    assert tiny.read(artifact.entry_path / "config.json")["quantization_config"]["quant_algo"] == algorithm
    tensors = tiny.stored(artifact.entry_path)
    weights = {key: value for key, value in tensors.items() if key.endswith("_proj.weight")}
    assert len(weights) == 14
    assert {str(value.dtype) for value in weights.values()} == {f"torch.{dtype}"}
    assert tensors["lm_head.weight"].dtype == torch.bfloat16
    assert sum(key.endswith(".k_scale") for key in tensors) == 2
    layers = artifact.layers
    assert [layer.precision for layer in layers].count(name) == 14
    assert [layer.precision for layer in layers].count("bfloat16") == 1
    report = artifact.quantization_report()
    plain = sum(value.nbytes for key, value in tiny.stored(source).items() if key.endswith("_proj.weight"))
    kept = sum(value.nbytes for key, value in tensors.items() if "_proj." in key)
    assert sum(layer.bytes_saved for layer in report.layers) == plain - kept > 0
    loss = artifact.details["perplexity"]
    assert loss["texts"] == 10
    assert loss["tokens"] > 100
    assert 0.9 < loss["ratio"] <= loss["max_ratio"]
    assert 0 < loss["kl"] < 0.2


def test_a_checkpoint_that_is_not_quantized_answers_to_the_bit(export, source, torch, tiny):
    artifact = export("none")
    assert artifact.precision == "bfloat16"
    assert [row.max_abs for row in artifact.parity.outputs] == [0.0]
    before, after = tiny.stored(source), tiny.stored(artifact.entry_path)
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not (artifact.entry_path / "hf_quant_config.json").exists()


def test_what_goes_with_the_weights_goes_along(export, source):
    folder = export("fp8").entry_path
    for name in ("tokenizer.json", "generation_config.json", "chat_template.jinja"):
        assert (folder / name).read_bytes() == (source / name).read_bytes()


def test_transformers_4_finds_what_it_looks_for(export, source, tiny):
    """TensorRT-LLM brings one, which takes 10000 where it finds no rope_theta, and does not say so."""
    assert "rope_theta" not in tiny.read(source / "config.json")
    for name in ("none", "fp8"):
        config = tiny.read(export(name).entry_path / "config.json")
        assert config["rope_theta"] == 50000.0
        assert config["rope_parameters"]["rope_theta"] == 50000.0
        assert config["torch_dtype"] == config["dtype"] == "bfloat16"
        assert config["architectures"] == ["LlamaForCausalLM"]
    said = tiny.read(export("fp8").entry_path / "tokenizer_config.json")
    assert said["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_the_server_is_configured_and_started(source, tmp_path, tiny):
    yaml = pytest.importorskip("yaml")
    options = {"tp": 2, "kv-cache": "fp8", "max-batch-size": 8, "max-seq-len": 48, "dtype": "float16"}
    (artifact,) = mx.export(source, "tensorrt-llm", tmp_path / "out", options=options)
    assert artifact.precision == "fp8"  # the gate's: keys and values are kept in it
    assert {str(value.dtype) for value in tiny.stored(artifact.entry_path).values()} == {"torch.float16"}
    assert yaml.safe_load((artifact.path / "serve.yaml").read_text()) == {
        "tensor_parallel_size": 2, "kv_cache_config": {"dtype": "fp8"}, "max_batch_size": 8, "max_seq_len": 48,
    }  # fmt: skip
    assert artifact.details["serving"]["command"].startswith("trtllm-serve checkpoint ")
    assert 0 < artifact.parity.outputs[0].max_abs < 0.5  # a cache in fp8, computed as such
    server = tmp_path / "bin" / "trtllm-serve"
    server.parent.mkdir()
    server.write_text('#!/bin/sh\npwd; ls "$1"; echo "$@"\n')
    server.chmod(0o755)
    done = subprocess.run(
        ["sh", artifact.path / "serve.sh", "--port", "9000"], env={"PATH": f"{server.parent}:/bin:/usr/bin"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[0] == str(artifact.path)
    assert "model.safetensors" in done.stdout
    assert done.stdout.splitlines()[-1] == "checkpoint --extra_llm_api_options serve.yaml --port 9000"


def test_both_spellings_write_the_same_tensors(texts, export, tmp_path, torch, tiny):
    options = {"quantization": "fp8", "kv-cache": "fp8"}
    two = mx.quantize(export("none").path, tmp_path / "two", options=options, calibration=texts)
    assert two.parity.verified is True
    one, other = tiny.stored(export("fp8").entry_path), tiny.stored(two.entry_path)
    assert set(one) == set(other)
    assert all(torch.equal(one[name].float(), other[name].float()) for name in one)
    assert two.details["perplexity"]["kl"] == pytest.approx(export("fp8").details["perplexity"]["kl"], rel=1e-3)
    assert two.details["serving"]["kv_cache"] == "fp8"
    with pytest.raises(ArtifactError, match="quantized already"):
        mx.quantize(export("nvfp4").path, tmp_path / "again", calibration=texts)


def test_a_long_export_tells_how_far_it_is(source, texts, tmp_path):
    told = []
    options = {"quantization": "fp8", "calibration": str(texts)}
    mx.export(source, "tensorrt-llm", tmp_path, options=options, verify=False, progress=told.append)
    stages = list(dict.fromkeys(event.stage for event in told))
    own = stages[stages.index("convert to tensorrt-llm") + 1 :]
    assert own == [
        "read the calibration data",
        "load tiny with transformers",
        "calibrate fp8",
        "write the fp8 checkpoint",
        "read the checkpoint back",
        "measure the perplexity",
    ]
    counts = [(event.done, event.total) for event in told if event.stage == "measure the perplexity"]
    assert counts == [(done, 10) for done in range(11)]


def test_an_old_builder_gets_the_checkpoint_it_reads(source, tmp_path, monkeypatch, tiny):
    """Its place is taken by a script that keeps what it is given: nothing here runs the builder itself."""
    from modelexport_tensorrt_llm import engine
    from modelexport_tensorrt_llm.serving import Serving

    builder = tmp_path / "bin" / "trtllm-build"
    builder.parent.mkdir()
    builder.write_text('#!/bin/sh\ncp "$2"/config.json "$4"; echo "$@" > "$4"/given; touch "$4"/rank0.engine\n')
    builder.chmod(0o755)
    monkeypatch.setenv("PATH", f"{builder.parent}:/usr/bin:/bin")
    engine.build(source, tmp_path, Serving(max_batch_size=4), "float16")
    place = tmp_path / "engine"
    assert sorted(file.name for file in place.iterdir()) == ["config.json", "given", "rank0.engine"]
    assert (place / "given").read_text().endswith("--max_batch_size 4\n")
    config = tiny.read(place / "config.json")
    assert (config["architecture"], config["dtype"], config["rotary_base"]) == (
        "LlamaForCausalLM",
        "float16",
        50000.0,
    )
    builder.write_text("#!/bin/sh\necho no GPU is here >&2; exit 3\n")
    with pytest.raises(ConversionError, match="trtllm-build failed with exit code 3: no GPU is here"):
        engine.build(source, tmp_path / "again", Serving(), "float16")
