"""What a log or a pipe is told of work that lasts."""

import time

from modelexport.cli.show import progress
from modelexport.contract.progress import Event


def test_work_that_lasts_says_where_it_is(monkeypatch, capfd):
    monkeypatch.setattr(progress, "PATIENCE", 0.05)
    with progress.shown() as tell:
        tell(Event("capture with torch.export"))
        time.sleep(0.12)
        tell(Event("measure layers", 3, 12))
        time.sleep(0.3)
    time.sleep(0.2)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "capture with torch.export (0 s)"
    assert lines[-1] == "measure layers: 3 of 12 (0 s)"
    assert len(lines) <= 3  # less and less often, and nothing when it is over


def test_short_work_is_silent(capfd):
    with progress.shown() as tell:
        tell(Event("capture with torch.export"))
    assert capfd.readouterr().err == ""


def test_a_log_that_is_closed_stops_no_work(monkeypatch, tmp_path):
    monkeypatch.setattr(progress, "PATIENCE", 0.02)
    monkeypatch.setattr("sys.stderr", None)
    with progress.shown() as tell:
        tell(Event("capture with torch.export"))
        time.sleep(0.06)
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stderr", full)
        with progress.shown() as tell:
            tell(Event("capture with torch.export"))
            time.sleep(0.06)
