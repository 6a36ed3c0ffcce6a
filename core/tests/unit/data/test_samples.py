"""Samples of arrays: which rows are drawn, in what batches they come, and what is refused."""

import hashlib

import numpy as np
import pytest
from modelexport.contract import check_inputs
from modelexport.data.samples import open_samples
from modelexport.errors import InputError, OptionError

from core.tests.unit.data.conftest import ONE, TWO, declare, firsts, image, same, save_pictures, save_rows, write

# ------------------------------------------------------------------ selection


def test_rows_are_drawn_by_the_seed_and_come_in_order(tmp_path):
    path = save_rows(tmp_path / "a.npz", 500)
    drawn = open_samples(ONE, path, samples=40, seed=7)
    wanted = np.sort(np.random.default_rng(7).choice(500, 40, replace=False))
    assert firsts(drawn) == [3 * index for index in wanted]
    assert len(drawn) == 40
    assert drawn.ref == str(path)
    assert drawn.seed == 7
    assert firsts(drawn) == firsts(drawn)
    assert firsts(open_samples(ONE, path, samples=40, seed=8)) != firsts(drawn)


def test_every_row_is_taken_where_there_are_no_more(tmp_path):
    path = save_rows(tmp_path / "a.npz", 5)
    assert firsts(open_samples(ONE, path)) == [0, 3, 6, 9, 12]
    assert firsts(open_samples(ONE, path, samples=5, seed=3)) == [0, 3, 6, 9, 12]


@pytest.mark.parametrize("options", [{"samples": 0}, {"samples": -1}, {"seed": -1}])
def test_numbers_that_make_no_sense_are_option_errors(tmp_path, options):
    with pytest.raises(OptionError, match=str(*options.values())):
        open_samples(ONE, save_rows(tmp_path / "a.npz", 5), **options)


def test_split_is_disjoint_whole_and_the_same_each_time(tmp_path):
    path = save_rows(tmp_path / "a.npz", 300)
    whole = open_samples(ONE, path, samples=100, seed=1)
    one, other = whole.split(0.25)
    assert (len(one), len(other)) == (25, 75)
    assert sorted(firsts(one) + firsts(other)) == firsts(whole)
    assert firsts(one) == sorted(firsts(one))
    assert firsts(one) != firsts(whole)[:25], "sorted data would be split by class"
    assert [firsts(part) for part in whole.split(0.25)] == [firsts(one), firsts(other)]
    again = one.split(0.5)
    assert sorted(firsts(again[0]) + firsts(again[1])) == firsts(one)


@pytest.mark.parametrize(("count", "share", "lengths"), [(2, 0.01, (1, 1)), (2, 0.99, (1, 1)), (1, 0.5, (1, 0))])
def test_split_leaves_no_part_empty_where_it_can(tmp_path, count, share, lengths):
    parts = open_samples(ONE, save_rows(tmp_path / "a.npz", count)).split(share)
    assert tuple(map(len, parts)) == lengths
    assert tuple(len(list(part)) for part in parts) == lengths


@pytest.mark.parametrize("share", [0, 1, -0.5, 2])
def test_split_by_no_share_is_an_option_error(tmp_path, share):
    with pytest.raises(OptionError, match=f"a share of {share} splits nothing"):
        open_samples(ONE, save_rows(tmp_path / "a.npz", 4)).split(share)


