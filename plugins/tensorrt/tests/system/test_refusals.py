"""What can't be built is refused in words, before the builder is asked where that can be known."""

import modelexport
import numpy as np
import pytest
from modelexport.errors import ConversionError, MxError, OptionError
from modelexport_tensorrt import flavours

pytestmark = pytest.mark.usefixtures("trt")


def write(path, nodes, inputs, outputs, weights=(), opsets=("",)):
    """An ONNX model: nodes are (operator, inputs, outputs, attributes), values (name, dtype, shape)."""
    import onnx

    helper, types = onnx.helper, onnx.TensorProto.DataType

    def values(rows):
        return [helper.make_tensor_value_info(name, types.Value(dtype), shape) for name, dtype, shape in rows]

    made = [
        helper.make_node(operator, given, out, name=f"n{number}", **attributes)
        for number, (operator, given, out, attributes) in enumerate(nodes)
    ]
    graph = helper.make_graph(made, "graph", values(inputs), values(outputs), list(weights))
    imports = [helper.make_opsetid(domain, 1 if domain else 21) for domain in opsets]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), path)
    return path


@pytest.fixture(scope="module")
def product(onnx, tmp_path_factory):
    """x[batch,64] times a constant."""
    weights = onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    shape = ["batch", 64]
    path = tmp_path_factory.mktemp("onnx") / "product.onnx"
    return write(
        path, [("MatMul", ["x", "w"], ["y"], {})], [("x", "FLOAT", shape)], [("y", "FLOAT", shape)], [weights]
    )


@pytest.fixture(scope="module")
def pair(onnx, tmp_path_factory):
    """Two inputs that share a batch, one of them with a length."""
    path = tmp_path_factory.mktemp("onnx") / "pair.onnx"
    return write(
        path,
        [("Add", ["x", "y"], ["z"], {})],
        [("x", "FLOAT", ["batch", "length"]), ("y", "FLOAT", ["batch", 1])],
        [("z", "FLOAT", ["batch", "length"])],
    )


@pytest.fixture
def refused(tmp_path):
    """The error of an export, and what it left: nothing."""

    def attempt(source, inputs=(), **options):
        out = tmp_path / "out"
        with pytest.raises(MxError) as caught:
            modelexport.export(source, "tensorrt", out, options=options, inputs=list(inputs), verify=False)
        assert not out.exists() or [path for path in out.iterdir() if not path.name.startswith(".")] == []
        assert "\n" not in caught.value.message
        return caught.value

    return attempt


# --------------------------------------------------------------------------------------- GPUs and flavours


@pytest.mark.parametrize(
    ("sm", "message", "hint"),
    [
        ("sm90", "tensorrt-rtx builds for no sm90", "for sm90, -k flavour=tensorrt on a machine that has one"),
        ("sm100", "tensorrt-rtx builds for no sm100", "sm75, sm80, sm86, sm89, sm120, sm121"),
        ("sm86,turbo", "there is no GPU 'turbo'", "sm75, sm80, sm86, sm89, sm120, sm121"),
        ("auto,sm86", "auto and current stand alone", "sm=sm86,sm89"),
    ],
)
def test_gpus_that_the_flavour_does_not_build_for(product, refused, sm, message, hint):
    error = refused(product, flavour="tensorrt-rtx", sm=sm)
    assert isinstance(error, OptionError)
    assert message in error.message
    assert hint in error.hint


def test_current_is_the_gpu_that_is_here(product, refused, no_gpu):
    error = refused(product, sm="current")
    assert "no NVIDIA driver" in error.message


def test_fp8_for_ampere_is_refused_before_the_builder_is_asked(onnx, tmp_path, refused):
    zero = onnx.helper.make_tensor("zero", onnx.TensorProto.FLOAT8E4M3FN, [], [0])
    scale = onnx.numpy_helper.from_array(np.array(0.5, np.float32), "scale")
    nodes = [
        ("QuantizeLinear", ["x", "scale", "zero"], ["q"], {}),
        ("DequantizeLinear", ["q", "scale", "zero"], ["y"], {}),
    ]
    values = [[(name, "FLOAT", [2, 4])] for name in "xy"]
    error = refused(write(tmp_path / "fp8.onnx", nodes, *values, [zero, scale]), sm="sm86,sm89")
    assert "sm86 has no fp8" in error.message


def test_turing_has_matrix_products_in_half_precision_only(product, refused):
    error = refused(product, sm="sm75")
    assert error.message == "sm75 computes matrix products in half precision only, and node n0 is in FP32"
    assert "--precision fp16" in error.hint


def test_a_flavour_that_is_not_installed(product, refused):
    if len(flavours.installed()) > 1:
        pytest.skip("this machine has both flavours")
    error = refused(product, flavour="tensorrt")
    assert (error.message, error.hint) == ("flavour=tensorrt is not installed", "pip install tensorrt")


@pytest.mark.parametrize("option", ["refit", "strip"])
def test_what_takes_a_gpu_while_it_is_built(product, refused, no_gpu, option):
    error = refused(product, **{option: "true"})
    assert (
        error.message
        == f"{option}=true takes a GPU while the engine is built, and this machine has no NVIDIA driver"
    )


