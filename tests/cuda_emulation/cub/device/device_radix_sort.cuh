// Stands in for CUB's header; see ../../README.md.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

namespace cub {

struct DeviceRadixSort {
  template <class Key, class Value>
  static cudaError_t SortPairs(void* const memory, size_t& bytes, const Key* const keys_in,
                               Key* const keys_out, const Value* const values_in,
                               Value* const values_out, const int64_t count, const int begin_bit,
                               const int end_bit, cudaStream_t) {
    bytes = 1;
    if (memory == nullptr) return cudaSuccess;
    const auto digits = [&](const Key key) {
      const Key above = key >> begin_bit;
      const int width = end_bit - begin_bit;
      return width < static_cast<int>(8 * sizeof(Key)) ? above & ((Key{1} << width) - 1) : above;
    };
    std::vector<int64_t> order(count);
    std::iota(order.begin(), order.end(), int64_t{0});
    std::stable_sort(order.begin(), order.end(), [&](const int64_t a, const int64_t b) {
      return digits(keys_in[a]) < digits(keys_in[b]);
    });
    for (int64_t i = 0; i < count; ++i) {
      keys_out[i] = keys_in[order[i]];
      values_out[i] = values_in[order[i]];
    }
    return cudaSuccess;
  }
};

}  // namespace cub
