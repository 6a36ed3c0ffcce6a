// See litert_common.h.
#pragma once
#include "litert/c/litert_common.h"

struct LiteRtEnvOption;

extern "C" {
LiteRtStatus LiteRtCreateEnvironment(int, const LiteRtEnvOption*, LiteRtEnvironment*);
void LiteRtDestroyEnvironment(LiteRtEnvironment);
}
