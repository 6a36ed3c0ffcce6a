"""Code of the user's that is named on the command line: import it, and say where in it an error arose."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from . import errors
from .errors import MxError, SourceError
from .regular import check_path, check_regular

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class _Compiling(SourceFileLoader):
    """Compiles the file whenever it is imported, and keeps nothing beside it.

    What Python keeps counts as the file's where both were written within one second and are of one size, so a seed
    that was changed from 3 to 4 would be 3 still.
    """

    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError  # how a loader says that nothing is to be looked up, or kept


def _import_file(path: Path) -> Any:
    if not path.exists():
        raise SourceError(f"no file {path}", "give the path of a Python file, then a colon and a function")
    check_regular(path, kind=SourceError)
    name = f"mx_source_{path.stem}"
    loader = _Compiling(name, str(path.absolute()))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:  # so that the file's neighbours can be imported, as with `python file.py`
        sys.path.insert(0, folder)
    return guarded(lambda: spec.loader.exec_module(module) or module, f"importing {path}")  # type: ignore[union-attr]


def import_user_module(name: str) -> Any:
    """Import one of the user's modules by its dotted name; the current folder counts, as with `python -m`.

    Raises SourceError.
    """
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return _import_module(name)


def _import_module(name: str) -> Any:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        spec = importlib.util.find_spec(name)
    except Exception as error:  # finding a module imports the packages around it
        raise SourceError(
            f"no module {name!r}: {errors.first_line(error)}", "check the spelling and the environment"
        ) from error
    if spec is None:
        raise SourceError(f"no module {name!r}", "check the spelling; the current folder is searched too")
    return guarded(lambda: importlib.import_module(name), f"importing {name}")


def names_object(ref: str) -> bool:
    """Whether `ref` reads `file.py:name` or `package.module:name`."""
    location, separator, _ = ref.rpartition(":")
    return bool(separator) and (location.endswith(".py") or _DOTTED.fullmatch(location) is not None)


def check_reference(ref: str | os.PathLike[str], kind: type[MxError] = SourceError) -> None:
    """Raise `kind` where a reference names no code, and can be no path either."""
    if not names_object(os.fspath(ref)):
        check_path(ref, kind)


def import_object(ref: str) -> Any:
    """What `file.py:name` or `package.module:name` names in the user's code. Raises SourceError."""
    location, _, attribute = ref.rpartition(":")
    check_path(location, SourceError)
    if not attribute:
        raise SourceError(f"{ref} names nothing in {location}", f"write {location}:FUNCTION")
    module = _import_file(Path(location)) if location.endswith(".py") else _import_module(location)
    if not hasattr(module, attribute):
        import difflib

        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        close = difflib.get_close_matches(attribute, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(sorted(names)) or 'no functions'}"
        raise SourceError(f"there is no {attribute!r} in {location}", hint)
    return getattr(module, attribute)


def guarded(call: Callable[[], Any], doing: str) -> Any:
    """Run the user's code; what it raises becomes a SourceError with the line of the user's that raised."""
    try:
        return call()
    except MxError:
        raise
    except (Exception, SystemExit) as error:
        where = user_frame(error)
        at = f" at {where}" if where else ""
        raise SourceError(
            f"{doing} raised {type(error).__name__}{at}: {errors.first_line(error)}",
            "the code itself failed; --debug shows the whole trace",
        ) from error


def user_frame(error: BaseException) -> str:
    """`file:line (code)` of the innermost frame outside installed packages, or an empty string."""
    ours = str(Path(__file__).parent)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        packaged = re.search(r"site-packages|dist-packages|[\\/]modelexport_\w+[\\/]", frame.filename)
        if packaged or frame.filename.startswith((ours, "<", sys.base_prefix + os.sep + "lib")):
            continue
        return f"{frame.filename}:{frame.lineno} ({(frame.line or '').strip()})"
    return ""
