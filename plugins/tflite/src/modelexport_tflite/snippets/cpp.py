"""C++ on LiteRT's own C API."""

from __future__ import annotations

from string import Template

from modelexport.toolkit import quoted

from .interface import Interface, Port, block, lines

_TYPES = {"float32": "float", "float64": "double", "bool": "uint8_t", "float16": "uint16_t"}

_PROGRAM = Template("""\
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
  Net net(argc > 1 ? argv[1] : $path, $key);
$resize  net.Allocate();
$fill
  net.Run();
$show
  return 0;
}
""")


def program(interface: Interface) -> str:
    """A program that uses the file through a class of its own, by the names of its inputs and outputs."""
    return _PROGRAM.substitute(
        entry=interface.entry,
        path=quoted(interface.entry),
        key=quoted(interface.key),
        constants=block(0, [f"constexpr int {c.name} = {c.size};{c.comment}" for c in interface.constants]),
        resize=block(2, [_resize(port) for port in interface.inputs if not port.is_fixed]),
        fill=lines(2, [_fill(port) for port in interface.inputs]),
        show=lines(2, [f"net.Show<{_type(port)}>({port.name});{port.comment}" for port in interface.outputs]),
    )


def _type(port: Port) -> str:
    return _TYPES.get(port.value.dtype, f"{port.value.dtype}_t")


def _resize(port: Port) -> str:
    return f"net.Resize({port.name}, {{{port.value.shape}}});"


def _fill(port: Port) -> str:
    values = f"std::vector<{_type(port)}>({port.value.count})"
    return f"net.Fill({port.name}, {values});{port.comment}: your data"
