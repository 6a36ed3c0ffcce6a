"""Calibration data through `open_calibration`: kinds of reference, selection, batches, what is refused."""

import csv
import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from modelexport.contract import Artifact, TensorSpec, check_inputs, unify_dims
from modelexport.data.samples import open_samples
from modelexport.errors import InputError, OptionError
from modelexport.plugins.installed import importable

WORDS = ["[PAD]", "[CLS]", "[SEP]", "a", "b", "c", "d", "e", "f", "g", "h"]


def artifact(*declarations, path=".", **processing):
    specs = unify_dims([TensorSpec.parse(text) for text in declarations])
    return Artifact(path, "toy", "model", specs, (), processing=processing)


ONE = artifact("x:float32[batch,3]")
TWO = artifact("x:float32[batch=1..4,3]", "ids:int64[batch=1..4,seq=1..6]=0..9")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """`texts(batch="batch", high=10, pad_id=0)`: an artifact whose tokenizer makes one token a letter."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))

    def make(batch="batch", high=10, pad_id=0, seq="seq=1..8"):
        fields = {"ids": "ids", "mask": "attention_mask", "types": "type_ids"}
        text = {"tokenizer": "tokenizer.json", "pad_id": pad_id, "inputs": fields}
        return artifact(
            f"ids:int64[{batch},{seq}]=0..{high}",
            f"mask:int64[{batch},{seq}]=mask",
            f"types:int64[{batch},{seq}]=0..1",
            path=folder,
            text=text,
        )

    return make


def image(size=None, batch="batch", shape="3,h,w"):
    section = {
        "input": "x", "size": size, "crop": None, "resample": "nearest", "rescale": 1 / 255,
        "mean": None, "std": None, "color": "RGB", "layout": "NCHW",
    }  # fmt: skip
    return artifact(f"x:float32[{batch},{shape}]", image=section)


def save_pictures(folder, count, size=(4, 5)):
    from PIL import Image

    for index in range(count):
        place = folder / f"{index % 2}" / f"{index:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (index, 0, 255)).save(place)
    return folder


def save_rows(path, count, **more):
    np.savez(path, x=np.arange(count * 3, dtype=np.float32).reshape(count, 3), **more)
    return path


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def firsts(calibration, name="x"):
    """The first value of every sample, which tells which row it is."""
    return [sample[name].ravel()[0].item() for sample in calibration]


def same(one, other):
    pairs = list(zip(one, other, strict=True))
    return all(np.array_equal(a[name], b[name]) for a, b in pairs for name in a)


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
    with pytest.raises(OptionError):
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
    drawn = open_samples(artifact("x:float32[batch,1000000]"), tmp_path / "a.npz", samples=2, seed=4)
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
    (sample,) = open_samples(artifact(f"x:{wanted}[batch,2]"), tmp_path / "a.npz")
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
        list(open_samples(artifact(f"x:{wanted}[batch,2]"), tmp_path / "a.npz"))
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


PEAK = """
import sys
from pathlib import Path
from modelexport.contract import Artifact, TensorSpec
from modelexport.toolkit import open_calibration
spec = TensorSpec.parse("x:float32[batch,3,128,128]")
found = open_calibration(Artifact(Path(), "toy", "m", (spec,), ()), sys.argv[1], samples=int(sys.argv[2]))
total = sum(float(sample["x"][0, 0, 0, 0]) for sample in found)
rows = sum(len(batch["x"]) for batch in found.batches(8))
found.fingerprint()
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(total, rows, status["VmHWM"].split()[0])
"""


def peak(path, samples):
    done = subprocess.run(
        [sys.executable, "-c", PEAK, path, str(samples)], capture_output=True, text=True, check=True
    )
    total, rows, kib = done.stdout.split()
    assert (float(total), int(rows)) == (sum(range(samples)), samples)
    return int(kib)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="VmHWM is in Linux's /proc")
@pytest.mark.parametrize("compression", ["stored", "deflated"])
def test_memory_does_not_grow_with_the_samples(tmp_path, compression):
    """197 MB of samples against 10 MB: the peak stays within 15 %."""
    import zipfile

    path, kind = tmp_path / "a.npz", {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED}[compression]
    with (
        zipfile.ZipFile(path, "w", kind, compresslevel=1) as archive,
        archive.open("x.npy", "w", force_zip64=True) as out,
    ):
        header = {"descr": "<f4", "fortran_order": False, "shape": (1000, 3, 128, 128)}
        np.lib.format.write_array_header_1_0(out, header)
        for index in range(1000):
            out.write(np.full((3, 128, 128), index, "<f4").tobytes())
    np.savez(
        tmp_path / "small.npz",
        x=np.arange(50, dtype=np.float32)[:, None, None, None] + np.zeros((3, 128, 128), "f4"),
    )
    assert peak(path, 1000) <= 1.15 * peak(tmp_path / "small.npz", 50)


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
    model = artifact(f"x:float32[{declaration},3]")
    found = open_samples(model, save_rows(tmp_path / "a.npz", 10))
    batches = list(found.batches(rows))
    assert [len(batch["x"]) for batch in batches] == sizes
    for batch in batches:
        check_inputs(batch, model.inputs)
    assert np.array_equal(*(np.concatenate([a["x"] for a in given]) for given in (batches, found)))
    assert same(batches, found.batches(rows, uniform=True))


def test_a_batch_of_no_rows_is_an_option_error(tmp_path):
    with pytest.raises(OptionError):
        open_samples(ONE, save_rows(tmp_path / "a.npz", 10)).batches(0)


def test_a_fixed_batch_takes_so_many_rows_a_sample(tmp_path):
    model = artifact("x:float32[4,3]")
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
    model = artifact("x:float32[batch,3]", "scale:float32[]")
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 2, 3), np.float32), scale=np.arange(4, dtype=np.float32))
    batches = list(open_samples(model, tmp_path / "a.npz").batches(8))
    assert [(batch["x"].shape, batch["scale"].shape) for batch in batches] == [((2, 3), ())] * 4
    assert [batch["scale"].item() for batch in batches] == [0, 1, 2, 3]


def test_only_samples_of_one_shape_are_stacked():
    model = artifact("x:float32[batch=1..8,w]")
    samples = [
        {"x": np.full(shape, index, np.float32)} for index, shape in enumerate([(1, 2), (2, 2), (1, 3), (1, 2)])
    ]
    found = open_samples(model, samples)
    assert [batch["x"].shape for batch in found.batches(8)] == [(3, 2), (1, 3), (1, 2)]
    assert [batch["x"].shape for batch in found.batches(2)] == [(1, 2), (2, 2), (1, 3), (1, 2)]
    with pytest.raises(InputError, match=r"one shape.*\(1, 2\) in sample 0 of .* and \(1, 3\) in sample 2 of"):
        list(found.batches(8, uniform=True))


# ------------------------------------------------------------------ images


def test_images_of_a_folder_by_path(tmp_path):
    folder = save_pictures(tmp_path / "images", 6)
    write(folder / "notes.md", "no image")
    write(folder / "._000.png", "what some systems leave beside an image")
    found = open_samples(image(), folder)
    assert [round(value * 255) for value in firsts(found)] == [0, 2, 4, 1, 3, 5]
    assert [batch["x"].shape for batch in found.batches(4)] == [(4, 3, 5, 4), (2, 3, 5, 4)]
    assert [sample["x"].shape for sample in open_samples(image(batch="3"), folder)] == [(3, 3, 5, 4)] * 2


def test_images_of_every_suffix(tmp_path):
    from PIL import Image

    suffixes = [".jpg", ".JPEG", ".png", ".webp", ".bmp", ".gif", ".tif", ".TIFF"]
    for suffix in suffixes:
        Image.new("RGB", (4, 4)).save(tmp_path / f"a{suffix}")
    assert len(open_samples(image(), tmp_path)) == len(list(open_samples(image(), tmp_path))) == 8


def test_images_of_different_sizes(tmp_path):
    save_pictures(tmp_path, 2)
    save_pictures(tmp_path / "more", 1, size=(6, 6))
    found = open_samples(image(), tmp_path)
    assert [batch["x"].shape for batch in found.batches(3)] == [(2, 3, 5, 4), (1, 3, 6, 6)]
    with pytest.raises(InputError, match=r"000\.png and \(1, 3, 6, 6\) in .*more/0/000\.png"):
        list(found.batches(3, uniform=True))
    assert [b["x"].shape for b in open_samples(image(size=[2, 2]), tmp_path).batches(3, True)] == [(3, 3, 2, 2)]
    with pytest.raises(InputError, match="different shapes"):
        list(open_samples(image(batch="3"), tmp_path))


def test_a_damaged_image_is_named(tmp_path):
    save_pictures(tmp_path, 4)
    (tmp_path / "1" / "003.png").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"1/003\.png"):
        list(open_samples(image(), tmp_path))
    (tmp_path / "0" / "000.png").write_bytes((tmp_path / "0" / "000.png").read_bytes()[:50])
    with pytest.raises(InputError, match=r"0/000\.png"):
        open_samples(image(), tmp_path)


def test_a_folder_without_images(tmp_path):
    write(tmp_path / "a.md", "")
    with pytest.raises(InputError, match="holds no images"):
        open_samples(image(), tmp_path)


def test_an_image_that_does_not_fit_the_model_is_named(tmp_path):
    with pytest.raises(InputError, match=r"000\.png: input 'x' has size 5 on axis 2"):
        open_samples(image(shape="3,8,8"), save_pictures(tmp_path, 1))


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
        ('{"text": "a"', "is no JSON"),
        ('["a"]', r"holds \['a'\], not an object"),
        ('{"body": "a"}', "column 'text' is missing"),
        ('{"text": null}', "column 'text' holds null, not text"),
        ('{"text": 7}', "column 'text' holds 7, not text"),
        (b'{"text": "\xff"}', "is not UTF-8"),
        ("[" * 100_000, "is no JSON"),
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
    found = open_samples(artifact("x:float32[batch,1]", "y:int64[batch]=0..9"), table)
    assert [(s["x"].tolist(), s["y"].tolist()) for s in found] == [([[0.5]], [7]), ([[np.float32(-1e-3)]], [2])]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("[1, 2]", "has size 2 on axis 1"),
        ("[[1, 2], [3]]", "holds no array"),
        ('["a", "b", "c"]', "not numbers"),
        ("null", "holds null, not numbers"),
        ("[1, 2, NaN]", "holds NaN"),
        ("[]", "not numbers"),
    ],
)
def test_numbers_that_do_not_fit_are_named(tmp_path, value, said):
    path = write(tmp_path / "a.jsonl", f'{{"x": [1, 2, 3]}}\n{{"x": {value}}}')
    with pytest.raises(InputError, match=rf"line 2 of .*a\.jsonl.*{said}"):
        list(open_samples(ONE, path))


# ------------------------------------------------------------------ the user's own code

CODE = """
import numpy as np

