"""Run the compliance kit on a target and report each test: for `mx plugin check` and the support table."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, TargetError
from ..store.scratch import scratch

_DEFAULT = """
from modelexport.testing import TargetContract

class TestContract(TargetContract):
    target = {name!r}
"""


@dataclass(frozen=True)
class Result:
    """Outcomes of one target's kit: test → "ok", "structure" (nothing here could run it), "quirk: REASON",
    "skipped: REASON" or "failed: ERROR"."""

    target: str
    distribution: str
    version: str
    outcomes: Mapping[str, str]

    @property
    def passed(self) -> bool:
        """At least one test ran, and none failed."""
        return self._count("ok") > 0 and self._count("failed") == 0

    def _count(self, kind: str) -> int:
        return sum(outcome.partition(":")[0] == kind for outcome in self.outcomes.values())

    def row(self) -> str:
        """The target's row of the support table."""
        quirks = [f"{name}: {outcome[7:]}" for name, outcome in self.outcomes.items() if outcome[:6] == "quirk:"]
        counts = f"{self._count('ok')} of {len(self.outcomes)}"
        return f"| {self.target} | {self.distribution} {self.version} | {counts} | {'; '.join(quirks) or '–'} |"

    def lines(self) -> list[str]:
        width = max(map(len, self.outcomes), default=0)
        rows = [f"{name.ljust(width)}  {outcome}" for name, outcome in self.outcomes.items()]
        return [*rows, "", "| target | distribution | tests passed | quirks |", "|---|---|---|---|", self.row()]

    def to_json(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "distribution": self.distribution,
            "version": self.version,
            "passed": self.passed,
            "outcomes": dict(self.outcomes),
        }


@dataclass
class Collector:
    """A pytest plugin that notes how each test of the contract ended."""

    outcomes: dict[str, str] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: Any) -> None:
        name = re.sub(r"^test_", "", report.nodeid.rpartition("::")[2])
        if report.when != "call" and report.outcome == "passed":
            return
        self.outcomes[name] = outcome_of(report)

    def pytest_collectreport(self, report: Any) -> None:
        """A contract test that can't even be imported is a failure of its own."""
        if report.failed:
            lines = str(report.longrepr).splitlines()
            said = [line.removeprefix("E").strip() for line in lines if line.startswith("E ")]
            self.outcomes["the contract test"] = f"failed: {'; '.join(said) or report.longrepr}"


def outcome_of(report: Any) -> str:
    """How a test of the contract ended, from pytest's report: as in `Result.outcomes`."""
    if hasattr(report, "wasxfail"):
        return f"quirk: {report.wasxfail.removeprefix('reason: ')}"
    if report.outcome == "passed":
        return "structure" if dict(report.user_properties).get("verified") == "structure" else "ok"
    if report.outcome == "skipped":
        return f"skipped: {report.longrepr[2].removeprefix('Skipped: ')}"
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr)
    if text.startswith("[XPASS(strict)]"):
        return f"failed: it passes, so its quirk is out of date: {text.removeprefix('[XPASS(strict)]').strip()}"
    return f"failed: {' '.join(text.split())[:300]}"


def run(name: str, tests: Path | None = None) -> Result:
    """Run the kit on the target `name` in this process.

    `tests` is a contract test with the target's quirks. Without it, tests/contract/test_contract.py or
    tests/test_contract.py of the current folder is taken, if it is about this target, else the contract without
    quirks. Raises TargetError for an unknown target, and InputError for a test file that is not there.
    """
    from ..plugins import manager
    from ..plugins.installed import importable

    if not importable("pytest"):
        raise TargetError("checking a plugin needs pytest", "pip install pytest")
    import pytest

    entry = manager.target(name).entry
    collector = Collector()
    with scratch("check") as folder:
        file = _tests_for(name, tests, folder)
        arguments = [
            str(file),
            "-q",
            "-p",
            "no:cacheprovider",
            "--import-mode=importlib",
            "-c",
            str(folder / "x.ini"),
        ]
        (folder / "x.ini").write_text("[pytest]\n")
        with contextlib.redirect_stdout(io.StringIO()):
            pytest.main(arguments, plugins=[collector])
    return Result(name, entry.distribution, entry.version, collector.outcomes)


def _tests_for(name: str, tests: Path | None, folder: Path) -> Path:
    if tests is not None:
        if not tests.is_file():
            raise InputError(f"no file {tests}", "give --tests the path of a contract test")
        return tests.resolve()
    about = re.compile(rf"target\s*=\s*[\"']{re.escape(name)}[\"']")
    for near in (Path("tests/contract/test_contract.py"), Path("tests/test_contract.py")):
        if near.is_file() and about.search(near.read_text(encoding="utf-8")):
            return near.resolve()
    file = folder / "test_contract.py"
    file.write_text(_DEFAULT.format(name=name))
    return file
