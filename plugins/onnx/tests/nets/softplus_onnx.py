"""Its translation to ONNX, for `--register softplus_onnx`."""

import modelexport_onnx
import softplus_op  # noqa: F401  the operator must exist before it can be named
import torch
from onnxscript import opset18 as op


def translate(x, shift: float):
    return op.Sub(op.Softplus(x), op.Constant(value_float=shift))


modelexport_onnx.register(torch.ops.nets.shifted_softplus.default, translate)
