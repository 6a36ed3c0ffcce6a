"""`--dim`: dims that are held narrower than the model takes them, for every target or for one."""

import re

import modelexport
import numpy as np
import pytest
from modelexport.errors import InputError, OptionError

pytestmark = pytest.mark.usefixtures("toys")

INPUTS = ["x:float32[batch=1..8,4]", "ids:int64[batch=1..8,seq=2..12/2]=0..9"]


@pytest.fixture(scope="module")
def both(toys, nets, tmp_path_factory):
    """One capture, and two sets of dims: what was told of the work comes with the artifacts."""
    events = []
    wide, narrow = modelexport.export(
        nets("two", "two"), ["captured", "tape"], tmp_path_factory.mktemp("dims"), inputs=INPUTS,
        dims=["tape.batch=3", "tape.seq=4..8/4"], progress=events.append,
    )  # fmt: skip
    return wide, narrow, list(map(str, events))


def test_one_target_is_narrow_and_the_others_stay_wide(both):
    wide, narrow, events = both
    assert [str(spec) for spec in wide.inputs] == INPUTS
    assert [str(spec) for spec in narrow.inputs] == ["x:float32[3,4]", "ids:int64[3,seq=4..8/4]=0..9"]
    assert wide.parity.verified is narrow.parity.verified is True
    assert events.count("capture with torch.export") == 1


def test_the_program_that_a_target_is_given_is_narrow(both, tmp_path):
    wide, _, _ = both
    (made,) = modelexport.export(wide.path, "tape", tmp_path, dims=["batch=3", "seq=6"])
    assert [spec.shape for spec in made.inputs] == [(3, 4), (3, 6)]
    assert made.parity.verified is True


def test_what_is_narrow_computes_what_the_model_does(both):
    wide, narrow, _ = both
    generator = np.random.default_rng(0)
    inputs = {"x": generator.standard_normal((3, 4), "float32"), "ids": generator.integers(0, 9, (3, 8))}
    with modelexport.run(wide.path) as one, modelexport.run(narrow.path) as other:
        expected, found = one(inputs), other(inputs)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)
        with pytest.raises(InputError, match="ids"):
            other({**inputs, "ids": inputs["ids"][:, :6]})


def _sizes(program):
    """The size of the first axis of every input."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    return [nodes[name].meta["val"].shape[0] for name in program.graph_signature.user_inputs]


def test_dims_for_every_target_hold_before_the_capture(nets, tmp_path):
    import torch

    events = []
    (made,) = modelexport.export(
        nets("two", "two"), "captured", tmp_path, inputs=INPUTS, dims=["batch=1"], progress=events.append
    )
    assert _sizes(torch.export.load(made.entry_path)) == [1, 1]
    assert "narrow the captured program" not in map(str, events)


def test_a_program_is_narrowed_as_a_module_is(both, tmp_path):
    wide, _, _ = both
    (made,) = modelexport.export(wide.entry_path, "tape", tmp_path, inputs=INPUTS, dims=["tape.seq=4"])
    assert [spec.shape[1] for spec in made.inputs] == [4, 4]
    assert [str(dim) for dim in made.inputs[0].dims] == ["batch=1..8"]


def test_samples_that_do_not_fit_are_left_to_the_wide_ones(nets, tmp_path):
    sample = tmp_path / "sample.npz"
    np.savez(sample, x=np.ones((2, 4), "float32"), ids=np.ones((2, 6), "int64"))
    wide, narrow = modelexport.export(
        nets("two", "two"), ["captured", "tape"], tmp_path, inputs=INPUTS, sample=sample, dims=["tape.seq=4"]
    )
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
        (["tape.batch=3"], "not asked for"),
    ],
)
def test_dims_that_make_no_sense(nets, tmp_path, dims, said):
    with pytest.raises(OptionError) as caught:
        modelexport.export(nets("two", "two"), "captured", tmp_path, inputs=INPUTS, dims=dims)
    assert re.search(said, f"{caught.value.message} {caught.value.hint}")
    assert list(tmp_path.iterdir()) == []


def test_files_of_a_target_are_not_narrowed(artifact, tmp_path, mx):
    done = mx("export", artifact / "model.tape", "-t", "tape", "-o", tmp_path, "--dim", "batch=2")
    assert done.code == OptionError.exit_code
    assert "PyTorch models" in done.error
