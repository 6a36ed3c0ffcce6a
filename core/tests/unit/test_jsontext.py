import pytest
from modelexport.errors import ArtifactError, InputError
from modelexport.jsontext import parse_json, read_json


def test_json_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, null, "ü", "\\ud83d\\ude00"]}', encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"a": [1, 2.5, None, "ü", "😀"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1', "no valid JSON"),
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ('{"b": [{"a": 1, "a": 2}]}', "'a' stands twice"),
        ('{"a": NaN}', "NaN is no JSON value"),
        ('{"a": -Infinity}', "-Infinity is no JSON value"),
        ("[" * 100_000, "nested too deep"),
        ('{"a":' * 100_000, "nested too deep"),
        ('"\\ud800"', "no UTF-8"),
        (b'"\xff"', "no UTF-8"),
        ("", "no valid JSON"),
        ("1" * 5000, "no valid JSON"),
    ],
)
def test_what_is_none_or_is_read_differently_elsewhere_is_refused(text, message):
    with pytest.raises(ArtifactError, match=message) as caught:
        parse_json(text, "x.json", ArtifactError, "export it again")
    assert caught.value.hint == "export it again"


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    (tmp_path / "a.json").write_text("[1, 2, 3]")
    with pytest.raises(InputError, match="9 bytes, more than the 4"):
        read_json(tmp_path / "a.json", limit=4)
