"""Which operators a delegate took over, read from a loaded interpreter."""

from __future__ import annotations

from collections import Counter
from typing import Any


def share(interpreter: Any) -> dict[str, Any]:
    """Of the first signature: how many operators XNNPACK computes in how many parts, and which are left.

    The interpreter lists a delegate's parts behind the operators they stand for, and does not say which these are:
    they are the ones that lead from a part's inputs to its outputs. Empty where it lists nothing.
    """
    listed = interpreter._get_ops_details()
    parts = [op for op in listed if op["op_name"] == "DELEGATE" or "Delegate" in op["op_name"]]
    own = [op for op in listed if op not in parts]
    writers = {int(index): op for op in own for index in op["outputs"]}
    taken: set[int] = set()
    for part in parts:
        given = {int(index) for index in part["inputs"]}
        waiting = [int(index) for index in part["outputs"]]
        while waiting:
            tensor = waiting.pop()
            op = writers.get(tensor)
            if tensor in given or op is None or op["index"] in taken:
                continue
            taken.add(op["index"])
            waiting += [int(index) for index in op["inputs"] if index >= 0]
    if not own:
        return {}
    left = Counter(op["op_name"] for op in own if op["index"] not in taken)
    return {
        "operators": len(taken),
        "of": len(own),
        "share": round(len(taken) / len(own), 4),
        "parts": len(parts),
        "left": dict(left.most_common()),
    }
