"""The grammar of what a program says about sizes: sums, products, comparisons of integers and named sizes.

torch gives the text of every symbolic expression to `sympy.sympify`, which runs it as Python, and compiles the
guards into a function. So both are parsed here before: as Python, of which few things are let through. What is
written in this grammar can't do anything, but might still take for ever: numbers and powers are bounded too.

Source: `torch/_export/serde/serialize.py` (`_parse_sym_expr`), `torch/export/_unlift.py` (guards), torch 2.13.
"""

from __future__ import annotations

import ast
import math
import re
from typing import NamedTuple

from .refused import Refused

#: the most characters of an expression, bits of a number in it, summands once expanded, and arguments of a call
_LENGTH, _BITS, _TERMS, _ARGUMENTS = 20_000, 4096, 4096, 64

_CHARACTERS = re.compile(r"[\w\s(),.'\[\]+\-*/%<>=!&|~]*", re.ASCII)
_SYMBOL = re.compile(r"[A-Za-z_]\w{0,99}", re.ASCII)
_FLOAT = re.compile(r"-?\d{1,40}(\.\d{1,60})?(e[+-]?\d\d?)?", re.ASCII)
_KEY = re.compile(r"[\w .:@+-]*", re.ASCII)

#: names of sizes that nobody has chosen: torch counts up to the highest of them when it loads a program
_UNBACKED = re.compile(r"(?:zuf|u)(\d+)", re.ASCII)
_MOST_UNBACKED = 100_000

#: what torch and sympy write as functions in an expression
_FUNCTIONS = frozenset(
    """
    Add Mul Pow Mod Max Min Abs floor ceiling sqrt sign Integer Rational Float Symbol Infinity NegativeInfinity
    Eq Ne Lt Le Gt Ge Equality Unequality StrictLessThan LessThan StrictGreaterThan GreaterThan And Or Not Xor
    Piecewise ExprCondPair FloorDiv ModularIndexing Where PythonMod CleanDiv CeilToInt FloorToInt CeilDiv LShift
    RShift PowByNatural FloatPow FloatTrueDiv IntTrueDiv IsNonOverlappingAndDenseIndicator TruncToFloat TruncToInt
    RoundToInt RoundDecimal ToFloat Identity
    """.split()  # noqa: SIM905  a paragraph, not a column
)
_OPAQUE = re.compile(r"(OpaqueUnaryFn|BitwiseFn)_[a-z0-9_]+")
_CONSTANTS = frozenset(("oo", "int_oo", "zoo", "nan", "true", "false"))
_BARE = re.compile(r"(s|u|zf|zuf|ps|tmp|i)\d+", re.ASCII)

#: what is said of a symbol
_ASSUMPTIONS = frozenset(
    (
        "integer",
        "positive",
        "nonnegative",
        "negative",
        "nonpositive",
        "zero",
        "nonzero",
        "real",
        "finite",
        "rational",
    )
)

#: functions in guards, which are Python's own and those of the modules that torch lends them
_GUARD_FUNCTIONS = frozenset(
    """
    max min abs int float bool round IsNonOverlappingAndDenseIndicator cast_symbool_to_symint_guardless
    math.floor math.ceil math.trunc math.sqrt math.isnan math.isinf math.log math.log2 math.exp math.cos math.sin
    math.tan math.cosh math.sinh math.tanh math.acos math.asin math.atan torch.sym_max torch.sym_min torch.sym_sqrt
    torch.sym_float torch.sym_int torch.sym_not torch.sym_ite torch._sym_sqrt
    """.split()  # noqa: SIM905  a paragraph, not a column
)
_GUARD_CONSTANTS = frozenset(("math.inf", "math.nan", "inf"))
_GUARD_METHODS = frozenset(("size", "stride", "storage_offset", "dim", "numel"))

_OPERATORS = (
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.LShift, ast.RShift),
    *(ast.BitAnd, ast.BitOr, ast.USub, ast.UAdd, ast.Not, ast.Invert, ast.And, ast.Or),
    *(ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
)


class _Size(NamedTuple):
    """How large an expression may get: bits of its value, and summands of it once it is expanded."""

    bits: int
    terms: int


