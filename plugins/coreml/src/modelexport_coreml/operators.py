"""What Core ML and its converter can't take of a model, and how it is said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelexport.contract import TensorSpec
from modelexport.errors import ConversionError, first_line, root_cause
from modelexport.toolkit import Unsupported, check_dtypes, refusal

from .backend import coremltools
from .files import ARRAYS

#: the most dims that an array has
_RANK = 5

#: operators people meet → what helps
HINTS = {
    "cond": "Core ML's converter takes no torch.cond from torch.export: torch.where computes both sides",
    "while_loop": "Core ML's converter takes no loops from torch.export: unroll it",
    "sym_float": "the size of a resize depends on a dynamic dim: fix that dim",
    "prod": "write x.log().sum().exp() for positive values, or multiply the parts",
    "histc": "compare with the bins' edges and sum",
}

#: what the converter says → what helps
_KNOWN = (
    ("float64", "Core ML computes in float32 at most: cast the model with .float()"),
    ("symbolic", "it wants a size that is dynamic here to be fixed: declare that dim as a number with --input"),
    ("adaptive pooling", "fix the height and width with --input, in multiples of the pool's output"),
    (
        "both as function's input and output",
        "an output has the name of a buffer that is updated: name it otherwise",
    ),
    ("state", "Core ML has states since iOS18: -k deployment-target=iOS18"),
)


def check_translated(program: Any) -> None:
    """Raise ConversionError naming every operator of a lowered program that has no translation."""
    registry = coremltools("converters.mil.frontend.torch.torch_op_registry")._TORCH_OPS_REGISTRY
    cleaned = coremltools("converters.mil.frontend.torch.utils").sanitize_op_kind
    # The converter drops assertions.
    calls = [n for n in program.graph.nodes if n.op == "call_function" and "_assert" not in str(n.target)]
    missing = [Unsupported.at(node) for node in calls if registry.get_func(cleaned(_name(node.target))) is None]
    if missing:
        raise refusal(missing, "no Core ML translation", "replace them with operators that Core ML has", HINTS)


def _name(target: Any) -> str:
    """What the converter looks a call up by, before it cleans it."""
    named = callable(getattr(target, "name", None))
    return str(target.name() if named else target.__name__)


def check_interface(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Raise ConversionError for inputs and outputs that Core ML has no type for."""
    check_dtypes(inputs, outputs, ARRAYS.__contains__, "Core ML")
    for kind, specs in (("input", inputs), ("output", outputs)):
        for spec in specs:
            if len(spec.shape) > _RANK:
                raise ConversionError(
                    f"{kind} {spec.name!r} has {len(spec.shape)} dims, Core ML takes five",
                    "reshape it within the model",
                )
    scalars = [spec.name for spec in inputs if not spec.shape]
    if scalars:
        raise ConversionError(
            f"input {scalars[0]!r} has no dims, Core ML's inputs have one at least", "declare it as [1]"
        )


def check_state(program: Any, deployment_target: str, compute_precision: str) -> None:
    """Raise ConversionError for a state that Core ML can't keep: its states are float16, and begin as zeros.

    `program` is a lowered one: only there does the signature say which buffers are written to.
    """
    names = list(program.graph_signature.buffers_to_mutate.values())
    if not names:
        return
    if deployment_target != "iOS18":
        raise ConversionError(
            f"the model updates its buffer {names[0]!r}: Core ML has states since iOS 18",
            "-k deployment-target=iOS18; or take the state as an input and return it",
        )
    if compute_precision != "float16":
        raise ConversionError(
            f"the model updates its buffer {names[0]!r}: Core ML keeps states in float16",
            "-k compute-precision=float16; or take the state as an input and return it",
        )
    started = [name for name in names if name in program.state_dict and program.state_dict[name].any()]
    if started:
        raise ConversionError(
            f"the buffer {started[0]!r} begins with values: Core ML's states begin with zeros",
            "set it to zeros before the export; or take the state as an input and return it",
        )


def converter_refused(error: Exception) -> ConversionError:
    """The converter's own error in words, with what helps where that is known."""
    cause = root_cause(error)
    hint = next((hint for word, hint in _KNOWN if word in str(cause).lower()), "")
    return ConversionError(
        f"coremltools can't convert the model: {type(cause).__name__}: {first_line(cause)}",
        f"{hint}; --debug shows the whole trace".removeprefix("; "),
    )
