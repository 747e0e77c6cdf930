// The comparison of a row of voxels with what they have found, compiled for each instruction set.
#pragma once

#include <cstdint>

#include "common/instruction_set.h"

namespace marginseg::assign_labels {

// What each voxel of a row has found so far. Channels are numbers of type T, which holds them.
template <class T>
struct Best {
  T* gain;
  T* m;
  T* channel;
};

template <class T>
struct Kernels {
  // Lets the voxels whose gain scale * m - offset is larger than the one they have join `channel`.
  void (*join)(const T* m, int64_t voxels, T scale, T offset, T channel, const Best<T>& best);
};

template <class T>
struct Simd {
  template <InstructionSet set>
  static const Kernels<T>& kernels();
};

}  // namespace marginseg::assign_labels
