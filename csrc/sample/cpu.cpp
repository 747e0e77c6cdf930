#include "sample/cpu.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "common/dispatch.h"
#include "common/huge_pages.h"
#include "common/parallel.h"
#include "gaussian_field/factors.h"
#include "sample/extents.h"
#include "warp/interpolation.h"
#include "warp/simd.h"

namespace marginseg::sample {
namespace {

constexpr int64_t voxels_per_task = 8192;

// A reach of so many voxels is more than the size of any axis. It bounds the reach of coefficients
// that are infinite or NaN, and keeps sums with it defined.
constexpr float farthest = 1e9f;

// How many voxels away one component of the field can make a voxel look, at the nearest voxel or at
// the corners around: |X| <= |c| by Cauchy and Schwarz, because a row of the factor has norm 1. The
// coefficients c are those that are left when the other axes are contracted.
int64_t reach_of(const float* const coefficients, const int64_t count) {
  static_assert(padding % 4 == 0);
  float squares[4] = {};
  for (int64_t i = 0; i < count; i += 4) {
    for (int k = 0; k < 4; ++k) squares[k] += coefficients[i + k] * coefficients[i + k];
  }
  const float bound = std::sqrt(squares[0] + squares[1] + squares[2] + squares[3]);
  if (!(bound < farthest)) return static_cast<int64_t>(farthest);
  return static_cast<int64_t>(bound * 1.0001f) + 1;  // 1.0001 covers the rounding
}

// The indices within reach.
Range around(const int64_t index, const int64_t reach) {
  return {index - reach, index + reach + 1};
}

// Draws samples of labels plane by plane. Each thread has one, with memory of its own.
template <class L>
class PlaneSampler {
 public:
  PlaneSampler(const gaussian_field::Factors<float>& factors, const Geometry& geometry)
      : factors_(factors),
        channels_(geometry.channels),
        components_(static_cast<int>(geometry.shape.size())),
        linear_(geometry.linear),
        places_(factors.expanded_size()) {
    const auto& size = factors.size();
    for (int axis = 0; axis < 3; ++axis) {
      shape_.size[axis] = size[axis];
      volume_.size[axis] = static_cast<int32_t>(size[axis]);
    }
    of_plane_.resize(factors.plane_size());
    of_rows_.resize(3 * size[1] * factors.row_size());
    displacement_.resize(3 * factors.expanded_size());
    fits_ = size[0] * size[1] * size[2] < (int64_t{1} << 31);
  }

  // Coefficients of shape (n, *ranks).
  void begin_sample(const float* const coefficients) {
    for (int i = 0; i < components_; ++i) {
      prepared_[axis_of(i)] = factors_.prepared(coefficients + i * factors_.coefficient_count());
    }
  }

  void run(const L* const label, const Extents& extents, const int64_t plane, L* const output) {
    const auto& [planes, rows, columns] = factors_.size();
    const int64_t row_size = factors_.row_size();
    for (int axis = 3 - components_; axis < 3; ++axis) {
      float* const of_plane = of_plane_.data();
      factors_.plane(prepared_[axis].data(), plane, of_plane);
      factors_.rows(of_plane, of_rows_.data() + axis * row_size, 3 * row_size);
    }
    int64_t reach = 0;
    for (int64_t row = 0; row < rows; ++row) {
      reach = std::max(reach, reach_of(of_rows_.data() + row * 3 * row_size, row_size));
    }
    const Columns nearby = extents.of_planes(around(plane, reach));
    for (int64_t row = 0; row < rows; ++row) {
      const Range active = displace_row(extents, nearby, row);
      for (int64_t channel = 0; channel < channels_; ++channel) {
        const int64_t volume = planes * rows * columns;
        L* const target = output + channel * volume + (plane * rows + row) * columns;
        std::fill(target, target + active.begin, L{0});
        std::fill(target + active.end, target + columns, L{0});
        look_up(label + channel * volume, plane, row, active, target);
      }
    }
  }

 private:
  // Component i belongs to axis i of the volume, whose missing axes come first.
  int axis_of(const int component) const { return 3 - components_ + component; }

  // Evaluates the field on the columns of a row that can see what is not 0, and returns them.
  Range displace_row(const Extents& extents, const Columns& nearby, const int64_t row) {
    const int64_t row_size = factors_.row_size();
    const float* const of_row = of_rows_.data() + row * 3 * row_size;
    const Range seen = extents.of_rows(nearby, around(row, reach_of(of_row + row_size, row_size)));
    if (seen.size() == 0) return {0, 0};
    const int64_t reach = reach_of(of_row + 2 * row_size, row_size);
    const int64_t begin = std::max<int64_t>(0, seen.begin - reach);
    const int64_t end = std::min(factors_.size()[2], seen.end + reach);
    const int64_t first = 3 - components_;
    factors_.expand(of_row + first * row_size, components_, begin, end - begin,
                    displacement_.data() + first * factors_.expanded_size());
    return {begin, end};
  }