def test_fingerprint_follows_data_seed_and_number(tmp_path):
    path = save_rows(tmp_path / "a.npz", 50)
    found = open_samples(ONE, path, samples=10, seed=1)
    by_hand = hashlib.sha256()
    for sample in found:
        by_hand.update(b"x float32 (1, 3)\n" + sample["x"].tobytes())
    assert found.fingerprint() == by_hand.hexdigest() == found.fingerprint()
    others = [open_samples(ONE, path, samples=10, seed=2), open_samples(ONE, path, samples=11, seed=1)]
    rows = np.arange(150, dtype=np.float32).reshape(50, 3)
    rows[int(firsts(found)[4]) // 3, 2] += 1
    np.savez(tmp_path / "b.npz", x=rows)
    others.append(open_samples(ONE, tmp_path / "b.npz", samples=10, seed=1))
    assert len({found.fingerprint(), *(other.fingerprint() for other in others)}) == 4


# ------------------------------------------------------------------ arrays in files


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_of_rows_and_of_samples(tmp_path, save):
    x, ids = np.random.default_rng(0).random((9, 3), np.float32), np.arange(18).reshape(9, 2) % 10
    save(tmp_path / "rows.npz", x=x, ids=ids)
    save(tmp_path / "samples.npz", x=x[:, None], ids=ids[:, None])
    rows = list(open_samples(TWO, tmp_path / "rows.npz"))
    assert same(rows, open_samples(TWO, tmp_path / "samples.npz"))
    for index, sample in enumerate(rows):
        check_inputs(sample, TWO.inputs)
        assert np.array_equal(sample["x"], x[index : index + 1])
        assert np.array_equal(sample["ids"], ids[index : index + 1])


def test_npz_with_gaps_between_the_rows_drawn(tmp_path):
    """Gaps of several megabytes, which are passed over in steps."""
    rows = np.random.default_rng(0).random((6, 1_000_000), np.float32)
    np.savez_compressed(tmp_path / "a.npz", x=rows)
    drawn = open_samples(declare("x:float32[batch,1000000]"), tmp_path / "a.npz", samples=2, seed=4)
    wanted = np.sort(np.random.default_rng(4).choice(6, 2, replace=False))
    assert wanted[1] - wanted[0] > 1
    assert all(np.array_equal(sample["x"][0], rows[index]) for sample, index in zip(drawn, wanted, strict=True))


def test_npz_in_fortran_order_and_foreign_bytes(tmp_path):
    rows = np.random.default_rng(0).random((7, 3)).astype(np.float32)
    np.savez(tmp_path / "plain.npz", x=rows)
    for name, array in {"fortran": np.asfortranarray(rows), "big": rows.astype(">f4")}.items():
        np.savez(tmp_path / f"{name}.npz", x=array)
        found = open_samples(ONE, tmp_path / f"{name}.npz", samples=4)
        assert same(found, open_samples(ONE, tmp_path / "plain.npz", samples=4))
        assert all(sample["x"].dtype.isnative and sample["x"].flags.c_contiguous for sample in found)


def test_npy_is_for_models_with_one_input(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(15, dtype=np.float32).reshape(5, 3))
    assert firsts(open_samples(ONE, tmp_path / "a.npy", samples=3, seed=0)) == [
        3 * index for index in np.sort(np.random.default_rng(0).choice(5, 3, replace=False))
    ]
    with pytest.raises(InputError, match="one array, the model has 2 inputs"):
        open_samples(TWO, tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("given", "wanted", "values"),
    [
        (np.uint8, "int64", [1, 2]),
        (np.int64, "int8", [-128, 127]),
        (np.float64, "float32", [0.1, -1e30]),
        (np.float16, "float64", [0.5, 2]),
        (np.float32, "bfloat16", [0.5, 2]),
        (np.float32, "int32", [3.0, -4.0]),
        (np.int64, "bool", [0, 1]),
        (np.complex128, "complex64", [1j, 2]),
    ],
)
def test_dtypes_that_keep_the_values(tmp_path, given, wanted, values):
    np.savez(tmp_path / "a.npz", x=np.array([values], given))
    (sample,) = open_samples(declare(f"x:{wanted}[batch,2]"), tmp_path / "a.npz")
    assert sample["x"].dtype.name == wanted
    np.testing.assert_allclose(sample["x"][0].astype(complex), values, rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "wanted", "values", "said"),
    [
        (np.int64, "int8", [1, 128], "holds 128"),
        (np.int64, "uint8", [1, -1], "holds -1"),
        (np.float32, "int64", [1, 2.5], "holds 2.5"),
        (np.float64, "int64", [1, 1e300], "holds 1e+300"),
        (np.float64, "float16", [1, 70000], "holds 70000"),
        (np.uint8, "float32", [1, 2], "has dtype uint8"),
        (np.float32, "int64", [1, np.nan], "holds NaN"),
        (np.float32, "float32", [1, np.nan], "holds NaN"),
        (np.float64, "float32", [1, -np.inf], "holds infinity"),
        (np.complex64, "float32", [1, 2], "has dtype complex64"),
        (np.complex64, "complex64", [1, np.nan], "holds NaN"),
    ],
)
def test_dtypes_that_lose_values_are_refused(tmp_path, given, wanted, values, said):
    np.savez(tmp_path / "a.npz", x=np.array([[1, 1], values], given))
    row = 0 if "dtype" in said else 1
    with pytest.raises(InputError) as caught:
        list(open_samples(declare(f"x:{wanted}[batch,2]"), tmp_path / "a.npz"))
    assert f"row {row} of {tmp_path / 'a.npz'}: input 'x' {said}" in caught.value.message


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.zeros((4, 3), np.float32)}, "holds nothing for input 'ids'"),
        ({"x": np.zeros((4, 3), np.float32), "ids": np.zeros((4, 2), int), "y": np.zeros(4)}, "no input 'y'"),
        ({"x": np.zeros((4, 3), np.float32), "ids": np.zeros((5, 2), int)}, "4 of 'x', 5 of 'ids'"),
        ({"x": np.zeros((4, 3), np.float32), "ids": np.zeros((4, 1, 2), int)}, "the ranks don't fit"),
        ({"x": np.zeros(4, np.float32), "ids": np.zeros(4, int)}, "the ranks don't fit"),
        ({"x": np.zeros((4, 4), np.float32), "ids": np.zeros((4, 2), int)}, "row 0 of .*has size 4 on axis 1"),
        ({"x": np.zeros((4, 3), np.float32), "ids": np.zeros((4, 7), int)}, r"row 0 of .*outside seq=1\.\.6"),
        ({"x": np.zeros((4, 3), np.float32), "ids": np.full((4, 2), 10)}, r"row 0 of .* holds 10, outside 0\.\.9"),
        ({"x": np.zeros((4, 5, 3), np.float32), "ids": np.zeros((4, 5, 2), int)}, "sample 0 of .*size 5 on"),
        ({"x": np.array([["a"] * 3] * 4), "ids": np.zeros((4, 2), int)}, "holds <U1, not numbers"),
        ({"x": np.zeros((0, 3), np.float32), "ids": np.zeros((0, 2), int)}, "holds no samples"),
    ],
)  # fmt: skip
def test_npz_that_does_not_fit(tmp_path, arrays, said):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=said) as caught:
        open_samples(TWO, tmp_path / "a.npz")
    assert str(tmp_path / "a.npz") in caught.value.message
    assert caught.value.hint


