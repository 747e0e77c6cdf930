// Runs the threads of a block as fibres, one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

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

// A launch, as a recorder sees it.
struct Launch {
  uintptr_t kernel;           // the address of its function
  const uint8_t* parameters;  // as they lie in CUDA's constant bank
  uint64_t bytes;             // of the parameters
  uint32_t blocks;
  uint32_t threads;  // of a block
  uint32_t ran;      // whether the kernel has been run
};

// Is called before each launch, says whether the kernel is to be run, and is then called once more.
using Recorder = int (*)(const Launch*);

// As run(), under the eyes of the recorder if there is one.
void launch(Launch launch, const std::function<void()>& body);

template <class T>
void append(std::vector<uint8_t>& bank, const T& parameter) {
  static_assert(std::is_trivially_copyable_v<T>, "parameters are copied as bytes");
  const size_t place = (bank.size() + alignof(T) - 1) / alignof(T) * alignof(T);
  bank.resize(place + sizeof(T));
  std::memcpy(bank.data() + place, &parameter, sizeof(T));
}

// Parameters one after another, each at its natural alignment.
template <class... Parameters>
std::vector<uint8_t> parameter_bank(const Parameters&... parameters) {
  std::vector<uint8_t> bank;
  (append(bank, parameters), ...);
  return bank;
}

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