_ONE = _Size(64, 1)


def check_expression(text: str) -> None:
    """Raise Refused where `text` is more than arithmetic with sizes."""
    _checked(text, guard=False)


def check_range(text: str) -> None:
    """Raise Refused where `text`, which a range is given of, is no size or expression of sizes."""
    found = _UNBACKED.fullmatch(text) or _UNBACKED.match(text)
    if found and (found.end() != len(text) or len(found[1]) > 6 or int(found[1]) > _MOST_UNBACKED):
        raise Refused(f"the size {text[:80]!r}")
    check_expression(text)


def check_guard(text: str) -> None:
    """Raise Refused where `text` is more than a comparison of the inputs' sizes."""
    _checked(text, guard=True)


def _checked(text: str, guard: bool) -> None:
    try:
        _walk(_parsed(text), guard)
    except RecursionError as error:
        raise Refused("an expression that is nested too deep") from error


def _parsed(text: str) -> ast.expr:
    if len(text) > _LENGTH or not _CHARACTERS.fullmatch(text) or "\n" in text or "\r" in text:
        raise Refused(f"the expression {text[:80]!r}")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise Refused(f"the expression {text[:80]!r}") from error


def _walk(node: ast.expr, guard: bool) -> _Size:
    """How large the expression may get. Raises Refused for what the grammar lacks, and what is too large."""
    size = _size(node, guard)
    if size.bits > _BITS or size.terms > _TERMS:
        raise Refused("an expression that grows without bounds")
    return size


def _size(node: ast.expr, guard: bool) -> _Size:
    match node:
        case ast.Constant(value=value):
            return _number(value)
        case ast.Name(id=name) if not guard and (name in _CONSTANTS or _BARE.fullmatch(name)):
            return _ONE
        case ast.UnaryOp(op=op, operand=operand) if isinstance(op, _OPERATORS):
            return _walk(operand, guard)
        case ast.BoolOp(op=op, values=values) if isinstance(op, _OPERATORS):
            return _sum([_walk(value, guard) for value in values])
        case ast.Compare(left=left, ops=ops, comparators=others) if all(isinstance(op, _OPERATORS) for op in ops):
            return _sum([_walk(value, guard) for value in (left, *others)])
        case ast.BinOp(left=left, op=op, right=right) if isinstance(op, _OPERATORS):
            return _combined(type(op).__name__, left, right, guard)
        case ast.Call() if guard:
            return _guard_call(node)
        case ast.Call(func=ast.Name(id=name)):
            return _call(name, node)
    if guard and _is_value(node):
        return _ONE
    raise Refused(f"the expression {ast.unparse(node)[:80]!r}")


def _number(value: object) -> _Size:
    if isinstance(value, bool) or value is None:
        return _Size(1, 1)
    if isinstance(value, int) and value.bit_length() <= 64:
        return _Size(max(value.bit_length(), 1), 1)
    if isinstance(value, float) and abs(value) < 2.0**64:
        return _ONE
    raise Refused(f"the value {str(value)[:80]!r}")


def _combined(kind: str, left: ast.expr, right: ast.expr, guard: bool) -> _Size:
    a = _walk(left, guard)
    if kind in ("Pow", "LShift", "RShift"):
        return _power(kind, a, right)
    b = _walk(right, guard)
    return _product([a, b]) if kind in ("Mult", "Div", "FloorDiv", "Mod") else _sum([a, b])


def _power(kind: str, base: _Size, exponent: ast.expr) -> _Size:
    """The size of a power, whose exponent must be a number that is written out."""
    value = abs(_literal(exponent))
    if value > 64:
        raise Refused(f"the exponent {value}")
    if kind in ("LShift", "RShift"):
        return _Size(base.bits + 64, base.terms)
    steps = max(math.ceil(value), 1)
    return _Size(base.bits * steps, base.terms**steps)


