"""Programs to start from: each loads the .pte, fills every input, runs the model and reads every output.

cpp.py, java.py, kotlin.py, swift.py  one a language
jvm.py        what Java and Kotlin share: ExecuTorch's Android package
interface.py  an artifact's inputs and outputs in a language
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from modelexport.contract import Artifact

from . import cpp, java, kotlin, swift

WRITERS: Mapping[str, Callable[[Artifact], dict[str, str]]] = {
    "cpp": cpp.write,
    "java": java.write,
    "kotlin": kotlin.write,
    "swift": swift.write,
}


def write(artifact: Artifact, language: str) -> dict[str, str]:
    """File name → text. Raises ConversionError for a dtype that the language's API has no tensors of."""
    return WRITERS[language](artifact)
