// Floating-point numbers as IEEE 754 lays them out: sign, exponent, mantissa.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace marginseg::dice_threshold {

template <class B, int mantissa_bits, int bias>
struct Format {
  using Bits = B;
  static constexpr int width = 8 * sizeof(Bits);
  static constexpr Bits one = static_cast<Bits>(Bits{bias} << mantissa_bits);
  static constexpr Bits half = static_cast<Bits>(Bits{bias - 1} << mantissa_bits);
  // Rounding may put a probability so many steps beyond 1, and as far below 0: four of those of its
  // type, of float32's for float64, for most doubles have been computed in floats.
  static constexpr int rounding_bits = mantissa_bits < 23 ? mantissa_bits : 23;
  static constexpr Bits most =
      static_cast<Bits>(one + (Bits{4} << (mantissa_bits - rounding_bits)));
  static constexpr Bits most_below_zero =
      static_cast<Bits>(Bits{bias + 2 - rounding_bits} << mantissa_bits);
  static constexpr Bits negative_zero = static_cast<Bits>(Bits{1} << (width - 1));
  static constexpr Bits infinity =
      static_cast<Bits>((negative_zero - 1) >> mantissa_bits << mantissa_bits);

  // A positive number is significand * unit.
  static uint64_t significand(const Bits bits) {
    const uint64_t leading = uint64_t{1} << mantissa_bits;
    const uint64_t fraction = bits & (leading - 1);
    return bits < leading ? fraction : fraction | leading;
  }
  static double unit(const Bits bits) {
    const auto exponent = static_cast<int>(bits >> mantissa_bits);
    return std::ldexp(1.0, std::max(exponent, 1) - bias - mantissa_bits);
  }

  static bool is_nan(const Bits bits) { return (bits & ~negative_zero) > infinity; }

  // Of all that are no NaN.
  static double value(const Bits bits) {
    const auto size = static_cast<Bits>(bits & ~negative_zero);
    const double magnitude = size == infinity ? std::numeric_limits<double>::infinity()
                                              : static_cast<double>(significand(size)) * unit(size);
    return bits == size ? magnitude : -magnitude;
  }
};

using Float16 = Format<uint16_t, 10, 15>;
using Bfloat16 = Format<uint16_t, 7, 127>;
using Float32 = Format<uint32_t, 23, 127>;
using Float64 = Format<uint64_t, 52, 1023>;

}  // namespace marginseg::dice_threshold
