// See litert_common.h.
#pragma once
#include "litert/c/litert_layout.h"

enum LiteRtElementType { kLiteRtElementTypeFloat32 = 1, kLiteRtElementTypeInt32 = 2 };

struct LiteRtRankedTensorType {
  LiteRtElementType element_type;
  LiteRtLayout layout;
};
static_assert(sizeof(LiteRtRankedTensorType) == 72, "the library copies 72 bytes");
