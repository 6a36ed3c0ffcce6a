"""Programs to start from, in C++, Kotlin, Java and Swift: load the file, fill every input, read every output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import Any

from modelexport.errors import OptionError
from modelexport.types import Artifact, Dim, TensorSpec

from . import flatbuffer

_CPP = Template("""\
// Runs $entry with the C API of TensorFlow Lite, which LiteRT keeps.
// g++ -std=c++17 main.cpp -I HEADERS -L LIBRARIES -ltensorflowlite_c -o main && ./main ../../$entry
// Headers and library: build //tensorflow/lite/c:tensorflowlite_c, or take them from the Android archive (AAR).
#include <cstdint>
#include <cstdio>
#include <vector>

#include "tensorflow/lite/c/c_api.h"

$constants
template <typename T>
bool Fill(TfLiteSignatureRunner* runner, const char* name, const std::vector<T>& values) {
  TfLiteTensor* tensor = TfLiteSignatureRunnerGetInputTensor(runner, name);
  return TfLiteTensorCopyFromBuffer(tensor, values.data(), values.size() * sizeof(T)) == kTfLiteOk;
}

template <typename T>
void Show(const TfLiteSignatureRunner* runner, const char* name) {
  const TfLiteTensor* tensor = TfLiteSignatureRunnerGetOutputTensor(runner, name);
  std::vector<T> values(TfLiteTensorByteSize(tensor) / sizeof(T));
  TfLiteTensorCopyToBuffer(tensor, values.data(), values.size() * sizeof(T));
  std::printf("%s [", name);
  for (int axis = 0; axis < TfLiteTensorNumDims(tensor); ++axis) std::printf(" %d", TfLiteTensorDim(tensor, axis));
  std::printf(" ]");
  for (size_t i = 0; i < values.size() && i < 5; ++i) std::printf(" %g", static_cast<double>(values[i]));
  std::printf("\\n");
}

int main(int argc, char** argv) {
  TfLiteModel* model = TfLiteModelCreateFromFile(argc > 1 ? argv[1] : "$entry");
  if (model == nullptr) return 1;
  TfLiteInterpreterOptions* options = TfLiteInterpreterOptionsCreate();
  TfLiteInterpreterOptionsSetNumThreads(options, 2);
  TfLiteInterpreter* interpreter = TfLiteInterpreterCreate(model, options);
  TfLiteSignatureRunner* runner = TfLiteInterpreterGetSignatureRunner(interpreter, "$key");
  if (runner == nullptr) return 1;
$resize
  if (TfLiteSignatureRunnerAllocateTensors(runner) != kTfLiteOk) return 1;
$fill
  if (TfLiteSignatureRunnerInvoke(runner) != kTfLiteOk) return 1;
$show
  TfLiteSignatureRunnerDelete(runner);
  TfLiteInterpreterDelete(interpreter);
  TfLiteInterpreterOptionsDelete(options);
  TfLiteModelDelete(model);
  return 0;
}
""")

_KOTLIN = Template("""\
// Runs $entry on Android. In build.gradle: implementation("com.google.ai.edge.litert:litert:1.4.0")
// Put the file into the assets, or anywhere else on the device.
import java.io.File
import java.nio.ByteOrder
import org.tensorflow.lite.Interpreter

$constants
fun main(arguments: Array<String>) {
    val file = File(arguments.firstOrNull() ?: "$entry")
    Interpreter(file, Interpreter.Options().setNumThreads(2)).use { interpreter ->
        val inputs = mapOf<String, Any>(
$fill
        )
        interpreter.runSignature(inputs, mapOf<String, Any>(), "$key")
$show
    }
}
""")

_JAVA = Template("""\
// Runs $entry on Android. In build.gradle: implementation("com.google.ai.edge.litert:litert:1.4.0")
// Put the file into the assets, or anywhere else on the device.
import java.io.File;
import java.nio.ByteOrder;
import java.util.HashMap;
import java.util.Map;
import org.tensorflow.lite.Interpreter;

