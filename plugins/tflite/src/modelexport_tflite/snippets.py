"""Programs to start from, in C++, Kotlin, Java and Swift: load the file, fill every input, read every output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import Any

from modelexport.contract import Artifact, Dim, TensorSpec
from modelexport.errors import OptionError

from . import flatbuffer

_CPP = Template("""\
// Runs $entry on the CPU with the C API of LiteRT 2.3.
// g++ -std=c++17 main.cpp -I SDK -L LIBRARY -l:libLiteRt.so -Wl,-rpath,LIBRARY -o main && ./main ../../$entry
// SDK: the folder of the LiteRT C++ SDK's headers. LIBRARY: that of libLiteRt.so, from the Android archive or
// the Python package ai-edge-litert.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "litert/c/litert_common.h"
#include "litert/c/litert_compiled_model.h"
#include "litert/c/litert_environment.h"
#include "litert/c/litert_model.h"
#include "litert/c/litert_options.h"
#include "litert/c/litert_tensor_buffer.h"

$constants
[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "%s\\n", what.c_str());
  std::exit(1);
}

void Check(LiteRtStatus status, const char* call) {
  if (status != kLiteRtStatusOk) Fail(std::string(call) + ": LiteRT's status " + std::to_string(status));
}
#define CHECK(call) Check(call, #call)

// A signature of the file. LiteRT counts inputs and outputs in the file's order; here they go by their names.
class Net {
 public:
  Net(const char* path, const std::string& key) {
    CHECK(LiteRtCreateEnvironment(0, nullptr, &environment_));
    CHECK(LiteRtCreateModelFromFile(environment_, path, &model_));
    CHECK(LiteRtCreateOptions(&options_));
    CHECK(LiteRtSetOptionsHardwareAccelerators(options_, kLiteRtHwAcceleratorCpu));
    CHECK(LiteRtCreateCompiledModel(environment_, model_, options_, &compiled_));
    std::vector<std::string> keys;
    LiteRtParamIndex count;
    CHECK(LiteRtGetNumModelSignatures(model_, &count));
    for (LiteRtParamIndex i = 0; i < count; ++i) {
      const char* name;
      CHECK(LiteRtGetModelSignature(model_, i, &signature_));
      CHECK(LiteRtGetSignatureKey(signature_, &name));
      keys.push_back(name);
    }
    index_ = Find(keys, key);
    CHECK(LiteRtGetModelSignature(model_, index_, &signature_));
    CHECK(LiteRtGetNumSignatureInputs(signature_, &count));
    input_names_ = Names(count, LiteRtGetSignatureInputName);
    CHECK(LiteRtGetNumSignatureOutputs(signature_, &count));
    output_names_ = Names(count, LiteRtGetSignatureOutputName);
  }

  ~Net() {
    for (LiteRtTensorBuffer buffer : inputs_) LiteRtDestroyTensorBuffer(buffer);
    for (LiteRtTensorBuffer buffer : outputs_) LiteRtDestroyTensorBuffer(buffer);
    LiteRtDestroyCompiledModel(compiled_);
    LiteRtDestroyOptions(options_);
    LiteRtDestroyModel(model_);
    LiteRtDestroyEnvironment(environment_);
  }

  // For inputs of dynamic sizes, before Allocate. Fails where the signature does not take these sizes.
  void Resize(const char* name, const std::vector<int>& sizes) {
    const LiteRtParamIndex input = Find(input_names_, name);
    CHECK(LiteRtCompiledModelResizeInputTensor(compiled_, index_, input, sizes.data(), sizes.size()));
  }

  void Allocate() {
    std::vector<LiteRtLayout> layouts(output_names_.size());
    CHECK(LiteRtGetCompiledModelOutputTensorLayouts(compiled_, index_, layouts.size(), layouts.data(), true));
    LiteRtTensor tensor;
    LiteRtRankedTensorType type;
    LiteRtTensorBufferRequirements needs;
    inputs_.resize(input_names_.size());
    for (LiteRtParamIndex i = 0; i < inputs_.size(); ++i) {
      CHECK(LiteRtGetSignatureInputTensorByIndex(signature_, i, &tensor));
      CHECK(LiteRtGetRankedTensorType(tensor, &type));
      CHECK(LiteRtGetCompiledModelInputTensorLayout(compiled_, index_, i, &type.layout));
      CHECK(LiteRtGetCompiledModelInputBufferRequirements(compiled_, index_, i, &needs));
      CHECK(LiteRtCreateManagedTensorBufferFromRequirements(environment_, &type, needs, &inputs_[i]));
    }
    outputs_.resize(output_names_.size());
    for (LiteRtParamIndex i = 0; i < outputs_.size(); ++i) {
      CHECK(LiteRtGetSignatureOutputTensorByIndex(signature_, i, &tensor));
      CHECK(LiteRtGetRankedTensorType(tensor, &type));
      type.layout = layouts[i];
      CHECK(LiteRtGetCompiledModelOutputBufferRequirements(compiled_, index_, i, &needs));
      CHECK(LiteRtCreateManagedTensorBufferFromRequirements(environment_, &type, needs, &outputs_[i]));
    }
  }

