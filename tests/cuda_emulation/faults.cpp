// Kernels with faults that a GPU does not forgive, for tests/ops/test_emulation.py: each function
// returns what the emulation says of one.
#include <cstring>
#include <exception>

#include "common/cuda/block.cuh"
#include "common/cuda/context.cuh"
#include "common/cuda/vector.cuh"

namespace {

using marginseg::Context;

// What running `kernel` in one warp throws, or "nothing".
template <class... Parameters, class... Arguments>
const char* fault_of(void (*const kernel)(Parameters...), const Arguments... arguments) {
  static char message[200];
  std::strcpy(message, "nothing");
  try {
    const Context context("fault", 0, false, nullptr);
    context.launch(kernel, 1, marginseg::warp_size, arguments...);
  } catch (const std::exception& error) {
    std::strncpy(message, error.what(), sizeof(message) - 1);
  }
  return message;
}

alignas(16) float memory[8];

__global__ void copy_vector(const float* const source, float* const target) {
  marginseg::store<4>(target, marginseg::load<4>(source));
}

__global__ void half_a_barrier() {
  if (threadIdx.x < 16) __syncthreads();
}

__global__ void half_a_shuffle(int* const target) {
  if (threadIdx.x < 16) *target = __shfl_down_sync(0xffffffffu, 1, 1);
}

}  // namespace

#define MARGINSEG_EXPORTED extern "C" __attribute__((visibility("default")))

MARGINSEG_EXPORTED const char* fault_of_a_load(const int offset) {
  return fault_of(copy_vector, memory + offset, memory + 4);
}

MARGINSEG_EXPORTED const char* fault_of_a_store(const int offset) {
  return fault_of(copy_vector, memory, memory + offset);
}

MARGINSEG_EXPORTED const char* fault_of_a_barrier() { return fault_of(half_a_barrier); }

MARGINSEG_EXPORTED const char* fault_of_a_shuffle() {
  static int target;
  return fault_of(half_a_shuffle, &target);
}
