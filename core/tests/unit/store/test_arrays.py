"""Arrays are read from files, and nothing else is."""

import numpy as np
import pytest
from modelexport.errors import InputError
from modelexport.store.arrays import load_npz


def test_npz_that_needs_unpickling_is_refused(tmp_path):
    np.savez(tmp_path / "object.npz", x=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"can't read .*object.npz"):
        load_npz(tmp_path / "object.npz")