  template <typename T>
  void Fill(const char* name, const std::vector<T>& values) {
    LiteRtTensorBuffer buffer = inputs_[Find(input_names_, name)];
    size_t size;
    CHECK(LiteRtGetTensorBufferPackedSize(buffer, &size));
    if (size != values.size() * sizeof(T)) Fail(std::string(name) + " takes " + std::to_string(size) + " bytes");
    void* memory;
    CHECK(LiteRtLockTensorBuffer(buffer, &memory, kLiteRtTensorBufferLockModeWrite));
    std::memcpy(memory, values.data(), size);
    CHECK(LiteRtUnlockTensorBuffer(buffer));
  }

  void Run() {
    CHECK(LiteRtRunCompiledModel(
        compiled_, index_, inputs_.size(), inputs_.data(), outputs_.size(), outputs_.data()));
  }

  template <typename T>
  void Show(const char* name) {
    LiteRtTensorBuffer buffer = outputs_[Find(output_names_, name)];
    LiteRtRankedTensorType type;
    CHECK(LiteRtGetTensorBufferTensorType(buffer, &type));
    std::printf("%s [", name);
    for (unsigned axis = 0; axis < type.layout.rank; ++axis) std::printf(" %d", type.layout.dimensions[axis]);
    std::printf(" ]");
    size_t size;
    CHECK(LiteRtGetTensorBufferPackedSize(buffer, &size));
    void* memory;
    CHECK(LiteRtLockTensorBuffer(buffer, &memory, kLiteRtTensorBufferLockModeRead));
    const T* values = static_cast<const T*>(memory);
    for (size_t i = 0; i < size / sizeof(T) && i < 5; ++i) std::printf(" %g", static_cast<double>(values[i]));
    std::printf("\\n");
    CHECK(LiteRtUnlockTensorBuffer(buffer));
  }

 private:
  using Name = LiteRtStatus (*)(LiteRtSignature, LiteRtParamIndex, const char**);

  std::vector<std::string> Names(LiteRtParamIndex count, Name get) {
    std::vector<std::string> names;
    for (LiteRtParamIndex i = 0; i < count; ++i) {
      const char* name;
      CHECK(get(signature_, i, &name));
      names.push_back(name);
    }
    return names;
  }

  static LiteRtParamIndex Find(const std::vector<std::string>& names, const std::string& name) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) Fail("the file has no " + name);
    return found - names.begin();
  }

  LiteRtEnvironment environment_;
  LiteRtModel model_;
  LiteRtOptions options_;
  LiteRtCompiledModel compiled_;
  LiteRtSignature signature_;
  LiteRtParamIndex index_;
  std::vector<std::string> input_names_, output_names_;
  std::vector<LiteRtTensorBuffer> inputs_, outputs_;
};

int main(int argc, char** argv) {
  Net net(argc > 1 ? argv[1] : "$entry", "$key");
$resize  net.Allocate();
$fill
  net.Run();
$show
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

    resize = [
        f'net.Resize("{port.name}", {{{", ".join(port.sizes)}}});'
        for port in inputs
        if not all(size.isdigit() for size in port.sizes)
    ]
    fill = [
        f'net.Fill("{p.name}", std::vector<{kind(p)}>({p.count}));{_comment(_shape(p), p.note)}: your data'
        for p in inputs
    ]
    return _CPP.substitute(
        names,
        constants=_declared(0, [f"constexpr int {c.name} = {c.value};{_comment(c.note)}" for c in constants]),
        resize=_declared(2, resize),
        fill=_lines(2, fill),
        show=_lines(2, [f'net.Show<{kind(p)}>("{p.name}");{_comment(_shape(p), p.note)}' for p in outputs]),
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
