"""`-k key=value` becomes an options object: every type, what is refused, and what help shows."""

from dataclasses import dataclass
from typing import Literal

import pytest
from modelexport.contract import build_options, check_file, describe_options, option, option_keys
from modelexport.contract.options import parse_pairs
from modelexport.errors import OptionError


@dataclass(frozen=True)
class Options:
    count: int = option(3, "how many")
    ratio: float = option(0.5, "how much")
    keep_names: bool = option(False, "whether")
    mode: Literal["fast", "small", 8] = option("fast", "which")
    layers: tuple[str, ...] = option(("a",), "names")
    sizes: tuple[int, ...] = option((), "numbers")
    bound: int | None = option(None, "or none")
    file: str | None = option(None, "a path")

    def __post_init__(self):
        check_file("file", self.file)


def build(**values):
    return build_options(Options, {key.replace("_", "-"): value for key, value in values.items()}, "target 'toy'")


@pytest.mark.parametrize(
    ("values", "field", "wanted"),
    [
        ({}, "count", 3),
        ({"count": "7"}, "count", 7),
        ({"count": 7}, "count", 7),
        ({"ratio": "1e-3"}, "ratio", 0.001),
        ({"keep_names": "yes"}, "keep_names", True),
        ({"keep_names": "OFF"}, "keep_names", False),
        ({"keep_names": True}, "keep_names", True),
        ({"mode": "small"}, "mode", "small"),
        ({"mode": "8"}, "mode", 8),
        ({"layers": "x,y"}, "layers", ("x", "y")),
        ({"layers": ["x", "y"]}, "layers", ("x", "y")),
        ({"sizes": "1,2"}, "sizes", (1, 2)),
        ({"bound": "4"}, "bound", 4),
        ({"bound": "none"}, "bound", None),
        ({"bound": None}, "bound", None),
    ],
    ids=str,
)
def test_texts_and_ready_values_are_taken(values, field, wanted):
    found = getattr(build(**values), field)
    assert (found, type(found)) == (wanted, type(wanted))


def test_a_key_may_have_hyphens_or_underscores():
    for key in ("keep-names", "keep_names"):
        assert build_options(Options, {key: "true"}, "target 'toy'").keep_names is True


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        ({"count": "many"}, "target 'toy': count=many is not int", "a whole number"),
        ({"count": "1.5"}, "count=1.5 is not int", "a whole number"),
        ({"count": True}, "count=True is not int", "a whole number"),
        ({"ratio": "half"}, "ratio=half is not float", "a number"),
        ({"keep_names": "maybe"}, "keep-names=maybe is not bool", "true or false"),
        ({"mode": "slow"}, "mode=slow is not allowed", "one of fast, small, 8"),
        ({"sizes": "1,b"}, "sizes=b is not int", "a whole number"),
        ({"layers": [1]}, "layers=1 is not str", "text"),
        ({"cuont": "1"}, "target 'toy' has no option 'cuont'", "did you mean 'count'?"),
        ({"zzz": "1"}, "target 'toy' has no option 'zzz'", "one of bound, count, file, keep-names"),
        ({"file": "gone.txt"}, "file=gone.txt: there is no such file", "give the path of a file"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(values, message, hint):
    with pytest.raises(OptionError) as caught:
        build(**values)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_help_shows_key_type_default_and_meaning():
    assert [tuple(row) for row in describe_options(Options)] == [
        ("count", "int", "3", "how many"),
        ("ratio", "float", "0.5", "how much"),
        ("keep-names", "bool", "false", "whether"),
        ("mode", "fast|small|8", "fast", "which"),
        ("layers", "list of str", "a", "names"),
        ("sizes", "list of int", "", "numbers"),
        ("bound", "int", "", "or none"),
        ("file", "str", "", "a path"),
    ]
    assert option_keys(Options) == {row.key for row in describe_options(Options)}


def test_pairs_are_split_once():
    assert parse_pairs(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    for pairs, said in ((["a"], "can't read -k 'a'"), (["=1"], "can't read -k '=1'"), (["a=1", "a=2"], "twice")):
        with pytest.raises(OptionError, match=said):
            parse_pairs(pairs)
