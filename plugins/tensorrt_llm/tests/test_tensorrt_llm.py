"""TensorRT-LLM checkpoints of tiny language models: written, read by their own definition, verified, refused.

The compliance kit has no part here: its specimens are modules in memory, and this target takes language models in
folders. What it asks of every target is asked below of such a folder.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import modelexport as mx
import numpy as np
import pytest
from modelexport import cli
from modelexport.errors import (
    ArtifactError,
    CannotRunHere,
    ConversionError,
    InputError,
    OptionError,
    ParityError,
    RuntimeFailure,
    SourceError,
)
from modelexport.gate import verify

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("modelopt")

TEXT = "the cat sat on a mat and dog ran to house while rain fell all day in old town near river bank"
WORDS = TEXT.split()
FORMATS = {
    "fp8": ("FP8", "fp8", "float8_e4m3fn"),
    "nvfp4": ("NVFP4", "nvfp4", "uint8"),
    "int4-awq": ("W4A16_AWQ", "int4", "uint8"),
    "w8a8-smoothquant": ("W8A8_SQ_PER_CHANNEL", "int8", "int8"),
}


def llama(folder: Path, dtype: str = "bfloat16", **more: Any) -> Path:
    """A Llama of two layers, random but with logits that differ, in a folder with a tokenizer of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {word: index for index, word in enumerate(["<unk>", "<s>", "</s>", *dict.fromkeys(WORDS)])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, **special)
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    config = transformers.LlamaConfig(
        **{
            "vocab_size": 32, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": 1,
            "eos_token_id": 2, "rope_parameters": {"rope_type": "default", "rope_theta": 50000.0}, **more,
        }
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).to(getattr(torch, dtype))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(4)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama(tmp_path_factory.mktemp("source") / "tiny")


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty lines, of which ten are held out."""
    drawn = random.Random(0)
    file = tmp_path_factory.mktemp("texts") / "texts.txt"
    file.write_text("\n".join(" ".join(drawn.choices(WORDS, k=drawn.randint(5, 30))) for _ in range(40)))
    return file


@pytest.fixture(scope="session")
def export(source: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Export the tiny model in a format, once."""
    done: dict[str, mx.Artifact] = {}

    def once(name: str) -> mx.Artifact:
        if name not in done:
            out = tmp_path_factory.mktemp(name)
            options = {"quantization": name, "kv-cache": "fp8" if name != "none" else "auto"}
            options |= {} if name == "none" else {"calibration": str(texts)}
            (done[name],) = mx.export(source, "tensorrt-llm", out, options=options)
        return done[name]

    return once