  void look_up(const L* const label, const int64_t plane, const int64_t row, const Range active,
               L* const output) {
    if (active.size() == 0) return;
    const float* const moved[] = {displacement_.data(),
                                  displacement_.data() + factors_.expanded_size(),
                                  displacement_.data() + 2 * factors_.expanded_size()};
    if (!linear_ && fits_) {
      const warp::Row moved_row{static_cast<int32_t>(plane),
                                static_cast<int32_t>(row),
                                active.begin,
                                active.end,
                                {moved[0], moved[1], moved[2]}};
      if constexpr (sizeof(L) == 1) {
        kernels_.nearest_byte(label, volume_, moved_row, output);
        return;
      }
      kernels_.nearest(volume_, moved_row, places_.data());
      for (int64_t x = active.begin; x < active.end; ++x) {
        const int32_t place = places_[x];
        const L value = label[std::max(place, 0)];
        output[x] = place < 0 ? L{0} : value;
      }
      return;
    }
    for (int64_t x = active.begin; x < active.end; ++x) {
      const warp::Position<3, float> position{{plane, row, x},
                                              {moved[0][x], moved[1][x], moved[2][x]}};
      if (!warp::is_number(position)) {
        output[x] = L{0};
      } else if (linear_) {
        const auto corners = warp::linear_corners<3>(position, shape_, Extension::constant);
        output[x] = warp::heaviest_label<3>(label, corners, L{0});
      } else {
        output[x] = warp::value_at(label, warp::nearest_place<3>(position, shape_), L{0});
      }
    }
  }

  const gaussian_field::Factors<float>& factors_;
  const warp::Kernels& kernels_ = kernels_in_use<warp::Simd>();
  int64_t channels_;
  int components_;
  bool linear_;
  bool fits_;
  warp::Shape<3> shape_;
  warp::Volume volume_;
  std::array<AlignedVector<float>, 3> prepared_;
  // Each has a part for each axis of the displacement; the parts of missing axes stay 0.
  AlignedVector<float> of_plane_;
  AlignedVector<float> of_rows_;  // row by row
  AlignedVector<float> displacement_;
  std::vector<int32_t> places_;
};

// An order of the planes for which each thread, which takes a contiguous part of it, gets planes
// from all over the volume. In the natural order one thread would get the planes of the organ, and
// the others planes that are all 0.
int64_t spread(const int64_t index, const int64_t count) {
  constexpr int64_t step = 16;
  const int64_t whole = count / step;
  return index < whole * step ? index % whole * step + index / whole : index;
}

template <class L>
void run_samples(const L* const label, const float* const coefficients, L* const output,
                 const Geometry& geometry, const gaussian_field::Factors<float>& factors) {
  const auto& [planes, rows, columns] = factors.size();
  const int64_t label_size = geometry.channels * planes * rows * columns;
  const int64_t field_size =
      static_cast<int64_t>(geometry.shape.size()) * factors.coefficient_count();
  std::vector<Extents> extents;
  for (int64_t entry = 0; entry < geometry.batch; ++entry) {
    extents.emplace_back(label + entry * label_size, geometry.channels, planes, rows, columns);
  }
  const int64_t grain = std::max<int64_t>(1, voxels_per_task / (rows * columns));
  const int64_t count = geometry.samples * geometry.batch * planes;
  prefer_huge_pages(output, geometry.samples * geometry.batch * label_size * sizeof(L));
  parallel_for(count, grain, [&, planes = planes](const int64_t begin, const int64_t end) {
    PlaneSampler<L> sampler(factors, geometry);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t volume = item / planes;
      const int64_t plane = spread(item % planes, planes);
      const int64_t entry = volume % geometry.batch;
      if (item == begin || item % planes == 0)
        sampler.begin_sample(coefficients + volume * field_size);
      sampler.run(label + entry * label_size, extents[entry], plane, output + volume * label_size);
    }
  });
}

}  // namespace

void run(const uintptr_t label, const Dtype dtype, const uintptr_t coefficients,
         const uintptr_t output, const Geometry& geometry, const std::vector<int64_t>& ranks,
         const std::vector<uintptr_t>& addresses) {
  const gaussian_field::Factors<float> factors(ranks, geometry.shape, addresses);
  dispatch_label(dtype, [&](const auto type) {
    using L = typename decltype(type)::type;
    run_samples(reinterpret_cast<const L*>(label), reinterpret_cast<const float*>(coefficients),
                reinterpret_cast<L*>(output), geometry, factors);
  });
}

}  // namespace marginseg::sample
