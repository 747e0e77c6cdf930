#include "warp/cpu.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "common/dispatch.h"
#include "common/huge_pages.h"
#include "common/parallel.h"
#include "common/parts.h"
#include "warp/interpolation.h"
#include "warp/simd.h"
#include "warp/walk.h"

namespace marginseg::warp {
namespace {

// walk() for the voxels first + offsets[0 .. count) alone.
template <int N, class T, class Visit>
void walk_some(const Shape<N>& shape, const T* const displacement, const int64_t first,
               const int64_t* const offsets, const int64_t count, const Visit& visit) {
  for (int64_t i = 0; i < count; ++i) {
    walk<N>(shape, displacement, first + offsets[i], first + offsets[i] + 1, visit);
  }
}

// The rows of a volume as the vector kernels see them: with three axes, of which the first have
// size 1 where the volume has fewer.
template <int N>
class Rows {
 public:
  Rows(const Shape<N>& shape, const Extension extension, const float* const displacement)
      : displacement_(displacement), length_(shape.size[N - 1]), still_(N < 3 ? length_ : 0) {
    for (int axis = 0; axis < 3; ++axis) {
      const bool missing = axis < 3 - N;
      volume_.size[axis] = missing ? 1 : static_cast<int32_t>(shape.size[axis - (3 - N)]);
      volume_.single[axis] =
          missing || (volume_.size[axis] == 1 && extension == Extension::constant);
    }
    size_ = volume_of(shape);
  }

  static bool fits(const Shape<N>& shape) { return volume_of(shape) < (int64_t{1} << 31); }

  const Volume& volume() const { return volume_; }
  int64_t length() const { return length_; }

  // Row `number` of all rows, counted along the first axes.
  Row operator[](const int64_t number) const {
    Row row{static_cast<int32_t>(number / volume_.size[1]),
            static_cast<int32_t>(number % volume_.size[1]),
            0,
            length_,
            {still_.data(), still_.data(), still_.data()}};
    for (int i = 0; i < N; ++i) {
      row.displacement[3 - N + i] = displacement_ + i * size_ + number * length_;
    }
    return row;
  }

