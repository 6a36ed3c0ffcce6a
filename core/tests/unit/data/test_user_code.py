"""Samples from the user's own code: any iterable that gives the same each time."""

import numpy as np
import pytest
from modelexport.contract import check_inputs
from modelexport.data.samples import open_samples
from modelexport.errors import InputError

from core.tests.unit.data.conftest import ONE, TWO, declare, firsts, write

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
    scaled = declare("x:float32[batch,3]", "scale:float32[]")
    assert [s["x"].shape for s in open_samples(scaled, [(row, np.float32(2))])] == [(1, 3)]
    with pytest.raises(InputError, match=r"sample 0 of .*has rank 1, the model takes 3"):
        open_samples(declare("x:float32[batch,3,3]"), [row])


def test_torch_tensors():
    import torch

    values = torch.tensor([[0.5, 1, 2]], dtype=torch.bfloat16, requires_grad=True)
    loader = torch.utils.data.DataLoader([{"x": torch.full((3,), float(i))} for i in range(5)], batch_size=2)
    assert [sample["x"].tolist() for sample in open_samples(ONE, [values])] == [[[0.5, 1, 2]]]
    assert [sample["x"].shape for sample in open_samples(ONE, loader)] == [(2, 3), (2, 3), (1, 3)]
    assert [batch["x"].shape for batch in open_samples(ONE, loader).batches(4)] == [(4, 3), (1, 3)]


def test_rows_of_an_iterable_make_up_a_fixed_batch():
    rows = [np.full(3, index, np.float32) for index in range(7)]
    found = open_samples(declare("x:float32[2,3]"), rows)
    assert [sample["x"][:, 0].tolist() for sample in found] == [[0, 1], [2, 3], [4, 5]]
    assert len(found) == 3
    with pytest.raises(InputError, match=r"rows of one batch need one shape.*sample 0 of .*sample 1 of"):
        list(open_samples(declare("x:float32[2,w]"), [np.zeros(3, "f4"), np.zeros(4, "f4")]))


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
        ("wrong", "gives an int, no iterable"),
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
