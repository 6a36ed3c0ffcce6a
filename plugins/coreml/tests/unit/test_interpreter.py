"""Each operator of the interpreter, in a program of its own, against PyTorch's function for the same thing."""

import importlib

import numpy as np
import pytest
from modelexport.errors import CannotRunHere

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module", autouse=True)
def libraries(coremltools):
    """What the cases below compute with, by the names that they use; collecting them imports nothing of it."""
    global F, ct, mb, torch, types
    import torch
    from torch.nn import functional as F

    ct, mb = coremltools(), coremltools("converters.mil.mil").Builder
    types = coremltools("converters.mil.mil.types")


def late(name):
    """A function by its full name, imported when it is called."""
    module, _, function = name.rpartition(".")
    return lambda *inputs: getattr(importlib.import_module(module), function)(*inputs)


def floats(*shape, low=-2.0, high=2.0):
    return RANDOM.uniform(low, high, shape).astype(np.float32)


def whole(*shape, low=0, high=5):
    return RANDOM.integers(low, high, shape).astype(np.int32)


def positive(*shape):
    return floats(*shape, low=0.1)


def run(build, *arrays):
    """The outputs of the program that `build` makes of inputs like `arrays`."""
    from modelexport_coreml.interpreter import Interpreter

    kinds = {"float32": types.fp32, "float16": types.fp16, "int32": types.int32, "bool": types.bool}
    specs = [mb.TensorSpec(shape=array.shape, dtype=kinds[array.dtype.name]) for array in arrays]
    takes = {
        0: lambda: build(),
        1: lambda a: build(a),
        2: lambda a, b: build(a, b),
        3: lambda a, b, c: build(a, b, c),
    }
    program = mb.program(input_specs=specs, opset_version=ct.target.iOS18)(takes[len(arrays)])
    interpreter = Interpreter.of(program)
    names = list(program.functions["main"].inputs)
    return list(interpreter(dict(zip(names, arrays, strict=True))).values())


def check(build, reference, *arrays, atol=1e-5):
    with torch.no_grad():
        wanted = reference(*(torch.from_numpy(array) for array in arrays))
    found = run(build, *arrays)
    wanted = wanted if isinstance(wanted, (tuple, list)) else [wanted]
    assert len(found) == len(wanted)
    for got, want in zip(found, wanted, strict=True):
        want = want.numpy()
        assert got.shape == want.shape
        np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), atol=atol, rtol=1e-5)


UNARY = {
    "abs": late("torch.abs"),
    "atan": late("torch.atan"),
    "ceil": late("torch.ceil"),
    "cos": late("torch.cos"),
    "cosh": late("torch.cosh"),
    "erf": late("torch.erf"),
    "exp": late("torch.exp"),
    "exp2": late("torch.exp2"),
    "floor": late("torch.floor"),
    "relu": late("torch.relu"),
    "relu6": late("torch.nn.functional.relu6"),
    "round": late("torch.round"),
    "sigmoid": late("torch.sigmoid"),
    "sign": late("torch.sign"),
    "silu": late("torch.nn.functional.silu"),
    "sin": late("torch.sin"),
    "sinh": late("torch.sinh"),
    "softplus": late("torch.nn.functional.softplus"),
    "softsign": late("torch.nn.functional.softsign"),
    "square": late("torch.square"),
    "tan": late("torch.tan"),
    "tanh": late("torch.tanh"),
    "identity": lambda x: x,
}
NARROW = {"acos": late("torch.acos"), "asin": late("torch.asin"), "atanh": late("torch.atanh")}
BINARY = {
    "add": late("torch.add"),
    "sub": late("torch.sub"),
    "mul": late("torch.mul"),
    "maximum": late("torch.maximum"),
    "minimum": late("torch.minimum"),
    "mod": late("torch.remainder"),
    "real_div": late("torch.div"),
    "floor_div": late("torch.floor_divide"),
    "equal": late("torch.eq"),
    "not_equal": late("torch.ne"),
    "greater": late("torch.gt"),
    "greater_equal": late("torch.ge"),
    "less": late("torch.lt"),
    "less_equal": late("torch.le"),
}
LOGICAL = {
    "logical_and": late("torch.logical_and"),
    "logical_or": late("torch.logical_or"),
    "logical_xor": late("torch.logical_xor"),
}
REDUCE = {
    "reduce_sum": lambda x: x.sum((1, 2), keepdim=True),
    "reduce_mean": lambda x: x.mean((1, 2), keepdim=True),
    "reduce_max": lambda x: x.amax((1, 2), keepdim=True),
    "reduce_min": lambda x: x.amin((1, 2), keepdim=True),
    "reduce_prod": lambda x: x.flatten(1).prod(1).reshape(-1, 1, 1),
    "reduce_l1_norm": lambda x: torch.linalg.vector_norm(x, 1, (1, 2), keepdim=True),
    "reduce_l2_norm": lambda x: torch.linalg.vector_norm(x, 2, (1, 2), keepdim=True),
    "reduce_log_sum": lambda x: x.sum((1, 2), keepdim=True).log(),
    "reduce_log_sum_exp": lambda x: torch.logsumexp(x, (1, 2), keepdim=True),
    "reduce_sum_square": lambda x: (x * x).sum((1, 2), keepdim=True),
}

W4, B4 = floats(4, 3, 3, 3), floats(4)
WT = floats(4, 3, 3, 3)
SEQ, SEQ_C = floats(5, 2, 3), floats(2, 4)
CHANNELS = floats(3)
VARIANCE = positive(3)


