"""`--dim`: dims that are held narrower than the model takes them, for every target or for one."""

import modelexport
import numpy as np
import pytest
import torch
from modelexport.errors import InputError, OptionError
from modelexport.store import manifest

INPUTS = ["x:float32[batch=1..8,4]", "ids:int64[batch=1..8,seq=2..12/2]=0..9"]


@pytest.fixture(scope="module")
def both(nets, tmp_path_factory):
    """One capture, and three sets of dims."""
    folder = tmp_path_factory.mktemp("dims")
    steps = []
    wide, fixed = modelexport.export(
        nets("two", "two"), ["captured", "torchscript"], folder, inputs=INPUTS,
        dims=["torchscript.batch=3", "torchscript.seq=4..8/4"], progress=steps.append,
    )  # fmt: skip
    return wide, fixed, list(map(str, steps))


def test_one_target_is_narrow_and_the_others_stay_wide(both):
    wide, narrow, steps = both
    assert [str(spec) for spec in wide.inputs] == INPUTS
    assert [str(spec) for spec in narrow.inputs] == ["x:float32[3,4]", "ids:int64[3,seq=4..8/4]=0..9"]
    assert wide.parity.verified is narrow.parity.verified is True
    assert steps.count("capture with torch.export") == 1


def test_the_captured_program_itself_is_narrow(nets, both, tmp_path):
    wide, _, _ = both
    (made,) = modelexport.export(wide.path, "onnx", tmp_path, dims=["batch=3", "seq=6"])
    assert [spec.shape for spec in made.inputs] == [(3, 4), (3, 6)]
    assert made.parity.verified is True
    import onnx

    graph = onnx.load(made.entry_path).graph
    shapes = [[dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in graph.input]
    assert shapes == [[3, 4], [3, 6]]


def test_what_is_narrow_computes_what_the_model_does(nets, both):
    wide, narrow, _ = both
    generator = np.random.default_rng(0)
    inputs = {"x": generator.standard_normal((3, 4), "float32"), "ids": generator.integers(0, 9, (3, 8))}
    with modelexport.run(wide.path) as one, modelexport.run(narrow.path) as other:
        expected, found = one(inputs), other(inputs)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)
        with pytest.raises(InputError, match="ids"):
            other({**inputs, "ids": inputs["ids"][:, :6]})


def test_dims_for_every_target_hold_before_the_capture(nets, tmp_path):
    steps = []
    (made,) = modelexport.export(
        nets("two", "two"),
        "captured",
        tmp_path,
        inputs=INPUTS,
        dims=["batch=1"],
        progress=steps.append,
    )
    program = torch.export.load(made.entry_path)
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    assert [nodes[name].meta["val"].shape[0] for name in program.graph_signature.user_inputs] == [1, 1]
    assert "narrow the captured program" not in map(str, steps)


def test_a_program_is_narrowed_as_a_module_is(both, tmp_path):
    wide, _, _ = both
    (made,) = modelexport.export(wide.entry_path, "onnx", tmp_path, inputs=INPUTS, dims=["onnx.seq=4"])
    assert [spec.shape[1] for spec in made.inputs] == [4, 4]
    assert [str(dim) for dim in made.inputs[0].dims] == ["batch=1..8"]


def test_samples_that_do_not_fit_are_left_to_the_wide_ones(nets, tmp_path):
    sample = tmp_path / "sample.npz"
    np.savez(sample, x=np.ones((2, 4), "float32"), ids=np.ones((2, 6), "int64"))
    wide, narrow = modelexport.export(
        nets("two", "two"), ["captured", "torchscript"], tmp_path, inputs=INPUTS, sample=sample,
        dims=["torchscript.seq=4"],
    )  # fmt: skip
    assert "sample 0" in wide.parity.cases
    assert "sample 0" not in narrow.parity.cases


@pytest.mark.parametrize(
    ("dims", "said"),
    [
        (["width=3"], "no dynamic dim 'width'.*batch, seq"),
        (["batch=9"], "batch can't be 9: the model takes batch=1..8"),
        (["batch=1..16"], "can't be 1..16"),
        (["seq=2..8"], "can't be 2..8.*seq=2..12/2"),
        (["seq=3"], "can't be 3"),
        (["batch"], "can't read"),
        (["batch=many"], "can't read"),
        (["batch=0"], "can't read"),
        (["=3"], "can't read"),
        (["batch=3", "batch=4"], "twice"),
        (["onnx.batch=3"], "not asked for"),
    ],
)
def test_dims_that_make_no_sense(nets, tmp_path, dims, said):
    with pytest.raises(OptionError) as caught:
        modelexport.export(nets("two", "two"), "captured", tmp_path, inputs=INPUTS, dims=dims)
    import re

    assert re.search(said, f"{caught.value.message} {caught.value.hint}")
    assert list(tmp_path.iterdir()) == []


def test_files_of_a_target_are_not_narrowed(artifact, tmp_path, mx):
    done = mx("export", artifact / "model.onnx", "-t", "onnx", "-o", tmp_path, "--dim", "batch=2")
    assert done.code == OptionError.exit_code
    assert "PyTorch models" in done.error


# --------------------------------------------------------------------------------------- snippets


def test_snippets_are_part_of_the_artifact_and_of_its_copies(nets, install_toys, tmp_path, mx):
    install_toys("writer")
    done = mx("export", nets("two", "two"), "-t", "writer", "-t", "captured", "-o", tmp_path, "--input", INPUTS[0],
              "--input", INPUTS[1], "--snippet", "forth")  # fmt: skip
    assert done.code == 0, done.err
    made = manifest.read(tmp_path / "two.writer")
    text = (made.path / "snippets/forth/run.forth").read_text()
    assert text.startswith("forth: program.pt2 float32 x:float32[batch=1..8,4], ids:int64")
    assert [entry.path for entry in made.files if entry.path.startswith("snippets/")] == [
        "snippets/forth/run.forth"
    ]
    assert made.size == made.entry_path.stat().st_size
    assert not (tmp_path / "two.captured" / "snippets").exists()

    copy = modelexport.quantize(made.path)
    assert (copy.path / "snippets/forth/run.forth").read_text().startswith("forth: program.pt2 int8")


def test_a_language_that_no_target_has(nets, install_toys, tmp_path):
    install_toys("writer")
    with pytest.raises(OptionError, match="no snippet in 'fort'") as caught:
        modelexport.export(nets("two", "two"), ["writer"], tmp_path, inputs=INPUTS, snippet=["fort"])
    assert "forth" in caught.value.hint


def test_a_snippet_stays_in_its_folder(nets, install_toys, tmp_path):
    install_toys("writer")
    with pytest.raises(modelexport.errors.TargetError, match="plain file name"):
        modelexport.export(
            nets("two", "two"), ["writer"], tmp_path, inputs=INPUTS, snippet=["forth"], options={"escape": True}
        )
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------------- benchmark


def test_wide_and_narrow_are_timed_at_sizes_that_both_take(both):
    wide, narrow, _ = both
    for paths in ([wide.path, narrow.path], [narrow.path, wide.path]):
        report = modelexport.benchmark(paths, runs=1, seconds=0, warmup=0)
        assert dict(report.dims)["batch"] == 3
        assert dict(report.dims)["seq"] in (4, 8)


def test_a_size_that_the_narrow_one_lacks_is_said(both):
    wide, narrow, _ = both
    with pytest.raises(OptionError, match="size 2 of batch is outside batch=3"):
        modelexport.benchmark([wide.path, narrow.path], runs=1, seconds=0, dims={"batch": 2})
