#pragma once

#include <cstdint>
#include <vector>

#include "common/cuda/context.cuh"
#include "common/dtype.h"
#include "gaussian_field/prepared.cuh"

namespace marginseg::gaussian_field {

// As on the CPU.
void run(const Context& context, uintptr_t coefficients, uintptr_t output, Dtype dtype,
         int64_t count, const std::vector<int64_t>& ranks, const std::vector<int64_t>& shape,
         const std::vector<uintptr_t>& factors);

// Evaluates `count` fields at a time, axis by axis, whatever their ranks. The memory between the
// axes is allocated once, and serves one call after another.
template <class T>
class AxisByAxis {
 public:
  AxisByAxis(const Context& context, int64_t count, const Factors<T>& factors);

  void run(const T* coefficients, T* output) const;

 private:
  const Context& context_;
  int64_t count_;
  Factors<T> factors_;
  T* between_[2] = {nullptr, nullptr};  // the results of the first axes
};

}  // namespace marginseg::gaussian_field
