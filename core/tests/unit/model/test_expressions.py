"""What torch writes about sizes is in the grammar, and nothing that can do or cost anything."""

import pytest
from modelexport.model.pt2.expressions import check_expression, check_guard, check_range
from modelexport.model.pt2.refused import Refused

S = "Symbol('s27', positive=True, integer=True)"

WRITTEN = [
    "Integer(1)",
    S,
    "s0",
    "2*s0 + 1",
    f"Mul(Integer(2), {S}, Add(FloorDiv({S}, Integer(2)), Integer(1)))",
    f"Max(Integer(1), Add(FloorDiv({S}, Integer(4)), Integer(-1)))",
    f"Mod(Add(Integer(8), Mul(Integer(-1), Mod({S}, Integer(8)))), Integer(8))",
    f"Pow({S}, Integer(2))",
    f"Pow({S}, Rational(1, 2))",
    f"PowByNatural(Integer(2), {S})",
    f"TruncToInt(FloatTrueDiv(ToFloat({S}), Float('1.5', precision=53)))",
    f"Equality({S}, Integer(3))",
    f"And(StrictLessThan({S}, Integer(3)), Unequality({S}, Integer(1)))",
    f"Piecewise(ExprCondPair(Integer(1), LessThan({S}, Integer(2))), ExprCondPair({S}, true))",
    f"OpaqueUnaryFn_sqrt({S})",
    "Symbol('u0', integer=True)",
    "int_oo",
]

GUARDS = [
    "L['x'].size()[0] >= 2",
    "(L['x'].size()[0] % 2) == 0",
    "L['y']['k'][0].size()[1] == L['x'].size()[1]",
    "L['flat_args'][3].stride()[0] != 1",
    "max(1, (-1) + (L['x'].size()[1] // 4)) == ((-1) + (L['x'].size()[1] // 4))",
    "math.trunc((L['x'].size()[1] / 2) ** 0.5) == 2",
    "math.trunc(1.5*torch.sym_float(L['x'].size()[1])) == 18",
    "L['n'] == 3 and not L['flag']",
]

HOSTILE = [
    "__import__('os').system('true')",
    "Symbol(__import__('os').getcwd())",
    "Integer.__class__",
    "s0.__class__",
    "(lambda: 1)()",
    "[1 for x in (1,)]",
    "{1: 2}",
    "f'{s0}'",
    "eval('1')",
    "sympify('1')",
    "Function('f')(1)",
    "S('1')",
    "Symbol('s0', commutative=True)",
    "Symbol('s0; import os')",
    "Symbol('s0', **{'integer': True})",
    "Add(*[1])",
    "Float('1', precision=10000000)",
    "Float('1e99999999')",
    "'s0'",
    "s0 if s0 else 1",
    "(s0 := 1)",
    "s0[0]",
    "1\n+1",
    "1 # more",
    "1;1",
    "await s0",
    "ｓ0",
    "Pow(Integer(9), Integer(9999999))",
    "Pow(s0, s0)",
    "9**9**9",
    "(" * 300 + "1" + ")" * 300,
    "-" * 9000 + "1",
    "Pow(" * 12 + "Integer(9)" + ", Integer(60))" * 12,
    "Pow(Add(s0, s1, s2, s3), Integer(60))",
    "LShift(Integer(1), Integer(10000000))",
    "1 << 10000000",
    "1e999",
    str(1 << 70),
    "Max(" + ",".join(f"s{n}" for n in range(200)) + ")",
    "+".join(["s0"] * 12000),
    "",
    " ",
]


@pytest.mark.parametrize("text", WRITTEN)
def test_what_torch_writes_is_let_through(text):
    check_expression(text)


@pytest.mark.parametrize("text", GUARDS)
def test_guards_that_torch_writes_are_let_through(text):
    check_guard(text)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_else_is(text):
    for check in (check_expression, check_guard, check_range):
        with pytest.raises(Refused, match=r"expression|exponent|value|guard|size"):
            check(text)


@pytest.mark.parametrize(
    "text",
    [
        "L[__import__('os').getcwd()].size()[0] == 1",
        "L['x'].size().__class__ == 1",
        "L['x'].numpy() == 1",
        "L['\\x27'].size()[0] == 1",
        "torch.load('x') == 1",
        "math.__loader__ == 1",
        "G['x'] == 1",
        "Symbol('s0') == 1",
        "L['x'].size(L['x'].size)[0] == 1",
    ],
)
def test_guards_reach_for_sizes_alone(text):
    with pytest.raises(Refused, match=r"expression|guard|value"):
        check_guard(text)


def test_torch_counts_up_to_a_size_that_nobody_has_chosen():
    check_range("u17")
    check_range("2*s39")
    for text in ("u99999999999", "zuf1234567", "u0099999999", "u1+u2", "u"):
        with pytest.raises(Refused, match=r"size|expression"):
            check_range(text)