def conv_reference(**settings):
    return lambda x: F.conv2d(x, torch.from_numpy(W4), torch.from_numpy(B4), **settings)


#: operator → cases of (program, PyTorch's function, inputs…)
CASES = {
    "pow": [(lambda x: mb.pow(x=x, y=1.5), lambda x: x**1.5, positive(2, 3))],
    "logical_not": [(lambda x: mb.logical_not(x=x), late("torch.logical_not"), whole(2, 3, high=2).astype(bool))],
    "sqrt": [(lambda x: mb.sqrt(x=x), late("torch.sqrt"), positive(2, 3))],
    "log": [(lambda x: mb.log(x=x, epsilon=0.5), lambda x: (x + 0.5).log(), positive(2, 3))],
    "rsqrt": [(lambda x: mb.rsqrt(x=x, epsilon=0.5), lambda x: 1 / (x + 0.5).sqrt(), positive(2, 3))],
    "inverse": [(lambda x: mb.inverse(x=x, epsilon=0.5), lambda x: 1 / (x + 0.5), positive(2, 3))],
    "cast": [
        (lambda x: mb.cast(x=x, dtype="int32"), lambda x: x.int(), floats(3, 3)),
        (lambda x: mb.cast(x=x, dtype="bool"), lambda x: x.bool(), whole(3, 3, high=2)),
        (lambda x: mb.cast(x=x, dtype="fp16"), lambda x: x.half(), floats(3, 3)),
    ],
    "select": [
        (
            lambda c, a, b: mb.select(cond=c, a=a, b=b),
            late("torch.where"),
            whole(2, 3, high=2).astype(bool),
            floats(2, 3),
            floats(2, 3),
        ),
    ],
    "clip": [(lambda x: mb.clip(x=x, alpha=-0.5, beta=1.0), lambda x: x.clamp(-0.5, 1), floats(3, 4))],
    "threshold": [(lambda x: mb.threshold(x=x, alpha=0.3), lambda x: x.clamp(min=0.3), floats(3, 4))],
    "thresholded_relu": [
        (lambda x: mb.thresholded_relu(x=x, alpha=0.3), lambda x: F.threshold(x, 0.3, 0.0), floats(3, 4))
    ],
    "clamped_relu": [
        (
            lambda x: mb.clamped_relu(x=x, alpha=0.1, beta=1.0),
            lambda x: F.leaky_relu(x, 0.1).clamp(max=1),
            floats(3, 4),
        )
    ],
    "elu": [(lambda x: mb.elu(x=x, alpha=0.7), lambda x: F.elu(x, 0.7), floats(3, 4))],
    "leaky_relu": [(lambda x: mb.leaky_relu(x=x, alpha=0.2), lambda x: F.leaky_relu(x, 0.2), floats(3, 4))],
    "prelu": [
        (
            lambda x: mb.prelu(x=x, alpha=CHANNELS),
            lambda x: F.prelu(x, torch.from_numpy(CHANNELS)),
            floats(2, 3, 4, 4),
        )
    ],
    "gelu": [
        (lambda x: mb.gelu(x=x, mode="EXACT"), late("torch.nn.functional.gelu"), floats(3, 4)),
        (lambda x: mb.gelu(x=x, mode="TANH_APPROXIMATION"), lambda x: F.gelu(x, approximate="tanh"), floats(3, 4)),
        (
            lambda x: mb.gelu(x=x, mode="SIGMOID_APPROXIMATION"),
            lambda x: x * torch.sigmoid(1.702 * x),
            floats(3, 4),
        ),
    ],
    "linear_activation": [
        (lambda x: mb.linear_activation(x=x, alpha=2.0, beta=1.0), lambda x: 2 * x + 1, floats(3, 4))
    ],
    "scaled_tanh": [
        (lambda x: mb.scaled_tanh(x=x, alpha=2.0, beta=0.5), lambda x: 2 * torch.tanh(x / 2), floats(3, 4))
    ],
    "sigmoid_hard": [
        (
            lambda x: mb.sigmoid_hard(x=x, alpha=1 / 6, beta=0.5),
            late("torch.nn.functional.hardsigmoid"),
            floats(3, 4, low=-5, high=5),
        )
    ],
    "softplus_parametric": [
        (
            lambda x: mb.softplus_parametric(x=x, alpha=np.float32([1, 2, 3]), beta=np.float32([2, 2, 2])),
            lambda x: torch.tensor([1.0, 2, 3]).reshape(1, 3, 1) * F.softplus(2 * x),
            floats(2, 3, 4),
        ),
    ],
    "softmax": [(lambda x: mb.softmax(x=x, axis=1), lambda x: x.softmax(1), floats(2, 3, 4))],
    "quantize": [
        (
            lambda x: mb.cast(
                x=mb.quantize(input=x, scale=np.float32(0.02), zero_point=np.int8(3), output_dtype="int8"),
                dtype="int32",
            ),
            lambda x: torch.quantize_per_tensor(x, 0.02, 3, torch.qint8).int_repr().int(),
            floats(4, 5),
        ),
    ],
    "dequantize": [
        (
            lambda x: mb.dequantize(
                input=mb.quantize(input=x, scale=CHANNELS_Q, axis=1, output_dtype="uint8"),
                scale=CHANNELS_Q,
                axis=1,
            ),
            lambda x: torch.quantize_per_channel(
                x, torch.from_numpy(CHANNELS_Q), torch.zeros(3), 1, torch.quint8
            ).dequantize(),
            positive(2, 3),
        ),
    ],
    # linear
    "linear": [
        (
            lambda x: mb.linear(x=x, weight=floats_like(5, 3), bias=floats_like(5)),
            lambda x: F.linear(x, *map(torch.from_numpy, (floats_like(5, 3), floats_like(5)))),
            floats(2, 4, 3),
        ),
    ],
    "matmul": [
        (
            lambda x, y: mb.matmul(x=x, y=y, transpose_x=True),
            lambda x, y: x.mT @ y,
            floats(2, 4, 3),
            floats(2, 4, 5),
        ),
        (
            lambda x, y: mb.matmul(x=x, y=y, transpose_y=True),
            lambda x, y: x @ y.mT,
            floats(2, 4, 3),
            floats(2, 5, 3),
        ),
    ],
    "einsum": [
        (
            lambda x, y: mb.einsum(values=(x, y), equation="nchw,nwhu->nchu"),
            lambda x, y: torch.einsum("nchw,nwhu->nchu", x, y),
            floats(2, 3, 4, 5),
            floats(2, 5, 4, 6),
        ),
    ],
    "scaled_dot_product_attention": [
        (
            lambda q, k, v: mb.scaled_dot_product_attention(query=q, key=k, value=v),
            late("torch.nn.functional.scaled_dot_product_attention"),
            floats(2, 3, 4, 5),
            floats(2, 3, 6, 5),
            floats(2, 3, 6, 5),
        ),
        (
            lambda q, k, v: mb.scaled_dot_product_attention(query=q, key=k, value=v, attn_mask=MASK),
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.from_numpy(MASK)),
            floats(2, 3, 4, 5),
            floats(2, 3, 6, 5),
            floats(2, 3, 6, 5),
        ),
    ],
    # convolutions and pools
    "conv": [
        (
            lambda x: mb.conv(x=x, weight=W4, bias=B4, strides=[2, 1], pad_type="custom", pad=[1, 1, 2, 2]),
            conv_reference(stride=(2, 1), padding=(1, 2)),
            floats(2, 3, 9, 8),
        ),
        (
            lambda x: mb.conv(x=x, weight=W4, bias=B4, pad_type="same", dilations=[2, 2]),
            conv_reference(padding="same", dilation=2),
            floats(2, 3, 9, 8),
        ),
        (
            lambda x: mb.conv(x=x, weight=floats_like(6, 1, 3), pad_type="valid", groups=3),
            lambda x: F.conv1d(x, torch.from_numpy(floats_like(6, 1, 3)), groups=3),
            floats(2, 3, 9),
        ),
        (
            lambda x: mb.conv(x=x, weight=floats_like(2, 3, 2, 2, 2), pad_type="valid"),
            lambda x: F.conv3d(x, torch.from_numpy(floats_like(2, 3, 2, 2, 2))),
            floats(2, 3, 4, 5, 6),
        ),
    ],
    "conv_transpose": [
        (
            lambda x: mb.conv_transpose(x=x, weight=WT, strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]),
            lambda x: F.conv_transpose2d(x, torch.from_numpy(WT), stride=2, padding=1),
            floats(2, 4, 5, 6),
        ),
        (
            lambda x: mb.conv_transpose(x=x, weight=WT, strides=[2, 2], pad_type="valid"),
            lambda x: F.conv_transpose2d(x, torch.from_numpy(WT), stride=2),
            floats(2, 4, 5, 6),
        ),
    ],
    "max_pool": [
        (
            lambda x: mb.max_pool(x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]),
            lambda x: F.max_pool2d(x, 3, 2, 1),
            floats(2, 3, 9, 8),
        ),
        (
            lambda x: mb.max_pool(
                x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="custom", pad=[0, 0, 0, 0], ceil_mode=True
            ),
            lambda x: F.max_pool2d(x, 2, 2, ceil_mode=True),
            floats(2, 3, 9, 7),
        ),
        (
            lambda x: mb.max_pool(x=x, kernel_sizes=[3], strides=[1], pad_type="same"),
            lambda x: F.max_pool1d(x, 3, 1, 1),
            floats(2, 3, 9),
        ),
    ],
    "avg_pool": [
        (
            lambda x, excluded=excluded: mb.avg_pool(
                x=x,
                kernel_sizes=[3, 3],
                strides=[2, 2],
                pad_type="custom",
                pad=[1, 1, 1, 1],
                exclude_padding_from_average=excluded,
            ),
            lambda x, excluded=excluded: F.avg_pool2d(x, 3, 2, 1, count_include_pad=not excluded),
            floats(2, 3, 9, 8),
        )
        for excluded in (False, True)
    ]
    + [
        (
            lambda x: mb.avg_pool(
                x=x,
                kernel_sizes=[3, 3],
                strides=[2, 2],
                pad_type="custom",
                pad=[1, 1, 1, 1],
                exclude_padding_from_average=True,
                ceil_mode=True,
            ),
            lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False, ceil_mode=True),
            floats(2, 3, 8, 10),
        ),
    ],
    "l2_pool": [
        (
            lambda x: mb.l2_pool(x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid"),
            lambda x: F.lp_pool2d(x, 2.0, 2),
            positive(2, 3, 8, 8),
        ),
    ],
    # normalizations
    "batch_norm": [
        (
            lambda x: mb.batch_norm(
                x=x, mean=CHANNELS, variance=VARIANCE, gamma=CHANNELS, beta=CHANNELS, epsilon=1e-3
            ),
            lambda x: F.batch_norm(x, *map(torch.from_numpy, (CHANNELS, VARIANCE, CHANNELS, CHANNELS)), eps=1e-3),
            floats(2, 3, 4, 5),
        ),
    ],
    "instance_norm": [
        (
            lambda x: mb.instance_norm(x=x, gamma=CHANNELS, beta=CHANNELS, epsilon=1e-3),
            lambda x: F.instance_norm(
                x, weight=torch.from_numpy(CHANNELS), bias=torch.from_numpy(CHANNELS), eps=1e-3
            ),
            floats(2, 3, 4, 5),
        ),
    ],
    "layer_norm": [
        (
            lambda x: mb.layer_norm(x=x, axes=[-1], gamma=CHANNELS, beta=CHANNELS, epsilon=1e-3),
            lambda x: F.layer_norm(x, (3,), torch.from_numpy(CHANNELS), torch.from_numpy(CHANNELS), 1e-3),
            floats(2, 4, 3),
        ),
        (
            lambda x: mb.layer_norm(x=x, axes=[1, 2], epsilon=1e-3),
            lambda x: F.layer_norm(x, (4, 3), eps=1e-3),
            floats(2, 4, 3),
        ),
    ],
    "l2_norm": [
        (
            lambda x: mb.l2_norm(x=x, epsilon=1e-6),
            lambda x: F.normalize(x.flatten(1), eps=0).reshape(x.shape),
            positive(2, 3, 4, 5),
        ),
    ],
    "local_response_norm": [
        (
            lambda x: mb.local_response_norm(x=x, size=3, alpha=0.1, beta=0.75, k=1.0),
            lambda x: F.local_response_norm(x, 3, 0.1, 0.75, 1.0),
            floats(2, 5, 4, 4),
        ),
    ],
    # reductions
    "reduce_argmax": [
        (lambda x: mb.reduce_argmax(x=x, axis=1, keep_dims=False), lambda x: x.argmax(1), floats(3, 4)),
    ],
    "reduce_argmin": [
        (
            lambda x: mb.reduce_argmin(x=x, axis=1, keep_dims=True),
            lambda x: x.argmin(1, keepdim=True),
            floats(3, 4),
        ),
    ],
    "cumsum": [
        (lambda x: mb.cumsum(x=x, axis=1), lambda x: x.cumsum(1), floats(3, 4)),
        (
            lambda x: mb.cumsum(x=x, axis=1, exclusive=True, reverse=True),
            lambda x: x.flip(1).cumsum(1).flip(1) - x,
            floats(3, 4),
        ),
    ],
    "argsort": [
        (lambda x: mb.argsort(x=x, axis=1, ascending=True), lambda x: x.argsort(1), floats(3, 7)),
        (lambda x: mb.argsort(x=x, axis=0), lambda x: x.argsort(0, descending=True), floats(7, 3)),
    ],
    "topk": [
        (lambda x: mb.topk(x=x, k=3, axis=1), lambda x: tuple(x.topk(3, 1)), floats(3, 7)),
        (
            lambda x: mb.topk(x=x, k=2, axis=0, ascending=True),
            lambda x: tuple(x.topk(2, 0, largest=False)),
            floats(7, 3),
        ),
    ],
    # shapes
    "shape": [(lambda x: mb.shape(x=mb.relu(x=x)), lambda x: torch.tensor(x.shape), floats(2, 3, 4))],
    "reshape": [(lambda x: mb.reshape(x=x, shape=[0, -1]), lambda x: x.flatten(1), floats(2, 3, 4))],
    "transpose": [(lambda x: mb.transpose(x=x, perm=[2, 0, 1]), lambda x: x.permute(2, 0, 1), floats(2, 3, 4))],
    "expand_dims": [
        (lambda x: mb.expand_dims(x=x, axes=[0, -1]), lambda x: x[None, :, :, None], floats(2, 3)),
    ],
    "squeeze": [(lambda x: mb.squeeze(x=x, axes=[0, 2]), lambda x: x[0, :, 0], floats(1, 3, 1, 2))],
    "flatten2d": [(lambda x: mb.flatten2d(x=x, axis=2), lambda x: x.reshape(6, 20), floats(2, 3, 4, 5))],
    "concat": [
        (
            lambda x, y: mb.concat(values=[x, y], axis=1),
            lambda x, y: torch.cat([x, y], 1),
            floats(2, 3),
            floats(2, 4),
        ),
        (
            lambda x, y: mb.concat(values=[x, y], axis=1, interleave=True),
            lambda x, y: torch.stack([x, y], 2).flatten(1),
            floats(2, 3),
            floats(2, 3),
        ),
    ],
    "stack": [
        (
            lambda x, y: mb.stack(values=[x, y], axis=1),
            lambda x, y: torch.stack([x, y], 1),
            floats(2, 3),
            floats(2, 3),
        )
    ],
    "split": [
        (lambda x: mb.split(x=x, num_splits=3, axis=1), lambda x: x.chunk(3, 1), floats(2, 6)),
        (lambda x: mb.split(x=x, split_sizes=[1, 5], axis=-1), lambda x: x.split([1, 5], 1), floats(2, 6)),
    ],
    "slice_by_index": [
        (
            lambda x: mb.slice_by_index(
                x=x,
                begin=[0, -3, 5],
                end=[0, -1, 0],
                stride=[1, 1, -2],
                begin_mask=[True, False, False],
                end_mask=[True, False, True],
            ),
            lambda x: x[:, -3:-1].flip(2)[:, :, ::2],
            floats(2, 4, 6),
        ),
        (
            lambda x: mb.slice_by_index(x=x, begin=[1, 0], end=[2, 4], squeeze_mask=[True, False], stride=[1, 3]),
            lambda x: x[1, 0:4:3],
            floats(2, 4),
        ),
    ],
    "slice_update": [
        (
            lambda x, y: mb.slice_update(x=x, update=y, begin=[0, 1], end=[2, 3]),
            lambda x, y: torch.slice_scatter(x, y, 1, 1, 3),
            floats(2, 4),
            floats(2, 2),
        ),
    ],
    "slice_by_size": [
        (lambda x: mb.slice_by_size(x=x, begin=[0, 1], size=[-1, 2]), lambda x: x[:, 1:3], floats(2, 4))
    ],
    "crop": [
        (
            lambda x: mb.crop(x=x, crop_height=[1, 2], crop_width=[0, 1]),
            lambda x: x[..., 1:-2, :-1],
            floats(1, 2, 6, 5),
        ),
    ],
    "reverse": [(lambda x: mb.reverse(x=x, axes=[1]), lambda x: x.flip(1), floats(2, 4))],
    "tile": [(lambda x: mb.tile(x=x, reps=[2, 3]), lambda x: x.tile(2, 3), floats(2, 4))],
    "pad": [
        (
            lambda x: mb.pad(x=x, pad=[1, 2, 0, 3], mode="constant", constant_val=0.5),
            lambda x: F.pad(x, (0, 3, 1, 2), value=0.5),
            floats(2, 3, 4),
        ),
        (
            lambda x: mb.pad(x=x, pad=[1, 2, 3, 3], mode="reflect"),
            lambda x: F.pad(x, (3, 3, 1, 2), "reflect"),
            floats(1, 2, 4, 5),
        ),
        (
            lambda x: mb.pad(x=x, pad=[1, 2, 3, 3], mode="replicate"),
            lambda x: F.pad(x, (3, 3, 1, 2), "replicate"),
            floats(1, 2, 4, 5),
        ),
    ],
    "fill": [
        (lambda x: mb.fill(shape=mb.shape(x=x), value=1.5), lambda x: torch.full(x.shape, 1.5), floats(2, 3))
    ],
    "fill_like": [
        (lambda x: mb.fill_like(ref_tensor=x, value=1.5), lambda x: torch.full(x.shape, 1.5), floats(2, 3))
    ],
    "range_1d": [
        (
            lambda x: mb.range_1d(start=1, end=mb.squeeze(x=x, axes=[0]), step=3),
            lambda x: torch.arange(1, int(x), 3),
            np.int32([9]),
        ),
    ],
    "band_part": [
        (lambda x: mb.band_part(x=x, lower=-1, upper=0), late("torch.tril"), floats(4, 4)),
        (lambda x: mb.band_part(x=x, lower=1, upper=1), lambda x: x.triu(-1).tril(1), floats(4, 4)),
    ],
    "sliding_windows": [
        (lambda x: mb.sliding_windows(x=x, axis=1, size=3, stride=2), lambda x: x.unfold(1, 3, 2), floats(2, 9)),
    ],
    "pixel_shuffle": [
        (lambda x: mb.pixel_shuffle(x=x, upscale_factor=2), lambda x: F.pixel_shuffle(x, 2), floats(1, 8, 3, 4))
    ],
    "pixel_unshuffle": [
        (
            lambda x: mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)),
            lambda x: F.pixel_unshuffle(x, 2),
            floats(1, 2, 6, 4),
        ),
    ],
    "depth_to_space": [
        (
            lambda x: mb.space_to_depth(x=mb.depth_to_space(x=x, block_size=2), block_size=2),
            lambda x: x,
            floats(1, 8, 3, 4),
        ),
        (
            lambda x: mb.depth_to_space(x=x, block_size=2),
            lambda x: F.pixel_shuffle(x.unflatten(1, (4, 2)).transpose(1, 2).flatten(1, 2), 2),
            floats(1, 8, 3, 4),
        ),
    ],
    "space_to_depth": [
        (
            lambda x: mb.space_to_depth(x=x, block_size=2),
            lambda x: F.pixel_unshuffle(x, 2).unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2),
            floats(1, 2, 6, 4),
        ),
    ],
    # gathering and scattering
    "gather": [
        (
            lambda x, i: mb.gather(x=x, indices=i, axis=1),
            lambda x, i: x[:, i.long()],
            floats(2, 5, 3),
            whole(4, 2),
        ),
        (lambda x: mb.gather(x=x, indices=np.int32([-1, 0]), axis=0), lambda x: x[[-1, 0]], floats(3, 2)),
        (
            lambda x, i: mb.gather(x=x, indices=i, axis=1, batch_dims=1),
            lambda x, i: torch.stack([row[at.long()] for row, at in zip(x, i, strict=True)]),
            floats(2, 5, 3),
            whole(2, 4),
        ),
    ],
    "gather_along_axis": [
        (
            lambda x, i: mb.gather_along_axis(x=x, indices=i, axis=1),
            lambda x, i: x.gather(1, i.long()),
            floats(2, 5),
            whole(2, 7),
        ),
    ],
    "gather_nd": [
        (
            lambda x, i: mb.gather_nd(x=x, indices=i),
            lambda x, i: x[i[:, 0].long(), i[:, 1].long()],
            floats(5, 6, 2),
            whole(4, 2),
        ),
        (
            lambda x, i: mb.gather_nd(x=x, indices=i, batch_dims=1),
            lambda x, i: torch.stack([row[at[:, 0].long()] for row, at in zip(x, i, strict=True)]),
            floats(2, 5, 3),
            whole(2, 4, 1),
        ),
    ],
    "scatter": [
        (
            lambda x, u: mb.scatter(data=x, indices=np.int32([3, 0]), updates=u, axis=1, mode="add"),
            lambda x, u: x.index_add(1, torch.tensor([3, 0]), u),
            floats(2, 5),
            floats(2, 2),
        ),
        (
            lambda x, u: mb.scatter(data=x, indices=np.int32([3, 0]), updates=u, axis=0, mode="update"),
            lambda x, u: x.index_copy(0, torch.tensor([3, 0]), u),
            floats(5, 2),
            floats(2, 2),
        ),
    ],
    "scatter_along_axis": [
        (
            lambda x, i, u, mode=mode: mb.scatter_along_axis(data=x, indices=i, updates=u, axis=1, mode=mode),
            lambda x, i, u, reduce=reduce: x.scatter_reduce(1, i.long(), u, reduce),
            positive(2, 5),
            whole(2, 3),
            positive(2, 3),
        )
        for mode, reduce in (("add", "sum"), ("mul", "prod"), ("max", "amax"), ("min", "amin"))
    ],
    "scatter_nd": [
        (
            lambda x, u: mb.scatter_nd(data=x, indices=np.int32([[1, 2], [0, 0]]), updates=u, mode="update"),
            lambda x, u: x.index_put((torch.tensor([1, 0]), torch.tensor([2, 0])), u),
            floats(3, 4),
            floats(2),
        ),
    ],
    "non_zero": [(lambda x: mb.non_zero(x=x), late("torch.nonzero"), whole(3, 4, high=2))],
    "one_hot": [
        (
            lambda i: mb.one_hot(indices=i, one_hot_vector_size=5, axis=-1, on_value=1.0, off_value=0.0),
            lambda i: F.one_hot(i.long(), 5),
            whole(2, 3),
        ),
    ],
    # resizing
    "upsample_nearest_neighbor": [
        (
            lambda x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=3),
            lambda x: F.interpolate(x, scale_factor=(2, 3)),
            floats(1, 2, 3, 4),
        ),
    ],
    "resize_nearest_neighbor": [
        (
            lambda x: mb.resize_nearest_neighbor(x=x, target_size_height=5, target_size_width=7),
            lambda x: F.interpolate(x, size=(5, 7)),
            floats(1, 2, 3, 4),
        ),
    ],
    "upsample_bilinear": [
        (
            lambda x, corners=corners: mb.upsample_bilinear(
                x=x, scale_factor_height=2.0, scale_factor_width=3.0, align_corners=corners
            ),
            lambda x, corners=corners: F.interpolate(
                x, scale_factor=(2, 3), mode="bilinear", align_corners=corners
            ),
            floats(1, 2, 3, 4),
        )
        for corners in (True, False)
    ],
    "resize_bilinear": [
        (
            lambda x, mode=mode: mb.resize_bilinear(
                x=x, target_size_height=5, target_size_width=7, sampling_mode=mode
            ),
            lambda x, corners=corners: F.interpolate(x, size=(5, 7), mode="bilinear", align_corners=corners),
            floats(1, 2, 3, 4),
        )
        for mode, corners in (("STRICT_ALIGN_CORNERS", True), ("UNALIGN_CORNERS", False))
    ],
    "resize": [
        (
            lambda x: mb.resize(
                x=x,
                shape=[5, 7],
                resized_dims=np.uint32(2),
                interpolation_mode="LINEAR",
                sampling_mode="UNALIGN_CORNERS",
            ),
            lambda x: F.interpolate(x, size=(5, 7), mode="bilinear"),
            floats(1, 2, 3, 4),
        ),
    ],
    "resample": [
        (
            lambda x, at: mb.resample(
                x=x,
                coordinates=at,
                sampling_mode="bilinear",
                padding_mode="constant",
                padding_value=0.0,
                coordinates_mode="normalized_minus_one_to_one",
                align_corners=True,
            ),
            lambda x, at: F.grid_sample(x, at, align_corners=True),
            floats(1, 2, 5, 6),
            floats(1, 3, 4, 2, low=-1.2),
        ),
    ],
}


