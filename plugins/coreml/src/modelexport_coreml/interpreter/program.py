"""A program read back from disk, made ready to be called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from modelexport.errors import CannotRunHere, RuntimeFailure, first_line

from ..backend import coremltools
from . import compressed, conv, elementwise, gather, linear, norm, pool, recurrent, reduce, resize, shape
from .registry import OPERATORS, Tensor

if TYPE_CHECKING:
    from modelexport.contract import Array, Arrays

#: the modules that hold the operators
KINDS = (compressed, conv, elementwise, gather, linear, norm, pool, recurrent, reduce, resize, shape)

#: wide values → the values that a type of the program can hold, still wide
_STORED: dict[str, Callable[[Tensor], Tensor]] = {
    "fp16": lambda x: x.half().float(),
    "fp32": lambda x: x.float(),
    "bool": lambda x: x.bool(),
    "int32": lambda x: x.int().long(),
    "int16": lambda x: x.short().long(),
    "int8": lambda x: x.to(torch.int8).long(),
    "uint8": lambda x: x.to(torch.uint8).long(),
    "uint16": lambda x: x.long() & 0xFFFF,
    "uint32": lambda x: x.long() & 0xFFFFFFFF,
}

#: types of the program that outputs can have
_OUTPUTS = {"fp16": "float16", "fp32": "float32", "int32": "int32", "bool": "bool", "int16": "int16",
            "uint16": "uint16", "int8": "int8", "uint8": "uint8"}  # fmt: skip

#: values of a program's variables, by the variables' own identity
_Values = dict[int, Any]

#: an operation's parameters by their names
_Parameters = Mapping[str, Any]


@dataclass
class Interpreter:
    """A callable program: arrays by input name in, arrays by output name out. States persist between calls.

    `watch` is told every value that is computed, by the name of its variable.
    """

    function: Any
    constants: _Values
    last_uses: Mapping[int, Sequence[int]]
    states: dict[int, Tensor] = field(default_factory=dict)
    watch: Callable[[str, Any], None] | None = None

    @classmethod
    def of(cls, program: Any) -> Interpreter:
        """The program with its constants evaluated. Raises CannotRunHere naming every operator that it lacks."""
        function = program.functions["main"]
        unknown = sorted({op.op_type for op in _walk(function)} - {"const", *OPERATORS, *_SPECIAL})
        if unknown:
            plural = "s" if len(unknown) > 1 else ""
            raise CannotRunHere(
                f"no interpreter for operator{plural} {', '.join(unknown)}; Core ML itself runs on macOS only",
                "`mx verify` on a Mac completes the verification",
            )
        return cls(function, evaluate_constants(program), _last_uses(function))

    def __call__(self, inputs: Mapping[str, Array]) -> Arrays:
        with torch.inference_mode():
            values = dict(self.constants)
            for name, var in self.function.inputs.items():
                if _is_state(var):
                    self.states.setdefault(id(var), torch.zeros([int(size) for size in _state_shape(var)]))
                else:
                    tensor = torch.from_numpy(_own(inputs[name]))
                    values[id(var)] = _stored(_wide(tensor), var)
                    if self.watch is not None:
                        self.watch(var.name, values[id(var)])
            self._block(self.function, values)
            return {var.name: _array(values[id(var)], var) for var in self.function.outputs}

    def _block(self, block: Any, values: _Values) -> list[Any]:
        for op in block.operations:
            if id(op.outputs[0]) not in self.constants:
                self._step(op, values)
                for spent in self.last_uses.get(id(op), ()):
                    values.pop(spent, None)
        return [values[id(var)] for var in block.outputs]

    def _step(self, op: Any, values: _Values) -> None:
        parameters = _parameters(op, values)
        special = _SPECIAL.get(op.op_type)
        results = special(self, op, parameters, values) if special else _computed(op, parameters)
        _keep(op, results, values)
        if self.watch is not None:
            for var in op.outputs:
                self.watch(var.name, values[id(var)])

    def _branch(self, op: Any, parameters: _Parameters, values: _Values) -> list[Any]:
        return self._block(op.blocks[0 if parameters["pred"] else 1], values)

    def _loop(self, op: Any, parameters: _Parameters, values: _Values) -> list[Any]:
        condition, body = op.blocks
        state = list(parameters["loop_vars"])
        while True:
            values.update({id(var): value for var, value in zip(condition.inputs, state, strict=True)})
            if not self._block(condition, values)[0]:
                return state
            values.update({id(var): value for var, value in zip(body.inputs, state, strict=True)})
            state = self._block(body, values)

    def _read_state(self, op: Any, parameters: _Parameters, values: _Values) -> list[Any]:
        return [self.states[id(op.inputs["input"])]]

    def _update_state(self, op: Any, parameters: _Parameters, values: _Values) -> list[Any]:
        self.states[id(op.inputs["state"])] = parameters["value"]
        return [parameters["value"]]

    def _classify(self, op: Any, parameters: _Parameters, values: _Values) -> list[Any]:
        return [parameters["probabilities"]] * 2


#: operators that are more than a function of their parameters
_SPECIAL: dict[str, Callable[[Interpreter, Any, _Parameters, _Values], list[Any]]] = {
    "cond": Interpreter._branch,
    "while_loop": Interpreter._loop,
    "read_state": Interpreter._read_state,
    "coreml_update_state": Interpreter._update_state,
    "classify": Interpreter._classify,
}


def evaluate_constants(program: Any) -> _Values:
    """The constants of a program by their variables, those stored in fewer bits included."""
    values: _Values = {}
    with torch.inference_mode():
        for op in _walk(program.functions["main"]):
            if op.op_type == "const":
                values[id(op.outputs[0])] = _constant(op.outputs[0])
            elif op.op_type.startswith("constexpr_"):
                _keep(op, _computed(op, _parameters(op, values)), values)
    return values


def _parameters(op: Any, values: _Values) -> _Parameters:
    return {name: _read(var, values) for name, var in op.inputs.items() if _is_value(var)}


def _keep(op: Any, results: Sequence[Any], values: _Values) -> None:
    for var, value in zip(op.outputs, results, strict=True):
        values[id(var)] = _stored(value, var)


def _computed(op: Any, parameters: _Parameters) -> list[Any]:
    try:
        answer = OPERATORS[op.op_type](**parameters)
    except Exception as error:
        shapes = {name: list(value.shape) for name, value in parameters.items() if hasattr(value, "shape")}
        raise RuntimeFailure(
            f"the interpreter can't compute {op.op_type} {op.name!r} of {shapes}: {first_line(error)}",
            "check the inputs' sizes; --debug shows the trace",
        ) from error
    return list(answer) if isinstance(answer, tuple) else [answer]


def _walk(block: Any) -> Any:
    for op in block.operations:
        yield op
        for inner in op.blocks:
            yield from _walk(inner)


def _last_uses(function: Any) -> dict[int, list[int]]:
    """Operation → variables that nothing reads after it; blocks inside others keep theirs."""
    last: dict[int, int] = {}
    for op in function.operations:
        for inner in [op, *(o for block in op.blocks for o in _walk(block))]:
            for var in inner.inputs.values():
                for one in var if isinstance(var, (tuple, list)) else [var]:
                    last[id(one)] = id(op)
    for var in function.outputs:
        last.pop(id(var), None)
    spent: dict[int, list[int]] = {}
    for name, op in last.items():
        spent.setdefault(op, []).append(name)
    return spent


# --------------------------------------------------------------------------------------- values


def _types() -> Any:
    return coremltools("converters.mil.mil.types")


def _is_value(var: Any) -> bool:
    return var is not None and not callable(var) and not _is_state(var)


def _is_state(var: Any) -> bool:
    return _types().is_state(getattr(var, "sym_type", None)) if hasattr(var, "sym_type") else False


def _state_shape(var: Any) -> Sequence[int]:
    shape: Sequence[int] = var.sym_type.wrapped_type().get_shape()
    return shape


def _read(var: Any, values: _Values) -> Any:
    if isinstance(var, (tuple, list)):
        return [_read(one, values) for one in var]
    return values[id(var)]


def _constant(var: Any) -> Any:
    """A constant in a wide type; texts, and lists of them, as they are."""
    import numpy as np

    value = var.val
    if isinstance(value, (str, list, tuple)) or value is None:
        return value
    array = np.asarray(value)
    if array.dtype.kind in "US":
        return str(array)
    if array.dtype.kind == "O":
        return array.tolist()
    return _stored(_wide(torch.from_numpy(_own(array))), var)


def _own(array: Any) -> Any:
    """An array that PyTorch takes: writable, contiguous, without types in the dtype's margin."""
    import numpy as np

    return np.array(array, dtype=np.dtype(array.dtype.str), order="C")


def _wide(tensor: Tensor) -> Tensor:
    if tensor.dtype == torch.bool:
        return tensor
    return tensor.float() if tensor.is_floating_point() else tensor.long()


def _stored(value: Any, var: Any) -> Any:
    """Round to what the variable's declared type holds. Lists, texts and types of a few bits stay as they are."""
    store = _STORED.get(_type_name(var))
    return value if store is None or not isinstance(value, torch.Tensor) else store(value)


def _type_name(var: Any) -> str:
    dtype = getattr(var, "dtype", None)
    return "" if dtype is None else str(_types().builtin_to_string(dtype))


def _array(value: Any, var: Any) -> Any:
    """An output as a numpy array of its declared type."""
    import numpy as np

    return value.numpy().astype(np.dtype(_OUTPUTS.get(_type_name(var), "float32")))
