// See litert_common.h.
#pragma once
#include "litert/c/litert_layout.h"

extern "C" {
LiteRtStatus LiteRtCreateCompiledModel(LiteRtEnvironment, LiteRtModel, LiteRtOptions, LiteRtCompiledModel*);
void LiteRtDestroyCompiledModel(LiteRtCompiledModel);

LiteRtStatus LiteRtCompiledModelResizeInputTensor(
    LiteRtCompiledModel, LiteRtParamIndex signature, LiteRtParamIndex input, const int* sizes, size_t rank);
LiteRtStatus LiteRtGetCompiledModelInputTensorLayout(
    LiteRtCompiledModel, LiteRtParamIndex signature, LiteRtParamIndex input, LiteRtLayout*);
LiteRtStatus LiteRtGetCompiledModelOutputTensorLayouts(
    LiteRtCompiledModel, LiteRtParamIndex signature, size_t count, LiteRtLayout*, bool allocate);
LiteRtStatus LiteRtGetCompiledModelInputBufferRequirements(
    LiteRtCompiledModel, LiteRtParamIndex signature, LiteRtParamIndex input, LiteRtTensorBufferRequirements*);
LiteRtStatus LiteRtGetCompiledModelOutputBufferRequirements(
    LiteRtCompiledModel, LiteRtParamIndex signature, LiteRtParamIndex output, LiteRtTensorBufferRequirements*);
LiteRtStatus LiteRtRunCompiledModel(
    LiteRtCompiledModel, LiteRtParamIndex signature, size_t, LiteRtTensorBuffer* inputs, size_t,
    LiteRtTensorBuffer* outputs);
}
