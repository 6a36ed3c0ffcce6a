"""Programs to start from: each loads the .pte, fills every input, runs the model and reads every output."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Template

from modelexport.contract import Artifact, Dim, TensorSpec
from modelexport.errors import ConversionError

from . import lowering

LANGUAGES = ("cpp", "java", "kotlin", "swift")


def write(artifact: Artifact, language: str) -> Mapping[str, str]:
    """File name → text. Raises ConversionError for a dtype that the language's API has no tensors of."""
    writer = {"cpp": _cpp, "java": _java, "kotlin": _kotlin, "swift": _swift}[language]
    return writer(artifact)


# --------------------------------------------------------------------------------------- what all share


@dataclass(frozen=True)
class Value:
    """An input or output as source code needs it: its name in the model and in the code, its dtype, and its sizes:
    numbers, and constants for dims that are dynamic."""

    name: str
    identifier: str
    dtype: str
    sizes: tuple[int | str, ...]

    @property
    def count(self) -> str:
        return " * ".join(map(str, self.sizes)) or "1"

    @property
    def shape(self) -> str:
        return ", ".join(map(str, self.sizes))


@dataclass(frozen=True)
class Interface:
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    dims: tuple[Dim, ...]

    def constants(self, line: str) -> str:
        """A line of code for each dynamic dim: `line` has places for its name, size and range."""
        return "".join(
            Template(line).substitute(name=constant(dim), size=_small(dim), range=str(dim)) + "\n"
            for dim in self.dims
        )


def interface(artifact: Artifact) -> Interface:
    """The artifact's inputs and outputs, with dims bounded as its memory plan is."""
    bounds = artifact.details.get("bounds", {})
    specs = [lowering.limited(spec, bounds) for spec in artifact.inputs]
    dims = {dim.name: dim for spec in specs for dim in spec.dims}
    taken: set[str] = set()
    inputs = tuple(_value(spec, taken) for spec in specs)
    return Interface(inputs, tuple(_value(spec, taken) for spec in artifact.outputs), tuple(dims.values()))


def constant(dim: Dim) -> str:
    return identifier(dim.name).upper()


def _small(dim: Dim) -> int:
    return next((size for size in dim.sizes if size >= 2), dim.sizes[0])


def _value(spec: TensorSpec, taken: set[str]) -> Value:
    name = base = identifier(spec.name)
    number = 2
    while name in taken:
        name, number = f"{base}_{number}", number + 1
    taken.add(name)
    return Value(spec.name, name, spec.dtype, tuple(constant(s) if isinstance(s, Dim) else s for s in spec.shape))


#: words that a model may call an input, and a language or these programs something else
_RESERVED = """
and args auto bool break byte case catch char class const continue data default delete do double else enum export
false final float for fun func goto if import in int interface is let long main module new null object operator or
out outputs package path private public result results return run short show sizes static string struct super
switch template tensor this throw true try type typeof union using val value var void when while
"""


def identifier(name: str) -> str:
    """`name` as it can be used in every one of the languages."""
    word = re.sub(r"\W", "_", name, flags=re.ASCII)
    word = f"_{word}" if not word or word[0].isdigit() else word
    return f"{word}_" if word.lower() in _RESERVED.split() else word


def quoted(text: str) -> str:
    """A literal in any of the languages, whose escapes are those of JSON; a dollar means something to Kotlin."""
    return json.dumps(text).replace("$", "\\u0024")


def _known(values: Sequence[Value], types: Mapping[str, object], language: str) -> None:
    for value in values:
        if value.dtype not in types:
            raise ConversionError(
                f"ExecuTorch's {language} API has no tensors of {value.dtype}, which {value.name!r} is",
                "take and return float32, int32 or int64; or use --snippet cpp",
            )


def _described(value: Value) -> str:
    return f"{value.name}: {value.dtype}[{value.shape}]"


# --------------------------------------------------------------------------------------- C++

