// The element types that cross the boundary from Python, as small integers.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace marginseg {

// The values are those of `marginseg.ops.boundary.DTYPE_CODES`.
enum class Dtype : int {
  float32 = 0,
  float64 = 1,
  uint8 = 2,
  int16 = 3,
  int32 = 4,
  int64 = 5,
  float16 = 6,
  bfloat16 = 7
};

template <class T>
struct Type {
  using type = T;
};

// Calls function(Type<T>{}) for the floating-point type behind `dtype`.
template <class Function>
auto dispatch_floating(const Dtype dtype, const Function& function) {
  switch (dtype) {
    case Dtype::float32:
      return function(Type<float>{});
    case Dtype::float64:
      return function(Type<double>{});
    default:
      throw std::invalid_argument("expected float32 or float64, got dtype code " +
                                  std::to_string(static_cast<int>(dtype)));
  }
}

// Calls function(Type<T>{}) for the integer type behind `dtype`; bool comes as uint8.
template <class Function>
auto dispatch_label(const Dtype dtype, const Function& function) {
  switch (dtype) {
    case Dtype::uint8:
      return function(Type<uint8_t>{});
    case Dtype::int16:
      return function(Type<int16_t>{});
    case Dtype::int32:
      return function(Type<int32_t>{});
    case Dtype::int64:
      return function(Type<int64_t>{});
    default:
      throw std::invalid_argument("expected an integer label, got dtype code " +
                                  std::to_string(static_cast<int>(dtype)));
  }
}

}  // namespace marginseg
