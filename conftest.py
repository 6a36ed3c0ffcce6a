"""With MX_REQUIRE=all, a test that skips for what is missing fails: a green run can't come from skipping.

Files that take minutes come first: of two processes, none is left alone with one of them at the end.
"""

import os
import re

import pytest
from modelexport.testing.contract import AHEAD_OF_TIME, NO_VERB

#: whole reasons that are no lack: a verb that a target does not have, a target that says it need not run here, a
#: machine that has more than the test is about
FINE = re.compile(
    "|".join(
        (
            re.escape(NO_VERB).replace(re.escape("{verb}"), r"\w+"),
            re.escape(AHEAD_OF_TIME),
            r"this machine has (a GPU|CUDA|both flavours|TensorRT-LLM)",
        )
    )
)

#: the slowest first
LONG = ("test_docs.py", "test_coverage.py", "test_devices.py", "test_real_quantize.py", "test_coreml.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def _refuse(report):
    if os.environ.get("MX_REQUIRE") != "all" or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
    if not FINE.fullmatch(reason):
        report.outcome, report.longrepr = "failed", f"skipped, though MX_REQUIRE=all: {reason or report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    _refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    _refuse(report)
    return report