_CPP = Template("""\
// Runs $entry with ExecuTorch. Build it with the CMakeLists.txt beside it; run it as: ./main $entry
#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::extension::make_tensor_ptr;
using executorch::extension::Module;
using Sizes = std::vector<executorch::aten::SizesType>;

$constants
template <typename T>
void show(const char* name, const Tensor& tensor) {
  const T* values = tensor.const_data_ptr<T>();
  std::printf("%s [", name);
  for (const auto size : tensor.sizes()) std::printf(" %d", static_cast<int>(size));
  std::printf(" ]");
  for (ssize_t i = 0; i < std::min<ssize_t>(5, tensor.numel()); ++i) {
    std::printf(" %g", static_cast<double>(values[i]));
  }
  std::printf("\\n");
}

int main(int argc, char** argv) {
  Module module(argc > 1 ? argv[1] : $path);

$inputs
  const auto result = module.forward({$names});
  if (!result.ok()) {
    std::fprintf(stderr, "ExecuTorch failed: error 0x%x\\n", static_cast<unsigned>(result.error()));
    return 1;
  }
$outputs  return 0;
}
""")

_CPP_INPUT = Template("""\
  std::vector<$storage> $identifier($count);  // your data for $described
  auto ${identifier}_tensor = make_tensor_ptr(Sizes{$shape}, $identifier.data(), ScalarType::$scalar);
""")

_CMAKE = Template("""\
# With the libraries of the Python package, on this machine:
#   cmake -B build -DCMAKE_PREFIX_PATH=$$(python -c "import executorch; print(executorch.__path__[0])")
#   cmake --build build
# On a device: ExecuTorch built from source for it, and the same kernels and backends linked.
cmake_minimum_required(VERSION 3.19)
project(main CXX)
set(CMAKE_CXX_STANDARD 17)

find_package(executorch CONFIG REQUIRED)
add_executable(main main.cpp)
target_include_directories(main PRIVATE $${EXECUTORCH_INCLUDE_DIRS})
target_compile_definitions(main PRIVATE $${EXECUTORCH_COMPILE_DEFINITIONS})
# kernels and backends register themselves when they are loaded: the linker must not drop them
target_link_libraries(main PRIVATE -Wl,--no-as-needed $${EXECUTORCH_LIBRARIES}$quantized -Wl,--as-needed)
set_target_properties(main PROPERTIES BUILD_RPATH "$${EXECUTORCH_RUNTIME_LIBRARY_DIR}")
""")

#: dtype → what holds its values, and ExecuTorch's name for it
_CPP_TYPES = {
    "float32": ("float", "Float"),
    "float64": ("double", "Double"),
    "float16": ("executorch::aten::Half", "Half"),
    "bfloat16": ("executorch::aten::BFloat16", "BFloat16"),
    "int8": ("int8_t", "Char"),
    "int16": ("int16_t", "Short"),
    "int32": ("int32_t", "Int"),
    "int64": ("int64_t", "Long"),
    "uint8": ("uint8_t", "Byte"),
    "bool": ("uint8_t", "Bool"),
}


def _cpp(artifact: Artifact) -> Mapping[str, str]:
    sides = interface(artifact)
    _known([*sides.inputs, *sides.outputs], _CPP_TYPES, "C++")
    inputs = [
        _CPP_INPUT.substitute(
            storage=_CPP_TYPES[value.dtype][0],
            identifier=value.identifier,
            count=value.count,
            described=_described(value),
            shape=value.shape,
            scalar=_CPP_TYPES[value.dtype][1],
        )
        for value in sides.inputs
    ]
    kinds = {**{name: storage for name, (storage, _) in _CPP_TYPES.items()}, "bool": "bool"}
    outputs = [
        f"  show<{kinds[value.dtype]}>({quoted(value.name)}, result->at({index}).toTensor());\n"
        for index, value in enumerate(sides.outputs)
    ]
    program = _CPP.substitute(
        entry=artifact.entry,
        path=quoted(artifact.entry),
        constants=sides.constants("constexpr int $name = $size;  // $range"),
        inputs="\n".join(inputs),
        names=", ".join(f"{value.identifier}_tensor" for value in sides.inputs),
        outputs="".join(outputs),
    )
    quantized = any(name.startswith("quantized_decomposed::") for name in artifact.details.get("kernels", ()))
    library = " ${EXECUTORCH_QUANTIZED_KERNELS_LIBRARY}" if quantized else ""
    return {"main.cpp": program, "CMakeLists.txt": _CMAKE.substitute(quantized=library)}


