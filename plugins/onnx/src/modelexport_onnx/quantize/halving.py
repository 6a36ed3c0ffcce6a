"""Half precision: a model cast to it, and what isn't quantized in one for a device that computes in float16.

For ONNX Runtime here, everything is cast that it can compute. For a device that has the dtype, the copy is judged
with every half rounded, since this machine's processor computes in float32.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Build, QuantizationReport, QuantizedLayer, Trial
from modelexport.toolkit import left_as_they_are, load_golden

from .. import choices, contents, files, graph, halves, session
from ..halves import budget
from . import proof
from .bench import Bench

if TYPE_CHECKING:
    from modelexport.contract import Artifact, Goal

    from .. import QuantizeOptions
    from ..rounding import Half


def quantize(artifact: Artifact, out: Path, options: QuantizeOptions, goal: Goal) -> Build:
    """Write the model in half precision into `out`, but for what overflows.

    It is kept although a CPU may compute it more slowly.
    """
    dtype: Half = "bfloat16" if options.mode == "bfloat16" else "float16"
    model, cases = files.load(artifact.entry_path), load_golden(artifact.golden).cases
    graph.name_nodes(model)
    details: dict[str, Any] = {}
    latency: dict[str, float] = {}
    if options.preset == choices.TENSORRT:
        real, opened = proof.answered(artifact, goal), partial(session.on_model, artifact)
        cast, kept, _ = budget.within_budget(model, dtype, [*cases, *real], opened)
        details = session.elsewhere(dtype)
    else:
        cast, kept = halves.convert(model, dtype, cases)
        latency = Bench(artifact, model, cases).latency(cast, {})
    files.save(cast, out / files.FILE)
    trial = Trial(dtype, latency=latency, size=cast.ByteSize(), verdict="kept as asked")
    layers = tuple(QuantizedLayer(name, "", "float32", note=reason) for name, reason in kept.items())
    report = QuantizationReport(dtype, {"preset": options.preset}, layers, (trial,))
    details |= {"operators": contents.operators(cast), "kept_in_float32": kept}
    return Build(files.FILE, ("onnx", "onnxruntime"), dtype, details, tuple(left_as_they_are(layers)), report)


def rest(model: Any, artifact: Artifact, options: QuantizeOptions, goal: Goal) -> tuple[Any, dict[str, Any]]:
    """A quantized model with what isn't quantized in the activations' dtype, and what the details say of it."""
    if options.activations == "fp32":
        return model, {}
    # What would overflow is seen on the golden cases and on real samples.
    cases = [*load_golden(artifact.golden).cases, *proof.answered(artifact, goal)]
    cast, kept = budget.halved(model, "float16", cases)
    return cast, {**session.elsewhere("float16"), "kept_in_float32": kept}