@pytest.mark.parametrize(
    "options", [{"version-compatible": "true"}, {"dla": "0"}, {"timing-cache": "timings"}], ids=str
)
def test_what_only_full_tensorrt_has(product, refused, options):
    error = refused(product, flavour="tensorrt-rtx", **options)
    (name,) = options
    assert error.message == f"tensorrt-rtx has no {name}"


def test_plugins_that_are_none(product, refused, tmp_path):
    assert "no such file" in refused(product, plugins="/nowhere.so").message
    (tmp_path / "text.so").write_text("text")
    assert "can't be loaded" in refused(product, plugins=str(tmp_path / "text.so")).message


def test_levels_end_at_5(product, refused):
    assert "0 to 5" in refused(product, **{"optimization-level": "6"}).hint


# --------------------------------------------------------------------------------------- profiles


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("x=1x1:8x8:32x32;y=1x1:8x1:32x2", "axis 1 of 'y' is fixed at 1, not 2"),
        ("x=1x1:8x8:32x32;y=1x1:8x1:16x1", "batch is 1:8:16 here, and 1:8:32 in another input"),
        ("y=1x1:8x1:32x1", "says nothing of dim 'length' of input 'x'"),
        ("batch=8:1:32;length=1:2:32", "batch=8:1:32 is not in order"),
        ("batch=1:8:33;length=1:2:32", "does not take batch=33, it is declared as batch=1..32"),
        ("batch=1:8:16;length=1:2:32", "no profile takes batch=17: the model is declared for batch=1..32"),
        ("batch=1:1:1;length=1:2:32,batch=3:8:32;length=1:2:32", "no profile takes batch=2"),
        (
            "batch=1:8:32;length=1:2:16",
            "no profile takes length=17: the model is declared for length, without an end",
        ),
        ("z=1:2:3", "has no input or dim 'z'"),
        ("x=1:2:3", "input 'x' has 2 dims"),
        ("x=1x1", "can't read the profile"),
        ("batch=1:8", "can't read the profile"),
    ],
)
def test_profiles_that_contradict_the_declaration(pair, refused, profile, message):
    inputs = ["x:float32[batch=1..32,length]", "y:float32[batch=1..32,1]"]
    error = refused(pair, inputs, profile=profile)
    assert isinstance(error, OptionError)
    assert message in error.message


def test_a_profile_of_fixed_shapes(pair, refused):
    error = refused(pair, ["x:float32[4,4]", "y:float32[4,1]"], profile="x=4x4:4x4:4x4")
    assert "every input has a fixed shape" in error.message


def test_bounds(pair, refused):
    inputs = ["x:float32[batch=1..4,length=64..]", "y:float32[batch=1..4,1]"]
    assert "length begins at 64, above bound=32" in refused(pair, inputs, bound="32").message
    assert (
        "contradict each other"
        in refused(pair, inputs, bound="99", profile="batch=1:2:4;length=64:64:512").message
    )


# --------------------------------------------------------------------------------------- types


def test_zero_points(onnx, tmp_path, refused):
    zero = onnx.helper.make_tensor("zero", onnx.TensorProto.UINT8, [], [128])
    scale = onnx.numpy_helper.from_array(np.array(0.5, np.float32), "scale")
    nodes = [
        ("QuantizeLinear", ["x", "scale", "zero"], ["q"], {}),
        ("DequantizeLinear", ["q", "scale", "zero"], ["y"], {}),
    ]
    values = [[(name, "FLOAT", [2, 4])] for name in "xy"]
    error = refused(write(tmp_path / "uint8.onnx", nodes, *values, [zero, scale]))
    assert "QuantizeLinear (node 'n0'): Non-zero zero point" in error.message
    assert "preset=tensorrt" in error.hint


def test_types_that_tensorrt_does_not_take(tmp_path, refused):
    values = [[(name, "DOUBLE", [2, 4])] for name in "xy"]
    error = refused(write(tmp_path / "double.onnx", [("Neg", ["x"], ["y"], {})], *values))
    assert error.message == "input 'x' is float64, which TensorRT doesn't take or give"


# --------------------------------------------------------------------------------------- operators


def test_unsupported_operators_all_at_once_with_module_and_line(nets, line_of, refused):
    error = refused(nets("volumes"), ["x:float32[2,4,4]"])
    assert isinstance(error, ConversionError)
    assert error.message.startswith("TensorRT has no Det: ")
    first, second = error.message.removeprefix("TensorRT has no Det: ").split("; ")
    assert f", volume, {line_of('linalg.det(x)')})" in first
    assert f", {line_of('linalg.det(x)', 2)})" in second


def test_operators_of_other_domains(tmp_path, refused):
    """TensorRT's parser takes an operator of any domain for ONNX's own of that name."""
    nodes = [
        ("Gelu", ["x"], ["a"], {"domain": "com.microsoft"}),
        ("FusedMatMul", ["a", "a"], ["b"], {"domain": "com.microsoft"}),
        ("Det", ["b"], ["y"], {}),
    ]
    values = [("x", "FLOAT", [4, 4])], [("y", "FLOAT", [])]
    error = refused(write(tmp_path / "contrib.onnx", nodes, *values, opsets=("", "com.microsoft")))
    named = ["com.microsoft::Gelu (node 'n0')", "com.microsoft::FusedMatMul (node 'n1')", "Det (node 'n2')"]
    assert [name for name in named if name not in error.message] == [], error.message
    assert "unoptimized" in error.hint
