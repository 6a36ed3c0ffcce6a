"""Names and sizes for source code: every input has a name that four languages take, and no two share one."""

from pathlib import Path

import pytest
from modelexport.contract import Artifact, Dim, TensorSpec
from modelexport.errors import ConversionError
from modelexport.toolkit import KOTLIN_DOLLAR, commented, identifier, quoted, signature


@pytest.mark.parametrize(
    ("name", "word"),
    [("x", "x"), ("past.0.key", "past_0_key"), ("1st", "_1st"), ("class", "class_"), ("ünï", "_n_"), ("", "_")],
)
def test_any_name_becomes_an_identifier(name, word):
    assert identifier(name) == word
    assert word.isidentifier()


def test_names_that_become_one_are_told_apart():
    specs = tuple(TensorSpec(name, "float32", (1,)) for name in ("a.b", "a_b", "a/b"))
    found = signature(Artifact(Path(), "toy", "model", specs, (TensorSpec("a b", "float32", (1,)),)))
    assert [value.identifier for value in (*found.inputs, *found.outputs)] == ["a_b", "a_b_2", "a_b_3", "a_b_4"]


def test_dynamic_sizes_are_constants_with_a_line_each():
    specs = (TensorSpec("ids", "int64", (Dim("batch"), Dim("seq", 8, 64, 8), 3)), TensorSpec("s", "float32", ()))
    found = signature(Artifact(Path(), "toy", "model", specs, ()), {"batch": 4})
    assert found.inputs[0].count == "BATCH * SEQ * 3"
    assert found.inputs[0].shape == "BATCH, SEQ, 3"
    assert found.inputs[1].count == "1"
    assert str(found.inputs[0]) == "ids: int64[BATCH, SEQ, 3]"
    assert found.constants("int $name = $size;  // $range") == (
        "int BATCH = 2;  // batch=1..4\nint SEQ = 8;  // seq=8..64/8\n"
    )
    assert found.constants("$name = $size", {"seq": 16}) == "BATCH = 2\nSEQ = 16\n"


def test_literals_keep_quotes_and_kotlins_dollar():
    assert quoted('a"b$c\\é\n') == '"a\\"b$c\\\\é\\n"'
    assert quoted("b$c", KOTLIN_DOLLAR) == '"b\\$c"'


@pytest.mark.parametrize(
    "name", ["x */ exit(0); /*", "\\u000aSystem.exit(0);//", "x\\", "x\nexit(0)", "a\u2028b", "`id`", "??/"]
)
def test_no_name_is_code_in_a_comment(name):
    said = commented(name)
    assert said.isprintable()
    assert not any(part in said for part in ("*/", "/*", "\\", "??/", "`"))
    value = signature(Artifact(Path(), "toy", "m", (TensorSpec(name, "float32", (Dim(name),)),), ())).inputs[0]
    assert "\\" not in str(value) and str(value).isprintable()


@pytest.mark.parametrize("name", ["a\x00b", "a\u202eb", "a\ud800"])
def test_no_literal_of_what_languages_escape_differently(name):
    with pytest.raises(ConversionError, match="can't be written in source code"):
        quoted(name)
