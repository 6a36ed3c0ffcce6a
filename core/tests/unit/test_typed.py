"""Plain data read by type hints: what fits is taken, what doesn't is named with its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from modelexport import typed
from modelexport.typed import Check, Count, Format, InsidePath, Like, Mismatch, Name, Sha256


@dataclass(frozen=True)
class Inner:
    count: Count
    kind: Literal["a", "b", 3, True] = "a"


Few = Annotated[tuple[int, ...], Check("three at most", lambda items: len(items) <= 3)]


@dataclass(frozen=True)
class Outer:
    name: Name
    inner: Inner | None = None
    items: tuple[Inner, ...] = ()
    pair: tuple[float, str] | None = None
    by_name: Mapping[str, Inner] = field(default_factory=dict)
    either: int | str | Inner = 0
    few: Few = ()
    kept: Annotated[Mapping[str, Any], Like(Inner)] = field(default_factory=lambda: {"count": 0})
    anything: Any = None
    truth: bool = False


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ({"name": "x"}, Outer("x")),
        ({"name": "ü 3", "inner": {"count": 2, "kind": 3}}, Outer("ü 3", Inner(2, 3))),
        ({"name": "x", "items": [{"count": 0}], "pair": [1, "a"]}, Outer("x", items=(Inner(0),), pair=(1, "a"))),
        ({"name": "x", "by_name": {"k": {"count": 1}}}, Outer("x", by_name={"k": Inner(1)})),
        ({"name": "x", "either": {"count": 1}}, Outer("x", either=Inner(1))),
        ({"name": "x", "kept": {"count": 1}}, Outer("x", kept={"count": 1})),
        ({"name": "x", "anything": [{"a": [1.5, None, "\n"]}]}, Outer("x", anything=[{"a": [1.5, None, "\n"]}])),
    ],
)
def test_what_fits_is_read(data, wanted):
    assert typed.read(Outer, data) == wanted


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": None}, "name: expected text, found null"),
        ({"name": "a\x1bb"}, "name: expected text without control characters"),
        ({"name": "a\u202eb"}, "name: expected a name of 1 to 1000 printable characters"),
        ({"name": "x" * 1001}, "name: expected a name of"),
        ({"inner": {}}, r"inner.count: expected a value, found none"),
        ({"inner": {"count": True}}, "inner.count: expected a whole number of at most 64 bits, found true"),
        ({"inner": {"count": -1}}, "inner.count: expected 0 or more, found -1"),
        ({"inner": {"count": 2**63}}, "inner.count: expected a whole number of .* found a larger one"),
        ({"inner": {"count": 1.0}}, "inner.count: expected a whole number"),
        ({"inner": {"count": 1, "kind": "c"}}, "inner.kind: expected one of a, b, 3, True, found 'c'"),
        ({"inner": {"count": 1, "kind": 1}}, "inner.kind: expected one of"),
        ({"inner": {"count": 1, "other": 1}}, "inner: expected one of the keys count, kind, found .* 'other'"),
        ({"inner": []}, "inner: expected an object, found a list of 0"),
        ({"items": [{"count": 1}, 7]}, r"items\[1\]: expected an object, found 7"),
        ({"items": {}}, "items: expected a list, found an object of 0"),
        ({"pair": [1]}, "pair: expected a list of 2, found a list of 1"),
        ({"pair": [float("nan"), "a"]}, r"pair\[0\]: expected a finite number, found nan"),
        ({"pair": [10**400, "a"]}, r"pair\[0\]: expected a finite number, found a larger one"),
        ({"by_name": {"a\x00": {"count": 1}}}, "by_name: expected keys of printable text"),
        ({"by_name": {"k": 1}}, "by_name.k: expected an object"),
        ({"either": [1]}, "either: expected a whole number of at most 64 bits or text or an object"),
        ({"few": [1, 2, 3, 4]}, "few: expected three at most, found a list of 4"),
        ({"kept": {"count": "1"}}, "kept.count: expected a whole number"),
        ({"anything": [{"a": float("inf")}]}, r"anything\[0\].a: expected a finite number"),
        ({"anything": {"a": "\ud800"}}, "anything.a: expected text without control characters"),
        ({"truth": 1}, "truth: expected true or false, found 1"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_with_its_place(change, said):
    with pytest.raises(Mismatch, match=f"^{said}"):
        typed.read(Outer, {"name": "x", **change})


def test_plain_data_has_an_end():
    value: Any = 1
    for _ in range(typed.DEPTH + 2):
        value = [value]
    with pytest.raises(Mismatch, match="expected at most 32 levels"):
        typed.read(Any, value)


@pytest.mark.parametrize("path", ["model.bin", "a/b.c", ".hidden/x", "ü", "a b"])
def test_paths_inside(path):
    assert typed.read(InsidePath, path) == path


@pytest.mark.parametrize(
    "path", ["", ".", "..", "../a", "a/../b", "/a", "a/", "a//b", "./a", "a\\b", "C:a", "a\nb", "x" * 1001]
)
def test_paths_that_lead_out_or_say_one_thing_in_two_ways(path):
    with pytest.raises(Mismatch, match=r"expected (a path|text)"):
        typed.read(InsidePath, path)


@pytest.mark.parametrize(("kind", "value"), [(Format, "Onnx"), (Format, "a b"), (Sha256, "F" * 64), (Sha256, "0")])
def test_formats_and_digests(kind, value):
    with pytest.raises(Mismatch, match="expected a"):
        typed.read(kind, value)


def test_what_is_written_can_be_read():
    said = {"a": ["\x1b[31m!\r\n", float("nan"), 1], "b": "\ud800", "c": (1, 2)}
    plain = typed.printable(said)
    assert plain == {"a": ["\ufffd[31m!\n", None, 1], "b": "\ufffd", "c": [1, 2]}
    assert typed.read(Any, plain) == plain
