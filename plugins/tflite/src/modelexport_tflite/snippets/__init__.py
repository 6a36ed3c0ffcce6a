"""Programs to start from, a module a language: they load the file, fill every input, and read every output.

interface.py   what the file takes and gives, as programs need it
cpp.py         C++ on LiteRT's C API
kotlin.py      Kotlin on Android
java.py        Java on Android
jvm.py         what Kotlin and Java share
swift.py       Swift on iOS
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from modelexport.contract import Artifact

from . import cpp, java, kotlin, swift
from .interface import Interface, interface

#: language → the file's name, and what writes it
_LANGUAGES: Mapping[str, tuple[str, Callable[[Interface], str]]] = {
    "cpp": ("main.cpp", cpp.program),
    "kotlin": ("Main.kt", kotlin.program),
    "java": ("Main.java", java.program),
    "swift": ("main.swift", swift.program),
}


def write(artifact: Artifact, language: str) -> Mapping[str, str]:
    """File name → text. Raises OptionError for a file without a signature, and dtypes that the language lacks."""
    name, program = _LANGUAGES[language]
    return {name: program(interface(artifact))}
