// Division by a number that is the same for a whole launch: a multiplication, where a GPU divides
// by some twenty instructions (32 bits) or a hundred (64 bits).
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

namespace marginseg {

template <class Integer>
struct Division {
  Integer quotient;
  Integer remainder;
};

template <class Integer>
class Divisor;

// For dividends from 0 to 2^31 - 1. With 2^s the least power of two that is no less than d, and
// m = floor(2^32 (2^s - d) / d) + 1, the quotient n / d is (floor(m n / 2^32) + n) / 2^s, rounded
// down (Granlund and Montgomery, Division by invariant integers using multiplication, 1994).
template <>
class Divisor<int32_t> {
 public:
  explicit Divisor(const int64_t divisor)
      : divisor_(static_cast<uint32_t>(std::clamp<int64_t>(divisor, 1, INT32_MAX))), shift_(0) {
    while ((uint64_t{1} << shift_) < divisor_) ++shift_;
    const uint64_t excess = (uint64_t{1} << shift_) - divisor_;
    multiplier_ = static_cast<uint32_t>((excess << 32) / divisor_ + 1);
  }

  __device__ Division<int32_t> divide(const int32_t dividend) const {
    const auto number = static_cast<uint32_t>(dividend);
    const auto high = static_cast<uint32_t>((uint64_t{multiplier_} * number) >> 32);
    const uint32_t quotient = (high + number) >> shift_;
    return {static_cast<int32_t>(quotient), static_cast<int32_t>(number - quotient * divisor_)};
  }

 private:
  uint32_t divisor_;
  uint32_t multiplier_;
  uint32_t shift_;
};

template <>
class Divisor<int64_t> {
 public:
  explicit Divisor(const int64_t divisor) : divisor_(std::max<int64_t>(divisor, 1)) {}

  __device__ Division<int64_t> divide(const int64_t dividend) const {
    return {dividend / divisor_, dividend % divisor_};
  }

 private:
  int64_t divisor_;
};

}  // namespace marginseg
