// Stands in for CUDA's header; see README.md.
#pragma once

#include <cmath>
#include <cstdint>

#include "emulator.h"

// IEEE half precision: 1 sign, 5 exponent and 10 fraction bits.
struct __half {
  uint16_t bits;
};

inline float __half2float(const __half value) {
  const int exponent = value.bits >> 10 & 31;
  const int fraction = value.bits & 1023;
  const float sign = (value.bits & 0x8000) != 0 ? -1.0f : 1.0f;
  if (exponent == 31) return fraction == 0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -24);
  return sign * std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
}

inline __half __float2half(const float value) {
  const auto sign = static_cast<uint16_t>(std::signbit(value) ? 0x8000 : 0);
  if (value != value) return {static_cast<uint16_t>(sign | 0x7e00)};
  const float magnitude = std::fabs(value);
  if (magnitude >= 65520.0f) return {static_cast<uint16_t>(sign | 0x7c00)};
  if (magnitude == 0.0f) return {sign};
  // In units of the last place, rounded to even as nearbyint does; a carry goes to the exponent.
  const int exponent = std::max(std::ilogb(magnitude), -14);
  const auto units = static_cast<int>(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));
  return {static_cast<uint16_t>(sign | (((exponent + 14) << 10) + units))};
}
