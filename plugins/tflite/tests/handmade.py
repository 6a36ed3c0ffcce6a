"""A `.tflite` file of one layer, put together by hand: tests of readers need no converter."""

from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from modelexport.contract import Artifact, Dim, TensorSpec
from modelexport_tflite import files

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)


def tensor(name, shape, buffer, dtype="FLOAT32"):
    made = schema.TensorT()
    made.name, made.buffer, made.type = name.encode(), buffer, getattr(schema.TensorType, dtype)
    made.shape = np.abs(np.array(shape, np.int32))
    if -1 in shape:
        made.shapeSignature = np.array(shape, np.int32)
    return made


def model(name="x"):
    """`y = x @ WEIGHT.T`, over any batch, as a tree of objects; the layer is called `dense`."""
    graph = schema.SubGraphT()
    graph.tensors = [tensor(name, (-1, 3), 1), tensor("weight", WEIGHT.shape, 2), tensor("dense", (-1, 2), 3)]
    graph.inputs, graph.outputs = np.array([0], np.int32), np.array([2], np.int32)
    layer = schema.OperatorT()
    layer.inputs, layer.outputs = np.array([0, 1, -1], np.int32), np.array([2], np.int32)
    layer.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    layer.builtinOptions = schema.FullyConnectedOptionsT()
    graph.operators = [layer]
    whole = schema.ModelT()
    whole.version, whole.subgraphs, whole.operatorCodes = 3, [graph], []
    whole.buffers = [schema.BufferT() for _ in range(4)]
    whole.buffers[2].data = np.frombuffer(WEIGHT.tobytes(), np.uint8)
    layer.opcodeIndex = files.operator_code(whole, "FULLY_CONNECTED")
    files.sign(whole, "serving_default", {name: name}, {"y": "dense"})
    return whole


def artifact(folder: Path, name="x"):
    """An artifact around the file, as far as a session needs it."""
    files.write(model(name), folder / files.FILE)
    batch = Dim("batch", 1, 8)
    inputs, outputs = TensorSpec(name, "float32", (batch, 3)), TensorSpec("y", "float32", (batch, 2))
    return Artifact(folder, "tflite", files.FILE, (inputs,), (outputs,))
