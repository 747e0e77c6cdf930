// Where one row of voxels is moved to, compiled for each instruction set.
#pragma once

#include <cstdint>

#include "common/instruction_set.h"

namespace marginseg::warp {

// A volume of less than 2^31 voxels; missing axes have size 1. Interpolation among the voxels takes
// no second corner along an axis that is `single`, of size 1: it would weigh 0, and must not make
// NaN of an infinite voxel.
struct Volume {
  int32_t size[3];
  bool single[3];
};

// The voxels (plane, row, begin .. end) and where each is moved: displacement[i][x] along axis i.
struct Row {
  int32_t plane;
  int32_t row;
  int64_t begin;
  int64_t end;
  const float* displacement[3];
};

struct Kernels {
  // places[x] = the voxel nearest to where x is moved, floor(position + 1/2) along each axis, or -1
  // where that is outside or not a number.
  void (*nearest)(const Volume& volume, const Row& row, int32_t* places);
  // output[x] = the byte of `label` at that voxel, 0 outside.
  void (*nearest_byte)(const uint8_t* label, const Volume& volume, const Row& row, uint8_t* output);
  // output[x] = `image` interpolated where x is moved, but for packs of which a corner lies
  // outside: their x are written to `left` (room for all), and their number returned.
  int64_t (*linear)(const float* image, const Volume& volume, const Row& row, float* output,
                    int64_t* left);
};

struct Simd {
  template <InstructionSet set>
  static const Kernels& kernels();
};

}  // namespace marginseg::warp