# --------------------------------------------------------------------------------------- Java and Kotlin

#: dtype → the Java array that holds it, what makes a tensor of it, and what reads one
_JVM_TYPES = {
    "float32": ("float", "fromBlob", "getDataAsFloatArray"),
    "float64": ("double", "fromBlob", "getDataAsDoubleArray"),
    "int32": ("int", "fromBlob", "getDataAsIntArray"),
    "int64": ("long", "fromBlob", "getDataAsLongArray"),
    "int8": ("byte", "fromBlob", "getDataAsByteArray"),
    "uint8": ("byte", "fromBlobUnsigned", "getDataAsUnsignedByteArray"),
}

_JAVA = Template("""\
// Runs $entry with ExecuTorch on Android.
// In build.gradle: implementation "org.pytorch:executorch-android:$version"
import java.util.Arrays;
import org.pytorch.executorch.EValue;
import org.pytorch.executorch.Module;
import org.pytorch.executorch.Tensor;

public final class Model {
$constants
    /** Runs the model in the file at `path`: copy it from the app's assets to its files first. */
    public static void run(String path) {
        Module module = Module.load(path);

$inputs
        EValue[] outputs = module.forward($values);
$outputs    }
}
""")

_KOTLIN = Template("""\
// Runs $entry with ExecuTorch on Android.
// In build.gradle.kts: implementation("org.pytorch:executorch-android:$version")
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor

$constants
/** Runs the model in the file at `path`: copy it from the app's assets to its files first. */
fun run(path: String) {
    val module = Module.load(path)

$inputs
    val outputs = module.forward($values)
$outputs}
""")

#: the release of ExecuTorch's Android package that the programs are written for
_ANDROID = "1.0.0"


def _java(artifact: Artifact) -> Mapping[str, str]:
    sides = interface(artifact)
    _known([*sides.inputs, *sides.outputs], _JVM_TYPES, "Java")
    inputs, outputs = [], []
    for value in sides.inputs:
        kind, make, _ = _JVM_TYPES[value.dtype]
        inputs.append(f"        {kind}[] {value.identifier} = new {kind}[{value.count}];")
        inputs[-1] += f"  // your data for {_described(value)}\n"
        inputs[-1] += f"        Tensor {value.identifier}Tensor = "
        inputs[-1] += f"Tensor.{make}({value.identifier}, new long[] {{{value.shape}}});\n"
    for index, value in enumerate(sides.outputs):
        kind, _, read = _JVM_TYPES[value.dtype]
        outputs.append(f"        {kind}[] {value.identifier} = outputs[{index}].toTensor().{read}();\n")
        outputs.append(f"        System.out.println({quoted(value.name)} + {_java_shown(value, index)});\n")
    text = _JAVA.substitute(
        entry=artifact.entry,
        version=_ANDROID,
        constants=sides.constants("    static final int $name = $size;  // $range"),
        inputs="\n".join(inputs),
        values=", ".join(f"EValue.from({value.identifier}Tensor)" for value in sides.inputs),
        outputs="".join(outputs),
    )
    return {"Model.java": text}


def _java_shown(value: Value, index: int) -> str:
    return (
        f'" " + Arrays.toString(outputs[{index}].toTensor().shape()) + " " + '
        f"Arrays.toString(Arrays.copyOf({value.identifier}, Math.min(5, {value.identifier}.length)))"
    )


