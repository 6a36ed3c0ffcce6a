"""What is wrong with options alone is said before any work."""

import pytest
from modelexport.contract import build_options
from modelexport.errors import OptionError
from modelexport_tflite import ExportOptions, QuantizeOptions, RunOptions


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (RunOptions, {"threads": "-1"}, "threads=-1"),
        (QuantizeOptions, {"mode": "static", "bits": "4"}, "bits=4 does not go with mode=static"),
        (QuantizeOptions, {"mode": "float16", "bits": "4"}, "bits=4 does not go with mode=float16"),
        (
            QuantizeOptions,
            {"mode": "dynamic", "io": "integer"},
            "io=integer goes with mode=static, not mode=dynamic",
        ),
        (QuantizeOptions, {"mode": "auto", "io": "integer", "bits": "4"}, "io=integer .* no bits=4"),
        (ExportOptions, {"layout": "hwc"}, "layout=hwc is not allowed"),
    ],
)
def test_what_can_never_be_is_refused(kind, values, said):
    with pytest.raises(OptionError, match=said):
        build_options(kind, values, "tflite")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (RunOptions, {"threads": "0", "delegate": "reference"}),
        (QuantizeOptions, {"mode": "weight-only", "bits": "4"}),
        (QuantizeOptions, {"mode": "auto", "bits": "4"}),
        (QuantizeOptions, {"mode": "auto", "io": "integer"}),
        (QuantizeOptions, {"mode": "static", "io": "integer", "exclude": "a*,b"}),
    ],
)
def test_what_may_be_is_taken(kind, values):
    build_options(kind, values, "tflite")
