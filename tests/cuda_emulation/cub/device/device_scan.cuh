// Stands in for CUB's header; see ../../README.md.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace cub {

struct DeviceScan {
  template <class Key, class Values, class Value, class Add, class Equal>
  static cudaError_t InclusiveScanByKey(void* const memory, size_t& bytes, const Key* const keys,
                                        const Values values, Value* const sums,
                                        const Add add, const int64_t count, const Equal equal,
                                        cudaStream_t) {
    bytes = 1;
    if (memory == nullptr) return cudaSuccess;
    for (int64_t i = 0; i < count; ++i) {
      const bool first = i == 0 || !equal(keys[i - 1], keys[i]);
      sums[i] = first ? values[i] : add(sums[i - 1], values[i]);
    }
    return cudaSuccess;
  }
};

}  // namespace cub