public class Main {
$constants
    public static void main(String[] arguments) {
        File file = new File(arguments.length > 0 ? arguments[0] : "$entry");
        Interpreter.Options options = new Interpreter.Options().setNumThreads(2);
        try (Interpreter interpreter = new Interpreter(file, options)) {
            Map<String, Object> inputs = new HashMap<>();
$fill
            interpreter.runSignature(inputs, new HashMap<>(), "$key");
$show
        }
    }
}
""")

_SWIFT = Template("""\
// Runs $entry on iOS. In the Podfile: pod 'TensorFlowLiteSwift'
// In an app: Bundle.main.path(forResource: "$stem", ofType: "tflite")!
import Foundation
import TensorFlowLite

$constants
func bytes<T>(_ values: [T]) -> Data {
    return values.withUnsafeBytes { Data($$0) }
}

func show<T>(_ name: String, _ tensor: Tensor, _ type: T.Type) {
    let values = tensor.data.withUnsafeBytes { Array($$0.bindMemory(to: type)) }
    print(name, tensor.shape.dimensions, values.prefix(5))
}

var options = Interpreter.Options()
options.threadCount = 2
let path = CommandLine.arguments.count > 1 ? CommandLine.arguments[1] : "$entry"
let interpreter = try Interpreter(modelPath: path, options: options)
let runner = try interpreter.signatureRunner(with: "$key")
$resize
try runner.allocateTensors()
try runner.invoke(with: [
$fill
])
$show
""")


@dataclass(frozen=True)
class Port:
    """An input or output as the file has it: sizes are numbers, or names of constants."""

    name: str
    dtype: str
    sizes: tuple[str, ...]
    note: str

    @property
    def count(self) -> str:
        return " * ".join(self.sizes) or "1"


@dataclass(frozen=True)
class Constant:
    """A dynamic dim: the size a program begins with, and what else it may be."""

    name: str
    value: int
    note: str


def write(artifact: Artifact, language: str) -> Mapping[str, str]:
    """File name → text. Raises OptionError for a file that has no signature to call it by."""
    model = flatbuffer.read(artifact.entry_path)
    if not model.signatureDefs:
        raise OptionError(
            f"{artifact.entry} has no signature, and these programs call a model by the names in it",
            "convert it again, with a signature",
        )
    listed: Mapping[str, Mapping[str, int]] = artifact.details.get("signatures", {})
    key = next(iter(listed), flatbuffer.signatures(model)[0])
    constants = _constants(artifact, listed.get(key, {}), len(listed))
    ports = _ports(artifact, model, key)
    name, make = _LANGUAGES[language]
    stem = artifact.entry_path.stem
    return {name: make(constants, *ports, {"entry": artifact.entry, "stem": stem, "key": key})}


def _constants(artifact: Artifact, sizes: Mapping[str, int], count: int) -> list[Constant]:
    dims = {dim.name: dim for spec in artifact.inputs for dim in spec.dims}
    found = []
    for name, dim in dims.items():
        note = str(dim) if "=" in str(dim) else f"{name} of any size"
        if name in sizes:
            note += f": a signature for each size, {count} in all; change its name too"
        found.append(Constant(name.upper(), sizes.get(name, dim.sizes[0]), note))
    return found


def _ports(artifact: Artifact, model: Any, key: str) -> tuple[list[Port], list[Port]]:
    signature = next(item for item in model.signatureDefs if item.signatureKey.decode() == key)
    tensors = model.subgraphs[signature.subgraphIndex].tensors
    nhwc = artifact.details.get("nhwc", ())

    def port(spec: TensorSpec, entries: Sequence[Any]) -> Port:
        index = next(entry.tensorIndex for entry in entries if entry.name.decode() == spec.name)
        tensor = tensors[index]
        sizes = tuple(size.name.upper() if isinstance(size, Dim) else str(size) for size in spec.shape)
        notes = []
        if spec.name in nhwc:
            sizes = (sizes[0], *sizes[2:], sizes[1])
            notes.append("channels last")
        dtype = flatbuffer.dtype(tensor)
        if dtype == "int32" and spec.dtype == "int64":
            notes.append("int64 in the model")
        scale = getattr(tensor.quantization, "scale", None)
        if scale is not None and len(scale) and dtype != "float32":
            zero = tensor.quantization.zeroPoint
            notes.append(f"value = (integer - {int(zero[0])}) * {float(scale[0]):g}")
        if isinstance(spec.values, tuple):
            notes.append(f"{spec.values[0]:g}..{spec.values[1]:g}")
        return Port(spec.name, dtype, sizes, ", ".join(notes))

    return (
        [port(spec, signature.inputs) for spec in artifact.inputs],
        [port(spec, signature.outputs) for spec in artifact.outputs],
    )


def _declared(indent: int, lines: Sequence[str]) -> str:
    return _lines(indent, lines) + "\n" * bool(lines)


def _lines(indent: int, lines: Sequence[str]) -> str:
    return "\n".join(" " * indent + line for line in lines)


def _comment(*notes: str) -> str:
    said = "; ".join(note for note in notes if note)
    return f"  // {said}" if said else ""


def _shape(port: Port) -> str:
    return f"[{', '.join(port.sizes)}]"


# --------------------------------------------------------------------------------------- languages

_C_TYPES = {"float32": "float", "float64": "double", "bool": "uint8_t", "float16": "uint16_t"}


def _cpp(constants: list[Constant], inputs: list[Port], outputs: list[Port], names: Mapping[str, str]) -> str:
    def kind(port: Port) -> str:
        return _C_TYPES.get(port.dtype, f"{port.dtype}_t")

    resize, fill = [], []
    for number, port in enumerate(inputs):
        if not all(size.isdigit() for size in port.sizes):
            resize += [
                f"const int shape{number}[] = {{{', '.join(port.sizes)}}};",
                f'TfLiteSignatureRunnerResizeInputTensor(runner, "{port.name}", shape{number}, '
                f"{len(port.sizes)});",
            ]
        value = f"std::vector<{kind(port)}>({port.count})"
        fill.append(
            f'if (!Fill(runner, "{port.name}", {value})) return 1;{_comment(_shape(port), port.note)}: your data'
        )
    return _CPP.substitute(
        names,
        constants=_declared(0, [f"constexpr int {c.name} = {c.value};{_comment(c.note)}" for c in constants]),
        resize=_lines(2, resize),
        fill=_lines(2, fill),
        show=_lines(2, [f'Show<{kind(p)}>(runner, "{p.name}");{_comment(_shape(p), p.note)}' for p in outputs]),
    )


_JVM_TYPES = {
    "float32": "float", "int32": "int", "int64": "long", "int16": "short", "int8": "byte", "uint8": "byte",
    "bool": "boolean",
}  # fmt: skip
_BUFFERS = {"float32": ".asFloatBuffer()", "int32": ".asIntBuffer()", "int64": ".asLongBuffer()"}


def _jvm_type(port: Port) -> str:
    if port.dtype not in _JVM_TYPES:
        raise OptionError(f"{port.name!r} is {port.dtype}, which Java has no type for", "write it in C++ or Swift")
    return _JVM_TYPES[port.dtype]


def _kotlin_array(port: Port) -> str:
    kind = _jvm_type(port).capitalize()
    if not port.sizes:
        return {"Float": "0f", "Boolean": "false", "Long": "0L"}.get(kind, "0")
    *outer, last = port.sizes
    text = f"{kind}Array({last})"
    for size in reversed(outer):
        text = f"Array({size}) {{ {text} }}"
    return text


def _kotlin(constants: list[Constant], inputs: list[Port], outputs: list[Port], names: Mapping[str, str]) -> str:
    fill = [f'"{p.name}" to {_kotlin_array(p)},{_comment(_shape(p), p.note)}: your data' for p in inputs]
    show = []
    for number, port in enumerate(outputs):
        _jvm_type(port)
        read = f".asReadOnlyBuffer().order(ByteOrder.nativeOrder()){_BUFFERS.get(port.dtype, '')}"
        show += [
            f'val output{number} = interpreter.getOutputTensorFromSignature("{port.name}", "{names["key"]}")',
            f"val values{number} = output{number}{read}{_comment(_shape(port), port.note)}",
            f'println("{port.name} ${{output{number}.shape().toList()}} ${{values{number}.get(0)}}")',
        ]
    return _KOTLIN.substitute(
        names,
        constants=_declared(0, [f"const val {c.name} = {c.value}{_comment(c.note)}" for c in constants]),
        fill=_lines(12, fill),
        show=_lines(8, show),
    )


def _java(constants: list[Constant], inputs: list[Port], outputs: list[Port], names: Mapping[str, str]) -> str:
    fill = []
    for port in inputs:
        sizes = "".join(f"[{size}]" for size in port.sizes)
        value = f"new {_jvm_type(port)}{sizes}" if sizes else {"float": "0f", "boolean": "false"}.get(
            _jvm_type(port), "0"
        )  # fmt: skip
        fill.append(f'inputs.put("{port.name}", {value});{_comment(_shape(port), port.note)}: your data')
    show = []
    for port in outputs:
        _jvm_type(port)
        read = f".asReadOnlyBuffer().order(ByteOrder.nativeOrder()){_BUFFERS.get(port.dtype, '')}.get(0)"
        show += [
            f'System.out.println("{port.name} " + interpreter',
            f'    .getOutputTensorFromSignature("{port.name}", "{names["key"]}")',
            f"    {read});{_comment(_shape(port), port.note)}",
        ]
    return _JAVA.substitute(
        names,
        constants=_declared(4, [f"static final int {c.name} = {c.value};{_comment(c.note)}" for c in constants]),
        fill=_lines(12, fill),
        show=_lines(12, show),
    )


_SWIFT_TYPES = {"float32": "Float32", "float64": "Double", "float16": "Float16", "bool": "Bool"}


def _swift(constants: list[Constant], inputs: list[Port], outputs: list[Port], names: Mapping[str, str]) -> str:
    def kind(port: Port) -> str:
        return _SWIFT_TYPES.get(port.dtype) or port.dtype.capitalize().replace("Uint", "UInt")

    def fill(port: Port) -> str:
        zero = "false" if port.dtype == "bool" else "0"
        value = f"bytes([{kind(port)}](repeating: {zero}, count: {port.count}))"
        return f'    "{port.name}": {value},{_comment(_shape(port), port.note)}: your data'

    resize = [
        f'try runner.resizeInput(named: "{port.name}", to: Tensor.Shape([{", ".join(port.sizes)}]))'
        for port in inputs
        if not all(size.isdigit() for size in port.sizes)
    ]
    show = [
        f'show("{p.name}", try runner.output(named: "{p.name}"), {kind(p)}.self){_comment(_shape(p), p.note)}'
        for p in outputs
    ]
    return _SWIFT.substitute(
        names,
        constants=_declared(0, [f"let {c.name} = {c.value}{_comment(c.note)}" for c in constants]),
        resize=_lines(0, resize),
        fill=_lines(0, [fill(port) for port in inputs]),
        show=_lines(0, show),
    )


#: language → the file's name, and what writes it
_LANGUAGES: Mapping[str, tuple[str, Callable[..., str]]] = {
    "cpp": ("main.cpp", _cpp),
    "kotlin": ("Main.kt", _kotlin),
    "java": ("Main.java", _java),
    "swift": ("main.swift", _swift),
}