def floats_like(*shape):
    return np.random.default_rng(sum(shape)).uniform(-1, 1, shape).astype(np.float32)


CHANNELS_Q = np.float32([0.01, 0.02, 0.03])
MASK = RANDOM.integers(0, 2, (2, 3, 4, 6)).astype(bool)
MASK[..., 0] = True

for name, function in UNARY.items():
    CASES[name] = [(lambda x, op=name: getattr(mb, op)(x=x), function, floats(3, 4))]
for name, function in NARROW.items():
    CASES[name] = [(lambda x, op=name: getattr(mb, op)(x=x), function, floats(3, 4, low=-0.9, high=0.9))]
for name, function in BINARY.items():
    CASES[name] = [
        (lambda x, y, op=name: getattr(mb, op)(x=x, y=y), function, floats(3, 4), positive(4)),
        (lambda x, y, op=name: getattr(mb, op)(x=x, y=y), function, whole(3, 4), whole(4, low=1)),
    ]
    if name == "real_div":
        CASES[name].pop()
for name, function in LOGICAL.items():
    CASES[name] = [
        (
            lambda x, y, op=name: getattr(mb, op)(x=x, y=y),
            function,
            whole(3, 4, high=2).astype(bool),
            whole(3, 4, high=2).astype(bool),
        )
    ]
