"""float32 → float16 or bfloat16, node by node; inputs and outputs of the model stay float32.

A node stays in float32 when ONNX Runtime's schema of its operator does not take the dtype, or when it writes or
reads a number too large for it, or nothing but numbers so small that they become zero. The first is looked up, the
others measured by running the golden data through the float32 model. Infinities are the same in every dtype, so a
mask of -inf keeps nothing; one of -3.4e38 does.

ONNX Runtime's own converter (`onnxruntime.transformers.float16`) is not used: two nodes kept in float32 that read
one tensor, or one node that reads it twice, make it write an invalid model (1.31), it needs shapes that ONNX can't
infer through fused operators, and it knows no bfloat16.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from modelexport.errors import ConversionError, OptionError, first_line, is_disk_error
from modelexport.toolkit import GoldenCase

from . import modelfile

Half = Literal["float16", "bfloat16"]

#: the largest finite number
LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38}

#: what is smaller than this becomes zero: a guard against dividing by it is none any more
SMALLEST = {"float16": 2.0**-25, "bfloat16": 2.0**-134}

#: constants below this say "never"; nothing is computed with them
_NEVER = -1e30

#: what gives the smallest of its inputs on
_HANDING_ON = {"Max", "Clip", "Expand", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Cast", "Sqrt"}

#: what may lie between such a constant and the softmax that makes zero of it
_MASKING = {"Where", "Mul", "Add", "Expand", "Unsqueeze", "Squeeze", "Reshape", "Transpose", "Slice", "Cast"}
_SOFTMAX = {"Softmax", "Attention", "MultiHeadAttention"}

#: a model that computes none of these in half precision has gained nothing but casts
_HEAVY = {"MatMul", "Gemm", "Conv", "ConvTranspose", "LSTM", "GRU", *_SOFTMAX} - {"Softmax"}

#: their scales and zero points are what a quantizer chose
_QUANTIZERS = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}

#: the dtype of what these write is in an attribute that is changed with them
_TYPED = {"Cast", "ConstantOfShape"}


def convert(
    model: Any,
    dtype: Half,
    cases: Sequence[GoldenCase],
    provider: str = "CPUExecutionProvider",
    scales: bool = False,
    keep: Mapping[str, str] | None = None,
) -> tuple[Any, dict[str, str]]:
    """A copy of an `onnx.ModelProto` that computes in `dtype`, and why each node kept in float32 is.

    The second goes from a node's name to the reason. With `scales`, those of quantizers become half too, which
    keeps casts from between them and what they quantize; nodes of `keep` stay for the reasons given. Raises
    ConversionError when ONNX Runtime can't run the float32 model on `cases`, OptionError when `provider` can't
    compute matrix products in `dtype`, or no operator takes it.
    """
    copied = type(model)()
    copied.CopyFrom(model)
    _lift_constants(copied)
    _name_nodes(copied)
    _soften_masks(copied, dtype)
    try:
        types = _types(copied)
        peaks = _peaks(copied, types, cases)
    except Exception as error:
        if is_disk_error(error):
            raise
        raise ConversionError(
            f"ONNX Runtime can't run the float32 model, which {dtype} is measured on: {first_line(error)}",
            "leave precision=float32",
        ) from error
    plan = _plan(copied, dtype, types, peaks, scales, keep or {})
    if dtype == "bfloat16":
        _keep_without_kernel(copied, plan, dtype, provider)
    if not plan.ports:
        raise OptionError(f"no operator of the model takes {dtype}", "leave precision=float32")
    _rewrite(copied, dtype, types, plan.ports)
    _check_loads(copied, dtype)
    return copied, plan.kept


def simulated(model: Any, dtype: Half) -> Any:
    """What `convert` gave, in float32 with every half tensor rounded: what a device computes that has the dtype.

    ONNX Runtime's CPU computes nearly all operators in float32, leaves the roundings between them out (1.31), and
    has no kernels for bfloat16: as it is, the model shows there what became of its weights, and no more.
    """
    from onnx import TensorProto, helper

    copied = type(model)()
    copied.CopyFrom(model)
    code = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[dtype]
    for tensor in copied.graph.initializer:
        _widen(tensor, code)
    written: list[Any] = []
    for node in copied.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == code:
                attribute.i = TensorProto.FLOAT
            elif attribute.HasField("t"):
                _widen(attribute.t, code)
        written.append(node)
        for place, name in enumerate(node.output):
            if _is_half(name, dtype):
                exact, rounded = f"{name}_exact", f"{name}_rounded"
                node.output[place] = exact
                written.append(helper.make_node("Cast", [exact], [rounded], to=code))
                written.append(helper.make_node("Cast", [rounded], [name], to=TensorProto.FLOAT))
    _replace_nodes(copied, written)
    return copied


def _widen(tensor: Any, code: int) -> None:
    import numpy as np
    from onnx import numpy_helper

    if tensor.data_type == code:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))


def _is_half(name: str, dtype: Half) -> bool:
    """Whether `_rewrite` made the tensor of another, in half precision."""
    return name.rstrip("_").endswith(f"_{dtype}")


def _check_loads(model: Any, dtype: Half) -> None:
    """Load the model in a process of its own: ONNX Runtime's optimizer crashes on some graphs in half precision
    (1.31: an LSTM before a product, at a dynamic batch size), and would take this one with it.

    Raises ConversionError for a crash; what it merely refuses, the caller finds out.
    """
    code = "import sys, onnxruntime as o; o.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])"
    with tempfile.TemporaryDirectory(prefix="mx-halves-") as folder:
        file = Path(folder) / modelfile.FILE
        modelfile.save(model, file)
        done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, check=False)
    if done.returncode < 0:
        raise ConversionError(
            f"ONNX Runtime crashes as it loads the model in {dtype} (signal {-done.returncode})",
            "optimize it in float32, or quantize it to int8",
        )


# --------------------------------------------------------------------------------------- what is in the graph


def _lift_constants(model: Any) -> None:
    """Make initializers of float constants: one kind of weight instead of three."""
    import numpy as np
    from onnx import TensorProto, numpy_helper

    kept = []
    for node in model.graph.node:
        value = {attribute.name: attribute for attribute in node.attribute} if node.op_type == "Constant" else {}
        if "value" in value and value["value"].t.data_type == TensorProto.FLOAT:
            tensor = model.graph.initializer.add()
            tensor.CopyFrom(value["value"].t)
            tensor.name = node.output[0]
        elif "value_float" in value or "value_floats" in value:
            given = value["value_float"].f if "value_float" in value else list(value["value_floats"].floats)
            model.graph.initializer.append(numpy_helper.from_array(np.array(given, np.float32), node.output[0]))
        else:
            kept.append(node)
    _replace_nodes(model, kept)


def _name_nodes(model: Any) -> None:
    """Give every node a name of its own."""
    seen: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.name or node.op_type}_{index}"
        seen.add(node.name)


def _soften_masks(model: Any, dtype: Half) -> None:
    """Bring constants such as -3.4e38 into the dtype's range where all that becomes of them is a softmax's zero.

    To half its lowest number, so that a score added to it does not overflow either.
    """
    import numpy as np
    from onnx import TensorProto, numpy_helper

    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in [*node.input, *_reads_in_subgraphs(node)]:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in model.graph.output}
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or max(tensor.dims, default=1) > 1:
            continue
        value = numpy_helper.to_array(tensor)
        if (value < _NEVER).all() and np.isfinite(value).all() and _only_masks(tensor.name, readers, outputs):
            lowest = np.full_like(value, -LARGEST[dtype] / 2)
            tensor.CopyFrom(numpy_helper.from_array(lowest, tensor.name))


def _only_masks(name: str, readers: Mapping[str, Sequence[Any]], outputs: set[str]) -> bool:
    pending, seen = [name], {name}
    while pending:
        current = pending.pop()
        if current in outputs or not readers.get(current):
            return False
        for node in readers[current]:
            if node.op_type in _SOFTMAX:
                continue
            if node.op_type not in _MASKING:
                return False
            pending += [out for out in node.output if out not in seen]
            seen.update(node.output)
    return True


def _types(model: Any) -> dict[str, str]:
    """The type of every tensor of the main graph as ONNX Runtime names it: `tensor(float)`."""
    from onnx import TensorProto, ValueInfoProto

    names = [name for node in model.graph.node for name in node.output if name]
    with _probed(model) as graph:
        graph.output.extend(ValueInfoProto(name=name) for name in names)
        runtime = _open(model)
    found = {value.name: value.type for value in [*runtime.get_inputs(), *runtime.get_outputs()]}
    floats = {TensorProto.FLOAT: "float", TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}
    return found | {t.name: f"tensor({floats.get(t.data_type, 'other')})" for t in model.graph.initializer}


def _peaks(model: Any, types: Mapping[str, str], cases: Sequence[GoldenCase]) -> dict[str, float]:
    """The largest finite magnitude of every float32 tensor over all cases.

    The graph itself reduces each tensor to one number, so memory stays that of a normal run.
    """
    import numpy as np
    from onnx import numpy_helper

    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if _is_float(types, t.name)}
    peaks = {name: _largest(array) for name, array in weights.items()}
    names = [name for node in model.graph.node for name in node.output if _is_float(types, name)]
    with _probed(model) as graph:
        _reduce(graph, names)
        runtime = _open(model)
    for case in cases:
        for name, array in case.inputs.items():
            if _is_float(types, name):
                peaks[name] = max(peaks.get(name, 0.0), _largest(array))
        for name, value in zip(names, runtime.run(None, dict(case.inputs)) if names else (), strict=True):
            peaks[name] = float(np.maximum(peaks.get(name, 0.0), value))
    return peaks


def _largest(array: Any) -> float:
    import numpy as np

    return float(np.abs(array).max(initial=0.0, where=np.isfinite(array)))


def _reduce(graph: Any, names: Sequence[str]) -> None:
    """Make the largest finite magnitude of each of `names` the graph's outputs."""
    import numpy as np
    from onnx import ValueInfoProto, helper, numpy_helper

    for name, array in {"inf": np.inf, "zero": 0.0, "zeros": [0.0]}.items():
        graph.initializer.append(numpy_helper.from_array(np.array(array, np.float32), f"mx_{name}"))
    graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), "mx_flat"))
    for index, name in enumerate(names):
        steps = [f"mx_{index}_{step}" for step in range(6)]
        size, finite, kept, flat, padded, peak = steps
        graph.node.extend(
            [
                helper.make_node("Abs", [name], [size]),
                helper.make_node("Less", [size, "mx_inf"], [finite]),
                helper.make_node("Where", [finite, size, "mx_zero"], [kept]),
                helper.make_node("Reshape", [kept, "mx_flat"], [flat]),
                helper.make_node("Concat", [flat, "mx_zeros"], [padded], axis=0),  # none has no maximum
                helper.make_node("ReduceMax", [padded], [peak], keepdims=0),
            ]
        )
        graph.output.append(ValueInfoProto(name=peak))