def _kotlin(artifact: Artifact) -> Mapping[str, str]:
    sides = interface(artifact)
    _known([*sides.inputs, *sides.outputs], _JVM_TYPES, "Kotlin")
    inputs, outputs = [], []
    for value in sides.inputs:
        kind, make, _ = _JVM_TYPES[value.dtype]
        sizes = ", ".join(f"{size}.toLong()" if isinstance(size, str) else f"{size}L" for size in value.sizes)
        inputs.append(f"    val {value.identifier} = {kind.capitalize()}Array({value.count})")
        inputs[-1] += f"  // your data for {_described(value)}\n"
        inputs[-1] += f"    val {value.identifier}Tensor = "
        inputs[-1] += f"Tensor.{make}({value.identifier}, longArrayOf({sizes}))\n"
    for index, value in enumerate(sides.outputs):
        read = _JVM_TYPES[value.dtype][2].removeprefix("get")
        outputs.append(f"    val {value.identifier} = outputs[{index}].toTensor()\n")
        outputs.append(f"    println({quoted(value.name + ' ')} + {value.identifier}.shape().contentToString())\n")
        outputs.append(f"    println({value.identifier}.{read[0].lower()}{read[1:]}.take(5))\n")
    text = _KOTLIN.substitute(
        entry=artifact.entry,
        version=_ANDROID,
        constants=sides.constants("const val $name = $size  // $range"),
        inputs="\n".join(inputs),
        values=", ".join(f"EValue.from({value.identifier}Tensor)" for value in sides.inputs),
        outputs="".join(outputs),
    )
    return {"Model.kt": text}


# --------------------------------------------------------------------------------------- Swift

_SWIFT_TYPES = {
    "float32": "Float",
    "float64": "Double",
    "float16": "Float16",
    "int8": "Int8",
    "int16": "Int16",
    "int32": "Int32",
    "int64": "Int64",
    "uint8": "UInt8",
    "bool": "Bool",
}

_SWIFT = Template("""\
// Runs $entry with ExecuTorch on iOS and macOS. Add the Swift package https://github.com/pytorch/executorch,
// branch swiftpm-VERSION, and link executorch, $libraries with -all_load: they register themselves.
import ExecuTorch
import Foundation

$constants
func run(path: String) throws {
    let module = Module(filePath: path)

$inputs
    let results = try module.forward([$values])
$outputs}

try run(path: Bundle.main.path(forResource: $stem, ofType: "pte")!)
""")


def _swift(artifact: Artifact) -> Mapping[str, str]:
    sides = interface(artifact)
    _known([*sides.inputs, *sides.outputs], _SWIFT_TYPES, "Swift")
    inputs, outputs = [], []
    for value in sides.inputs:
        kind = _SWIFT_TYPES[value.dtype]
        zero = "false" if kind == "Bool" else "0"
        inputs.append(f"    // your data for {_described(value)}\n")
        inputs[-1] += f"    let {value.identifier} = [{kind}](repeating: {zero}, count: {value.count})\n"
        inputs[-1] += f"    let {value.identifier}Tensor = "
        inputs[-1] += f"Tensor<{kind}>({value.identifier}, shape: [{value.shape}])\n"
    for index, value in enumerate(sides.outputs):
        kind = _SWIFT_TYPES[value.dtype]
        outputs.append(f"    let {value.identifier}: Tensor<{kind}> = results[{index}].tensor()!\n")
        shown = f"{value.identifier}.shape, {value.identifier}.scalars().prefix(5)"
        outputs.append(f"    print({quoted(value.name)}, {shown})\n")
    text = _SWIFT.substitute(
        entry=artifact.entry,
        libraries=", ".join(_swift_libraries(artifact)),
        constants=sides.constants("let $name = $size  // $range"),
        inputs="\n".join(inputs),
        values=", ".join(f"{value.identifier}Tensor" for value in sides.inputs),
        outputs="".join(outputs),
        stem=quoted(artifact.entry.removesuffix(".pte")),
    )
    return {"main.swift": text}


def _swift_libraries(artifact: Artifact) -> Iterator[str]:
    yield "kernels_optimized"
    if any(name.startswith("quantized_decomposed::") for name in artifact.details.get("kernels", ())):
        yield "kernels_quantized"
    for name in artifact.details.get("backend", ()):
        if name in ("xnnpack", "coreml"):
            yield f"backend_{name}"


__all__ = ["LANGUAGES", "identifier", "interface", "write"]