for name, function in REDUCE.items():
    build = lambda x, op=name: getattr(mb, op)(x=x, axes=[1, -1], keep_dims=True)  # noqa: E731
    CASES[name] = [(build, function, positive(3, 4, 5))]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{name}-{index}") for name in CASES for index, case in enumerate(CASES[name])]
)
def test_operator_computes_what_pytorch_does(case):
    build, reference, *arrays = case
    check(build, reference, *arrays)


# --------------------------------------------------------------------------------------- recurrence


def gates(weight, order):
    parts = weight.detach().numpy().reshape(len(order), -1, *weight.shape[1:])
    return np.concatenate([parts[index] for index in order])


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("sequence", [True, False])
def test_lstm_computes_what_pytorch_does(direction, sequence):
    both = direction == "bidirectional"
    torch.manual_seed(0)
    net = torch.nn.LSTM(3, 4, bidirectional=both)
    order = (0, 1, 3, 2)  # PyTorch: input, forget, cell, output

    def weights(suffix):
        bias = getattr(net, f"bias_ih_l0{suffix}") + getattr(net, f"bias_hh_l0{suffix}")
        return [
            gates(w, order)
            for w in (getattr(net, f"weight_ih_l0{suffix}"), getattr(net, f"weight_hh_l0{suffix}"), bias)
        ]

    ih, hh, bias = weights("")
    more = {}
    if both:
        more = dict(zip(("weight_ih_back", "weight_hh_back", "bias_back"), weights("_reverse"), strict=True))
    x, h, c = floats(5, 2, 3), floats(2 if both else 1, 2, 4), floats(2 if both else 1, 2, 4)
    side = [np.concatenate(list(state), -1) for state in (h, c)]

    def build(x):
        return mb.lstm(
            x=x,
            initial_h=side[0],
            initial_c=side[1],
            weight_ih=ih,
            weight_hh=hh,
            bias=bias,
            direction=direction,
            output_sequence=sequence,
            **more,
        )

    def reference(x):
        x = x.flip(0) if direction == "reverse" else x
        steps, (hidden, cell) = net(x, (torch.from_numpy(h), torch.from_numpy(c)))
        hidden, cell = (torch.cat(list(state), -1) for state in (hidden, cell))
        steps = steps.flip(0) if direction == "reverse" else steps
        return (steps if sequence else hidden[None]), hidden, cell

    check(build, reference, x)