@contextmanager
def _probed(model: Any) -> Iterator[Any]:
    """A model's graph with no outputs, to add some to; it gets back what it had. No copy: models may be large."""
    graph = model.graph
    nodes, tensors = len(graph.node), len(graph.initializer)
    outputs = [type(value).FromString(value.SerializeToString()) for value in graph.output]
    del graph.output[:]
    try:
        yield graph
    finally:
        del graph.node[nodes:], graph.initializer[tensors:], graph.output[:]
        graph.output.extend(outputs)


def _open(model: Any) -> Any:
    from . import RunOptions, session

    with tempfile.TemporaryDirectory(prefix="mx-halves-") as folder:
        path = Path(folder) / modelfile.FILE
        modelfile.save(model, path)
        return session.open_file(path, RunOptions(providers=("cpu",), optimization="none"))


def _is_float(types: Mapping[str, str], name: str) -> bool:
    return types.get(name) == "tensor(float)"


# --------------------------------------------------------------------------------------- what becomes half


@dataclass
class _Plan:
    """`ports`: by node, the places of inputs and of outputs that become half; `kept`: why other nodes don't."""

    ports: dict[str, tuple[set[int], set[int]]] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)


def _plan(
    model: Any,
    dtype: Half,
    types: Mapping[str, str],
    peaks: Mapping[str, float],
    scales: bool,
    keep: Mapping[str, str],
) -> _Plan:
    plan = _Plan()
    schemas = _schemas(model)
    used = {name for node in model.graph.node for name in [*node.input, *_reads_in_subgraphs(node)]}
    used.update(value.name for value in model.graph.output)
    for node in model.graph.node:
        if not any(_is_float(types, name) for name in [*node.input, *node.output]):
            continue
        ports = _ports(node, dtype, types, schemas.get((node.domain, node.op_type)), used)
        if node.op_type in _QUANTIZERS and not scales:
            ports = f"{node.op_type} keeps scales"
        ports = keep.get(node.name, ports)
        reason = ports if isinstance(ports, str) else _overflow(node, dtype, types, peaks)
        if reason:
            plan.kept[node.name] = reason
        elif not isinstance(ports, str):
            plan.ports[node.name] = ports
    _keep_guarded(model, plan, dtype)
    return plan


