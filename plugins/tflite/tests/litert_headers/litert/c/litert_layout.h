// See litert_common.h.
#pragma once
#include "litert/c/litert_common.h"

struct LiteRtLayout {
  unsigned int rank : 7;
  bool has_strides : 1;
  int32_t dimensions[8];
  uint32_t strides[8];
};
