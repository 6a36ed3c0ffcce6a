"""Texts, JSON lines and CSV as samples."""

import csv
import json

import numpy as np
import pytest
from modelexport.data.samples import open_samples
from modelexport.errors import InputError
from modelexport.plugins.installed import importable

from core.tests.unit.data.conftest import ONE, TWO, WORDS, declare, same, write

# ------------------------------------------------------------------ texts


def test_texts_line_by_line(tmp_path, texts):
    path = write(tmp_path / "a.txt", "\ufeffa b\n\n  \nc\r\nd e f")
    found = open_samples(texts(), path)
    assert [sample["ids"].tolist() for sample in found] == [[[1, 3, 4, 2]], [[1, 5, 2]], [[1, 6, 7, 8, 2]]]
    assert len(found) == 3


def test_texts_of_a_batch_are_padded_to_its_longest(tmp_path, texts):
    path = write(tmp_path / "a.txt", "a b\nc\nd e f g\na\nb")
    found = open_samples(texts(), path)
    assert [batch["ids"].shape for batch in found.batches(2)] == [(2, 4), (2, 6), (1, 3)]
    batches = list(found.batches(2, uniform=True))
    assert [batch["ids"].shape for batch in batches] == [(2, 6), (2, 6), (1, 6)]
    assert batches[0]["ids"].tolist() == [[1, 3, 4, 2, 0, 0], [1, 5, 2, 0, 0, 0]]
    assert batches[0]["mask"].tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0]]


def test_uniform_padding_stays_within_the_models_limit(tmp_path, texts):
    path = write(tmp_path / "a.txt", "a\n" + "b " * 20)
    assert [b["ids"].shape for b in open_samples(texts(), path).batches(1, uniform=True)] == [(1, 8), (1, 8)]
    steps = open_samples(texts(seq="seq=4..16/4"), write(tmp_path / "b.txt", "a\na b c"))
    assert [b["ids"].shape for b in steps.batches(1, uniform=True)] == [(1, 8), (1, 8)]
    assert [b["ids"].shape for b in steps.batches(1)] == [(1, 4), (1, 8)]


def test_texts_without_a_padding_token(tmp_path, texts):
    found = open_samples(texts(pad_id=None), write(tmp_path / "a.txt", "a b\nc d\ne"))
    assert [batch["ids"].shape for batch in found.batches(3)] == [(2, 4), (1, 3)]
    with pytest.raises(InputError, match=r"\(1, 4\) in line 1 of .*a\.txt and \(1, 3\) in line 3 of"):
        list(found.batches(3, uniform=True))


def test_texts_for_a_fixed_batch(tmp_path, texts):
    found = open_samples(texts(batch="2"), write(tmp_path / "a.txt", "a b\nc\nd\ne"))
    assert [sample["ids"].shape for sample in found] == [(2, 4), (2, 3)]
    assert len(list(found.batches(8))) == 2


def test_a_token_that_the_model_does_not_know_is_named(tmp_path, texts):
    path = write(tmp_path / "a.txt", "a\nb\n\na h b\n")
    assert len(list(open_samples(texts(high=10), path))) == 3
    for read in (list, lambda found: list(found.batches(3))):
        with pytest.raises(InputError, match=r"line 4 of .*a\.txt: input 'ids' holds 10, outside 0\.\.9"):
            read(open_samples(texts(high=9), path))


def test_jsonl_picks_the_column_of_texts(tmp_path, texts):
    def ids(*records, column=None):
        path = write(tmp_path / "a.jsonl", "\n\n".join(map(json.dumps, records)))
        return [sample["ids"][0].tolist() for sample in open_samples(texts(), path, column=column)]

    assert ids({"text": "a", "other": "b"}, {"text": "c"}) == [[1, 3, 2], [1, 5, 2]]
    assert ids({"label": 1, "sentence": "b"}) == [[1, 4, 2]]
    assert ids({"one": "a", "two": "b"}, column="two") == [[1, 4, 2]]
    assert ids({"one": "a", "two": "b"}, column="two, one") == [[1, 4, 2, 3, 2]]
    with pytest.raises(InputError, match=r"which column .* is unclear; its columns: one, two") as caught:
        ids({"one": "a", "two": "b"})
    assert "--column" in caught.value.hint
    with pytest.raises(InputError, match=r"a\.jsonl has no column 'three'") as caught:
        ids({"one": "a", "two": "b"}, column="one,three")
    assert "one, two" in caught.value.hint
    with pytest.raises(InputError, match="has no column of texts; its columns: n"):
        ids({"n": 1})
    with pytest.raises(InputError, match="3 columns"):
        ids({"a": "a", "b": "b", "c": "c"}, column="a,b,c")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "a"', "is no valid JSON"),
        ('["a"]', r"holds \['a'\], not an object"),
        ('{"body": "a"}', "column 'text' is missing"),
        ('{"text": null}', "column 'text' holds null, not text"),
        ('{"text": 7}', "column 'text' holds 7, not text"),
        (b'{"text": "\xff"}', "is not UTF-8"),
        ("[" * 100_000, "is nested too deep"),
    ],
)
def test_a_bad_line_is_named(tmp_path, texts, line, said):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n\n' + (line if isinstance(line, bytes) else line.encode()) + b"\n")
    found = open_samples(texts(), path)
    with pytest.raises(InputError, match=rf"line 3 of .*a\.jsonl:? {said}"):
        list(found)


