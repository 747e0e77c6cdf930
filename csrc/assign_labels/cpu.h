#pragma once

#include <cstdint>

#include "assign_labels/pass.h"
#include "common/dtype.h"

namespace marginseg::assign_labels {

// Contiguous arrays:
//   values         (count, channels, voxels)
//   scale, offset  (count, channels), of the values' dtype
//   labels         (count, voxels), uint8 or int16
//   volumes        (count, channels), int64, to which the voxels of each channel are added
//   masses         (count, channels), int64, to which their m is added, in units
void run(const Pass& pass, uintptr_t values, Dtype dtype, uintptr_t scale, uintptr_t offset,
         uintptr_t labels, Dtype label_dtype, uintptr_t volumes, uintptr_t masses);

}  // namespace marginseg::assign_labels
