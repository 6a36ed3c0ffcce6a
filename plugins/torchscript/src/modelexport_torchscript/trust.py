"""What an archive could do to this machine, found before PyTorch loads it: some of its code runs as it is loaded.

TorchScript is a language with operators that read and write files by name, and whatever else the libraries of this
process have registered. So an archive may call operators of a few namespaces, but for those that are named here,
and hold objects of a few of PyTorch's own classes. Whatever else it says is refused, unless it is trusted.

The code is not parsed, since two parsers of one text may disagree: it is cut into tokens by rules that are
stricter than those of PyTorch's lexer (torch/csrc/jit/frontend/lexer.h), and a name that follows a dot counts
wherever it stands. What does not follow these rules was not written by torch.jit.save. Members are listed and read
by the reader that torch.jit.load uses, so there is no second reading of the zip either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from modelexport.errors import RuntimeFailure, UnsafeFileError

#: namespaces whose operators compute on what they are given, and do nothing else but for those in REFUSED
NAMESPACES = frozenset(
    {"aten", "prim", "prims", "quantized", "_quantized", "quantization", "sparse", "prepacked", "mkldnn_prepacked",
     "onednn", "torchvision"}
)  # fmt: skip

#: operators of them that open a file by its name, or call what is no TorchScript
REFUSED = frozenset({"save", "from_file", "rpc_async", "rpc_sync", "rpc_remote", "PythonOp", "IgnoredPythonOp"})

#: namespaces of PyTorch's own classes whose objects hold packed weights
CLASSES = frozenset({"quantized", "rnn", "sparse", "mkldnn", "xnnpack"})

#: members that torch.jit.save writes, and torch.jit.load reads
_MEMBERS = re.compile(
    r"code/.+\.py(\.debug_pkl)?|(data|constants|traced_inputs|bytecode|mobile_debug_handles)\.pkl"
    r"|(data|constants|traced_inputs|bytecode)/\w+|version|byteorder|\.format_version|\.storage_alignment|\.data/\w+|extra/.+",
    re.DOTALL,
)

#: bytes of code and of pickles that an archive may hold: a model with a million operators has less
_TEXT = 256 << 20

_TOKENS = re.compile(
    rb"""(?P<space>[ \n]+)
      | (?P<name>[A-Za-z_][A-Za-z_0-9]*)
      | (?P<number>[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?j?)
      | (?P<string>"([^"\\\n\r]|\\[^\n\r])*"(?!") | '([^'\\\n\r]|\\[^\n\r])*'(?!'))
      | (?P<sign>[-+*/%@=<>!&|^~.,:;()\[\]{}])""",
    re.VERBOSE,
)

_ESCAPES = re.compile(rb"\\([0-7]{1,3}|x[0-9a-fA-F]{2}|.)")

#: a class of PyTorch's own in a pickle, where the name of a global is two lines
_PICKLED_CLASS = re.compile(rb"torch[.\n]classes[.\n](\w*)")


class Token(NamedTuple):
    kind: str
    text: bytes
    place: int


class Found(NamedTuple):
    """What speaks against an archive, and where in it."""

    what: str
    where: str


def check(path: Path, name: str = "") -> None:
    """Raise UnsafeFileError where the archive at `path` could do more than compute, naming operator and line.

    `name` is what messages call it, by default its path. Raises RuntimeFailure where PyTorch can't read it as an
    archive.
    """
    found = next(findings(path), None)
    if found is not None:
        raise UnsafeFileError(
            f"{name or path} {found.what} ({found.where}): loading or running it could touch files or processes",
            "if you trust who made it, allow that: --allow-file-access where it is exported, "
            "-k allow-file-access=true where an artifact is run",
        )


def findings(path: Path) -> Iterator[Found]:
    """All that speaks against an archive. Raises RuntimeFailure where PyTorch can't read it."""
    import torch

    try:
        reader = torch._C.PyTorchFileReader(str(path))
        names = list(reader.get_all_records())
        sizes = {name: int(reader.get_record_size(name)) for name in names}
    except Exception as error:
        raise _damaged(path, "it is no zip archive that PyTorch reads") from error
    yield from _members(names)
    texts = [name for name in sizes if name.endswith((".py", ".pkl", ".debug_pkl"))]
    if sum(sizes[name] for name in texts) > _TEXT:
        raise _damaged(path, f"its code has more than {_TEXT >> 20} MB")
    if sum(sizes[name] for name in sizes if name not in texts) > path.stat().st_size:
        raise _damaged(path, "its tensors are larger than the file")
    for name in texts:
        try:
            text: bytes = reader.get_record(name)
        except Exception as error:
            raise _damaged(path, f"{name!r} can't be read") from error
        yield from in_code(text, name) if name.endswith(".py") else in_pickle(text, name)