def _literal(node: ast.expr) -> float:
    """The number that an expression is, as it stands: `2`, `-1`, `Integer(2)`, `Rational(1, 2)`."""
    match node:
        case ast.Constant(value=int() | float() as value) if math.isfinite(float(value)):
            return float(value)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_literal(operand)
        case ast.Call(func=ast.Name(id="Integer"), args=[value], keywords=[]):
            return _literal(value)
        case ast.Call(func=ast.Name(id="Rational"), args=[a, b], keywords=[]) if divisor := _literal(b):
            return _literal(a) / divisor
    raise Refused(f"the exponent {ast.unparse(node)[:80]!r}")


def _call(name: str, node: ast.Call) -> _Size:
    """The size of what a function of the grammar gives."""
    if not (name in _FUNCTIONS or _OPAQUE.fullmatch(name)) or len(node.args) > _ARGUMENTS:
        raise Refused(f"the expression {ast.unparse(node)[:80]!r}")
    if name in ("Symbol", "Float"):
        return _atom(name, node)
    if node.keywords:
        raise Refused(f"the expression {ast.unparse(node)[:80]!r}")
    if name in ("Pow", "LShift", "RShift") and len(node.args) == 2:
        return _power(name, _walk(node.args[0], guard=False), node.args[1])
    sizes = [_walk(value, guard=False) for value in node.args]
    if name == "PowByNatural":  # torch bounds it itself
        return _Size(max((size.bits for size in sizes), default=1) + 64, 1)
    return _product(sizes) if name == "Mul" else _sum(sizes)


def _atom(name: str, node: ast.Call) -> _Size:
    """`Symbol('s0', positive=True, integer=True)` and `Float('1.5', precision=53)`."""
    values = {keyword.arg: keyword.value for keyword in node.keywords}
    match node.args, name:
        case [ast.Constant(value=str() as text)], "Symbol" if _SYMBOL.fullmatch(text):
            known = all(_is_truth(value) and key in _ASSUMPTIONS for key, value in values.items())
        case [ast.Constant(value=str() as text)], "Float" if _FLOAT.fullmatch(text):
            known = all(key == "precision" and 0 < _literal(value) <= 128 for key, value in values.items())
        case _:
            known = False
    if not known:
        raise Refused(f"the expression {ast.unparse(node)[:80]!r}")
    return _ONE


def _is_truth(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, bool))


def _sum(sizes: list[_Size]) -> _Size:
    return _Size(max((size.bits for size in sizes), default=1) + 1, sum(size.terms for size in sizes) or 1)


def _product(sizes: list[_Size]) -> _Size:
    return _Size(sum(size.bits for size in sizes), math.prod(size.terms for size in sizes))


# --------------------------------------------------------------------------------------- guards


def _guard_call(node: ast.Call) -> _Size:
    if node.keywords or len(node.args) > _ARGUMENTS:
        raise Refused(f"the guard {ast.unparse(node)[:80]!r}")
    sizes = [_walk(value, guard=True) for value in node.args]
    match node.func:
        case ast.Attribute(value=value, attr=method) if method in _GUARD_METHODS and _is_input(value):
            return _ONE
        case ast.Name() | ast.Attribute(value=ast.Name()) as function if ast.unparse(function) in _GUARD_FUNCTIONS:
            return _sum(sizes)
    raise Refused(f"the guard {ast.unparse(node)[:80]!r}")


def _is_value(node: ast.expr) -> bool:
    """Whether `node` is an input, one of its sizes, or a constant of a module."""
    match node:
        case ast.Subscript(ast.Call(func=ast.Attribute(attr=method)) as call, slice=ast.Constant(int())):
            return method in _GUARD_METHODS and bool(_guard_call(call))
        case ast.Attribute(value=ast.Name()) | ast.Name():
            return ast.unparse(node) in _GUARD_CONSTANTS
    return _is_input(node)


def _is_input(node: ast.expr) -> bool:
    """Whether `node` is `L['x']`, or a part of it: `L['x'][0]['k']`."""
    match node:
        case ast.Subscript(value=ast.Name(id="L"), slice=ast.Constant(value=str() as key)):
            return _KEY.fullmatch(key) is not None
        case ast.Subscript(value=value, slice=ast.Constant(value=int() | str() as key)):
            return (isinstance(key, int) or _KEY.fullmatch(key) is not None) and _is_input(value)
    return False
