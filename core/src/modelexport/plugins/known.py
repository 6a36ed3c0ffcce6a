"""Targets, sources and commands that are known but may not be installed: the only file in core that names them."""

from __future__ import annotations

#: target → (summary, command that installs it)
TARGETS: dict[str, tuple[str, str]] = {
    "onnx": ("ONNX, run by ONNX Runtime", "pip install 'modelexport-onnx[export]'"),
    "torchscript": (
        "TorchScript, run by PyTorch or from C++",
        "pip install 'modelexport-torchscript[export]'",
    ),
    "coreml": (
        "Core ML for Apple devices, interpreted on other machines",
        "pip install 'modelexport-coreml[export]'",
    ),
    "tflite": (
        "TFLite for Android, iOS and embedded Linux, run by LiteRT",
        "pip install 'modelexport-tflite[export]'",
    ),
    "executorch": (
        "ExecuTorch programs for phones and embedded devices",
        "pip install 'modelexport-executorch[export]'",
    ),
    "tensorrt": (
        "TensorRT engines for NVIDIA GPUs",
        "pip install 'modelexport-tensorrt[export]'",
    ),
    "tensorrt-llm": (
        "checkpoints of language models that TensorRT-LLM serves",
        "pip install 'modelexport-tensorrt-llm[export]'",
    ),
}

#: source plugin → (what it loads, command that installs it)
SOURCES: dict[str, tuple[str, str]] = {
    "transformers": (
        "Hugging Face folders and cached ids",
        "pip install 'modelexport-transformers[export]'",
    ),
    "onnx": (".onnx files", "pip install modelexport-onnx"),
    "torchscript": (
        "TorchScript archives (.pt, .ts, .jit, .torchscript)",
        "pip install 'modelexport-torchscript[export]'",
    ),
    "coreml": (".mlpackage folders", "pip install 'modelexport-coreml[run]'"),
    "executorch": (".pte files", "pip install 'modelexport-executorch[run]'"),
    "tflite": (
        ".tflite and .keras files, SavedModel folders",
        "pip install 'modelexport-tflite[tensorflow]'",
    ),
}

#: command of `mx` in a distribution of its own → (what it does, command that installs it)
COMMANDS: dict[str, tuple[str, str]] = {}

#: modules that core itself imports for a verb → command that installs them
MODULES: dict[str, str] = {
    "torch": "pip install 'modelexport[export]'",
    "safetensors": "pip install 'modelexport[export]'",
    "tokenizers": "pip install 'modelexport[text]'",
    "PIL": "pip install 'modelexport[image]'",
    "matplotlib": "pip install 'modelexport[plot]'",
    "datasets": "pip install 'modelexport[datasets]'",
}

#: how to export a model whose control flow depends on the data, without changing it
KEEPS_BRANCHES = "-t torchscript -k mode=script (TorchScript script mode)"

#: the target that help texts and messages use in their examples
EXAMPLE = next(iter(TARGETS))
