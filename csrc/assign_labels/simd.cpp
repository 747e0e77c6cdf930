#include "assign_labels/simd.h"

#include "common/mask.h"
#include "common/simd.h"

namespace marginseg::assign_labels {
inline namespace MARGINSEG_INSTRUCTION_SET {
namespace {

template <class T>
void join(const T* const m, const int64_t voxels, const T scale, const T offset, const T channel,
          const Best<T>& best) {
  const Pack<T> scales = broadcast(scale);
  const Pack<T> offsets = broadcast(offset);
  int64_t voxel = 0;
  for (; voxel + lanes<T> <= voxels; voxel += lanes<T>) {
    const Pack<T> values = load(m + voxel);
    const Pack<T> gains = values * scales - offsets;
    const Pack<T> found = load(best.gain + voxel);
    const auto more = gains > found;
    // Most voxels are far from most classes.
    if (!any_lane(more)) continue;
    store<T>(best.gain + voxel, more ? gains : found);
    store<T>(best.m + voxel, more ? values : load(best.m + voxel));
    store<T>(best.channel + voxel, more ? broadcast(channel) : load(best.channel + voxel));
  }
  for (; voxel < voxels; ++voxel) {
    const T gain = m[voxel] * scale - offset;
    if (!(gain > best.gain[voxel])) continue;
    best.gain[voxel] = gain;
    best.m[voxel] = m[voxel];
    best.channel[voxel] = channel;
  }
}

template <class T>
constexpr Kernels<T> table{join<T>};

}  // namespace
}  // namespace MARGINSEG_INSTRUCTION_SET

template <>
template <>
const Kernels<float>& Simd<float>::kernels<this_set>() {
  return table<float>;
}

template <>
template <>
const Kernels<double>& Simd<double>::kernels<this_set>() {
  return table<double>;
}

}  // namespace marginseg::assign_labels
