"""The compliance kit itself: a faithful toy passes, and what a target can't do is told from what it does wrong."""

import pytest
from modelexport.testing import Quirks, TargetContract, contract, report

NO_CALL = "no call for it"
UNSUPPORTED = {
    "control_flow": "a tape runs straight through: it has no branches",
    "dynamic_sequence": NO_CALL,
    "interpolate": NO_CALL,
    "lstm": NO_CALL,
    "top_k": NO_CALL,
}


@pytest.mark.usefixtures("toys")
class TestTape(TargetContract):
    target = "tape"
    quirks = Quirks(unsupported=UNSUPPORTED)


CONTRACT = """
from modelexport.testing import Quirks, TargetContract


class TestStamper(TargetContract):
    target = "stamper"
    ahead_of_time = {ahead_of_time!r}
    quirks = Quirks(unsupported={unsupported!r}, tests={tests!r})
"""


@pytest.fixture(scope="module")
def outcomes(toys, tmp_path_factory):
    """How each test of the kit ended for the toy that nothing here can run."""

    def run(ahead_of_time, tests=()):
        file = tmp_path_factory.mktemp("kit") / "test_contract.py"
        file.write_text(CONTRACT.format(ahead_of_time=ahead_of_time, unsupported=UNSUPPORTED, tests=dict(tests)))
        return report.run("stamper", file).outcomes

    return run


@pytest.fixture(scope="module")
def undeclared(outcomes):
    """For a contract that does not say so, and declares a quirk that there is no reason for any more."""
    return outcomes("", {"options_say_what_they_are_for": "no reason any more"})


def test_it_skips_what_needs_the_machine_where_the_contract_says_so(outcomes):
    found = outcomes("it takes an anvil")
    skipped = {name for name, outcome in found.items() if outcome == f"skipped: {contract.AHEAD_OF_TIME}"}
    assert {"session_closes", "benchmark_is_sane", "keeps_names_and_dims"} <= skipped
    assert found["computes_the_same[conv_bn]"] == "structure"
    assert found["computes_the_same[lstm]"] == f"quirk: {NO_CALL}"
    assert found["a_killed_export_leaves_nothing"] == "ok"
    assert not [outcome for outcome in found.values() if outcome.startswith("failed")]


def test_it_fails_a_target_that_never_runs_and_does_not_say_so(undeclared):
    assert undeclared["computes_the_same[conv_bn]"].startswith("failed")
    assert undeclared["session_closes"].startswith("failed")
    assert not [outcome for outcome in undeclared.values() if outcome == "structure"]


def test_a_quirk_that_is_out_of_date_fails(undeclared):
    assert undeclared["options_say_what_they_are_for"].startswith("failed: it passes")


def test_a_contract_that_can_not_be_imported_fails_and_says_why(toys, tmp_path):
    (tmp_path / "test_contract.py").write_text("import torch_for_gameboy\n")
    result = report.run("stamper", tmp_path / "test_contract.py")
    assert not result.passed
    assert "No module named 'torch_for_gameboy'" in result.outcomes["the contract test"]
