// A parallel loop over torch's own thread pool, without torch's headers.
//
// libtorch_cpu exports the C function `torch_parallel_for`; Python hands its address over once. So
// `torch.set_num_threads` and data-loader workers are obeyed. Without it the loop is serial.
#pragma once

#include <cstdint>
#include <exception>
#include <mutex>
#include <stdexcept>

namespace marginseg {

using LoopBody = void (*)(int64_t begin, int64_t end, void* context);
using ParallelFor = int32_t (*)(int64_t begin, int64_t end, int64_t grain, LoopBody body,
                                void* context);

inline ParallelFor& torch_parallel_for() {
  static ParallelFor function = nullptr;
  return function;
}

// Calls body(begin, end) on disjoint ranges that cover [0, count), each of at least `grain` items
// where there are as many. An exception thrown by the body is rethrown here: none crosses the C
// boundary.
template <class Body>
void parallel_for(const int64_t count, const int64_t grain, const Body& body) {
  if (count <= 0) return;
  const ParallelFor parallel = torch_parallel_for();
  if (parallel == nullptr || count <= grain) {
    body(int64_t{0}, count);
    return;
  }
  struct Context {
    const Body& body;
    std::mutex mutex;
    std::exception_ptr error;
  } context{body, {}, nullptr};
  const auto call = [](const int64_t begin, const int64_t end, void* const opaque) {
    auto& shared = *static_cast<Context*>(opaque);
    try {
      shared.body(begin, end);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(shared.mutex);
      if (!shared.error) shared.error = std::current_exception();
    }
  };
  const int32_t status = parallel(0, count, grain, call, &context);
  if (context.error) std::rethrow_exception(context.error);
  if (status != 0) throw std::runtime_error("torch_parallel_for failed");
}

}  // namespace marginseg
