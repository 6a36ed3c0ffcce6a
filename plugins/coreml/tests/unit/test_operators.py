"""What Core ML can't take is said with what helps."""

from types import SimpleNamespace

import numpy as np
import pytest
from modelexport.contract import TensorSpec
from modelexport.errors import ConversionError
from modelexport_coreml import operators


def specs(*declarations):
    return tuple(TensorSpec.parse(text) for text in declarations)


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("x:complex64[2]", "input 'x' is complex64, which Core ML doesn't take or give.*view_as_complex"),
        ("x:uint32[2]", "input 'x' is uint32, which Core ML doesn't take or give.*cast it within the model"),
        ("x:float32[1,1,1,1,1,1]", "input 'x' has 6 dims, Core ML takes five"),
        ("x:float32[]", r"input 'x' has no dims.*declare it as \[1\]"),
    ],
)
def test_inputs_that_core_ml_has_no_type_for(declared, said):
    with pytest.raises(ConversionError, match=said):
        operators.check_interface(specs(declared), specs("y:float32[1]"))


def test_types_that_stand_for_others():
    kinds = ("float64", "bfloat16", "float16", "bool", "int64", "int32", "int16", "int8", "uint16", "uint8")
    operators.check_interface(specs(*(f"x{kind}:{kind}[2]" for kind in kinds)), specs("y:int64[]"))


def lowered(**buffers):
    signature = SimpleNamespace(buffers_to_mutate={f"out_{name}": name for name in buffers})
    return SimpleNamespace(graph_signature=signature, state_dict=buffers)


@pytest.mark.parametrize(
    ("target", "precision", "start", "said"),
    [
        ("iOS17", "float16", 0, "the model updates its buffer 'total': Core ML has states since iOS 18"),
        ("iOS18", "float32", 0, "the model updates its buffer 'total': Core ML keeps states in float16"),
        ("iOS18", "float16", 1, "the buffer 'total' begins with values: Core ML's states begin with zeros"),
    ],
)
def test_states_that_core_ml_does_not_keep(target, precision, start, said):
    with pytest.raises(ConversionError, match=said):
        operators.check_state(lowered(total=np.full(3, start)), target, precision)


def test_states_that_core_ml_keeps():
    operators.check_state(lowered(total=np.zeros(3)), "iOS18", "float16")
    operators.check_state(lowered(), "iOS15", "float32")


def test_the_converters_own_error_is_the_first_one_with_what_helps():
    try:
        try:
            raise ValueError("Adaptive pooling wants fixed sizes\nand more")
        except ValueError as first:
            raise RuntimeError("while converting node 3") from first
    except RuntimeError as error:
        said = operators.converter_refused(error)
    assert said.message == "coremltools can't convert the model: ValueError: Adaptive pooling wants fixed sizes"
    assert said.hint.startswith("fix the height and width with --input")
    assert said.hint.endswith("; --debug shows the whole trace")
