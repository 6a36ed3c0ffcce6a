"""Targets and sources that are known but may not be installed: the only file in core that names them."""

from __future__ import annotations

#: target → (summary, command that installs it)
TARGETS: dict[str, tuple[str, str]] = {
    "onnx": ("ONNX, run by ONNX Runtime", "pip install 'modelexport-onnx[export]'"),
}

#: source plugin → (what it loads, command that installs it)
SOURCES: dict[str, tuple[str, str]] = {
    "transformers": (
        "Hugging Face folders and cached ids",
        "pip install 'modelexport-transformers[export]'",
    ),
    "onnx": (".onnx files", "pip install modelexport-onnx"),
}

#: modules that core itself imports for a verb → command that installs them
MODULES: dict[str, str] = {
    "torch": "pip install 'modelexport[export]'",
    "safetensors": "pip install 'modelexport[export]'",
    "tokenizers": "pip install 'modelexport[text]'",
    "PIL": "pip install 'modelexport[image]'",
}

#: the target that help texts and messages use in their examples
EXAMPLE = next(iter(TARGETS))
