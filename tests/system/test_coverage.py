"""A fixed part of the broad coverage: no crash, nothing verified and wrong, and no fewer exports than before.

`make coverage` runs all of it, and writes docs/reference/coverage.md.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1] / "coverage"
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "coverage.md"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Run one of the scripts on a shard of its entries; returns its rows."""

    def run(script, shard):
        file = tmp_path_factory.mktemp("coverage") / "rows.json"
        command = [sys.executable, HERE / script, "--shard", shard, "--json", file]
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=one_thread)
        assert file.is_file(), f"the process died ({done.returncode}): {done.stdout[-1000:]}{done.stderr[-2000:]}"
        return json.loads(file.read_text(encoding="utf-8"))

    return run


def check(found, floor):
    bugs = [row for row in found if row["outcome"] in ("crashed", "verified and wrong")]
    assert not bugs, "\n".join(f"{row['name']} {row['outcome']}: {row['message']}" for row in bugs)
    assert all(row["message"] for row in found if row["outcome"] != "equal")
    assert Counter(row["outcome"] for row in found)["equal"] >= floor


def test_a_third_of_the_operators(rows):
    if importlib.util.find_spec("expecttest") is None and not os.environ.get("MX_REQUIRE"):
        pytest.skip("torch.testing._internal needs expecttest")
    check(rows("operators.py", "0/3"), floor=176)


def test_a_sixth_of_the_architectures(rows):
    check(rows("architectures.py", "0/6"), floor=8)


def test_the_second_comparison_can_fail():
    code = (
        "import numpy as np, outcomes\n"
        "one = np.float32([1, 2])\n"
        "assert outcomes.difference(0, one, one) == 0\n"
        "for other in (one + 0.1, one[:1], one.astype(np.float64), np.float32([1, np.nan])):\n"
        "    try: outcomes.difference(0, other, one)\n"
        "    except outcomes.Wrong: continue\n"
        "    raise SystemExit(f'{other} passed')\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=HERE, check=True)


def test_the_page_tells_of_no_bug():
    text = PAGE.read_text(encoding="utf-8")
    table = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    header, counts = table[0], table[2:5]
    for row in counts:
        assert row[header.index("crashed") + 1] == row[header.index("verified and wrong") + 1] == "0", row