def test_simple_recurrence_computes_what_pytorch_does():
    torch.manual_seed(0)
    net = torch.nn.RNN(3, 4)
    ih, hh = (w.detach().numpy() for w in (net.weight_ih_l0, net.weight_hh_l0))
    bias = (net.bias_ih_l0 + net.bias_hh_l0).detach().numpy()
    h = floats(1, 2, 4)

    def build(x):
        return mb.rnn(x=x, initial_h=h[0], weight_ih=ih, weight_hh=hh, bias=bias, output_sequence=True)

    check(build, lambda x: (lambda steps, last: (steps, last[0]))(*net(x, torch.from_numpy(h))), floats(5, 2, 3))


def test_gru_with_its_two_biases_computes_what_pytorch_does():
    torch.manual_seed(0)
    net = torch.nn.GRU(3, 4)
    order = (0, 2, 1)  # PyTorch: reset, update, new
    ih, hh, b_ih, b_hh = (gates(w, order) for w in net.parameters())
    h = floats(1, 2, 4)

    def build(x):
        return mb.gru(
            x=x,
            initial_h=h[0],
            weight_ih=ih,
            weight_hh=hh,
            bias=b_hh,
            input_bias=b_ih,
            reset_after=True,
            output_sequence=True,
        )

    check(build, lambda x: (lambda steps, last: (steps, last[0]))(*net(x, torch.from_numpy(h))), floats(5, 2, 3))


