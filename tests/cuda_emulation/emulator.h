// Runs the threads of a block as fibres, one at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

namespace emulation {

struct Index {
  unsigned x = 1, y = 1, z = 1;
  Index() = default;
  Index(const unsigned x, const unsigned y = 1, const unsigned z = 1) : x(x), y(y), z(z) {}
};

constexpr int warpSize = 32;

}  // namespace emulation

// Of the fibre that runs.
extern emulation::Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

inline int lane() { return static_cast<int>(threadIdx.x) % warpSize; }

// What the lanes of a warp hand to each other in one step.
struct Warp {
  uint64_t bits[warpSize] = {};
};

// Runs body() for each thread of each block.
void run(Index grid, Index block, const std::function<void()>& body);

void wait_for_block();

// The address, if it is a multiple of the alignment; else throws std::logic_error.
inline void* aligned(const void* const address, const size_t alignment) {
  if (reinterpret_cast<uintptr_t>(address) % alignment != 0) {
    throw std::logic_error("a vector of " + std::to_string(alignment) +
                           " bytes that is not aligned");
  }
  return const_cast<void*>(address);
}

// Waits for the whole warp; returns what each lane gave.
const Warp& exchange(uint64_t bits);

}  // namespace emulation
