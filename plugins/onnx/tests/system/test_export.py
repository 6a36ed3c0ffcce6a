"""What torch.onnx would write otherwise than asked, and is refused."""

import modelexport as mx
import pytest
from modelexport.errors import ConversionError


def test_complex_outputs_are_refused_with_the_way_out(nets, tmp_path):
    inputs = ["x:float32[batch=1..4,16]"]
    with pytest.raises(ConversionError, match=r"output 'output' is complex64.*view_as_real"):
        mx.export(nets.Spectrum(real=False), "onnx", tmp_path, inputs=inputs)
    (artifact,) = mx.export(nets.Spectrum(real=True), "onnx", tmp_path, inputs=inputs)
    assert artifact.parity.verified is True
