"""What holds for every test here: which are slow, in which order they run, and that none hides behind a skip.

Slow follows from the folder: what lies in `contract/` or `system/` exports real models, what lies in `unit/` does
not; `make test-fast` leaves out what is slow. With MX_REQUIRE=all, a test that skips for what is missing fails: a
green run can't come from skipping.
"""

import os
import re

import pytest
from modelexport.testing.contract import AHEAD_OF_TIME, NO_VERB

from docs.pages import pytest_collect_file  # noqa: F401  a hook: pages of the documentation are tests

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

#: folders of tests that take long
SLOW = {"contract", "system", "docs"}

#: files that take minutes run first: of two processes, none is left alone with one of them at the end
LONG = (
    "test_real_models.py",
    "test_coverage.py",
    "test_real_quantize.py",
    "test_exports.py",
    "test_optimize.py",
    "test_devices.py",
    "test_quantize.py",
    "test_sources.py",
    "test_compile_late.py",
    "test_smollm2.py",
    "test_models.py",
    "tensorrt.md",
    "compiling-plugin.md",
    "coreml.md",
    "tensorrt-llm.md",
)


def pytest_collection_modifyitems(config, items):
    for item in items:
        if SLOW & set(item.path.relative_to(config.rootpath).parts) or item.path.suffix == ".md":
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def _refuse(report):
    if os.environ.get("MX_REQUIRE") != "all" or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
    if not FINE.fullmatch(reason):
        report.outcome = "failed"
        report.longrepr = f"skipped, though MX_REQUIRE=all: {reason or report.longrepr}"


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