ROWS = [np.full(3, index, np.float32) for index in range(5)]


def rows():
    yield from ({"x": row} for row in ROWS)


def endless():
    index = 0
    while True:
        yield np.full((1, 3), index, np.float32)
        index += 1


def breaks():
    yield from rows()
    raise RuntimeError("the disk is gone")


def unseeded():
    while True:
        yield np.random.default_rng().random(3)


once = rows()
number = 7
wrong = lambda: 7
shared = lambda it=rows(): it
"""


@pytest.fixture
def code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write(tmp_path / "calibration_code.py", CODE)


@pytest.mark.parametrize("name", ["rows", "ROWS"])
def test_iterables_by_reference(code, name):
    by_file, by_module = (open_samples(ONE, f"{place}:{name}", samples=4) for place in (code, "calibration_code"))
    assert firsts(by_file) == firsts(by_module) == firsts(by_file) == [0, 1, 2, 3]
    assert len(by_file) == 4
    assert by_file.ref == f"{code}:{name}"
    assert len(open_samples(ONE, f"{code}:{name}")) == 5
    assert [len(batch["x"]) for batch in open_samples(ONE, f"{code}:{name}").batches(3)] == [3, 2]


def test_an_endless_iterable_is_cut(code):
    found = open_samples(ONE, f"{code}:endless", samples=6)
    assert (len(found), firsts(found)) == (6, [0, 1, 2, 3, 4, 5])
    one, other = found.split(0.5)
    assert sorted(firsts(one) + firsts(other)) == [0, 1, 2, 3, 4, 5]
    assert len(one) == len(other) == 3


@pytest.mark.parametrize(
    "sample",
    [
        {"ids": [1, 2], "x": np.arange(3, dtype=np.float32)},
        {"x": np.arange(3, dtype=np.float64)[None], "ids": np.array([[1, 2]], np.int32)},
        (np.arange(3, dtype=np.float32), np.array([1, 2])),
    ],
)
def test_samples_in_every_form(sample):
    (found,) = open_samples(TWO, [sample])
    assert list(found) == ["x", "ids"]
    assert (found["x"].tolist(), found["ids"].tolist()) == ([[0, 1, 2]], [[1, 2]])
    check_inputs(found, TWO.inputs)


def test_the_batch_axis_is_added_where_it_lacks():
    """Also to one input of several, and where a later sample lacks what the first one has."""
    row, whole = np.zeros(3, np.float32), np.zeros((2, 3), np.float32)
    found = open_samples(ONE, [whole, row])
    assert [sample["x"].shape for sample in found] == [(2, 3), (1, 3)]
    assert [sample["x"].shape for sample in open_samples(ONE, [row, whole])] == [(1, 3), (2, 3)]
    scaled = artifact("x:float32[batch,3]", "scale:float32[]")
    assert [s["x"].shape for s in open_samples(scaled, [(row, np.float32(2))])] == [(1, 3)]
    with pytest.raises(InputError, match=r"sample 0 of .*has rank 1, the model takes 3"):
        open_samples(artifact("x:float32[batch,3,3]"), [row])


def test_torch_tensors():
    import torch

    values = torch.tensor([[0.5, 1, 2]], dtype=torch.bfloat16, requires_grad=True)
    loader = torch.utils.data.DataLoader([{"x": torch.full((3,), float(i))} for i in range(5)], batch_size=2)
    assert [sample["x"].tolist() for sample in open_samples(ONE, [values])] == [[[0.5, 1, 2]]]
    assert [sample["x"].shape for sample in open_samples(ONE, loader)] == [(2, 3), (2, 3), (1, 3)]
    assert [batch["x"].shape for batch in open_samples(ONE, loader).batches(4)] == [(4, 3), (1, 3)]


def test_rows_of_an_iterable_make_up_a_fixed_batch():
    rows = [np.full(3, index, np.float32) for index in range(7)]
    found = open_samples(artifact("x:float32[2,3]"), rows)
    assert [sample["x"][:, 0].tolist() for sample in found] == [[0, 1], [2, 3], [4, 5]]
    assert len(found) == 3
    with pytest.raises(InputError, match=r"rows of one batch need one shape.*sample 0 of .*sample 1 of"):
        list(open_samples(artifact("x:float32[2,w]"), [np.zeros(3, "f4"), np.zeros(4, "f4")]))


def test_a_buffer_that_is_filled_again_and_again():
    def samples():
        buffer = np.empty((1, 3), np.float32)
        for index in range(4):
            buffer[:] = index
            yield buffer

    assert [sample["x"][0, 0] for sample in list(open_samples(ONE, samples))] == [0, 1, 2, 3]
    assert next(open_samples(ONE, samples).batches(4))["x"][:, 0].tolist() == [0, 1, 2, 3]


def test_what_raises_half_way_is_named_with_its_sample_and_line(code):
    found = open_samples(ONE, f"{code}:breaks")
    wanted = r"breaks raised RuntimeError at .*calibration_code\.py:\d+ .*while it made sample 5: the disk is gone"
    for read in (list, len, lambda found: found.split(0.5), lambda found: found.fingerprint()):
        with pytest.raises(InputError, match=wanted) as caught:
            read(found)
        assert isinstance(caught.value.__cause__, RuntimeError)
    assert len(list(open_samples(ONE, f"{code}:breaks", samples=5))) == 5


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("once", "is a generator, which can be gone through only once"),
        ("number", "is 7, no iterable of samples"),
        ("wrong", "gives a int, no iterable"),
        ("shared", "gave 0 samples|starts with another"),
        ("unseeded", "starts with another sample each time"),
        ("missing", "there is no 'missing'"),
    ],
)
def test_what_is_no_iterable_of_samples(code, name, said):
    with pytest.raises(InputError, match=said) as caught:
        list(open_samples(ONE, f"{code}:{name}"))
    assert name in caught.value.message
    assert caught.value.hint


def test_code_that_can_not_be_imported(tmp_path):
    path = write(tmp_path / "broken.py", "1 / 0")
    with pytest.raises(InputError, match="raised ZeroDivisionError"):
        open_samples(ONE, f"{path}:rows")
    for ref in (f"{tmp_path / 'absent.py'}:rows", "absent_package.module:rows"):
        with pytest.raises(InputError, match="absent"):
            open_samples(ONE, ref)


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([np.zeros(3, "f4")], "sample 0 .*is a ndarray, the model has 2 inputs"),
        ([(np.zeros(3, "f4"),)], "sample 0 .*has 1 arrays, the inputs are x, ids"),
        ([{"x": np.zeros(3, "f4")}], "sample 0 .*input 'ids' is missing"),
        ([{"x": np.zeros(3, "f4"), "ids": [1], "y": 1}], "sample 0 .*no input 'y'"),
        ([{"x": "abc", "ids": [1]}], "sample 0 .*input 'x' is a str"),
        ([{"x": [[1], [2, 3]], "ids": [1]}], "sample 0 .*input 'x' is no array"),
        ([{"x": np.zeros(3, "f4"), "ids": [1]}, {"x": np.zeros(3, "f4"), "ids": [10]}], "sample 1 .*holds 10"),
        ([], "holds no samples"),
        ([{"x": np.zeros(3, "f4"), "ids": [1]}, {"x": np.zeros(3, "f4")}], "sample 1 .*'ids' is missing"),
    ],
)
def test_samples_that_do_not_fit(samples, said):
    with pytest.raises(InputError, match=said):
        list(open_samples(TWO, samples))


def test_an_iterable_that_dwindles():
    class Dwindling:
        left = 8

        def __iter__(self):
            self.left -= 1
            return iter([np.zeros(3, "f4")] * self.left)

    found = open_samples(ONE, Dwindling())
    count = len(found)
    with pytest.raises(InputError, match=f"gave {count - 1} samples, and {count} before"):
        list(found)


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
    both = artifact("x:float32[batch,3]", "y:float32[batch,3]", image=image().processing["image"])
    with pytest.raises(InputError, match=r"can't be made from images alone") as caught:
        open_samples(both, tmp_path / "images")
    assert ".npz" in caught.value.hint


def test_a_column_where_there_are_none_is_an_option_error(tmp_path, texts):
    for ref in (save_rows(tmp_path / "a.npz", 3), write(tmp_path / "a.txt", "a"), [np.zeros(3)]):
        with pytest.raises(OptionError, match="--column text"):
            open_samples(texts(), ref, column="text")
