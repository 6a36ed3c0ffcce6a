"""Files of arrays, never unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..contract.tensors import Arrays


def load_npz(path: Path) -> Arrays:
    """Arrays of a .npz by name, never unpickling. Raises InputError for anything else."""
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as data:
            return dict(data.items())
    except FileNotFoundError as error:
        raise InputError(f"no file {path}", "give the path of a .npz") from error
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError, EOFError) as error:
        raise InputError(f"can't read {path}: {error}", "write it with numpy.savez(path, NAME=array)") from error
