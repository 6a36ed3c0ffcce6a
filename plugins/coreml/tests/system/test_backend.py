"""The import of coremltools, in a process of its own: quick, quiet, and nothing stays hidden."""

import json
import subprocess
import sys

import pytest

CODE = """
import importlib.util, json, sys
from modelexport_coreml import backend
backend.coremltools()
hidden = [name for name in backend._SUPPORTED if importlib.util.find_spec(name)]
print(json.dumps({"imported": sorted(name for name in hidden if name in sys.modules), "installed": hidden}))
"""


@pytest.mark.parametrize("before", ["", "import scipy"])
def test_what_coremltools_merely_supports_is_neither_imported_nor_hidden_for_good(before, ct):
    done = subprocess.run([sys.executable, "-c", before + CODE], capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert answer["imported"] == (["scipy"] if before else [])
    assert "scipy" in answer["installed"]
    assert done.stderr == ""
