"""A translation that forgets the shift."""

import modelexport_onnx
import softplus_op  # noqa: F401  the operator must exist before it can be named
import torch
from onnxscript import opset18 as op


def translate(x, shift: float):
    return op.Softplus(x)


modelexport_onnx.register(torch.ops.nets.shifted_softplus.default, translate)
