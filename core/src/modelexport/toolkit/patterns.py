"""Layers that the user names with patterns, such as `-k exclude=`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..contract.options import suggest
from ..errors import OptionError

#: layers that the hint names, at most
SHOWN = 12


def matching(
    names: Iterable[str], patterns: Sequence[str], option: str = "exclude", what: str = "layer"
) -> frozenset[str]:
    """The names that match a pattern, in which `*` stands for any text and `?` for one character.

    Raises OptionError for a pattern that matches none: a misspelt name would be excluded in vain. `what` is what
    the names are names of.

    >>> sorted(matching(["head.0", "head.1", "body[0]"], ["head.*", "body[0]"]))
    ['body[0]', 'head.0', 'head.1']
    """
    known = list(dict.fromkeys(names))
    chosen: set[str] = set()
    for pattern in patterns:
        named = set(filter(_compiled(pattern).fullmatch, known))
        if not named:
            raise OptionError(f"{option}={pattern} matches no {what}", _hint(pattern, known, what))
        chosen |= named
    return frozenset(chosen)


def _compiled(pattern: str) -> re.Pattern[str]:
    """Brackets and dots stand for themselves: names of layers are full of them."""
    wild = {"*": ".*", "?": "."}
    return re.compile("".join(wild.get(char) or re.escape(char) for char in pattern), re.DOTALL)


def _hint(pattern: str, names: Sequence[str], what: str) -> str:
    hint = suggest(pattern, list(names))
    if len(names) <= SHOWN or hint.startswith("did you"):
        return hint
    return f"the {what}s are {', '.join(names[:SHOWN])}, and {len(names) - SHOWN} more"
