// Pieces of the kernels, each by itself, for the tests.
#include <cstdint>

#include "common/cuda/divisor.cuh"

// Writes quotient and remainder of `count` dividends by one divisor.
extern "C" __attribute__((visibility("default"))) void divide(const int64_t divisor,
                                                              const int64_t count,
                                                              const int32_t* const dividends,
                                                              int32_t* const results) {
  const marginseg::Divisor<int32_t> by(divisor);
  for (int64_t i = 0; i < count; ++i) {
    const auto division = by.divide(dividends[i]);
    results[2 * i] = division.quotient;
    results[2 * i + 1] = division.remainder;
  }
}
