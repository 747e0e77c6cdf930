// Division by a number that is known at the launch, as a multiplication.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace marginseg {

// Divides numbers n < 2^31 by one divisor d of [1, 2^31). With 2^k the least power of two that is
// at least d, the multiplier is m = (2^(31 + k) + e) / d, where 0 <= e < d makes it an integer.
// Then n m / 2^(31 + k) is n / d + n e / (2^(31 + k) d), whose second part is less than 1 / d,
// because n < 2^31 and e < 2^k. So both have the same integer part. (Granlund and Montgomery,
// Division by Invariant Integers using Multiplication, 1994.)
class Divisor {
 public:
  explicit Divisor(const int64_t divisor) : divisor_(static_cast<uint32_t>(divisor)) {
    while ((int64_t{1} << shift_) < divisor) ++shift_;
    shift_ += 31;
    multiplier_ = static_cast<uint32_t>(((uint64_t{1} << shift_) + divisor_ - 1) / divisor_);
  }

  __device__ uint32_t quotient(const uint32_t number) const {
    return static_cast<uint32_t>((static_cast<uint64_t>(number) * multiplier_) >> shift_);
  }
  __device__ uint32_t remainder(const uint32_t number) const {
    return number - quotient(number) * divisor_;
  }

 private:
  uint32_t divisor_;
  uint32_t multiplier_;
  uint32_t shift_ = 0;
};

}  // namespace marginseg
