"""What torch.onnx would write otherwise than asked, and is refused."""

import modelexport as mx
import pytest
import torch
from modelexport.errors import ConversionError


class Spectrum(torch.nn.Module):
    def __init__(self, real):
        super().__init__()
        self.real = real

    def forward(self, x):
        spectrum = torch.fft.rfft(x)
        return torch.view_as_real(spectrum) if self.real else spectrum


def test_complex_outputs_are_refused_with_the_way_out(tmp_path):
    inputs = ["x:float32[batch=1..4,16]"]
    with pytest.raises(ConversionError, match=r"output 'output' is complex64.*view_as_real"):
        mx.export(Spectrum(real=False), "onnx", tmp_path, inputs=inputs)
    (artifact,) = mx.export(Spectrum(real=True), "onnx", tmp_path, inputs=inputs)
    assert artifact.parity.verified is True
