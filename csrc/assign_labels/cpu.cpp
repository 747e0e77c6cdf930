#include "assign_labels/cpu.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <vector>

#include "assign_labels/simd.h"
#include "common/dispatch.h"
#include "common/parallel.h"
#include "common/parts.h"

namespace marginseg::assign_labels {
namespace {

// What the voxels of a row have found stays in the cache while all channels pass by.
constexpr int64_t row = 1024;

// Values that a thread should have at least, for it to be worth while.
constexpr int64_t values_per_task = int64_t{1} << 17;

// Volumes and masses of the channels of one case.
struct Tally {
  std::vector<int64_t> volume;
  std::vector<int64_t> mass;

  explicit Tally(const int64_t channels) : volume(channels), mass(channels) {}

  void add_to(int64_t* const volumes, int64_t* const masses) {
    for (size_t channel = 0; channel < volume.size(); ++channel) {
      volumes[channel] += volume[channel];
      masses[channel] += mass[channel];
    }
    std::fill(volume.begin(), volume.end(), 0);
    std::fill(mass.begin(), mass.end(), 0);
  }
};

template <class T>
struct Maps {
  const T* values;
  const T* scale;
  const T* offset;
};

// Labels voxels [begin, end), a row at most, of one case.
template <class T, class Label>
void label_row(const Pass& pass, const Maps<T>& maps, const int64_t begin, const int64_t end,
               Label* const labels, Tally& tally) {
  T gain[row];
  T m[row];
  T channel[row];
  const int64_t size = end - begin;
  std::fill_n(gain, size, static_cast<T>(pass.floor));
  std::fill_n(m, size, T{0});
  std::fill_n(channel, size, static_cast<T>(pass.fallback));
  const Kernels<T>& kernels = kernels_in_use<Simd<T>>();
  for (int64_t c = 0; c < pass.channels; ++c) {
    kernels.join(maps.values + c * pass.voxels + begin, size, maps.scale[c], maps.offset[c],
                 static_cast<T>(c), {gain, m, channel});
  }
  const double units_of_one = std::ldexp(1.0, pass.bits);
  for (int64_t voxel = 0; voxel < size; ++voxel) {
    const auto joined = static_cast<int64_t>(channel[voxel]);
    labels[begin + voxel] = static_cast<Label>(joined + pass.first_label());
    if (joined < 0) continue;
    ++tally.volume[joined];
    tally.mass[joined] += units(m[voxel], units_of_one);
  }
}

template <class T, class Label>
void label_cases(const Pass& pass, const Maps<T>& maps, Label* const labels, int64_t* const volumes,
                 int64_t* const masses) {
  const int64_t rows = parts(pass.voxels, row);
  std::mutex adding;
  const int64_t grain = std::max<int64_t>(1, values_per_task / (row * pass.channels));
  parallel_for(pass.count * rows, grain, [&](const int64_t first, const int64_t last) {
    Tally tally(pass.channels);
    for (int64_t i = first; i < last; ++i) {
      const int64_t number = i / rows;
      const int64_t begin = i % rows * row;
      const int64_t channels = number * pass.channels;
      const Maps<T> of_case{maps.values + channels * pass.voxels, maps.scale + channels,
                            maps.offset + channels};
      label_row(pass, of_case, begin, std::min(begin + row, pass.voxels),
                labels + number * pass.voxels, tally);
      if (i + 1 == last || (i + 1) % rows == 0) {
        const std::lock_guard<std::mutex> lock(adding);
        tally.add_to(volumes + channels, masses + channels);
      }
    }
  });
}

}  // namespace

void run(const Pass& pass, const uintptr_t values, const Dtype dtype, const uintptr_t scale,
         const uintptr_t offset, const uintptr_t labels, const Dtype label_dtype,
         const uintptr_t volumes, const uintptr_t masses) {
  dispatch_floating(dtype, [&](const auto type) {
    using T = typename decltype(type)::type;
    const Maps<T> maps{reinterpret_cast<const T*>(values), reinterpret_cast<const T*>(scale),
                       reinterpret_cast<const T*>(offset)};
    const auto label = [&](auto* const target) {
      label_cases(pass, maps, target, reinterpret_cast<int64_t*>(volumes),
                  reinterpret_cast<int64_t*>(masses));
    };
    if (label_dtype == Dtype::uint8) {
      label(reinterpret_cast<uint8_t*>(labels));
    } else {
      label(reinterpret_cast<int16_t*>(labels));
    }
  });
}

}  // namespace marginseg::assign_labels
