"""Where in the user's model a node of a captured graph comes from: converters' errors name the place."""

from __future__ import annotations

from typing import Any


def module_path(node: Any) -> str:
    """The dotted path of the submodule a node came from, with its class: `encoder.layer.0 (Block)`."""
    stack = node.meta.get("nn_module_stack") or {}
    if not stack:
        return "the model"
    path, kind = list(stack.values())[-1]
    name = kind if isinstance(kind, str) else kind.__name__
    where = path.removeprefix("L['self'].") if path else "the model"
    return f"{where} ({name.rpartition('.')[2]})"


def source_line(node: Any) -> str:
    """`file:line` of the innermost Python frame that is not PyTorch's own."""
    return innermost_line(node.meta.get("stack_trace") or "")


def innermost_line(trace: str) -> str:
    """The same, of a stack trace as text: converters write it into their files."""
    frames = [line.strip() for line in trace.splitlines() if line.strip().startswith("File ")]
    frames = [frame for frame in frames if not frame.startswith('File "<')]  # code that was made, not written
    own = [frame for frame in frames if "/torch/" not in frame] or frames
    if not own:
        return ""
    file, line = own[-1].split(",")[:2]
    file, line = file.removeprefix("File ").strip('" '), line.strip().removeprefix("line ")
    return f"{file}:{line}"
