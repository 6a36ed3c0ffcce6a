"""A `.tflite` file as the flatbuffer that it is: reading, writing, and what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from modelexport.errors import SourceError, first_line

FILE = "model.tflite"

#: what every file has at its fifth byte
IDENTIFIER = b"TFL3"


def read(path: Path) -> Any:
    """The model as an object tree (`ModelT` of the schema). Raises SourceError for anything but a TFLite file."""
    from ai_edge_litert import schema_py_generated as schema

    data = path.read_bytes()
    if data[4:8] != IDENTIFIER:
        raise SourceError(f"{path} is no TFLite file", "it lacks the mark TFL3 at its fifth byte")
    try:
        return schema.ModelT.InitFromPackedBuf(data)
    except Exception as error:
        raise SourceError(
            f"{path} is a damaged TFLite file: {type(error).__name__}: {first_line(error)}", "get it again"
        ) from error


def write(model: Any, path: Path) -> None:
    """Write an object tree; the data of buffers begins at multiples of 16 bytes, as the schema demands."""
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


# --------------------------------------------------------------------------------------- what is in it


@cache
def _names(enumeration: str) -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {value: name for name, value in vars(getattr(schema, enumeration)).items() if isinstance(value, int)}


def dtype(tensor: Any) -> str:
    """A tensor's dtype by its name in NumPy."""
    name = _names("TensorType")[tensor.type].lower()
    return {"float32": "float32", "bool": "bool"}.get(name, name)


def operator_name(model: Any, operator: Any) -> str:
    """`CONV_2D`, or `Custom(NAME)` and `SelectTF(NAME)` for what is not built into the runtime."""
    code = model.operatorCodes[operator.opcodeIndex]
    name = _names("BuiltinOperator")[max(code.builtinCode, code.deprecatedBuiltinCode)]
    if name != "CUSTOM":
        return name
    custom = (code.customCode or b"").decode()
    return f"SelectTF({custom.removeprefix('Flex')})" if custom.startswith("Flex") else f"Custom({custom})"


def opcode(model: Any, name: str) -> int:
    """The index of a built-in operator in the model's table, where it is put if need be."""
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
    """How many of each operator the model has, or one subgraph of it, most frequent first."""
    graphs = model.subgraphs if subgraph is None else [model.subgraphs[subgraph]]
    counts = Counter(operator_name(model, op) for graph in graphs for op in graph.operators or ())
    return dict(counts.most_common())


def foreign(model: Any) -> list[str]:
    """Operators that LiteRT does not have built in: custom ones, and TensorFlow's own."""
    return [name for name in operators(model) if "(" in name]


def constant(model: Any, tensor: Any) -> Any:
    """A constant tensor's values, flat; None for what is computed."""
    import numpy as np

    data = model.buffers[tensor.buffer].data
    if data is None or not len(data) or dtype(tensor) not in ("int32", "int64", "float32", "float16", "bool"):
        return None
    return np.frombuffer(np.asarray(data, np.uint8).tobytes(), dtype(tensor))


def weights(model: Any) -> dict[str, int]:
    """Bytes of constant data by dtype, buffers that tensors share counted once."""
    seen: dict[int, str] = {}
    for _, tensor in tensors(model):
        if model.buffers[tensor.buffer].data is not None:
            seen.setdefault(tensor.buffer, dtype(tensor))
    sizes: Counter[str] = Counter()
    for buffer, kind in seen.items():
        sizes[kind] += len(model.buffers[buffer].data)
    return {kind: size for kind, size in sizes.most_common() if size}


def tensors(model: Any) -> Iterator[tuple[Any, Any]]:
    """Every tensor with its subgraph."""
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            yield graph, tensor


def signatures(model: Any) -> list[str]:
    return [signature.signatureKey.decode() for signature in model.signatureDefs or ()]


def sign(model: Any, key: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Give a model without signatures one: names of inputs and outputs → names of their tensors."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    found = {graph.tensors[index].name.decode(): index for index in (*graph.inputs, *graph.outputs)}

    def entries(names: Mapping[str, str]) -> list[Any]:
        made = []
        for name, tensor in names.items():
            entry = schema.TensorMapT()
            entry.name = name.encode()
            entry.tensorIndex = found[tensor] if tensor in found else found[tensor.removesuffix(":0")]
            made.append(entry)
        return made

    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = key.encode(), 0
    signature.inputs, signature.outputs = entries(inputs), entries(outputs)
    model.signatureDefs = [signature]
