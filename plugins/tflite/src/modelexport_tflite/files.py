"""A `.tflite` file as the flatbuffer that it is: its name, reading and writing it, and what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from modelexport.contract import Dim, TensorSpec
from modelexport.errors import SourceError
from modelexport.toolkit import reading, size_in_file

FILE = "model.tflite"

#: the name of a signature that has no other
DEFAULT_SIGNATURE = "serving_default"

#: what every file has at its fifth byte
IDENTIFIER = b"TFL3"

#: dtypes of constants that `constant` reads
_READ = ("int32", "int64", "float32", "float16", "bool")


def read(path: Path) -> Any:
    """The model as a tree of objects (`ModelT` of the schema). Raises SourceError for what is no TFLite file."""
    with reading(path, "TFLite file"):
        from ai_edge_litert import schema_py_generated as schema

        data = path.read_bytes()
        if data[4:8] != IDENTIFIER:
            raise SourceError(f"{path} is no TFLite file", "it lacks the mark TFL3 at its fifth byte")
        return schema.ModelT.InitFromPackedBuf(data)


def write(model: Any, path: Path) -> None:
    """Write a tree of objects; the data of buffers begins at multiples of 16 bytes, as the schema demands."""
    import flatbuffers

    class Aligned(flatbuffers.Builder):  # type: ignore[misc]
        """Python's generated code does not know of `force_align`."""

        def StartVector(self, size: int, count: int, alignment: int) -> Any:
            return super().StartVector(size, count, 16 if size == 1 else alignment)

        def CreateNumpyVector(self, x: Any) -> Any:
            return self.CreateByteVector(x.tobytes()) if x.dtype.itemsize == 1 else super().CreateNumpyVector(x)

        head: int

        def CreateByteVector(self, x: Any) -> Any:
            self.StartVector(1, len(x), 16)
            place: int = self.head - len(x)
            self.Bytes[place : place + len(x)] = x
            self.head = place
            return self.EndVector()

    builder = Aligned(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    path.write_bytes(builder.Output())


# --------------------------------------------------------------------------------------- tensors


@cache
def _names(enumeration: str) -> dict[int, str]:
    """Number → name, of an enumeration of the schema."""
    from ai_edge_litert import schema_py_generated as schema

    return {value: name for name, value in vars(getattr(schema, enumeration)).items() if isinstance(value, int)}


def dtype(tensor: Any) -> str:
    """A tensor's dtype, by its name in NumPy."""
    return _names("TensorType")[tensor.type].lower()


def constant(model: Any, tensor: Any) -> Any:
    """The values of a constant tensor, as a flat array; None for a tensor that is computed."""
    import numpy as np

    data = model.buffers[tensor.buffer].data
    if data is None or not len(data) or dtype(tensor) not in _READ:
        return None
    return np.frombuffer(np.asarray(data, np.uint8).tobytes(), dtype(tensor))


def weights(model: Any) -> dict[str, int]:
    """Bytes of constant data by dtype, the most first. A buffer that tensors share is counted once."""
    dtypes: dict[int, str] = {}
    for tensor in (tensor for graph in model.subgraphs for tensor in graph.tensors):
        if model.buffers[tensor.buffer].data is not None:
            dtypes.setdefault(tensor.buffer, dtype(tensor))
    sizes: Counter[str] = Counter()
    for buffer, kind in dtypes.items():
        sizes[kind] += len(model.buffers[buffer].data)
    return {kind: size for kind, size in sizes.most_common() if size}


def spec_of(name: str, dtype: Any, shape: Sequence[Any]) -> TensorSpec:
    """An input as a model file declares it, with a NumPy dtype; sizes left open (None, -1) become dims.

    The first axis is then called `batch`. Raises SourceError for an input that holds no numbers.
    """
    import numpy as np

    kind = np.dtype(dtype)
    if kind.kind not in "iufbc":
        raise SourceError(f"input {name!r} holds {kind.name}, not numbers", "cut it off the model")
    sizes = tuple(_size(None if size is None else int(size), name, axis) for axis, size in enumerate(shape))
    values = (float(np.iinfo(kind).min), float(np.iinfo(kind).max)) if kind.name in ("int8", "uint8") else None
    return TensorSpec(name, kind.name, sizes, values)


def _size(size: int | None, name: str, axis: int) -> int | Dim:
    is_open = size is None or size < 1
    return size_in_file("batch" if is_open and axis == 0 else size, name, axis)


# --------------------------------------------------------------------------------------- operators


def operator_name(model: Any, operator: Any) -> str:
    """`CONV_2D`, or `Custom(NAME)` and `SelectTF(NAME)` for what is not built into the runtime."""
    code = model.operatorCodes[operator.opcodeIndex]
    name = _names("BuiltinOperator")[max(code.builtinCode, code.deprecatedBuiltinCode)]
    if name != "CUSTOM":
        return name
    custom = (code.customCode or b"").decode()
    return f"SelectTF({custom.removeprefix('Flex')})" if custom.startswith("Flex") else f"Custom({custom})"


def operator_code(model: Any, name: str) -> int:
    """The index of a built-in operator in the model's table, to which it is added where it is missing."""
    from ai_edge_litert import schema_py_generated as schema

    wanted = getattr(schema.BuiltinOperator, name)
    for index, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == wanted:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = wanted, min(wanted, 127), 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def operators(model: Any, subgraph: int | None = None) -> dict[str, int]:
    """How many of each operator the model has, or one subgraph of it, the most frequent first."""
    graphs = model.subgraphs if subgraph is None else [model.subgraphs[subgraph]]
    counts = Counter(operator_name(model, op) for graph in graphs for op in graph.operators or ())
    return dict(counts.most_common())


def not_built_in(model: Any) -> list[str]:
    """Operators that LiteRT does not have built in: custom ones, and TensorFlow's own."""
    return [name for name in operators(model) if "(" in name]


# --------------------------------------------------------------------------------------- signatures


def signatures(model: Any) -> list[str]:
    """The names of the model's signatures, in the file's order."""
    return [signature.signatureKey.decode() for signature in model.signatureDefs or ()]


def sign(model: Any, key: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Give the model one signature, `key`: names of inputs and outputs → names of their tensors."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    indices = {graph.tensors[index].name.decode(): index for index in (*graph.inputs, *graph.outputs)}

    def entry(name: str, tensor: str) -> Any:
        mapping = schema.TensorMapT()
        mapping.name = name.encode()
        mapping.tensorIndex = indices[tensor if tensor in indices else tensor.removesuffix(":0")]
        return mapping

    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = key.encode(), 0
    signature.inputs = [entry(name, tensor) for name, tensor in inputs.items()]
    signature.outputs = [entry(name, tensor) for name, tensor in outputs.items()]
    model.signatureDefs = [signature]
