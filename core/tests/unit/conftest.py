"""Unit tests share one process for their verifications: starting one takes longer than most of what they test.

It is replaced by a fresh one when it died or the environment changed. That each verification has a process of its
own is tested in core/tests/system.
"""

import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

#: variables that make no difference to a verification
IDLE = {"PYTEST_CURRENT_TEST", "TOY_LOG", "MARK"}


class Keeper:
    """Stands in for `worker.start`, and gives the same child again where that is as good."""

    def __init__(self):
        self.stack, self.child, self.environment = ExitStack(), None, {}

    @contextmanager
    def start(self, doing, environment=None):
        from modelexport.gate import worker

        now = {name: value for name, value in os.environ.items() if name not in IDLE}
        if self.child is None or not self.child.alive or self.environment != now:
            self.stop()
            self.child, self.environment = self.stack.enter_context(worker.start(doing, environment)), now
        yield self.child

    def stop(self):
        self.stack.close()
        self.child = None


KEEPER = Keeper()


@pytest.fixture(scope="module", autouse=True)
def shared_gate():
    from modelexport.gate import verify

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "worker", SimpleNamespace(start=KEEPER.start))
        yield


def pytest_runtest_teardown(nextitem):
    """The process ends with the last of these tests."""
    if nextitem is None or Path(__file__).parent not in nextitem.path.parents:
        KEEPER.stop()