def _keep_guarded(model: Any, plan: _Plan, dtype: Half) -> None:
    """Keep what reads a guard against zero, through operators that hand it on: in half it would read zero."""
    guards: dict[str, str] = {}
    for node in model.graph.node:
        read = next((guards[name] for name in node.input if name in guards), None)
        if node.name in plan.kept and plan.kept[node.name].endswith(_lost(dtype)):
            read = node.name
        if read is not None:
            if plan.ports.pop(node.name, None) is not None:
                plan.kept[node.name] = f"it reads what {read} keeps from zero"
            if read == node.name or node.op_type in _HANDING_ON:
                guards.update(dict.fromkeys(node.output, read))


def _lost(dtype: Half) -> str:
    return f"zero in {dtype}"


def _overflow(node: Any, dtype: Half, types: Mapping[str, str], peaks: Mapping[str, float]) -> str:
    for verb, names in (("writes", node.output), ("reads", node.input)):
        peak = max((peaks.get(name, 0.0) for name in names if _is_float(types, name)), default=0.0)
        if peak > LARGEST[dtype]:
            return f"{verb} values up to {peak:.3g}; {dtype} ends at {LARGEST[dtype]:.3g}"
        given = [peaks.get(name, 0.0) for name in names if name and _is_float(types, name)]
        if lost := [peak for peak in given if 0 < peak <= SMALLEST[dtype]]:
            return f"{verb} values of {lost[0]:.3g} at most, which are {_lost(dtype)}"
    return ""


