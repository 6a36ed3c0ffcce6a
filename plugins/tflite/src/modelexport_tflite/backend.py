"""The toolchain's noise, kept off the terminal."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager

from modelexport.errors import first_line
from modelexport.toolkit import quiet as quiet_libraries


def quiet() -> AbstractContextManager[object]:
    """While the block lasts, nothing reaches the terminal of what LiteRT, TensorFlow and the converters write.

    What matters in it comes back as an exception. Progress is not shown inside either: tell a stage before.
    """
    return quiet_libraries(all_loggers=True, native=True, environment={"LITERT_TORCH_SHOW_PROGRESS": "n"})


#: what TensorFlow and Keras put before what is wrong: the traced lines of the model, and which layer it was
_BEFORE = re.compile(
    r"""\s*(in\ user\ code:|Graph\ execution\ error:|<stack\ traces\ unavailable>|\{\{function_node[^}]*\}\})
    |\s*(\w+:\ )?Exception\ encountered\ when\ calling\ .*
    |\s*Detected\ at\ node\ .*
    |\s*File\ ".*",\ line\ \d+,\ in\ .*\n.*""",
    re.VERBOSE,
)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def said(error: BaseException) -> str:
    """What TensorFlow or Keras says is wrong, on one line, without a trace and colours."""
    rest = _COLOURS.sub("", str(error))
    while (before := _BEFORE.match(rest)) is not None:
        rest = rest[before.end() :]
    line = first_line(Exception(rest)) if rest.strip() else type(error).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in line)