def test_csv_with_quotes_and_line_breaks(tmp_path, texts):
    rows = [["a, b", "c"], ["d\n\ne", "f"], ["g", ""], ["a", "b"]]
    with open(tmp_path / "a.csv", "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["text", "more\ntext"], *rows[:2], [], *rows[2:]])
    found = open_samples(texts(), tmp_path / "a.csv", samples=3, seed=5)
    wanted = np.sort(np.random.default_rng(5).choice(4, 3, replace=False))
    ids = [[1, 3, 0, 4, 2], [1, 6, 7, 2], [1, 9, 2], [1, 3, 2]]
    assert [sample["ids"][0].tolist() for sample in found] == [ids[index] for index in wanted]
    pairs = open_samples(texts(), tmp_path / "a.csv", column="text,more\ntext")
    assert next(iter(pairs))["types"][0].tolist() == [0] * 5 + [1] * 2


def test_csv_picks_the_only_column_that_is_no_number(tmp_path, texts):
    found = open_samples(texts(), write(tmp_path / "a.csv", "label,sentence\n1,a\n0,b\n"))
    assert [sample["ids"][0].tolist() for sample in found] == [[1, 3, 2], [1, 4, 2]]


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("b,c\n", r"line 4 of .*a\.csv has 2 cells, the header has 1"),
        ('"b\nc', r"line 4 of .*a\.csv is no CSV"),
        ('"b"c\n', r"line 4 of .*a\.csv is no CSV"),
    ],
)
def test_a_bad_record_is_named(tmp_path, texts, rest, said):
    path = write(tmp_path / "a.csv", 'text\n"a\nb"\n' + rest)
    with pytest.raises(InputError, match=said):
        list(open_samples(texts(), path))


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
@pytest.mark.parametrize("content", ["", "\n \n", "text\n"])
def test_nothing_in_the_file(tmp_path, texts, name, content):
    content = "" if content == "text\n" and name != "a.csv" else content
    with pytest.raises(InputError, match=f"{name} holds no samples"):
        open_samples(texts(), write(tmp_path / name, content))


def test_rows_are_drawn_from_a_long_file(tmp_path, texts):
    lines = [" ".join(np.random.default_rng(index).choice(WORDS[3:], 4)) for index in range(5000)]
    plain = open_samples(texts(), write(tmp_path / "a.txt", "\n".join(lines)), samples=30, seed=9)
    objects = "\n\n".join(json.dumps({"text": line}) for line in lines)
    table = "text\n" + "\n".join(lines)
    wanted = np.sort(np.random.default_rng(9).choice(5000, 30, replace=False))
    ids = [[1, *(WORDS.index(word) for word in lines[index].split()), 2] for index in wanted]
    assert [sample["ids"][0].tolist() for sample in plain] == ids
    for name, text in {"a.jsonl": objects, "a.csv": table}.items():
        assert same(plain, open_samples(texts(), write(tmp_path / name, text), samples=30, seed=9))


def test_columns_named_like_the_inputs_hold_numbers(tmp_path):
    lines = [{"x": [1, 2, 3], "ids": [4, 5], "label": "no input"}, {"ids": [7], "x": [0.5, 0, 1e-3]}]
    found = list(open_samples(TWO, write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))))
    assert (found[0]["x"].tolist(), found[0]["ids"].tolist()) == ([[1, 2, 3]], [[4, 5]])
    assert found[1]["ids"].shape == (1, 1)
    assert found[1]["x"].dtype == np.float32
    whole = [{"x": [line["x"]], "ids": [line["ids"]]} for line in lines]
    assert same(found, open_samples(TWO, write(tmp_path / "b.jsonl", "\n".join(map(json.dumps, whole)))))
    table = write(tmp_path / "a.csv", "x,y,label\n0.5,7,cat\n-1e-3,2,\n")
    found = open_samples(declare("x:float32[batch,1]", "y:int64[batch]=0..9"), table)
    assert [(s["x"].tolist(), s["y"].tolist()) for s in found] == [([[0.5]], [7]), ([[np.float32(-1e-3)]], [2])]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("[1, 2]", "has size 2 on axis 1"),
        ("[[1, 2], [3]]", "not numbers"),
        ('["a", "b", "c"]', "not numbers"),
        ("null", "holds null, not numbers"),
        ("[1, 2, NaN]", "NaN is no JSON value"),
        ("[1, 2, 1e400]", "holds infinity"),
        (f'["{"a" * 100_000}", {"1, " * 50_000} 1]', "holds .*, not numbers: it holds something else"),
        ("[]", "not numbers"),
    ],
)
def test_numbers_that_do_not_fit_are_named(tmp_path, value, said):
    path = write(tmp_path / "a.jsonl", f'{{"x": [1, 2, 3]}}\n{{"x": {value}}}')
    with pytest.raises(InputError, match=rf"line 2 of .*a\.jsonl.*{said}"):
        list(open_samples(ONE, path))


# ------------------------------------------------------------------ folders of `datasets`


def test_a_folder_that_datasets_saved(tmp_path, texts):
    """With the package, its rows; without, the line that installs it."""
    path = tmp_path / "saved"
    if not importable("datasets"):
        path.mkdir()
        write(path / "state.json", "{}")
        with pytest.raises(InputError, match="needs datasets") as caught:
            open_samples(texts(), path)
        assert caught.value.hint == "pip install 'modelexport[datasets]'"
        return
    import datasets

    datasets.Dataset.from_dict({"text": ["a", "b c"], "n": [1, 2]}).save_to_disk(str(path))
    assert [s["ids"][0].tolist() for s in open_samples(texts(), path)] == [[1, 3, 2], [1, 4, 5, 2]]
