"""The builder's account of an engine, read from its log."""

from modelexport_tensorrt import listing

LOG = [
    "Layers:\nName: early, LayerType: gemm, Inputs: [], Constants: [], Outputs: [], Metadata: \n",
    "something else",
    """Layers:
Name: shapes_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , Metadata: none
Name: a+b, LayerType: gemm, Inputs: [ { Name: x, Dimensions: [-1,8], Datatype: Half, Format: f }], Constants: \
[ { Name: w, Dimensions: [8,8], Datatype: Int4, Format: f }, { Name: s, Datatype: Float }], Outputs: [ { Name: y, \
Datatype: Int8, Format: f }], TacticName: t, StreamId: 0, Metadata: [ONNX Layer: node_a]\x1f[ONNX Layer: node_b]

I/O Tensors:
 Name: x, IOMode: Input, DataType: Half, Dimensions: [-1,8], Location: Device, ProfileInfo: [ { MinShape: [1,8], \
OptShape: [2,8], MaxShape: [4,8], Format: f }, { MinShape: [5,8], OptShape: [6,8], MaxShape: [7,8], Format: f }]
 Name: y, IOMode: Output, DataType: Int8, Dimensions: [], Location: Device, ProfileInfo: [ { Format: f }]

Engine Metadata:
 Multi-Device: Disabled
""",
]


def test_a_layer_computes_in_the_narrowest_type_that_goes_in():
    shapes, product = listing.layers(LOG)
    assert (shapes.kind, shapes.precision, shapes.source) == ("shapes", "", "")
    assert (product.name, product.kind, product.precision) == ("a+b", "matrix product", "int4")
    assert product.source == "node_a, node_b"
    assert listing.precisions([shapes, product]) == {"int4": 1}


def test_tensors_are_read_with_their_profiles():
    x, y = listing.tensors(LOG)
    assert str(x) == "input float16[-1,8] 1x8:2x8:4x8 5x8:6x8:7x8"
    assert str(y) == "output int8[]"
