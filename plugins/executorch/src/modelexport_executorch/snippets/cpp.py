"""A C++ program that runs a .pte, and the CMakeLists.txt that builds it."""

from __future__ import annotations

from string import Template

from modelexport.contract import Artifact
from modelexport.toolkit import Value, quoted

from .interface import calls_quantized_kernels, interface

#: dtype → what holds its values, and ExecuTorch's name for it
TYPES = {
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

_PROGRAM = Template("""\
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

_INPUT = Template("""\
  std::vector<$storage> $name($count);  // your data for $value
  auto ${name}_tensor = make_tensor_ptr(Sizes{$shape}, $name.data(), ScalarType::$scalar);
""")

_OUTPUT = Template("""\
  show<$kind>($label, result->at($index).toTensor());
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


def write(artifact: Artifact) -> dict[str, str]:
    """main.cpp and CMakeLists.txt. Raises ConversionError for a dtype that the API has no tensors of."""
    sides = interface(artifact, "C++", TYPES)
    program = _PROGRAM.substitute(
        entry=artifact.entry,
        path=quoted(artifact.entry),
        constants=sides.constants("constexpr int $name = $size;  // $range"),
        inputs="\n".join(map(_input, sides.inputs)),
        names=", ".join(f"{value.identifier}_tensor" for value in sides.inputs),
        outputs="".join(_output(value, index) for index, value in enumerate(sides.outputs)),
    )
    library = " ${EXECUTORCH_QUANTIZED_KERNELS_LIBRARY}" if calls_quantized_kernels(artifact) else ""
    return {"main.cpp": program, "CMakeLists.txt": _CMAKE.substitute(quantized=library)}


def _input(value: Value) -> str:
    storage, scalar = TYPES[value.dtype]
    return _INPUT.substitute(
        storage=storage, name=value.identifier, count=value.count, value=value, shape=value.shape, scalar=scalar
    )


def _output(value: Value, index: int) -> str:
    kind = "bool" if value.dtype == "bool" else TYPES[value.dtype][0]
    return _OUTPUT.substitute(kind=kind, label=quoted(value.name), index=index)
