"""What is wrong with options alone is said before anything is imported or loaded."""

import subprocess
import sys

import pytest
from modelexport.contract import build_options
from modelexport.errors import OptionError
from modelexport_torchscript import OptimizeOptions, RunOptions


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (RunOptions, {"threads": "-1"}, "threads=-1 makes no sense"),
        (RunOptions, {"device": "gpu"}, "device=gpu is not allowed"),
        (OptimizeOptions, {"method": "fast"}, "method=fast is not allowed"),
    ],
)
def test_wrong_options_are_refused(kind, values, message):
    with pytest.raises(OptionError, match=message):
        build_options(kind, values, "target 'torchscript'")


def test_describing_the_plugin_and_refusing_a_reference_import_nothing_heavy():
    code = (
        "import sys, modelexport_torchscript as p; from modelexport.contract import LoadOptions; p.mx_target()\n"
        "assert p.mx_load(ref='some/model', options=LoadOptions()) is None\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
