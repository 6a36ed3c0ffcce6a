"""An interpreter of ML Programs: evaluates what was saved, operator by operator, where there is no Core ML.

It reads nothing but the package, so it checks what the converter wrote. What it can't check is Core ML itself:
a device may compute in half precision what the program stores in single, or fail to compile an operator.

registry.py     the operators by name, and how they read their parameters
elementwise.py  linear.py  conv.py  pool.py  norm.py  reduce.py  shape.py  gather.py  resize.py  recurrent.py
compressed.py   the operators
program.py      their order: constants first, then a call
"""

from __future__ import annotations

from .program import Interpreter

__all__ = ["Interpreter"]