 private:
  const float* displacement_;
  int64_t length_;
  std::vector<float> still_;  // zeros: the displacement along a missing axis
  Volume volume_;
  int64_t size_;
};

// Calls task(batch entry, first, last) on ranges of rows that together cover all rows of all
// entries.
template <class Task>
void parallel_rows(const int64_t batch, const int64_t volume, const int64_t length,
                   const Task& task) {
  const int64_t rows = volume / length;
  const int64_t height = std::max<int64_t>(1, voxels_per_task / length);
  const int64_t blocks = parts(rows, height);
  parallel_for(batch * blocks, grain_of(volume), [&](const int64_t first, const int64_t last) {
    for (int64_t item = first; item < last; ++item) {
      const int64_t begin = item % blocks * height;
      task(item / blocks, begin, std::min(rows, begin + height));
    }
  });
}

// Warps voxel by voxel, for types and shapes that no vector kernel takes.
template <int N, class V, class T>
void warp_voxels(const V* const input, const T* const displacement, V* const output,
                 const Geometry& geometry, const V cval) {
  const Shape<N> shape = shape_of<N>(geometry.shape);
  const int64_t volume = volume_of(shape);
  parallel_voxels(
      geometry.batch, volume, [&](const int64_t entry, const int64_t begin, const int64_t end) {
        const V* const images = input + entry * geometry.input_stride;
        V* const warped = output + entry * geometry.channels * volume;
        const auto visit = [&](const int64_t place, const Position<N, T>& position) {
          for (int64_t c = 0; c < geometry.channels; ++c) {
            warped[c * volume + place] = warped_value<N>(images + c * volume, position, shape,
                                                         geometry.extension, geometry.linear, cval);
          }
        };
        walk<N>(shape, displacement + entry * N * volume, begin, end, visit);
      });
}

// Warps by float positions a row at a time. Voxels that look beyond the ends of the volume, which
// the vector kernels leave out, follow one by one.
template <int N, class V>
void warp_rows(const V* const input, const float* const displacement, V* const output,
               const Geometry& geometry, const V cval) {
  const Shape<N> shape = shape_of<N>(geometry.shape);
  const int64_t volume = volume_of(shape);
  const Kernels& kernels = kernels_in_use<Simd>();
  const auto task = [&](const int64_t entry, const int64_t first, const int64_t last) {
    const float* const field = displacement + entry * N * volume;
    const Rows<N> rows(shape, geometry.extension, field);
    std::vector<int32_t> places(rows.length());
    std::vector<int64_t> left(rows.length());
    for (int64_t number = first; number < last; ++number) {
      const Row row = rows[number];
      if (!geometry.linear) kernels.nearest(rows.volume(), row, places.data());
      for (int64_t c = 0; c < geometry.channels; ++c) {
        const V* const image = input + entry * geometry.input_stride + c * volume;
        V* const target = output + (entry * geometry.channels + c) * volume;
        V* const target_row = target + number * rows.length();
        int64_t count = 0;
        if constexpr (std::is_same_v<V, float>) {
          if (geometry.linear) {
            count = kernels.linear(image, rows.volume(), row, target_row, left.data());
          }
        }
        if (!geometry.linear) {
          for (int64_t x = 0; x < rows.length(); ++x) {
            target_row[x] = image[std::max(places[x], 0)];
            left[count] = x;
            count += places[x] < 0 ? 1 : 0;
          }
        }
        walk_some<N>(shape, field, number * rows.length(), left.data(), count,
                     [&](const int64_t place, const Position<N, float>& position) {
                       target[place] = warped_value<N>(image, position, shape, geometry.extension,
                                                       geometry.linear, cval);
                     });
      }
    }
  };
  parallel_rows(geometry.batch, volume, shape.size[N - 1], task);
}

// Shorter rows leave too many lanes of a vector empty.
constexpr int64_t shortest_row = 16;

template <int N, class V, class T>
void run_warp(const V* const input, const T* const displacement, V* const output,
              const Geometry& geometry, const V cval) {
  const int64_t count = geometry.batch * geometry.channels * volume_of(shape_of<N>(geometry.shape));
  prefer_huge_pages(output, count * sizeof(V));
  if constexpr (std::is_same_v<T, float>) {
    bool vectors =
        (!geometry.linear || std::is_same_v<V, float>) && geometry.shape.back() >= shortest_row;
    // What lies beyond an axis of one voxel weighs 0, but makes NaN of every value if it is
    // infinite or NaN itself.
    if constexpr (std::is_same_v<V, float>) {
      const auto& sizes = geometry.shape;
      const bool single = std::find(sizes.begin(), sizes.end(), 1) != sizes.end();
      vectors = vectors && !(geometry.linear && single && !std::isfinite(cval));
    }
    if (vectors && Rows<N>::fits(shape_of<N>(geometry.shape))) {
      warp_rows<N>(input, displacement, output, geometry, cval);
      return;
    }
  }
  warp_voxels<N>(input, displacement, output, geometry, cval);
}

}  // namespace

void run(const uintptr_t input, const uintptr_t displacement, const uintptr_t output,
         const Dtype dtype, const Geometry& geometry, const double cval) {
  dispatch_axes(geometry.shape.size(), [&](const auto axes) {
    dispatch_floating(dtype, [&](const auto type) {
      using T = typename decltype(type)::type;
      run_warp<axes.value>(reinterpret_cast<const T*>(input),
                           reinterpret_cast<const T*>(displacement), reinterpret_cast<T*>(output),
                           geometry, static_cast<T>(cval));
    });
  });
}

void run_label(const uintptr_t input, const uintptr_t displacement, const uintptr_t output,
               const Dtype label_dtype, const Dtype displacement_dtype, const Geometry& geometry,
               const int64_t cval) {
  dispatch_axes(geometry.shape.size(), [&](const auto axes) {
    dispatch_label(label_dtype, [&](const auto label_type) {
      dispatch_floating(displacement_dtype, [&](const auto type) {
        using L = typename decltype(label_type)::type;
        using T = typename decltype(type)::type;
        run_warp<axes.value>(reinterpret_cast<const L*>(input),
                             reinterpret_cast<const T*>(displacement), reinterpret_cast<L*>(output),
                             geometry, static_cast<L>(cval));
      });
    });
  });
}

}  // namespace marginseg::warp
