"""Unit tests share one process for their verifications: starting one takes longer than most of what they test.

It is replaced by a fresh one when it died or the environment changed. That each verification has a process of its
own is tested in core/tests/system.
"""

import os
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest

#: variables that make no difference to a verification
IDLE = {"PYTEST_CURRENT_TEST", "TOY_LOG", "MARK"}


@pytest.fixture(scope="session")
def kept_child():
    """Stands in for `worker.start`, and gives the same child again where that is as good."""
    from modelexport.gate import worker

    kept = {}

    @contextmanager
    def start(doing, environment=None):
        now = {name: value for name, value in os.environ.items() if name not in IDLE}
        if not kept or not kept["child"].alive or kept["environment"] != now:
            stack.close()
            kept.update(child=stack.enter_context(worker.start(doing, environment)), environment=now)
        yield kept["child"]

    with ExitStack() as stack:
        yield start


@pytest.fixture(scope="module", autouse=True)
def shared_gate(kept_child):
    from modelexport.gate import verify

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "worker", SimpleNamespace(start=kept_child))
        yield
