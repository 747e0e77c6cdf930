// Where the kernels of one call run, and the one path that their errors take.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

namespace marginseg {

// Memory of the device for so many bytes, alive until the kernels of the call are done with it.
using Allocate = std::function<uintptr_t(int64_t bytes)>;

// A stream of the current device, whether torch asks for determinism, and torch's allocator, for a
// call of the op of that name. Nothing here waits for the device, so every op can be captured in a
// CUDA graph.
class Context {
 public:
  Context(const char* const op, const uintptr_t stream, const bool deterministic, Allocate allocate)
      : op_(op),
        stream_(reinterpret_cast<cudaStream_t>(stream)),
        deterministic_(deterministic),
        allocate_(std::move(allocate)) {}
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  cudaStream_t stream() const { return stream_; }

  // Whether results must not depend on the order in which threads add to a sum.
  bool deterministic() const { return deterministic_; }

  void check(const cudaError_t error) const {
    if (error == cudaSuccess) return;
    cudaGetLastError();  // else the next call would report it once more
    throw std::runtime_error(std::string(op_) + ": CUDA error " + cudaGetErrorName(error) + ": " +
                             cudaGetErrorString(error));
  }

  template <class T>
  T* allocate(const int64_t count) const {
    return reinterpret_cast<T*>(allocate_(count * static_cast<int64_t>(sizeof(T))));
  }

  template <class T>
  void set_zero(T* const data, const int64_t count) const {
    check(cudaMemsetAsync(data, 0, count * sizeof(T), stream_));
  }

  // kernel(arguments...) with `blocks` blocks of `threads` threads.
  template <class... Parameters, class... Arguments>
  void launch(void (*const kernel)(Parameters...), const int64_t blocks, const int threads,
              Arguments&&... arguments) const {
    if (blocks == 0) return;
    if (blocks > std::numeric_limits<int32_t>::max()) {
      throw std::runtime_error(std::string(op_) + ": too large for one launch, " +
                               std::to_string(blocks) + " blocks");
    }
    cudaLaunchConfig_t configuration = {};
    configuration.gridDim = dim3(static_cast<unsigned>(blocks));
    configuration.blockDim = dim3(static_cast<unsigned>(threads));
    configuration.stream = stream_;
    check(cudaLaunchKernelEx(&configuration, kernel, Parameters(arguments)...));
  }

 private:
  const char* op_;
  cudaStream_t stream_;
  bool deterministic_;
  Allocate allocate_;
};

}  // namespace marginseg
