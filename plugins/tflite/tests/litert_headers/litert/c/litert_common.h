// What the C++ program to start from uses of LiteRT's C API, declared by hand for the test that builds and runs it:
// the wheel has the library and no headers. Types and arguments are those of LiteRT 2.3 (google-ai-edge/LiteRT,
// litert/c); the files have its names, so that the program includes what it would include from the C++ SDK.
#pragma once
#include <cstddef>
#include <cstdint>

typedef struct LiteRtEnvironmentT* LiteRtEnvironment;
typedef struct LiteRtOptionsT* LiteRtOptions;
typedef struct LiteRtModelT* LiteRtModel;
typedef struct LiteRtSignatureT* LiteRtSignature;
typedef struct LiteRtTensorT* LiteRtTensor;
typedef struct LiteRtCompiledModelT* LiteRtCompiledModel;
typedef struct LiteRtTensorBufferT* LiteRtTensorBuffer;
typedef struct LiteRtTensorBufferRequirementsT* LiteRtTensorBufferRequirements;
typedef size_t LiteRtParamIndex;
typedef int LiteRtHwAcceleratorSet;

enum LiteRtStatus { kLiteRtStatusOk = 0, kLiteRtStatusErrorUnknown = 9 };
enum LiteRtHwAccelerators { kLiteRtHwAcceleratorCpu = 1 };
enum LiteRtTensorBufferLockMode { kLiteRtTensorBufferLockModeRead = 0, kLiteRtTensorBufferLockModeWrite = 1 };
