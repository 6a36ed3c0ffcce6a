"""Wrong exports must not come out verified; each trap has a twin that must.

The converters here are toys: a faithful one, two naive ones, and one that is as wrong as it is told to be.
"""

import modelexport
import numpy as np
import pytest
from modelexport.contract import LoadOptions
from modelexport.errors import ParityError

pytestmark = pytest.mark.usefixtures("toys")

PARITY, TARGET, REFERENCE, RUNTIME = 3, 5, 12, 13


@pytest.fixture
def export(mx, tmp_path):
    """`export(SOURCE, TARGET, …)` into a fresh folder; gives the result and the artifact's place."""

    def run(source, target, *more):
        result = mx("export", source, "-t", target, "-o", tmp_path, "--name", "net", *more)
        return result, tmp_path / f"net.{target}"

    return run


@pytest.fixture
def caught(read_manifest):
    """Assert that the gate failed and that nothing but NAME.failed is left; returns the error's line."""

    def check(result, place):
        assert result.code == PARITY, (result.code, result.err, result.out)
        assert not place.exists()
        failed = place.with_name(f"{place.name}.failed")
        assert read_manifest(failed)["verified"] is False
        assert read_manifest(failed)["parity"]["reason"] in result.error
        assert [path.name for path in place.parent.iterdir()] == [failed.name]
        return result.error

    return check


@pytest.fixture
def passed(read_manifest):
    """Assert that the gate passed, on every case that it should have seen; returns the manifest."""

    def check(result, place):
        assert result.code == 0, (result.code, result.err)
        manifest = read_manifest(place)
        assert manifest["verified"] is True
        assert {"middle", "seed 2", "seed 3"} <= set(manifest["parity"]["cases"])
        assert all(row["ok"] and row["used"] <= 1 for row in manifest["parity"]["outputs"])
        assert {row["name"] for row in manifest["parity"]["outputs"]} == {o["name"] for o in manifest["outputs"]}
        assert [path.name for path in place.parent.iterdir()] == [place.name]
        return manifest

    return check


@pytest.fixture
def nothing_left():
    """Assert that a command failed with this exit code, in one line, and left nothing."""

    def check(result, place, code):
        assert result.code == code, (result.code, result.err)
        assert list(place.parent.iterdir()) == []
        return result.error

    return check


# --------------------------------------------------------------------------------------- traps and their twins

#: factory, target, and what the error must say
TRAPS = [
    ("branch", "tracer", "max abs difference"),
    ("size_one", "tracer", "max abs difference"),
    ("frozen_length", "tracer", "shape [3, 2], the source gives [3, 5]"),
    ("frozen_resize", "tracer", "shape [1, 3, 8, 8], the source gives"),
    ("swapped_axes", "permuter", "shape ["),
    ("size_one", "tape", "in case 'low'"),
    ("square", "tape", "in case 'equal'"),
    ("counter", "tape", "second call"),
]


@pytest.mark.parametrize(
    ("factory", "target", "says"), TRAPS, ids=[f"{factory}-{target}" for factory, target, _ in TRAPS]
)
def test_trap_is_caught(factory, target, says, export, caught, nets):
    assert says in caught(*export(nets("traps", factory), target))


@pytest.mark.parametrize(("factory", "target"), [trap[:2] for trap in TRAPS])
def test_twin_passes(factory, target, export, passed, nets):
    passed(*export(nets("traps", f"{factory}_twin"), target))


def test_the_other_side_of_the_branch_passes_with_where(export, passed, nets):
    passed(*export(nets("traps", "branch_twin"), "tape"))


def test_artifact_that_fails_at_a_size_names_the_case(export, nothing_left, nets):
    error = nothing_left(*export(nets("traps", "fixed_reshape"), "tracer"), RUNTIME)
    assert "in case '" in error
    assert "RuntimeError" in error


def test_state_is_kept_by_a_target_that_can(export, passed, nets):
    """The counter's second answer differs from its first, and the artifact must follow it through every case."""
    manifest = passed(*export(nets("traps", "counter"), "captured"))
    assert len(manifest["parity"]["cases"]) > 5


# --------------------------------------------------------------------------------------- the reference


@pytest.mark.parametrize("factory", ["dropout", "attribute_state"])
def test_source_that_answers_differently_is_no_reference(factory, export, nothing_left, nets):
    result, place = export(nets("traps", factory), "tape")
    assert "two equal calls of the source differ" in nothing_left(result, place, REFERENCE)
    assert "dropout" in result.hint
    assert "Python attribute" in result.hint


def test_dropout_that_eval_mode_turns_off_passes(export, passed, nets):
    passed(*export(nets("traps", "dropout_twin"), "tape"))


def test_nan_in_the_source_is_no_reference(export, nothing_left, passed, nets):
    result, place = export(nets("traps", "logarithm"), "tape")
    assert "NaN in output 'output'" in nothing_left(result, place, REFERENCE)
    assert "=LOW..HIGH" in result.hint
    passed(*export(nets("traps", "logarithm_twin"), "tape"))