def _ports(
    node: Any, dtype: Half, types: Mapping[str, str], schema: Any, used: set[str]
) -> tuple[set[int], set[int]] | str:
    """The places that become half, or why the node stays as it is."""
    if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
        return f"{node.op_type} holds a graph of its own"
    if any(types.get(name, "tensor(").startswith(("seq(", "optional(", "map(")) for name in node.output):
        return f"{node.op_type} gives something other than tensors"
    if schema is None:
        return f"{node.op_type} is not known to take {dtype}"
    inputs = {i: v for i, v in _variables(schema.inputs, node.input).items() if _is_float(types, node.input[i])}
    given = {i: v for i, v in _variables(schema.outputs, node.output).items() if _is_float(types, node.output[i])}
    outputs = {i: v for i, v in given.items() if node.output[i] in used}
    able = {c.type_param_str for c in schema.type_constraints if f"tensor({dtype})" in c.allowed_type_strs}
    bound = set(inputs.values()) if node.op_type not in _TYPED else able
    ins = {place for place, variable in inputs.items() if variable in able}
    outs = {place for place, variable in outputs.items() if variable in able & bound}
    if node.op_type not in _TYPED and len(outs) < len(outputs):
        return f"ONNX Runtime's {node.op_type} does not give {dtype}"
    return (ins, outs) if ins or outs else f"ONNX Runtime's {node.op_type} does not take {dtype}"


def _keep_without_kernel(model: Any, plan: _Plan, dtype: Half, provider: str) -> None:
    """Keep what the provider has no kernel for: ONNX Runtime itself puts casts around float16 nodes only.

    Only providers of this build can be asked. Raises OptionError when no matrix product is left.
    """
    from onnxruntime.capi import _pybind_state

    kernels = [kernel for kernel in _pybind_state.get_all_opkernel_def() if kernel.provider == provider]
    if not kernels:
        return
    wanted = f"tensor({dtype})"
    able = {(k.domain, k.op_name) for k in kernels if any(wanted in v for v in k.type_constraints.values())}
    nodes = [node for node in model.graph.node if node.name in plan.ports]
    lacking = [node for node in nodes if (node.domain, node.op_type) not in able]
    if not any(node.op_type in _HEAVY for node in nodes if node not in lacking):
        raise OptionError(
            f"ONNX Runtime's {provider} has no {dtype} kernels for "
            f"{', '.join(sorted({node.op_type for node in lacking}))}",
            "give -k precision=float16, or -k target-device=cuda",
        )
    for node in lacking:
        del plan.ports[node.name]
        plan.kept[node.name] = f"{provider} has no {dtype} kernel of {node.op_type}"