def _damaged(path: Path, why: str) -> RuntimeFailure:
    return RuntimeFailure(f"PyTorch can't load {path.name}: {why}", "copy the file again, or write it again")


def _members(names: list[str]) -> Iterator[Found]:
    """Members that torch.jit.save does not write; those that differ in case alone, which its reader confuses."""
    seen: set[str] = set()
    for name in names:
        if not _MEMBERS.fullmatch(name):
            yield Found(f"holds {name[:200]!r}, which torch.jit.save does not write", "a member of the archive")
        if name.lower() in seen:
            yield Found(f"holds two members {name[:200]!r}", "their case aside")
        seen.add(name.lower())


# --------------------------------------------------------------------------------------- code


def in_code(text: bytes, name: str = "code") -> Iterator[Found]:
    """What speaks against the code of one member, in the order in which it stands there."""

    def found(what: str, place: int) -> Found:
        line = text.count(b"\n", 0, place) + 1
        return Found(what, f"{name}:{line}")

    tokens, end = _tokens(text)
    by_name = any(token.text == b"getattr" for token in tokens)
    for index, token in enumerate(tokens):
        what = ""
        if token.kind == "name":
            what = _said(tokens, index)
        elif token.kind == "string" and by_name:
            what = _asked_for(_literal(tokens, index))
        if what:
            yield found(what, token.place)
    if end < len(text):
        yield found("holds code that torch.jit.save does not write", end)


def _tokens(text: bytes) -> tuple[list[Token], int]:
    """The tokens but for spaces, up to the end or to the first place that is none."""
    tokens, place = [], 0
    while (match := _TOKENS.match(text, place)) is not None:
        if match.lastgroup != "space":
            tokens.append(Token(match.lastgroup or "", match[0], place))
        place = match.end()
    return tokens, place


def _said(tokens: list[Token], index: int) -> str:
    """What a name asks for that is refused; empty where it asks for nothing such."""
    own = tokens[index].text.decode()
    follows_dot = index > 0 and tokens[index - 1].text.endswith(b".")
    if own in REFUSED and (follows_dot or own.startswith("rpc_")):
        return f"calls {_full_name(tokens, index)}"
    if own == "ops" and not follows_dot:
        space = _after_dot(tokens, index)
        if space not in NAMESPACES:
            following = _after_dot(tokens, index + 2) if space else ""
            return f"calls {space}::{following}" if following else "looks up operators by name"
    if own == "classes" and follows_dot and tokens[index - 2].text in (b"torch", b")"):
        space = _after_dot(tokens, index)
        if space not in CLASSES:
            return f"uses the class torch.classes.{space}.{_after_dot(tokens, index + 2)}"
    return ""


def _full_name(tokens: list[Token], index: int) -> str:
    """An operator as PyTorch names it: `aten::save`."""
    own = tokens[index].text.decode()
    before = tokens[index - 2].text.decode() if index > 1 else ""
    return f"{before}::{own}" if before in NAMESPACES else f"{'prim' if own.startswith('rpc_') else 'aten'}::{own}"


def _after_dot(tokens: list[Token], index: int) -> str:
    """The name that follows a dot after a token, if one does."""
    if len(tokens) > index + 2 and tokens[index + 1].text == b"." and tokens[index + 2].kind == "name":
        return tokens[index + 2].text.decode()
    return ""


def _literal(tokens: list[Token], index: int) -> str:
    """A string with those that follow it, which PyTorch joins, and its escapes read."""
    parts = []
    while index < len(tokens) and tokens[index].kind == "string":
        parts.append(_ESCAPES.sub(_unescaped, tokens[index].text[1:-1]))
        index += 1
    return b"".join(parts).decode("latin-1")


def _unescaped(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if code[:1] == b"x" and len(code) == 3:
        return bytes([int(code[1:], 16)])
    return bytes([int(code, 8) & 255]) if code.isdigit() else code


def _asked_for(name: str) -> str:
    """What `getattr` would ask for under a name."""
    if name in REFUSED:
        return f"calls {name} by name"
    return "looks up classes by name" if name == "classes" else ""


# --------------------------------------------------------------------------------------- pickles


def in_pickle(text: bytes, name: str = "data.pkl") -> Iterator[Found]:
    """What speaks against the objects of one member: classes that do more than hold weights.

    PyTorch reads them with an unpickler of its own, which makes tensors, plain values and objects of classes.
    """
    for match in _PICKLED_CLASS.finditer(text):
        if match[1].decode() not in CLASSES:
            yield Found(f"holds an object of torch.classes.{match[1].decode()}", name)
    if b"torch.distributed" in text:
        yield Found("holds a reference to another process", name)