def stored(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "model.safetensors"))


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def command(*arguments: Any) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli._run([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


# --------------------------------------------------------------------------------------- what is written


@pytest.mark.parametrize("name", FORMATS)
def test_a_quantized_checkpoint_is_written_and_verified(name: str, export: Any, source: Path) -> None:
    algorithm, precision, dtype = FORMATS[name]
    artifact = export(name)
    assert artifact.parity.verified is True
    assert artifact.precision == precision
    real = [f"calibration {index}" for index in range(7)]
    random = {"low", "middle", "high sequence=64", "edges"}
    assert artifact.parity.cases == tuple(real) if name != "int4-awq" else random <= set(artifact.parity.cases)
    said = read(artifact.entry_path / "hf_quant_config.json")["quantization"]
    assert (said["quant_algo"], said["kv_cache_quant_algo"]) == (algorithm, "FP8")
    assert read(artifact.entry_path / "config.json")["quantization_config"]["quant_algo"] == algorithm
    tensors = stored(artifact.entry_path)
    weights = {key: value for key, value in tensors.items() if key.endswith("_proj.weight")}
    assert len(weights) == 14
    assert {str(value.dtype) for value in weights.values()} == {f"torch.{dtype}"}
    assert tensors["lm_head.weight"].dtype == torch.bfloat16
    assert sum(key.endswith(".k_scale") for key in tensors) == 2
    layers = artifact.layers
    assert [layer.precision for layer in layers].count(name) == 14
    assert [layer.precision for layer in layers].count("bfloat16") == 1
    report = artifact.quantization_report()
    plain = sum(value.nbytes for key, value in stored(source).items() if key.endswith("_proj.weight"))
    kept = sum(value.nbytes for key, value in tensors.items() if "_proj." in key)
    assert sum(layer.bytes_saved for layer in report.layers) == plain - kept > 0
    loss = artifact.details["perplexity"]
    assert loss["texts"] == 10
    assert loss["tokens"] > 100
    assert 0.9 < loss["ratio"] <= loss["max_ratio"]
    assert 0 < loss["kl"] < 0.2


def test_a_checkpoint_that_is_not_quantized_answers_to_the_bit(export: Any, source: Path) -> None:
    artifact = export("none")
    assert artifact.precision == "bfloat16"
    assert [row.max_abs for row in artifact.parity.outputs] == [0.0]
    before, after = stored(source), stored(artifact.entry_path)
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not (artifact.entry_path / "hf_quant_config.json").exists()


def test_what_goes_with_the_weights_goes_along(export: Any, source: Path) -> None:
    folder = export("fp8").entry_path
    for name in ("tokenizer.json", "generation_config.json", "chat_template.jinja"):
        assert (folder / name).read_bytes() == (source / name).read_bytes()


def test_transformers_4_finds_what_it_looks_for(export: Any, source: Path) -> None:
    """TensorRT-LLM brings one, which takes 10000 where it finds no rope_theta, and does not say so."""
    assert "rope_theta" not in read(source / "config.json")
    for name in ("none", "fp8"):
        config = read(export(name).entry_path / "config.json")
        assert config["rope_theta"] == 50000.0
        assert config["rope_parameters"]["rope_theta"] == 50000.0
        assert config["torch_dtype"] == config["dtype"] == "bfloat16"
        assert config["architectures"] == ["LlamaForCausalLM"]
    said = read(export("fp8").entry_path / "tokenizer_config.json")
    assert said["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_long_context_scaling_is_written_for_both(tmp_path: Path) -> None:
    from modelexport_tensorrt_llm import checkpoint

    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e6}
    config = checkpoint.readable_by_older({"rope_parameters": rope, "dtype": "float16"})
    assert config["rope_scaling"] == {"rope_type": "linear", "factor": 2.0}
    assert (config["rope_theta"], config["torch_dtype"]) == (1e6, "float16")
    own = {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": rope}
    assert checkpoint.readable_by_older(own) == own  # what the checkpoint said itself stays


def test_the_server_is_configured_and_started(source: Path, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    options = {"tp": 2, "kv-cache": "fp8", "max-batch-size": 8, "max-seq-len": 48, "dtype": "float16"}
    (artifact,) = mx.export(source, "tensorrt-llm", tmp_path / "out", options=options)
    assert artifact.precision == "fp8"  # the gate's: keys and values are kept in it
    assert {str(value.dtype) for value in stored(artifact.entry_path).values()} == {"torch.float16"}
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


def test_both_spellings_write_the_same_tensors(texts: Path, export: Any, tmp_path: Path) -> None:
    options = {"quantization": "fp8", "kv-cache": "fp8"}
    two = mx.quantize(export("none").path, tmp_path / "two", options=options, calibration=texts)
    assert two.parity.verified is True
    one, other = stored(export("fp8").entry_path), stored(two.entry_path)
    assert set(one) == set(other)
    assert all(torch.equal(one[name].float(), other[name].float()) for name in one)
    assert two.details["perplexity"]["kl"] == pytest.approx(export("fp8").details["perplexity"]["kl"], rel=1e-3)
    assert two.details["serving"]["kv_cache"] == "fp8"
    with pytest.raises(ArtifactError, match="quantized already"):
        mx.quantize(export("nvfp4").path, tmp_path / "again", calibration=texts)


# --------------------------------------------------------------------------------------- what the files mean


def test_nibbles_and_scales_by_hand() -> None:
    from modelexport_tensorrt_llm import dequantize

    packed = torch.tensor([[0x8F, 0x21]], dtype=torch.uint8)  # rows 0 and 1 of two columns
    four = dequantize.layer({"a.weight": packed, "a.weight_scale": torch.tensor([[0.5], [2.0]])}, "a", "W4A16_AWQ")
    assert four.weight.tolist() == [[-0.5, 0.5], [-16.0, 4.0]]
    assert four.enter is None
    codes = torch.tensor([[0x10 * (2 * i + 1) % 256 + 2 * i for i in range(8)]], dtype=torch.uint8)
    tensors = {
        "a.weight": codes,
        "a.weight_scale": torch.tensor([[2.0]]).to(torch.float8_e4m3fn),
        "a.weight_scale_2": torch.tensor(0.25),
        "a.input_scale": torch.tensor(1.0),
    }
    half = dequantize.layer(tensors, "a", "NVFP4").weight[0].tolist()
    assert half == [0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 0, -0.25, -0.5, -0.75, -1, -1.5, -2, -3]
    eight = {"weight": torch.tensor([[-128, 64]], dtype=torch.int8), "weight_scale": torch.tensor([0.5])}
    eight |= {"input_scale": torch.tensor(0.1), "pre_quant_scale": torch.tensor([1.0, 2.0])}
    layer = dequantize.layer({f"b.{key}": value for key, value in eight.items()}, "b", "W8A8_SQ_PER_CHANNEL")
    assert layer.weight.tolist() == [[-64.0, 32.0]]
    torch.testing.assert_close(layer.enter(torch.tensor([[0.26, 100.0]])), torch.tensor([[0.3, 12.7]]))


def test_activations_are_rounded_as_the_formats_round() -> None:
    from modelexport_tensorrt_llm import dequantize

    x = torch.tensor([448.0 * 3, -1e9, 17.0, 18.0, 0.001])
    assert dequantize.e4m3(x, torch.tensor(1.0)).tolist()[:4] == [448.0, -448.0, 16.0, 18.0]
    ties = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0, -0.3, -5.1, 0.0, 0.74, 0.76, 4.9, 1.0, -6.0])
    wanted = [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 6.0, -0.5, -6.0, 0.0, 0.5, 1.0, 4.0, 1.0, -6.0]
    assert dequantize.in_blocks(ties, torch.tensor(1.0)).tolist() == wanted
    assert not dequantize.in_blocks(torch.zeros(2, 32), torch.tensor(0.1)).any()


def samples(count: int = 8) -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    return [{"input_ids": generator.integers(0, 32, (1, 24))} for _ in range(count)]


@pytest.mark.parametrize("name", ["fp8", "w8a8-smoothquant"])
def test_the_files_mean_what_modelopt_simulates(name: str, tmp_path: Path) -> None:
    """Our reading of the files, which knows nothing of ModelOpt, against ModelOpt's own simulation in memory.

    For the other two formats there is none to compare with: on a CPU it refuses nvfp4, and writing int4-awq
    smooths layers that share their input once more.
    """
    from modelexport_tensorrt_llm import formats, model, quantize

    folder = llama(tmp_path / "float", "float32")
    recipe = quantize.Recipe(formats.FORMATS[name], "fp8")
    ids = torch.from_numpy(np.concatenate([sample["input_ids"] for sample in samples()]))
    with model.silenced():
        simulated = quantize.pretrained(folder, "auto")
        before = model.logits(simulated, ids, None)
        quantize.calibrated(simulated, recipe, samples())
        wanted = model.logits(simulated, ids, None)
    quantize.quantize(folder, tmp_path / "out", recipe, samples())
    got = model.logits(model.load(tmp_path / "out", "fp8"), ids, None)
    lost, apart = (wanted - before).abs().amax(dim=-1), (got - wanted).abs().amax(dim=-1)
    assert lost.median() > 0.05
    # a value halfway between two steps may go either way, and takes all tokens after it along; the others agree
    assert (apart < 1e-5).float().mean() > 0.3
    assert apart.mean() < 0.2 * lost.mean()


#: format → how far a weight may be from its quantized self, in steps of the scale: half the widest gap of the
#: format's numbers; for nvfp4 also what is cut off where the scale of a block was rounded down
STEPS = {"fp8": 16.0, "nvfp4": 1.0 + 6 / 16, "int4-awq": 0.5, "w8a8-smoothquant": 0.5}


@pytest.mark.parametrize("name", FORMATS)
def test_every_weight_is_within_half_a_step_of_what_it_was(name: str, tmp_path: Path) -> None:
    """What a layer multiplies its input by, the factors before it and in the norm before it counted."""
    from modelexport_tensorrt_llm import dequantize, formats, quantize

    folder = llama(tmp_path / "float", "float32")
    recipe = quantize.Recipe(formats.FORMATS[name])
    quantize.quantize(folder, tmp_path / "out", recipe, samples())
    before, after = stored(folder), stored(tmp_path / "out")
    names = dequantize.names(after)
    assert len(names) == 14
    norms = {"q": "input", "k": "input", "v": "input", "gate": "post_attention", "up": "post_attention"}
    for layer in names:
        read = dequantize.layer(after, layer, formats.FORMATS[name].algorithm).weight
        wanted, scale = before[f"{layer}.weight"], after[f"{layer}.weight_scale"].float()
        factor = after.get(f"{layer}.pre_quant_scale", torch.ones(wanted.shape[1]))
        if (norm := norms.get(layer.split(".")[-1].removesuffix("_proj"))) is not None:
            key = f"{layer.split('.self_attn')[0].split('.mlp')[0]}.{norm}_layernorm.weight"
            factor = factor * after[key] / before[key]
        if scale.ndim == 1:
            scale = scale[:, None]
        scale = scale * after.get(f"{layer}.weight_scale_2", torch.tensor(1.0))
        if scale.ndim == 2:
            scale = scale.repeat_interleave(wanted.shape[1] // scale.shape[1], dim=1)
        off = ((read - wanted / factor).abs() / scale).max()
        assert off <= STEPS[name] * 1.001, layer
        assert off > STEPS[name] * 0.3, layer


def test_padding_and_company_change_nothing(export: Any) -> None:
    with mx.run(export("w8a8-smoothquant").path) as session:
        ids = np.array([[3, 4, 5, 6, 7]])
        alone = session({"input_ids": ids, "attention_mask": np.ones_like(ids)})["logits"]
        wide = np.array([[3, 4, 5, 6, 7, 9, 9], [8, 9, 10, 11, 12, 13, 14]])
        mask = np.array([[1, 1, 1, 1, 1, 0, 0], [1] * 7])
        both = session({"input_ids": wide, "attention_mask": mask})["logits"]
    np.testing.assert_allclose(both[0, :5], alone[0], atol=1e-5)
    assert not both[0, 5:].any()


# --------------------------------------------------------------------------------------- running


def test_run_says_what_is_missing_and_computes_all_the_same(export: Any) -> None:
    if __import__("modelexport_tensorrt_llm.session").session.lacking() == "":
        pytest.skip("this machine has TensorRT-LLM")
    path = export("fp8").path
    code, out, err = command("run", path, "--text", "the cat sat on")
    assert code == 0
    assert "TensorRT-LLM can't run here (tensorrt_llm is not installed): computed in PyTorch" in err
    assert "0: next '" in out
    assert command("run", path, "--text", "the cat", "-k", "runtime=dequantized")[2] == ""
    with pytest.raises(CannotRunHere, match="can't run here: tensorrt_llm is not installed") as caught:
        mx.run(path, {"runtime": "tensorrt-llm"})
    assert "runtime=dequantized" in caught.value.hint


def copied(artifact: mx.Artifact, place: Path) -> mx.Artifact:
    import shutil

    shutil.copytree(artifact.path, place)
    return replace(artifact, path=place)


def rewrite(artifact: mx.Artifact, change: Any) -> None:
    from safetensors.torch import save_file

    tensors = stored(artifact.entry_path)
    change(tensors)
    save_file(tensors, artifact.entry_path / "model.safetensors")


def open_(artifact: mx.Artifact) -> Any:
    from modelexport.plugins import calls

    return calls.open_session(artifact, {"runtime": "dequantized"})


def test_one_wrong_scale_fails_the_gate(export: Any, tmp_path: Path) -> None:
    bad = copied(export("fp8"), tmp_path / "bad")
    rewrite(bad, lambda tensors: tensors["model.layers.0.mlp.up_proj.weight_scale"].mul_(-1))
    found = verify.verify_artifact(bad, options={"runtime": "dequantized"})
    assert found.verified is False
    assert "output 'logits'" in found.reason


def test_damaged_checkpoints_are_refused(export: Any, tmp_path: Path) -> None:
    whole = export("w8a8-smoothquant")
    bad = copied(whole, tmp_path / "cut")
    weights = bad.entry_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ArtifactError):
        mx.run(bad.path)  # the manifest knows better
    with pytest.raises(RuntimeFailure, match=r"model\.safetensors is damaged"):
        open_(bad)
    for change, message in [
        (lambda t: t.pop("model.norm.weight"), "missing keys model.norm.weight"),
        (
            lambda t: t.pop("model.layers.1.mlp.up_proj.input_scale"),
            "up_proj is no W8A8.* KeyError: 'input_scale'",
        ),
        (lambda t: t.update(stranger=torch.zeros(1)), "unexpected keys stranger"),
    ]:
        bad = copied(whole, tmp_path / f"copy{len(list(tmp_path.iterdir()))}")
        rewrite(bad, change)
        with pytest.raises(RuntimeFailure, match=message):
            open_(bad)
    config = bad.entry_path / "hf_quant_config.json"
    config.write_text(json.dumps({"quantization": {"quant_algo": "W2A2"}}))
    with pytest.raises(RuntimeFailure, match="quantized as W2A2, which is not known here"):
        open_(bad)
    config.write_text("{")
    with pytest.raises(RuntimeFailure, match=r"hf_quant_config\.json is missing or damaged"):
        open_(bad)
    weights = bad.entry_path / "model.safetensors"
    weights.unlink()
    config.unlink()
    with pytest.raises(RuntimeFailure, match="holds no safetensors"):
        open_(bad)


# --------------------------------------------------------------------------------------- refusals


def refused(source: Any, kind: type[Exception], out: Path, **options: Any) -> Any:
    given = {key.replace("_", "-"): value for key, value in options.items()}
    with pytest.raises(kind) as caught:
        mx.export(source, "tensorrt-llm", out, options=given)
    assert not list(out.glob("*"))  # nothing is left behind
    return caught.value


def test_what_is_no_language_model_in_a_folder_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    module = mx.Source(torch.nn.Linear(4, 4), inputs=("x:float32[2,4]",), ref="nets.py:linear", name="linear")
    error = refused(module, SourceError, out)
    assert "nets.py:linear is no Hugging Face folder" in error.message
    assert "save_pretrained" in error.hint
    config = transformers.BertConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    assert "is for feature-extraction" in refused(tmp_path / "bert", SourceError, out).message


@pytest.mark.parametrize(
    ("options", "kind", "message", "hint"),
    [
        ({"quantization": "int3"}, OptionError, "quantization=int3 is not allowed", "w8a8-smoothquant"),
        ({"quantization": "fp8"}, InputError, "fp8 takes its scales from texts, and none", "-k calibration="),
        (
            {"quantization": "fp8", "calibration": "no.txt"},
            InputError,
            "no calibration data at 'no.txt'",
            ".jsonl",
        ),
        ({"tp": 3}, OptionError, "tp=3 does not divide the model's 4 attention heads", "1, 2, 4"),
        ({"tp": 0}, OptionError, "tp=0 makes no sense", "1 or more"),
        ({"max_batch_size": 0}, OptionError, "max-batch-size=0 makes no sense", "1 or more"),
        ({"engine": True}, OptionError, "trtllm-build, which is not on the PATH", "leave engine out"),
    ],
)
def test_options_are_refused_in_words(
    options: dict[str, Any], kind: type[Exception], message: str, hint: str, source: Path, tmp_path: Path
) -> None:
    error = refused(source, kind, tmp_path, **options)
    assert message in error.message
    assert hint in error.hint


def test_texts_are_refused_in_words(source: Path, texts: Path, tmp_path: Path) -> None:
    out, empty, table = tmp_path / "out", tmp_path / "empty.txt", tmp_path / "rows.jsonl"
    out.mkdir()
    empty.write_text("")
    assert (
        "empty.txt holds no samples"
        in refused(source, InputError, out, quantization="fp8", calibration=str(empty)).message
    )
    table.write_text(json.dumps({"question": "the cat", "answer": "sat on"}) + "\n")
    error = refused(source, InputError, out, quantization="fp8", calibration=str(table))
    assert "which column" in error.message
    error = refused(source, InputError, out, quantization="fp8", calibration=str(table), column="reply")
    assert "has no column 'reply'" in error.message


def test_a_loss_above_what_is_allowed_is_refused_with_its_figures(
    source: Path, texts: Path, tmp_path: Path
) -> None:
    error = refused(
        source, ParityError, tmp_path, quantization="nvfp4", calibration=str(texts), max_perplexity_ratio=0.5
    )
    assert error.message.startswith("nvfp4 takes the perplexity from ")
    assert error.message.endswith("times, 0.5 is allowed")


def test_groups_that_do_not_fit_are_refused_before_the_work(texts: Path, tmp_path: Path) -> None:
    uneven = llama(tmp_path / "uneven", hidden_size=192, num_hidden_layers=1)
    out = tmp_path / "out"
    out.mkdir()
    error = refused(uneven, OptionError, out, quantization="int4-awq", calibration=str(texts))
    assert "multiples of 128; 6 of 7 layers have others: model.layers.0.self_attn.q_proj (192)" in error.message
    assert error.hint == "-k group-size=64 fits all of them"


def test_a_quantized_folder_is_refused(export: Any, tmp_path: Path) -> None:
    error = refused(export("fp8").entry_path, SourceError, tmp_path)
    assert "quantized already (modelopt)" in error.message


# --------------------------------------------------------------------------------------- engines


def test_an_old_builder_gets_the_checkpoint_it_reads(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    config = read(place / "config.json")
    assert (config["architecture"], config["dtype"], config["rotary_base"]) == (
        "LlamaForCausalLM",
        "float16",
        50000.0,
    )
    builder.write_text("#!/bin/sh\necho no GPU is here >&2; exit 3\n")
    with pytest.raises(ConversionError, match="trtllm-build failed with exit code 3: no GPU is here"):
        engine.build(source, tmp_path / "again", Serving(), "float16")
