"""What is said of a program: its kernels, its memory, and what the user should know."""

from types import SimpleNamespace

from modelexport_executorch import account

PLAN = SimpleNamespace(
    operators=[
        SimpleNamespace(name="aten::mul", overload="out"),
        SimpleNamespace(name="aten::add", overload="out"),
        SimpleNamespace(name="aten::add", overload="out"),
        SimpleNamespace(name="my::op", overload=""),
    ],
    non_const_buffer_sizes=[0, 64, 32],
)
PROGRAM = SimpleNamespace(execution_plan=[PLAN])


def test_kernels_are_named_once_as_selective_builds_want_them():
    assert account.kernels(PROGRAM) == ["aten::add.out", "aten::mul.out", "my::op"]


def test_memory_has_a_figure_for_each_arena():
    assert account.memory(PROGRAM) == [64, 32]


def details(**changed):
    plain = {"delegates": {"XnnpackBackend": 1}, "delegated": {"share": 0.5}, "operators": {}, "memory": [64]}
    return {**plain, **changed}


def test_notes_tell_what_no_delegate_took():
    left = {"aten.mul.Tensor": 1, "aten.embedding": 9, "aten.add.Tensor": 1, "aten.b": 1, "aten.c": 1}
    assert account.notes(details(operators=left)) == [
        "50% of the operators are delegated; left to the CPU's kernels: "
        "embedding × 9, add.Tensor × 1, b × 1, c × 1"
    ]
    assert account.notes(details(operators=left, delegates={})) == []  # nobody asked for a delegate


def test_notes_tell_of_a_large_memory_plan():
    (line,) = account.notes(details(memory=[200 << 20, 100 << 20]))
    assert line.startswith("300 MiB of memory are planned, for the largest sizes declared")
    assert account.notes(details()) == []
