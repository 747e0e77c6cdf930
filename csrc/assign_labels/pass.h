// One pass over maps of classes that exclude each other: each voxel joins the class that gains most
// by it. What CPU and GPU share.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace marginseg::assign_labels {

// `count` cases of `channels` maps of `voxels` values m, in [0, 1]. A voxel goes to the channel c
// of the largest gain scale[c] * m[c] - offset[c] above `floor`, the first of equal ones; without
// one it goes to `fallback`, which may be -1: to no channel.
struct Pass {
  int64_t count;
  int64_t channels;
  int64_t voxels;
  int64_t fallback;
  double floor;
  // Masses are counted in units of 2^-bits, so that no order of adding changes a sum, and so many
  // voxels can't overflow it.
  int bits;

  // A label is its channel, or one more where 0 stands for no channel.
  MARGINSEG_HOST_DEVICE int64_t first_label() const { return fallback < 0 ? 1 : 0; }
};

// m in units, cut down; 0 for what is no probability.
MARGINSEG_HOST_DEVICE inline int64_t units(const double m, const double units_of_one) {
  return m >= 0.0 && m <= 1.0 ? static_cast<int64_t>(m * units_of_one) : 0;
}

}  // namespace marginseg::assign_labels
