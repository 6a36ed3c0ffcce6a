"""A toolchain's noise stays off the terminal, its warnings can be read, and everything is as it was afterwards."""

import logging
import os
import sys
import warnings

import pytest
from modelexport.toolkit import quiet, without


def noise():
    print("printed", file=sys.stderr)
    print("printed too")
    warnings.warn("warned", stacklevel=1)
    logging.getLogger("toy.tool").error("logged")
    os.write(2, b"from C\n")
    os.write(1, b"from C too\n")


@pytest.fixture
def logged(caplog):
    return lambda: [record.message for record in caplog.records]


def test_what_is_named_is_silenced_and_the_rest_is_not(capfd, logged):
    with quiet("toy.tool") as caught:
        noise()
        logging.getLogger("other").error("other logged")
    out, err = capfd.readouterr()
    assert out.splitlines() == ["from C too", "printed too"] or "printed too" in out
    assert err.splitlines() == ["from C"]
    assert logged() == ["other logged"]
    assert [str(each.message) for each in caught] == ["warned"]


def test_everything_is_silenced_on_demand(capfd, logged):
    with quiet(all_loggers=True, stdout=True, native=True):
        noise()
    assert capfd.readouterr() == ("", "")
    assert logged() == []


def test_it_all_comes_back_after_an_error(capfd, monkeypatch, logged):
    monkeypatch.setenv("TOY_KEPT", "before")
    with (
        pytest.raises(ValueError, match="no"),
        quiet("toy.tool", native=True, all_loggers=True, environment={"TOY_KEPT": "1", "TOY_NEW": "1"}),
    ):
        assert os.environ["TOY_KEPT"] == os.environ["TOY_NEW"] == "1"
        raise ValueError("no")
    assert os.environ["TOY_KEPT"] == "before"
    assert "TOY_NEW" not in os.environ
    logging.getLogger("toy.tool").error("logged again")
    os.write(2, b"from C again\n")
    assert logged() == ["logged again"]
    assert capfd.readouterr().err.endswith("from C again\n")


def test_modules_are_hidden_while_they_are_not_wanted():
    sys.modules.pop("wave", None)
    with without("wave", "json"):
        with pytest.raises(ModuleNotFoundError, match="wave"):
            import wave
        import json  # it was imported before, and stays

        assert json.dumps(1) == "1"
    import wave

    assert wave.__name__ == "wave"