# --------------------------------------------------------------------------------------- compressed weights


def test_integers_with_a_scale_for_each_block():
    data = RANDOM.integers(-128, 128, (4, 6)).astype(np.int8)
    scale, offset = positive(4, 2), RANDOM.integers(-9, 9, (4, 2)).astype(np.int8)
    wide = (data.astype(np.float32) - offset.repeat(3, 1)) * scale.repeat(3, 1)

    def build(x):
        return mb.add(x=x, y=mb.constexpr_blockwise_shift_scale(data=data, scale=scale, offset=offset))

    check(build, lambda x: x + torch.from_numpy(wide), floats(4, 6))


def test_integers_with_a_scale_for_each_channel():
    data = RANDOM.integers(0, 255, (4, 6)).astype(np.uint8)
    scale, zero = positive(4), RANDOM.integers(0, 9, 4).astype(np.uint8)
    wide = (data.astype(np.float32) - zero[:, None]) * scale[:, None]

    def build(x):
        weight = mb.constexpr_affine_dequantize(quantized_data=data, zero_point=zero, scale=scale, axis=0)
        return mb.add(x=x, y=weight)

    check(build, lambda x: x + torch.from_numpy(wide), floats(4, 6))


def test_indices_into_a_table_for_each_group():
    indices = RANDOM.integers(0, 4, (6, 2)).astype(types.np_uint2_dtype)
    lut = floats(2, 1, 4, 1)
    wide = np.stack([lut[row // 3, 0, indices[row].astype(int), 0] for row in range(6)])
    build = lambda x: mb.add(x=x, y=mb.constexpr_lut_to_dense(indices=indices, lut=lut))  # noqa: E731
    check(build, lambda x: x + torch.from_numpy(wide), floats(6, 2))


def test_indices_into_a_table_of_vectors():
    indices = RANDOM.integers(0, 2, (2, 3)).astype(types.np_uint1_dtype)
    lut = floats(1, 1, 2, 2)
    wide = lut[0, 0][indices.astype(int)].transpose(0, 2, 1).reshape(4, 3)

    def build(x):
        return mb.add(x=x, y=mb.constexpr_lut_to_dense(indices=indices, lut=lut, vector_axis=0))

    check(build, lambda x: x + torch.from_numpy(wide), floats(4, 3))


def test_a_mask_and_what_it_leaves():
    mask = RANDOM.integers(0, 2, (4, 5)).astype(types.np_uint1_dtype)
    values = floats(int(mask.astype(int).sum()))
    wide = np.zeros((4, 5), np.float32)
    wide[mask.astype(bool)] = values
    build = lambda x: mb.add(x=x, y=mb.constexpr_sparse_to_dense(nonzero_data=values, mask=mask))  # noqa: E731
    check(build, lambda x: x + torch.from_numpy(wide), floats(4, 5))


@pytest.mark.parametrize("kind", ["table", "scale"])
def test_a_mask_over_compressed_values(kind):
    mask = RANDOM.integers(0, 2, (4, 6)).astype(types.np_uint1_dtype)
    count, wide = int(mask.astype(int).sum()), np.zeros((4, 6), np.float32)
    scale, lut = positive(4, 1), floats(1, 1, 4, 1)
    indices = RANDOM.integers(0, 4, count).astype(types.np_uint2_dtype)
    data = RANDOM.integers(-128, 128, count).astype(np.int8)
    if kind == "table":
        wide[mask.astype(bool)] = lut[0, 0, indices.astype(int), 0]
    else:
        wide[mask.astype(bool)] = data
        wide *= scale

    def build(x):
        if kind == "table":
            parts = mb.constexpr_lut_to_sparse(indices_mask=mask, indices_nonzero_data=indices, lut=lut)
        else:
            parts = mb.constexpr_sparse_blockwise_shift_scale(data_mask=mask, nonzero_data=data, scale=scale)
        return mb.add(x=x, y=mb.constexpr_sparse_to_dense(nonzero_data=parts[1], mask=parts[0]))

    check(build, lambda x: x + torch.from_numpy(wide), floats(4, 6))


def test_a_cast_at_compile_time():
    value = floats(3).astype(np.float16)
    build = lambda x: mb.add(x=x, y=mb.constexpr_cast(source_val=value, output_dtype="fp32"))  # noqa: E731
    check(build, lambda x: x + torch.from_numpy(value).float(), floats(3))


# --------------------------------------------------------------------------------------- the program around them


def test_every_operator_has_a_test():
    from modelexport_coreml.interpreter.registry import OPERATORS

    elsewhere = {"lstm", "gru", "rnn"} | {name for name in OPERATORS if name.startswith("constexpr_")}
    assert set(OPERATORS) == set(CASES) | elsewhere


def test_half_precision_is_computed_wide_and_stored_narrow():
    x, y = floats(64, 64).astype(np.float16), floats(64, 64).astype(np.float16)
    (found,) = run(lambda a, b: mb.matmul(x=a, y=b), x, y)
    assert found.dtype == np.float16
    wide = torch.from_numpy(x).float() @ torch.from_numpy(y).float()
    np.testing.assert_array_equal(found, wide.half().numpy())
    (overflow,) = run(lambda a: mb.mul(x=a, y=np.float16(1000)), np.full(2, 100, np.float16))
    assert np.isinf(overflow).all()


def test_branches_and_loops():
    def branch(x, at):
        positive = mb.squeeze(x=mb.greater(x=at, y=0), axes=[0])
        return mb.cond(pred=positive, _true_fn=lambda: mb.mul(x=x, y=2.0), _false_fn=lambda: mb.sub(x=x, y=1.0))

    x = floats(2, 3)
    np.testing.assert_allclose(run(branch, x, np.int32([1]))[0], x * 2)
    np.testing.assert_allclose(run(branch, x, np.int32([-1]))[0], x - 1)

    def loop(x):
        step = lambda i, y: (mb.add(x=i, y=1), mb.mul(x=y, y=2.0))  # noqa: E731
        return mb.while_loop(_cond=lambda i, y: mb.less(x=i, y=3), _body=step, loop_vars=(np.int32(0), x))[1]

    np.testing.assert_allclose(run(loop, x)[0], x * 8)


def test_an_operator_that_it_lacks_is_named():
    x = floats(1, 3)
    with pytest.raises(CannotRunHere, match=r"no interpreter for operator random_normal.*macOS only"):
        run(lambda a: mb.add(x=a, y=mb.random_normal(shape=mb.shape(x=a))), x)
