"""Which inputs and outputs of which nodes become half, and why the others stay in float32.

A node stays when ONNX Runtime's schema of its operator does not take the dtype, or when it writes or reads a
number too large for it, or nothing but numbers so small that they become zero. The first is looked up, the others
come from the peaks of tensors on real cases. Infinities are the same in every dtype: a mask of -inf keeps nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelexport.errors import OptionError

from .. import graph
from ..rounding import Half
from .ranges import is_float

#: the largest finite number
LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38}

#: what is smaller than this becomes zero: a guard against dividing by it is none any more
SMALLEST = {"float16": 2.0**-25, "bfloat16": 2.0**-134}

#: what hands on the smallest of its inputs
_HANDING_ON = {"Max", "Clip", "Expand", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Cast", "Sqrt"}

#: a model that computes none of these in half precision has gained nothing but casts
_HEAVY = {"MatMul", "Gemm", "Conv", "ConvTranspose", "LSTM", "GRU", "Attention", "MultiHeadAttention"}

#: their scales and zero points are what a quantizer chose
_QUANTIZERS = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}

#: the dtype of what these write is in an attribute that is changed with them
_TYPED = {"Cast", "ConstantOfShape"}

#: by node, the places of inputs and of outputs that become half
Ports = dict[str, tuple[set[int], set[int]]]


@dataclass
class Plan:
    """What becomes half, and by node why it does not."""

    ports: Ports = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)


def plan(
    model: Any,
    dtype: Half,
    types: Mapping[str, str],
    peaks: Mapping[str, float],
    scales: bool,
    keep: Mapping[str, str],
) -> Plan:
    """What becomes half of `model`; with `scales`, those of quantizers too. `keep` says why nodes stay anyway."""
    chosen = Plan()
    schemas = _schemas(model)
    used = {name for node in model.graph.node for name in [*node.input, *graph.reads_inside(node)]}
    used.update(value.name for value in model.graph.output)
    for node in model.graph.node:
        if not any(is_float(types, name) for name in [*node.input, *node.output]):
            continue
        ports = _ports(node, dtype, types, schemas.get((node.domain, node.op_type)), used)
        if node.op_type in _QUANTIZERS and not scales:
            ports = f"{node.op_type} keeps scales"
        ports = keep.get(node.name, ports)
        reason = ports if isinstance(ports, str) else _out_of_range(node, dtype, types, peaks)
        if reason:
            chosen.kept[node.name] = reason
        elif not isinstance(ports, str):
            chosen.ports[node.name] = ports
    _keep_guarded(model, chosen, dtype)
    return chosen


def _keep_guarded(model: Any, chosen: Plan, dtype: Half) -> None:
    """Keep what reads a guard against zero, through operators that hand it on: in half it would read zero."""
    guards: dict[str, str] = {}
    for node in model.graph.node:
        read = next((guards[name] for name in node.input if name in guards), None)
        if node.name in chosen.kept and chosen.kept[node.name].endswith(_lost(dtype)):
            read = node.name
        if read is not None:
            if chosen.ports.pop(node.name, None) is not None:
                chosen.kept[node.name] = f"it reads what {read} keeps from zero"
            if read == node.name or node.op_type in _HANDING_ON:
                guards.update(dict.fromkeys(node.output, read))


def _lost(dtype: Half) -> str:
    return f"zero in {dtype}"


def _out_of_range(node: Any, dtype: Half, types: Mapping[str, str], peaks: Mapping[str, float]) -> str:
    for verb, names in (("writes", node.output), ("reads", node.input)):
        peak = max((peaks.get(name, 0.0) for name in names if is_float(types, name)), default=0.0)
        if peak > LARGEST[dtype]:
            return f"{verb} values up to {peak:.3g}; {dtype} ends at {LARGEST[dtype]:.3g}"
        own = [peaks.get(name, 0.0) for name in names if name and is_float(types, name)]
        if lost := [peak for peak in own if 0 < peak <= SMALLEST[dtype]]:
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
    inputs = {i: v for i, v in _variables(schema.inputs, node.input).items() if is_float(types, node.input[i])}
    written = {i: v for i, v in _variables(schema.outputs, node.output).items() if is_float(types, node.output[i])}
    outputs = {i: v for i, v in written.items() if node.output[i] in used}
    able = {c.type_param_str for c in schema.type_constraints if f"tensor({dtype})" in c.allowed_type_strs}
    bound = set(inputs.values()) if node.op_type not in _TYPED else able
    ins = {place for place, variable in inputs.items() if variable in able}
    outs = {place for place, variable in outputs.items() if variable in able & bound}
    if node.op_type not in _TYPED and len(outs) < len(outputs):
        return f"ONNX Runtime's {node.op_type} does not give {dtype}"
    return (ins, outs) if ins or outs else f"ONNX Runtime's {node.op_type} does not take {dtype}"


def _variables(formal: Sequence[Any], names: Sequence[str]) -> dict[int, str]:
    """The type variable of every place; a variadic parameter's goes on to the end."""
    if not formal:
        return {}
    return {i: formal[min(i, len(formal) - 1)].typeStr for i, name in enumerate(names) if name}


def _schemas(model: Any) -> dict[tuple[str, str], Any]:
    """ONNX Runtime's schemas by domain and operator, at the model's opsets."""
    from onnxruntime.capi import _pybind_state

    opsets = {entry.domain: entry.version for entry in model.opset_import}
    newest: dict[tuple[str, str], Any] = {}
    for schema in _pybind_state.get_all_operator_schema():
        key = (schema.domain, schema.name)
        known = newest[key].since_version if key in newest else 0
        if known < schema.since_version <= opsets.get(schema.domain, 0):
            newest[key] = schema
    return newest


def keep_without_kernel(model: Any, chosen: Plan, dtype: Half, provider: str) -> None:
    """Keep what the provider has no kernel for: ONNX Runtime itself puts casts around float16 nodes only.

    Only providers of this build can be asked. Raises OptionError when no matrix product is left.
    """
    from onnxruntime.capi import _pybind_state

    kernels = [kernel for kernel in _pybind_state.get_all_opkernel_def() if kernel.provider == provider]
    if not kernels:
        return
    wanted = f"tensor({dtype})"
    able = {(k.domain, k.op_name) for k in kernels if any(wanted in v for v in k.type_constraints.values())}
    nodes = [node for node in model.graph.node if node.name in chosen.ports]
    lacking = [node for node in nodes if (node.domain, node.op_type) not in able]
    if not any(node.op_type in _HEAVY for node in nodes if node not in lacking):
        raise OptionError(
            f"ONNX Runtime's {provider} has no {dtype} kernels for "
            f"{', '.join(sorted({node.op_type for node in lacking}))}",
            "give -k precision=float16, or -k target-device=cuda",
        )
    for node in lacking:
        del chosen.ports[node.name]
        chosen.kept[node.name] = f"{provider} has no {dtype} kernel of {node.op_type}"
