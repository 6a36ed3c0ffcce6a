"""Capture: dims and names are those declared, and what is said where a model can't be captured."""

from pathlib import Path

import modelexport
import numpy as np
import pytest
from modelexport.errors import InputError

pytestmark = pytest.mark.usefixtures("toys")

CAPTURE, REFERENCE = 10, 12


@pytest.fixture(scope="module")
def export(mx, tmp_path_factory):
    """`export(SOURCE, …)` to a tape; gives the result and the artifact's place."""

    def run(source, *more, target="tape"):
        folder = tmp_path_factory.mktemp("export")
        return mx("export", source, "-t", target, "-o", folder, "--name", "net", *more), folder / f"net.{target}"

    return run


@pytest.fixture(scope="module")
def exported(export, nets):
    """The artifact of a factory of nets/shapes.py, which must pass; each is exported once."""
    done = {}

    def run(factory):
        if factory not in done:
            result, done[factory] = export(nets("shapes", factory))
            assert result.code == 0, result.err
        return done[factory]

    return run


def _line(source, text):
    lines = Path(source.rpartition(":")[0]).read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if text in line)


# --------------------------------------------------------------------------------------- dims and names


def test_example_of_batch_one_is_traced_at_two_or_more(export, nets, read_manifest):
    """torch.export specialises a size of 1: the artifact must still take every batch."""
    result, place = export(nets("shapes", "example_of_one"), "--input", "x:float32[batch=1..8,6]")
    assert result.code == 0, result.err
    manifest = read_manifest(place)
    assert manifest["verified"] is True
    assert {"example", "low", "high batch=8"} <= set(manifest["parity"]["cases"])
    assert manifest["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["batch", 6]}]
    assert manifest["outputs"] == [{"name": "output", "dtype": "float32", "shape": ["batch", 3]}]
    assert manifest["dims"] == {"batch": {"min": 1, "max": 8, "multiple": 1}}


def test_example_alone_fixes_the_shape(exported, read_manifest):
    manifest = read_manifest(exported("example_of_one"))
    assert manifest["inputs"][0]["shape"] == [1, 6]
    assert manifest["dims"] == {}


def test_dim_without_a_high_end_is_open(export, nets, read_manifest):
    result, place = export(nets("shapes", "example_of_one"), "--input", "x:float32[batch,6]")
    assert result.code == 0, result.err
    assert read_manifest(place)["dims"]["batch"]["max"] is None
    with modelexport.run(place) as session:
        assert session({"x": np.ones((301, 6), np.float32)})["output"].shape == (301, 3)


def test_inputs_share_dims_by_name(exported, read_manifest):
    place = exported("scores")
    manifest = read_manifest(place)
    assert [spec["name"] for spec in manifest["inputs"]] == ["ids", "mask"]
    assert [spec["shape"] for spec in manifest["inputs"]] == [["batch", "seq"], ["batch", "seq"]]
    assert [spec["name"] for spec in manifest["outputs"]] == ["output_0", "output_1"]
    assert [spec["shape"] for spec in manifest["outputs"]] == [["batch"], ["batch", "seq"]]
    assert list(manifest["dims"]) == ["batch", "seq"]
    ids, mask = np.ones((2, 3), np.int64), np.ones((2, 4), np.int64)
    with modelexport.run(place) as session, pytest.raises(InputError, match="another input has 3"):
        session({"ids": ids, "mask": mask})


@pytest.mark.parametrize(
    ("factory", "names"),
    [
        ("nested", ["logits", "hidden.0", "hidden.1.0", "x_out"]),
        ("pair", ["output_0", "output_1.0", "output_1.1"]),
        ("named_pair", ["plus", "total", "whole"]),
    ],
)
def test_outputs_in_dicts_and_tuples_have_names(factory, names, exported, read_manifest):
    manifest = read_manifest(exported(factory))
    assert [spec["name"] for spec in manifest["outputs"]] == names
    assert {row["name"] for row in manifest["parity"]["outputs"]} == set(names)


def test_multiples_of_a_step(exported, read_manifest):
    """A net that halves its input: every case has sizes that it takes, and other sizes are refused."""
    place = exported("unet")
    manifest = read_manifest(place)
    assert manifest["dims"]["height"] == {"min": 16, "max": 48, "multiple": 8}
    assert manifest["dims"]["width"] == {"min": 16, "max": 64, "multiple": 16}
    assert manifest["outputs"][0]["shape"] == ["batch", 2, "height", "width"]
    assert {"low", "high height=48", "high width=64", "equal"} <= set(manifest["parity"]["cases"])
    with modelexport.run(place) as session:
        assert session({"x": np.zeros((1, 2, 40, 32), np.float32)})["output"].shape == (1, 2, 40, 32)
        with pytest.raises(InputError, match="axis 2"):
            session({"x": np.zeros((1, 2, 41, 32), np.float32)})


# --------------------------------------------------------------------------------------- what can't be captured


def test_sequence_that_the_model_unrolls(export, nets):
    result, place = export(nets("shapes", "recurrent"), target="captured")
    assert result.code == CAPTURE
    assert "does not take every size of seq" in result.error
    assert "Give seq a fixed size" in result.hint
    assert not place.exists()
    declared = "x:float32[batch=1..4,5,4]"
    assert export(nets("shapes", "recurrent"), "--input", declared, target="captured")[0].code == 0


def test_range_that_crosses_a_branch_on_size(export, nets):
    result, _ = export(nets("shapes", "small"))
    assert result.code == CAPTURE
    assert "batch" in result.error
    assert "Dim('batch', max=5)" in result.hint
    assert export(nets("shapes", "small"), "--input", "x:float32[batch=1..5,4]")[0].code == 0


def test_sizes_in_steps_are_asked_for(export, nets):
    result, _ = export(nets("shapes", "eights"))
    assert result.code == REFERENCE
    assert f"shapes.py:{_line(nets('shapes', 'eights'), 'x.view(-1, 8)')} " in result.error
    assert "count=LOW..HIGH/STEP" in result.hint
    assert export(nets("shapes", "eights"), "--input", "x:float32[count=8..64/8]")[0].code == 0


def test_data_dependent_branch_is_refused_with_the_ways_out(export, nets):
    result, place = export(nets("traps", "branch"))
    assert result.code == CAPTURE
    line = _line(nets("traps", "branch"), "if x.sum() > 0")
    assert f"traps.py:{line} (if x.sum() > 0:)" in result.error
    assert all(way in result.hint for way in ("torch.cond", "TorchScript script", "constant"))
    assert list(place.parent.iterdir()) == []


def test_operators_that_a_target_lacks_leave_nothing(export, nets):
    result, place = export(nets("shapes", "recurrent"), "--input", "x:float32[batch=1..4,5,4]")
    assert (result.code, result.hint) == (11, "add it to operators()")
    assert result.error.startswith("tape has no call for ")
    assert "aten.lstm.input" in result.error
    assert list(place.parent.iterdir()) == []


# --------------------------------------------------------------------------------------- captured programs


def test_captured_program_goes_on_to_another_target(export, nets, read_manifest, mx, tmp_path):
    """module → captured artifact → tape, and program.pt2 → tape: dims and names survive both."""
    result, place = export(nets("shapes", "scores"), target="captured")
    assert result.code == 0, result.err
    result = mx("export", place, "-t", "tape", "-o", tmp_path)
    assert result.code == 0, result.err
    manifest = read_manifest(tmp_path / "net.tape")
    assert manifest["verified"] is True
    assert [step["target"] for step in manifest["lineage"]] == ["captured", "tape"]
    assert [spec["shape"] for spec in manifest["inputs"]] == [["batch", "seq"]] * 2
    declared = ["ids:int64[batch=1..4,seq=1..9]=0..30", "mask:int64[batch,seq]=mask"]
    arguments = [word for text in declared for word in ("--input", text)]
    result = mx("export", place / "program.pt2", "-t", "tape", "-o", tmp_path, *arguments)
    assert result.code == 0, result.err
    assert read_manifest(tmp_path / "program.tape")["verified"] is True
