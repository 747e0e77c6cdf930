// The inner loops of the filter, compiled for each instruction set. Weights are all 2 radius + 1,
// in order.
#pragma once

#include <cstdint>

#include "common/instruction_set.h"

namespace marginseg::gaussian_filter {

// How many outputs `across` computes together, so that each row is read once for all of them.
constexpr int64_t block = 8;

template <class T>
struct Weights {
  const T* data;
  int64_t count;  // 2 radius + 1
};

template <class T>
struct Kernels {
  // outputs[i][x] = sum_k w[k] rows[i + k][x], for i < count and x < length: the filter across
  // rows.
  void (*across)(const T* const* rows, T* const* outputs, int64_t count, Weights<T> weights,
                 int64_t length);
  void (*across_labels)(const uint8_t* const* rows, T* const* outputs, int64_t count,
                        Weights<T> weights, int64_t length);
  // output[x] = sum_k w[k] row[x + k], for x < length: the filter along a row.
  void (*along)(const T* row, T* output, Weights<T> weights, int64_t length);
  // output[x] += factor (a[x] - b[x]) for x < length.
  void (*add_difference)(const T* a, const T* b, T factor, T* output, int64_t length);
};

template <class T>
struct Simd {
  template <InstructionSet set>
  static const Kernels<T>& kernels();
};

}  // namespace marginseg::gaussian_filter
