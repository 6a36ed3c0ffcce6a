// See litert_common.h.
#pragma once
#include "litert/c/litert_common.h"

extern "C" {
LiteRtStatus LiteRtCreateOptions(LiteRtOptions*);
LiteRtStatus LiteRtSetOptionsHardwareAccelerators(LiteRtOptions, LiteRtHwAcceleratorSet);
void LiteRtDestroyOptions(LiteRtOptions);
}
