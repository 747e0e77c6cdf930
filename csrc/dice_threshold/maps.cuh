// Where the probability maps lie on the device, and where their results go.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "dice_threshold/climb.h"

namespace marginseg::dice_threshold {

// [begin, end) of the values.
struct Span {
  int64_t begin;
  int64_t end;
  __device__ int64_t size() const { return end - begin; }
};

// Maps of one size, end to end, or segments between offsets.
struct Maps {
  int64_t count;
  int64_t size;            // of a map; of all values where there are offsets
  const int64_t* offsets;  // count + 1, or nullptr
  const int* faulty;       // whether the offsets are: then no value is read

  int64_t values() const { return offsets == nullptr ? count * size : size; }

  __device__ bool known() const { return offsets == nullptr || *faulty == 0; }

  __device__ Span of(const int64_t map) const {
    if (offsets == nullptr) return {map * size, (map + 1) * size};
    if (!known()) return {0, 0};
    return {offsets[map], offsets[map + 1]};
  }
};

struct Results {
  double* threshold;
  double* dice;
  int64_t* volume;

  __device__ void write(const int64_t map, const Optimum& best) const {
    threshold[map] = best.dice / 2.0;
    dice[map] = best.dice;
    volume[map] = best.volume;
  }
};

}  // namespace marginseg::dice_threshold