# --------------------------------------------------------------------------------------- one exporter, every error


def test_rogue_without_defect_passes(export, passed, nets):
    passed(*export(nets("traps", "affine"), "rogue"))


DEFECTS = {
    "patch weights": "max abs difference",
    "patch forward": "max abs difference",
    "dtype": "output 'scores' in case 'low': dtype float64, the source gives float32",
    "renamed": "output 'scores' in case 'low': the artifact has no such output",
    "missing": "output 'doubled' in case 'low': the artifact has no such output",
    "extra": "output 'debug' in case 'low': the source has no such output",
    "reordered": "max abs difference",
    "transposed": "shape [6, 1], the source gives [1, 6]",
    "one element": "output 'doubled'",
    "nan": "1 values are NaN or infinite, the source's are finite",
    "own buffers": "max abs difference",
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_defect_is_caught(defect, export, caught, nets):
    assert DEFECTS[defect] in caught(*export(nets("traps", "affine"), "rogue", "-k", f"defect={defect}"))


@pytest.fixture
def affine(nets):
    """nets/traps.py:affine as a live module, as the Python API takes it."""
    from modelexport.model import resolve

    return resolve.resolve(nets("traps", "affine"), LoadOptions()).module


def test_reference_is_computed_before_the_exporter_patches_the_model(affine, tmp_path, read_manifest):
    """A target that zeroes the live weights meets the outputs, and the fingerprint, of what they were."""
    from modelexport.model.reference import fingerprint

    model, keywords = affine, {"inputs": ["x:float32[batch=1..4,6]"], "name": "net"}
    before = fingerprint(model)
    with pytest.raises(ParityError, match="does not compute what the source computes"):
        modelexport.export(model, "rogue", tmp_path, options={"defect": "patch weights"}, **keywords)
    assert not model.linear.weight.any()
    assert not (tmp_path / "net.rogue").exists()
    assert read_manifest(tmp_path / "net.rogue.failed")["lineage"][0]["source"]["fingerprint"] == before


def test_exporter_that_says_it_mutates_gets_a_copy(affine, tmp_path):
    from modelexport.model.reference import fingerprint

    model = affine.eval()
    before = fingerprint(model)
    inputs = ["x:float32[batch=1..4,6]"]
    artifacts = modelexport.export(model, ["mutator", "rogue"], tmp_path, inputs=inputs)
    assert [artifact.parity.verified for artifact in artifacts] == [True, True]
    assert fingerprint(model) == before
    assert not model.training


def test_structured_inputs_come_from_the_sample(export, caught, passed, nets, tmp_path):
    """Wrong on a checkerboard only: no drawn case meets it, the user's own input does."""
    board = (np.indices((4, 6)).sum(0) % 2).astype(np.float32)
    sample = tmp_path / ".sample.npz"
    np.savez(sample, x=board)
    source, arguments = nets("traps", "affine"), ("rogue", "-k", "defect=checkerboard")
    result, place = export(source, *arguments)
    assert result.code == 0
    assert "sample 0" not in result.out
    place.rename(place.with_name("unnoticed"))
    result, place = export(source, *arguments, "--sample", sample)
    assert result.code == PARITY
    assert "in case 'sample 0" in result.error
    assert not place.exists()
    np.savez(sample, x=board + 1)
    assert export(source, *arguments, "--sample", sample)[0].code == 0


def test_what_a_runtime_prints_is_not_the_answer(export, passed, nets):
    passed(*export(nets("traps", "affine"), "rogue", "-k", "defect=prints"))


# --------------------------------------------------------------------------------------- runtimes that fail


@pytest.mark.parametrize(
    ("defect", "says"),
    [
        ("crash", "died (SIGSEGV)"),
        ("crash at load", "died (SIGSEGV)"),
        ("exit", "died (exit code 0)"),
        ("cannot load", "version 9 of the format is not known"),
    ],
)
def test_runtime_that_dies_leaves_one_line_and_no_artifact(defect, says, export, nothing_left, nets):
    assert says in nothing_left(*export(nets("traps", "affine"), "rogue", "-k", f"defect={defect}"), RUNTIME)


def test_converter_that_raises_is_one_line_with_its_distribution(export, nothing_left, nets):
    source = nets("traps", "affine")
    error = nothing_left(*export(source, "rogue", "-k", "defect=raises"), 11)
    assert "toy-rogue failed to export: KeyError" in error
    result, place = export(source, "rogue", "-k", "defect=refuses")
    assert nothing_left(result, place, 1) == "the layer is too wide"
    assert result.hint == "make it narrower"


def test_a_precision_without_a_budget_is_the_targets_error(export, nothing_left, nets):
    """The gate would judge it by a budget that is not its own."""
    result, place = export(nets("traps", "affine"), "rogue", "-k", "defect=unknown precision")
    assert "target 'rogue' wrote 'fp7'" in nothing_left(result, place, TARGET)
    assert "float32" in result.hint
