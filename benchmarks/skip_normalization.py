"""ONNX Runtime's SkipLayerNormalization on a CPU, against the Add and LayerNormalization that it stands for.

It is why `mx optimize` for CPUs leaves that fusion out: see docs/how-to/optimize.md.
"""

from __future__ import annotations

import time

import numpy as np
import onnxruntime
from onnx import helper, numpy_helper

LAYERS, THREADS, ROUNDS = 12, 2, 30
SHAPE = (8, 128, 384)


def model(fused: bool) -> bytes:
    """A chain of `LAYERS` sums, each normalized."""
    nodes, last = [], "x"
    for index in range(LAYERS):
        out = f"out{index}"
        if fused:
            nodes.append(
                helper.make_node(
                    "SkipLayerNormalization", [last, "skip", "scale", "shift"], [out], domain="com.microsoft"
                )
            )
        else:
            nodes.append(helper.make_node("Add", [last, "skip"], [f"sum{index}"]))
            nodes.append(helper.make_node("LayerNormalization", [f"sum{index}", "scale", "shift"], [out]))
        last = out
    tensors = [
        numpy_helper.from_array(np.full(SHAPE[-1], value, np.float32), name)
        for name, value in (("scale", 1), ("shift", 0))
    ]
    values = {
        name: helper.make_tensor_value_info(name, 1, ["batch", "sequence", SHAPE[-1]])
        for name in ("x", "skip", last)
    }
    graph = helper.make_graph(nodes, "chain", [values["x"], values["skip"]], [values[last]], tensors)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    made: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return made


def main() -> None:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = THREADS
    sessions = {
        "SkipLayerNormalization": onnxruntime.InferenceSession(model(True), settings),
        # told not to, or it makes the same fusion as it loads the model
        "Add, LayerNormalization": onnxruntime.InferenceSession(
            model(False), settings, disabled_optimizers=["SkipLayerNormFusion"]
        ),
    }
    generator = np.random.default_rng(0)
    inputs = {name: generator.standard_normal(SHAPE).astype(np.float32) for name in ("x", "skip")}
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(ROUNDS):
        for name, session in sessions.items():
            begun = time.perf_counter()
            session.run(None, inputs)
            times[name].append(time.perf_counter() - begun)
    print(f"onnxruntime {onnxruntime.__version__}, {LAYERS} layers, {SHAPE}, {THREADS} threads, {ROUNDS} rounds")
    for name, taken in times.items():
        print(f"  {name:24s} median {np.median(taken) * 1e3:6.2f} ms, best {min(taken) * 1e3:6.2f} ms")


if __name__ == "__main__":
    main()
