// The determinants of a row of voxels, compiled for each instruction set.
#pragma once

#include <cstdint>

#include "common/instruction_set.h"

namespace marginseg::folded_share {

// The derivatives of a field at a row of voxels: that of component i along axis j at row[i][j].
template <class T>
struct Gradient {
  const T* row[3][3];
};

template <class T>
struct Kernels {
  // How many of the first `columns` voxels, a multiple of 16, have det(I + G) <= 0, where G has as
  // many rows and columns as the volume has axes. A determinant that is NaN has not.
  int64_t (*count_folds)(const Gradient<T>& gradient, int axes, int64_t columns);
};

template <class T>
struct Simd {
  template <InstructionSet set>
  static const Kernels<T>& kernels();
};

}  // namespace marginseg::folded_share
