"""What stands is used again, and handed on to the steps that are made from it."""

import shutil

import modelexport
import pytest

from core.tests.unit.work.conftest import edit, files

pytestmark = pytest.mark.usefixtures("toys")

#: what `-t rounder -t packer --precision int8` leaves, each made from the one before
CHAIN = ["net.rounder", "net.optimized.rounder", "net.int8.rounder", "net.int8.packer"]
STEPS = ["export rounder", "optimize rounder", "quantize rounder", "export packer"]


@pytest.fixture
def export(code, tmp_path, steps):
    """Make the chain, and give the steps that were taken for it."""

    def run(targets=("rounder", "packer"), **more):
        made = modelexport.export(f"{code}:net", targets, tmp_path / "build", precision="int8", **more)
        assert [artifact.format for artifact in made] == list(targets)
        assert all(artifact.parity.verified is True for artifact in made)
        return steps()

    return run


def test_a_chain_that_stands_is_made_once(export, tmp_path):
    assert export() == STEPS
    before = files(tmp_path / "build")
    assert sorted(path.name for path in (tmp_path / "build").iterdir()) == sorted(CHAIN)
    assert export() == []
    assert files(tmp_path / "build") == before


@pytest.mark.parametrize("gone", [(1, 3), (0, 1), (2, 3), (0, 2)], ids=str)
def test_of_two_artifacts_that_are_gone_these_two_are_made(export, tmp_path, gone):
    """The others stand, and what is missing is made from them."""
    export()
    before = files(tmp_path / "build")
    for index in gone:
        shutil.rmtree(tmp_path / "build" / CHAIN[index])
    assert export() == [STEPS[index] for index in gone]
    after = files(tmp_path / "build")
    assert set(after) == set(before)
    kept = [file for file in before if file.parts[0] not in {CHAIN[index] for index in gone}]
    assert all(after[file] == before[file] for file in kept)


def test_other_weights_are_reason_to_make_everything_anew(export, code):
    export()
    edit(code, ("manual_seed(3)", "manual_seed(4)"))
    assert export() == STEPS
    assert export() == []


def test_weights_that_show_in_no_answer_count_as_well(export, code):
    """The reference tells of changed code, the fingerprint of every weight."""
    export()
    line = "self.linear = torch.nn.Linear(6, 4)\n"
    edit(code, (line, line + "        self.spare = torch.nn.Parameter(torch.ones(1))\n"))
    assert export() == STEPS


def test_another_target_starts_from_what_stands(export):
    assert export(["rounder"]) == STEPS[:3]
    assert export(["rounder", "packer"]) == STEPS[3:]


def test_nothing_is_captured_for_a_chain_that_stands(nets, tmp_path, steps):
    """tape is made from the captured program, and stamper from a tape that does not stay."""

    def again():
        events = []
        modelexport.export(
            nets("two", "two"), ["tape", "stamper"], tmp_path, precision="int8", progress=events.append
        )
        return list(map(str, events)).count("capture with torch.export"), steps()

    assert again() == (1, ["export tape", "quantize tape", "export stamper"])
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [
        "two.int8.stamper", "two.int8.tape", "two.tape",
    ]  # fmt: skip
    assert again() == (0, [])
    for name in ("two.int8.tape", "two.int8.stamper"):
        shutil.rmtree(tmp_path / name)
    assert again() == (0, ["quantize tape", "export stamper"])
    shutil.rmtree(tmp_path / "two.tape")
    assert again() == (1, ["export tape"])
