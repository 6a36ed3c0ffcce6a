"""What `mx inspect` shows of a file: its operators, which of them XNNPACK computes, its weights and interface."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from . import files, interpreter


def describe(path: Path, model: Any) -> dict[str, Any]:
    """Details of the file at `path`, of which `model` is the tree of objects, for the manifest."""
    loaded = interpreter.load(path)
    details: dict[str, Any] = {
        "operators": files.operators(model, 0),
        "delegated": delegated(loaded),
        "weights": files.weights(model),
        "file": _interface(loaded),
    }
    if others := files.not_built_in(model):
        details["not_built_in"] = others
    return details


def _interface(loaded: Any) -> dict[str, str]:
    """What the file itself takes and gives, in its own dtypes and sizes."""
    inputs, outputs = interpreter.tensors(loaded)
    return {
        f"{side} {name}": f"{detail['dtype'].__name__}{[int(size) for size in detail['shape_signature']]}"
        for side, details in (("input", inputs), ("output", outputs))
        for name, detail in details.items()
    }


def delegated(loaded: Any) -> dict[str, Any]:
    """How many operators of the first signature XNNPACK computes, in how many parts, and which are left.

    Empty where the interpreter lists no operators.
    """
    listed = loaded._get_ops_details()
    parts = [op for op in listed if op["op_name"] == "DELEGATE" or "Delegate" in op["op_name"]]
    own = [op for op in listed if op not in parts]
    if not own:
        return {}
    taken = _taken(parts, own)
    left = Counter(op["op_name"] for op in own if op["index"] not in taken)
    return {
        "operators": len(taken),
        "of": len(own),
        "share": round(len(taken) / len(own), 4),
        "parts": len(parts),
        "left": dict(left.most_common()),
    }


def _taken(parts: list[Any], own: list[Any]) -> set[int]:
    """Indices of the operators that a delegate's parts stand for.

    The interpreter does not say which these are: they are those that lead from a part's inputs to its outputs.
    """
    writers = {int(index): op for op in own for index in op["outputs"]}
    taken: set[int] = set()
    for part in parts:
        inputs = {int(index) for index in part["inputs"]}
        waiting = [int(index) for index in part["outputs"]]
        while waiting:
            tensor = waiting.pop()
            op = writers.get(tensor)
            if tensor in inputs or op is None or op["index"] in taken:
                continue
            taken.add(op["index"])
            waiting += [int(index) for index in op["inputs"] if index >= 0]
    return taken
