"""The compliance kit: what every target must do, as tests that a plugin inherits.

A plugin's contract test is a few lines in its tests folder:

    from modelexport.testing import Quirks, TargetContract

    class TestOnnx(TargetContract):
        target = "onnx"
        quirks = Quirks(unsupported={"control_flow": "the converter has no cond"})

The tests can't be overridden or deleted, only quirked with a reason: the test is still run, must fail, and
appears with its reason in the support table. Where the target's backend is not installed the tests skip,
unless the environment variable MX_REQUIRE names the target (or `all`): then they fail.
"""

from __future__ import annotations

from .contract import Quirks, TargetContract
from .neighbours import beside
from .specimens import SPECIMENS, Specimen

__all__ = ["SPECIMENS", "Quirks", "Specimen", "TargetContract", "beside"]