def _variables(formal: Sequence[Any], names: Sequence[str]) -> dict[int, str]:
    """The type variable of every place; a variadic parameter's goes on to the end."""
    if not formal:
        return {}
    return {i: formal[min(i, len(formal) - 1)].typeStr for i, name in enumerate(names) if name}


def _schemas(model: Any) -> dict[tuple[str, str], Any]:
    """ONNX Runtime's schemas by domain and operator, at the model's opsets."""
    from onnxruntime.capi import _pybind_state

    opsets = {entry.domain: entry.version for entry in model.opset_import}
    found: dict[tuple[str, str], Any] = {}
    for schema in _pybind_state.get_all_operator_schema():
        key = (schema.domain, schema.name)
        newest = found[key].since_version if key in found else 0
        if newest < schema.since_version <= opsets.get(schema.domain, 0):
            found[key] = schema
    return found


# --------------------------------------------------------------------------------------- rewriting


def _rewrite(
    model: Any, dtype: Half, types: Mapping[str, str], ports: Mapping[str, tuple[set[int], set[int]]]
) -> None:
    """A tensor keeps its name in float32, its half gets another; a Cast stands where one is needed."""
    from onnx import TensorProto, helper

    code = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[dtype]
    weights = {tensor.name: tensor for tensor in model.graph.initializer if _is_float(types, tensor.name)}
    taken = {*types, *weights}
    halves: dict[str, str] = {}
    floats = {name for name in types if _is_float(types, name)} - set(weights)
    written: list[Any] = []

    def half_name(name: str) -> str:
        chosen = f"{name}_{dtype}"
        while chosen in taken:
            chosen += "_"
        taken.add(chosen)
        halves[name] = chosen
        return chosen

    def in_half(name: str) -> str:
        if name not in halves:
            chosen = half_name(name)
            if name in weights:
                model.graph.initializer.append(_half_tensor(weights[name], chosen, dtype))
            else:
                written.append(helper.make_node("Cast", [name], [chosen], name=f"{chosen}_cast", to=code))
        return halves[name]

    def in_float(name: str) -> None:
        if name in weights:
            floats.add(name)
        elif name in halves and name not in floats:
            floats.add(name)
            cast = helper.make_node("Cast", [halves[name]], [name], name=f"{name}_cast", to=TensorProto.FLOAT)
            written.append(cast)

    for node in list(model.graph.node):
        inputs, outputs = ports.get(node.name, (set(), set()))
        for name in _reads_in_subgraphs(node):
            in_float(name)
        for place, name in enumerate(node.input):
            if place in inputs:
                node.input[place] = in_half(name)
            else:
                in_float(name)
        for place in outputs:
            name = node.output[place]
            floats.discard(name)
            node.output[place] = half_name(name)
        if outputs:
            _retype(node, code, dtype)
        written.append(node)
    for value in model.graph.output:
        in_float(value.name)
    _replace_nodes(model, written)
    _drop(model.graph.initializer, {name for name in weights if name not in floats})
    del model.graph.value_info[:]


def _retype(node: Any, code: int, dtype: Half) -> None:
    """The dtype that Cast and ConstantOfShape have in an attribute."""
    from onnx import TensorProto, helper

    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to":
            attribute.i = code
        if node.op_type == "ConstantOfShape" and attribute.name == "value":
            attribute.t.CopyFrom(_half_tensor(attribute.t, attribute.t.name, dtype))
    if node.op_type == "ConstantOfShape" and not node.attribute:
        zero = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.0])
        node.attribute.append(helper.make_attribute("value", _half_tensor(zero, "value", dtype)))


def _half_tensor(tensor: Any, name: str, dtype: Half) -> Any:
    import ml_dtypes
    import numpy as np
    from onnx import numpy_helper

    kind = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(kind), name)


def _reads_in_subgraphs(node: Any) -> set[str]:
    """Every name that the graphs inside a node read: more than the outer ones, which does no harm."""
    names: set[str] = set()
    for attribute in node.attribute:
        for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            names.update(value.name for value in graph.output)
            for inner in graph.node:
                names.update(inner.input)
                names |= _reads_in_subgraphs(inner)
    return names


def _replace_nodes(model: Any, nodes: Sequence[Any]) -> None:
    kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _drop(initializers: Any, names: set[str]) -> None:
    for index in reversed(range(len(initializers))):
        if initializers[index].name in names:
            del initializers[index]