def test_a_later_row_that_does_not_fit_is_named_when_it_is_read(tmp_path):
    ids = np.zeros((20, 2), int)
    ids[17, 1] = -1
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((20, 3), np.float32), ids=ids)
    found = open_samples(TWO, path)
    with pytest.raises(InputError, match=r"row 17 of .*a\.npz: input 'ids' holds -1, outside 0\.\.9"):
        list(found)
    with pytest.raises(InputError, match=r"row 17 of "):
        list(found.batches(4))
    with pytest.raises(InputError, match=r"row 17 of "):
        found.fingerprint()


class Bomb:
    def __reduce__(self):
        return (print, ("lit",))


def test_nothing_is_unpickled(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", x=np.array([[Bomb()] * 3], dtype=object))
    with pytest.raises(InputError, match="holds object, not numbers"):
        open_samples(ONE, tmp_path / "a.npz")
    assert "lit" not in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["short", "middle", "text", "empty"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_npz(tmp_path, save, damage):
    path = tmp_path / "a.npz"
    save(path, x=np.random.default_rng(0).random((20_000, 3), np.float32))
    whole = bytearray(path.read_bytes())
    if damage == "middle":
        whole[len(whole) // 2 : len(whole) // 2 + 64] = bytes(64)
    path.write_bytes({"short": whole[: len(whole) // 2], "text": b"not a zip", "empty": b""}.get(damage, whole))
    with pytest.raises(InputError, match=r"can't read .*a\.npz") as caught:
        list(open_samples(ONE, path, samples=20_000))
    assert caught.value.__cause__ is not None


def test_npy_that_is_cut_off(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((9, 3), np.float32))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-5])
    with pytest.raises(InputError, match=r"can't read .*a\.npy: .*\(9, 3\)"):
        open_samples(ONE, tmp_path / "a.npy")


# ------------------------------------------------------------------ batches of arrays


@pytest.mark.parametrize(
    ("declaration", "rows", "sizes"),
    [
        ("batch", 4, [4, 4, 2]),
        ("batch", 1, [1] * 10),
        ("batch", 100, [10]),
        ("batch=1..3", 100, [3, 3, 3, 1]),
        ("batch=2..6/2", 5, [4, 4, 2]),
        ("batch=4..16/4", 9, [8]),
        ("5", 100, [5, 5]),
        ("4", 1, [4, 4]),
        ("1", 4, [1] * 10),
    ],
)
def test_batches_are_as_large_as_asked_and_allowed(tmp_path, declaration, rows, sizes):
    model = declare(f"x:float32[{declaration},3]")
    found = open_samples(model, save_rows(tmp_path / "a.npz", 10))
    batches = list(found.batches(rows))
    assert [len(batch["x"]) for batch in batches] == sizes
    for batch in batches:
        check_inputs(batch, model.inputs)
    assert np.array_equal(*(np.concatenate([a["x"] for a in given]) for given in (batches, found)))
    assert same(batches, found.batches(rows, uniform=True))


def test_a_batch_of_no_rows_is_an_option_error(tmp_path):
    with pytest.raises(OptionError, match="a batch of 0 rows is none"):
        open_samples(ONE, save_rows(tmp_path / "a.npz", 10)).batches(0)


def test_a_fixed_batch_takes_so_many_rows_a_sample(tmp_path):
    model = declare("x:float32[4,3]")
    found = open_samples(model, save_rows(tmp_path / "a.npz", 30), samples=5, seed=2)
    wanted = np.sort(np.random.default_rng(2).choice(30, 20, replace=False)).reshape(5, 4)
    assert [(sample["x"][:, 0] / 3).tolist() for sample in found] == wanted.tolist()
    assert len(open_samples(model, save_rows(tmp_path / "a.npz", 30))) == 7
    one, other = found.split(0.4)
    assert (len(one), len(other)) == (2, 3)
    assert sorted(firsts(one) + firsts(other)) == firsts(found)
    with pytest.raises(InputError, match="holds 3 rows; the model takes batches of 4"):
        open_samples(model, save_rows(tmp_path / "b.npz", 3))


def test_no_shared_batch_axis_means_one_sample_at_a_time(tmp_path):
    model = declare("x:float32[batch,3]", "scale:float32[]")
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 2, 3), np.float32), scale=np.arange(4, dtype=np.float32))
    batches = list(open_samples(model, tmp_path / "a.npz").batches(8))
    assert [(batch["x"].shape, batch["scale"].shape) for batch in batches] == [((2, 3), ())] * 4
    assert [batch["scale"].item() for batch in batches] == [0, 1, 2, 3]


def test_only_samples_of_one_shape_are_stacked():
    model = declare("x:float32[batch=1..8,w]")
    samples = [
        {"x": np.full(shape, index, np.float32)} for index, shape in enumerate([(1, 2), (2, 2), (1, 3), (1, 2)])
    ]
    found = open_samples(model, samples)
    assert [batch["x"].shape for batch in found.batches(8)] == [(3, 2), (1, 3), (1, 2)]
    assert [batch["x"].shape for batch in found.batches(2)] == [(1, 2), (2, 2), (1, 3), (1, 2)]
    with pytest.raises(InputError, match=r"one shape.*\(1, 2\) in sample 0 of .* and \(1, 3\) in sample 2 of"):
        list(found.batches(8, uniform=True))


# ------------------------------------------------------------------ references


@pytest.mark.parametrize("name", ["absent.npz", "absent", "net.py", "a.parquet"])
def test_an_unknown_reference_says_what_there_may_be(tmp_path, name):
    if not name.startswith("absent"):
        write(tmp_path / name, "")
    with pytest.raises(InputError) as caught:
        open_samples(ONE, tmp_path / name)
    assert name in caught.value.message
    for form in (".npz", "folder of images", ".txt", ".jsonl", ".csv", "datasets", "file.py:NAME"):
        assert form in caught.value.hint


def test_an_artifact_without_processing_is_told_what_to_give(tmp_path):
    save_pictures(tmp_path / "images", 1)
    for ref in (write(tmp_path / "a.txt", "a"), tmp_path / "images"):
        with pytest.raises(InputError, match=r"carries no (tokenizer|image preprocessing)") as caught:
            open_samples(ONE, ref)
        assert ".npz" in caught.value.hint
        assert "file.py:NAME" in caught.value.hint
    both = declare("x:float32[batch,3]", "y:float32[batch,3]", image=image().processing["image"])
    with pytest.raises(InputError, match=r"can't be made from images alone") as caught:
        open_samples(both, tmp_path / "images")
    assert ".npz" in caught.value.hint


def test_a_column_where_there_are_none_is_an_option_error(tmp_path, texts):
    for ref in (save_rows(tmp_path / "a.npz", 3), write(tmp_path / "a.txt", "a"), [np.zeros(3)]):
        with pytest.raises(OptionError, match="--column text"):
            open_samples(texts(), ref, column="text")
