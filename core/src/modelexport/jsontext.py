"""Read JSON that somebody else wrote: whatever is wrong with it becomes one clear error.

Python's own reader also takes NaN and Infinity, which no standard knows, lets the last of two equal keys win,
keeps lone surrogates that can't be written again, and ends in a RecursionError where values are nested deep.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import InputError, MxError, first_line
from .regular import open_regular

#: the most bytes of a JSON file that describes something; tables of data are read line by line, elsewhere
LIMIT = 256 << 20


def read_json(path: Path, kind: type[MxError] = InputError, hint: str = "", limit: int = LIMIT) -> Any:
    """What the JSON file at `path` holds. Raises `kind` where there is none, or it can't be read."""
    with open_regular(path, limit, kind) as stream:
        return parse_json(stream.read(), str(path), kind, hint)


def parse_json(text: bytes | str, where: str, kind: type[MxError] = InputError, hint: str = "") -> Any:
    """What a JSON text says; `where` names it in messages.

    Raises `kind` for what is no JSON, and for JSON that readers understand differently: equal keys, NaN and
    Infinity, lone surrogates, values nested deeper than Python follows.
    """
    hint = hint or "write the file again"
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        if "\\" in decoded and ("\\ud" in decoded or "\\uD" in decoded):  # surrogates are fine in pairs only
            json.dumps(json.loads(decoded), ensure_ascii=False).encode("utf-8")
        return _DECODER.decode(decoded)
    except RecursionError as error:
        raise kind(f"{where} is nested too deep", hint) from error
    except UnicodeError as error:
        raise kind(f"{where} is no UTF-8 text: {first_line(error)}", hint) from error
    except ValueError as error:
        raise kind(f"{where} is no valid JSON: {first_line(error)}", hint) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} stands twice in one object")
    return result


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON value")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)
