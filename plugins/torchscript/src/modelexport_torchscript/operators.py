"""What TorchScript can't take of a model or fails at, said with the user's line."""

from __future__ import annotations

import linecache
import re
from textwrap import shorten
from typing import Any

from modelexport.errors import ConversionError, RuntimeFailure, first_line
from modelexport.toolkit import user_frame

#: an error of torch.jit shows the line it means underlined, under the file and number of that line
_UNDERLINED = re.compile(
    r'File "(?P<file>[^"\n]+)", line (?P<line>\d+)[^~]*?\n(?P<code>[^\n~]*)\n *~+[^\n]*<--- HERE'
)

#: characters of PyTorch's own words that a message repeats, at most
_QUOTED = 300


def untraceable(error: Exception) -> ConversionError:
    """The error where the tracer, or the model as it is traced, raised `error`."""
    return ConversionError(
        f"torch.jit.trace can't follow the model{_at(user_frame(error))}: "
        f"{type(error).__name__}: {_shortened(first_line(error))}",
        "try -k mode=script; --debug shows the whole trace",
    )


def unscriptable(error: Exception) -> ConversionError:
    """The error where torch.jit.script raised `error`."""
    reason = str(error).partition('File "')[0] or type(error).__name__
    return ConversionError(
        f"torch.jit.script can't compile the model{_at(underlined(error))}: {_shortened(reason).rstrip(': ')}",
        "write that line in the part of Python that TorchScript knows, or mark its method with "
        "@torch.jit.unused; -k mode=trace takes any Python, but one side of each branch only",
    )


def several_forwards(module: Any) -> ConversionError:
    """The error for a module such as nn.LSTM, of which scripting makes one forward for each kind of input."""
    return ConversionError(
        f"torch.jit.script compiles several forwards of {type(module).__name__}, and none that can be called",
        "call it from the forward of a module of your own; or give -k mode=trace",
    )


def failed(error: Exception) -> RuntimeFailure:
    """The error where a call of a loaded model raised `error`."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return RuntimeFailure(
        f"TorchScript failed{_at(underlined(error, last=True))}: {lines[-1]}",
        "check the inputs' sizes and values; --debug shows the trace",
    )


def underlined(error: BaseException, last: bool = False) -> str:
    """`file:line (code)` of the first (or last) line of the user that an error of torch.jit underlines, if any."""
    lines = [match for match in _UNDERLINED.finditer(str(error)) if not match["file"].startswith("code/__torch__")]
    if not lines:
        return ""
    line = lines[-1 if last else 0]
    return f"{line['file']}:{line['line']} ({line['code'].strip()})"


def place_of(file: str, line: int) -> str:
    """`file:line (code)`."""
    return f"{file}:{line} ({linecache.getline(file, line).strip()})"


def _at(place: str) -> str:
    return f" at {place}" if place else ""


def _shortened(text: str) -> str:
    return shorten(text, _QUOTED, placeholder=" …")
