// How many parts of one size cover a whole; the last of them may be smaller.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace marginseg {

MARGINSEG_HOST_DEVICE constexpr int64_t parts(const int64_t whole, const int64_t size) {
  return (whole + size - 1) / size;
}

}  // namespace marginseg
