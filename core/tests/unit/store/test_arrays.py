"""Arrays are read from files, and nothing else is."""

import io
import warnings
import zipfile

import numpy as np
import pytest
from modelexport.errors import InputError
from modelexport.store import arrays
from modelexport.store.arrays import load_npy, load_npz, save_npz

from core.tests.fuzz import evil

X = np.arange(24, dtype=np.float32).reshape(4, 3, 2)


def test_npz_that_needs_unpickling_is_refused(tmp_path):
    np.savez(tmp_path / "object.npz", x=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"can't read .*object.npz"):
        load_npz(tmp_path / "object.npz")


@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">i8", "<u2", ">c16", "?", "<f2", "i1"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_numbers_are_read_in_this_machines_order(tmp_path, dtype, order, save):
    wanted = np.asarray(X.astype(dtype), order=order)
    save(tmp_path / "x.npz", x=wanted, empty=wanted[:0], one=wanted[0, 0, 0])
    np.save(tmp_path / "x.npy", wanted)
    found = load_npz(tmp_path / "x.npz")
    assert list(found) == ["x", "empty", "one"]
    for array in (found["x"], load_npy(tmp_path / "x.npy")):
        assert array.dtype == np.dtype(dtype).newbyteorder("=")
        assert array.dtype.isnative
        assert np.array_equal(array, wanted)
    assert found["empty"].shape == (0, 3, 2)
    assert found["one"].shape == ()
    assert found["one"] == wanted[0, 0, 0]


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
@pytest.mark.parametrize("dtype", [">f4", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_are_read_in_this_machines_order(tmp_path, suffix, dtype, order):
    path = tmp_path / f"x{suffix}"
    wanted = np.asarray(X.astype(dtype), order=order)
    np.save(path, wanted) if suffix == ".npy" else np.savez(path, x=wanted)
    (member,) = arrays.read_members(path)
    found = list(member.entries([1, 3]))
    assert np.array_equal(found, X[[1, 3]])
    assert all(row.dtype.isnative for row in found)


@pytest.mark.parametrize(
    ("header", "version"),
    [
        ("{'shape': (2, 3), 'fortran_order': False, 'descr': '<f4'}", (1, 0)),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }\n", (1, 0)),
        ('{"descr":"<f4","fortran_order":False,"shape":(2,3)}', (2, 0)),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }" + " " * 5000, (3, 0)),
    ],
)
def test_headers_that_others_write(tmp_path, header, version):
    path = tmp_path / "x.npy"
    path.write_bytes(evil.npy(header, np.arange(6, dtype="<f4").tobytes(), version))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(load_npy(path), np.arange(6).reshape(2, 3))


def test_an_archive_with_a_comment_and_one_in_zip64(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        with archive.open("x.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array(stream, X)
        archive.comment = b"PK" * 30_000
    assert np.array_equal(load_npz(tmp_path / "x.npz")["x"], X)


def test_arrays_are_written_under_any_name(tmp_path):
    named = {"file": X, "args": X[0], "a/b": X[1], "self": np.float32(1), "": X}
    save_npz(named, tmp_path / "x.npz")
    found = load_npz(tmp_path / "x.npz")
    assert list(found) == list(named)
    assert all(np.array_equal(found[name], named[name]) for name in named)
    stream, same = io.BytesIO(), io.BytesIO()
    save_npz({"x": X}, stream)
    np.savez(same, x=X)
    assert stream.getvalue() == same.getvalue()


def test_what_is_read_whole_is_bounded(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", x=X)
    np.save(tmp_path / "x.npy", np.asfortranarray(X))
    monkeypatch.setattr(arrays, "WHOLE", 64)
    for read in (lambda: load_npz(tmp_path / "x.npz"), lambda: load_npy(tmp_path / "x.npy")):
        with pytest.raises(InputError, match=r"has (96|224) bytes to be read at once, 64 are"):
            read()
    (member,) = arrays.read_members(tmp_path / "x.npy")
    with pytest.raises(ValueError, match="read at once"):  # its rows lie scattered
        next(member.entries([0]))


def test_what_zeros_unfold_to_is_bounded(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros(1_000_000, np.float32))
    assert load_npz(tmp_path / "x.npz")["x"].shape == (1_000_000,)
    monkeypatch.setattr(arrays, "UNFOLDED", 1 << 20)
    with pytest.raises(InputError, match=r"its \d+ bytes would unfold to 4000128"):
        load_npz(tmp_path / "x.npz")
    with pytest.raises(InputError, match="would unfold to"):
        arrays.read_members(tmp_path / "x.npz")


def test_a_table_of_contents_is_bounded(tmp_path, monkeypatch):
    evil.zipped(*((f"x{index}.npy", evil.GOOD) for index in range(100)))(tmp_path / "x.npz")
    assert len(load_npz(tmp_path / "x.npz")) == 100
    monkeypatch.setattr(arrays, "CONTENTS", 1000)
    with pytest.raises(InputError, match=r"table of contents has \d{4} bytes, 1000 are read"):
        load_npz(tmp_path / "x.npz")
