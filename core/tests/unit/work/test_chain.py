"""Targets that are made from another target's files, and that the machine which builds them can't run.

`stamper` takes what `tape` writes.
"""

import modelexport
import pytest
from modelexport.errors import CannotRunHere, ParityError
from modelexport.store import manifest

pytestmark = pytest.mark.usefixtures("toys")

#: a budget that no copy keeps that computes in another order
EXACT = {"atol": 0.0, "rtol": 0.0, "noise": 0.0}


@pytest.fixture
def export(nets, tmp_path):
    def run(targets="stamper", **more):
        return modelexport.export(nets("two", "two"), targets, tmp_path, **more)

    return run


def test_a_chain_leaves_only_what_was_asked_for(export, tmp_path):
    (made,) = export()
    assert [path.name for path in tmp_path.iterdir()] == ["two.stamper"]
    assert made.details["verified_before"] is True  # the artifact it was made from had passed its gate
    assert [(step.verb, step.target) for step in made.lineage] == [("export", "tape"), ("export", "stamper")]
    assert manifest.read(tmp_path / "two.stamper") == made


def test_what_can_not_run_here_is_verified_as_structure(export, tmp_path, mx):
    export()
    made = manifest.read(tmp_path / "two.stamper")
    assert made.parity.verified == "structure"
    assert "no anvil" in made.parity.reason
    with pytest.raises(CannotRunHere, match="no anvil"):
        modelexport.run(made.path)
    refused = mx("run", made.path, "--input", "x=1", "--input", "ids=1")
    assert refused.code == CannotRunHere.exit_code
    assert "no anvil" in refused.error
    assert refused.hint == "take it to a smithy"


def test_a_format_on_the_way_is_made_once(export):
    """The one asked for by name is the one that the other is made from, whatever their order."""
    stamped, written = export(["stamper", "tape"], options={"compact": False})
    assert (stamped.format, written.format) == ("stamper", "tape")
    assert (stamped.path / "stamped.bin").read_bytes() == (written.path / "model.tape").read_bytes()
    assert b": " in written.entry_path.read_bytes().replace(b"\0", b""), (
        "the option reached what is on the way too"
    )


def test_a_format_on_the_way_that_falls_short_is_left_for_inspection(export, tmp_path):
    with pytest.raises(ParityError, match="tape does not compute what the source computes") as caught:
        export(tolerance=EXACT)
    (left,) = tmp_path.iterdir()
    assert left.name == "two.stamper.tape.failed"
    assert str(left) in caught.value.hint
    assert manifest.read(left).parity.verified is False


def test_a_precision_may_be_an_option_of_the_export(export):
    (made,) = export(precision="int8")
    assert made.path.name == "two.int8.stamper"
    assert made.precision == "int8"
    assert made.lineage[-1].options["stamp"] == "gold"


def test_a_chain_by_way_of_another_format_is_reused(nets, tmp_path, mx):
    def again(*more):
        return mx("export", nets("two", "two"), "-t", "stamper", "--precision", "int4", "-o", tmp_path, *more).out

    assert "reused" not in again()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["two.int4.stamper", "two.stamper"]
    assert again().count("reused") == 2
    other = again("-k", "stamp=gold")
    assert "two.int4.stamper" in other
    assert "reused" not in other
