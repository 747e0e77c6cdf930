// Stands in for CUDA's header; see README.md.
#pragma once

#include <cstdint>
#include <cstring>

// The upper half of a float.
struct __nv_bfloat16 {
  uint16_t bits;
};

inline float __bfloat162float(const __nv_bfloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

inline __nv_bfloat16 __float2bfloat16(const float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if (value != value) return {static_cast<uint16_t>(bits >> 16 | 64)};
  const uint32_t even = bits >> 16 & 1;
  return {static_cast<uint16_t>((bits + 0x7fff + even) >> 16)};
}
