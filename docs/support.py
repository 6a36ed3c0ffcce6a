"""Write docs/reference/support.md from the results of the compliance kit, or compare it with them.

    python docs/support.py                     run every contract test here, and write the page
    python -m pytest -p docs.support …         (as `make test` does) fail if the page is not what this run found

A run that leaves out some of the contract tests is not compared.
"""

from __future__ import annotations

import difflib
import inspect
import os
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import click
import pytest
from modelexport.testing import SPECIMENS, TargetContract
from modelexport.testing.report import outcome_of

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "support.md"
CONTRACTS = sorted(
    [*ROOT.glob("core/tests/contract/test_contract.py"), *ROOT.glob("plugins/*/tests/contract/test_contract.py")]
)

#: how the reason of a skip begins → what the table says
SKIPPED = {"the target does not": "not offered", "built ahead of time": "not here"}

#: target → test → its outcome, in this run
results: dict[str, dict[str, str]] = defaultdict(dict)
#: target → why its parity budget is wider
wider: dict[str, str] = {}
stale = ""
writing = False


# --------------------------------------------------------------------------------------- collecting


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say with every contract test which target it is for; reports carry it to the process that writes."""
    for item in items:
        contract = getattr(item, "cls", None)
        if isinstance(contract, type) and issubclass(contract, TargetContract):
            reason = contract.quirks.tolerance_reason if contract.quirks.tolerance else ""
            item.user_properties.append(("contract", (contract.target, reason)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    said = dict(report.user_properties).get("contract")
    if said and (report.when == "call" or report.outcome != "passed"):
        target, reason = said
        results[target][report.nodeid.rpartition("::test_")[2]] = outcome_of(report)
        if reason:
            wider[target] = reason


def pytest_sessionfinish(session: pytest.Session) -> None:
    global stale
    whole = {target: set(tests()) for target in targets()} == {name: set(found) for name, found in results.items()}
    failed = any(outcome.startswith("failed") for found in results.values() for outcome in found.values())
    if hasattr(session.config, "workerinput") or not whole or failed:
        return
    if writing:
        PAGE.write_text(page(), encoding="utf-8")
        click.echo("\nwrote docs/reference/support.md")
        return
    before = PAGE.read_text(encoding="utf-8").splitlines() if PAGE.is_file() else []
    now = page().splitlines()
    if len(now) == len(before):
        now = [known(line, own) for line, own in zip(before, now, strict=True)]
    stale = "\n".join(difflib.unified_diff(before, now, "docs/reference/support.md", "this run", lineterm=""))
    if stale:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if stale:
        terminalreporter.section("docs/reference/support.md is not what this run found: run `make docs`", red=True)
        terminalreporter.write_line(stale)


def known(before: str, now: str) -> str:
    """A row of this run; a machine that runs more than the one that wrote the page is no reason for another."""
    cells = list(zip(before.split("|"), now.split("|"), strict=False))
    same = len(before.split("|")) == len(now.split("|")) and all(
        old == new or (old.strip() in ("structure", "not here") and new.strip() == "ok") for old, new in cells
    )
    return before if same else now


# --------------------------------------------------------------------------------------- writing


def targets() -> list[str]:
    """The targets that have a contract test here."""
    return [
        name for file in CONTRACTS for name in re.findall(r'^    target = "(.+)"', file.read_text(), re.MULTILINE)
    ]


def tests() -> list[str]:
    """Every test of the contract, by the name that results have."""
    found: list[str] = []
    for name, test in vars(TargetContract).items():
        if name.startswith("test_"):
            short = name.removeprefix("test_")
            values = [value for mark in getattr(test, "pytestmark", []) for value in mark.args[1]]
            values = list(SPECIMENS) if "specimen" in inspect.signature(test).parameters else values
            found += [f"{short}[{value}]" for value in values] or [short]
    return found


def page() -> str:
    columns = sorted(results)
    quirks = [f"- {target}: a wider parity budget. {reason}" for target, reason in sorted(wider.items())]

    def cells(test: str) -> str:
        row = []
        for target in columns:
            kind, _, reason = results[target][test].partition(": ")
            if kind == "skipped":
                kind = next((words for begin, words in SKIPPED.items() if reason.startswith(begin)), kind)
            if kind == "quirk":
                quirks.append(f"- {target}, `{test}`: {reason}")
            row.append(kind)
        return " | ".join(row)

    def table(head: str, rows: list[str]) -> list[str]:
        return [
            f"| {head} | {' | '.join(columns)} |",
            "|---" * (head.count("|") + 1 + len(columns)) + "|",
            *rows,
            "",
        ]

    models = [f"| `{s.name}` | {s.breaks} | {cells(f'computes_the_same[{s.name}]')} |" for s in SPECIMENS.values()]
    others = [test for test in tests() if not test.startswith("computes_the_same[")]
    rest = [f"| {re.sub('[][_]', ' ', test).strip()} | {cells(test)} |" for test in others]
    return "\n".join(
        [
            "<!-- Written by docs/support.py from test results: `make docs`. -->\n",
            "# What each target supports\n",
            "Results of the [compliance kit](../tutorial/first-plugin.md#keep-the-contract). *ok*: it passed. "
            "*quirk*: the test must fail, for the reason below. *not offered*: the target lacks the verb. "
            "*structure*: it was built and checked, and not run; "
            "*not here*: the machine that wrote this page can't run what the target writes.\n",
            "## Models\n",
            "Each is exported, loaded by a fresh process and compared with the original by "
            "[the parity gate](../explanation/parity.md).\n",
            *table("model | what it is there to break", models),
            "## Behaviour\n",
            *table("test", rest),
            "## Quirks\n",
            *(quirks or ["None."]),
            "",
        ]
    )


def main() -> int:
    global writing
    writing = True
    os.environ["MX_REQUIRE"] = "all"
    return int(
        pytest.main(["-q", "-p", "no:cacheprovider", *map(str, CONTRACTS)], plugins=[sys.modules[__name__]])
    )


if __name__ == "__main__":
    sys.exit(main())
