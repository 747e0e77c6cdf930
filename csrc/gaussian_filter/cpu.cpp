#include "gaussian_filter/cpu.h"

#include <algorithm>
#include <vector>

#include "common/parallel.h"
#include "gaussian_filter/body.h"

namespace marginseg {
namespace {

using gaussian_filter::Bundle;
using gaussian_filter::lanes;

// The lines along one axis of a contiguous array seen as (outer, size, inner).
template <class T>
struct Lines {
  T* data;
  int64_t size;
  int64_t inner;
  T& operator()(const int64_t line, const int64_t position) const {
    return data[(line / inner * size + position) * inner + line % inner];
  }
};

struct Kernel {
  const double* weights;
  int64_t radius;
  Extension extension;
  double cval;
};

template <class T>
void load(const Lines<const T> input, const int64_t first, const int64_t count,
          const int64_t position, double* const row) {
  for (int64_t lane = 0; lane < count; ++lane) row[lane] = input(first + lane, position);
}

template <class T>
void store(const Lines<T> output, const int64_t first, const int64_t count, const int64_t position,
           const double* const row) {
  for (int64_t lane = 0; lane < count; ++lane) {
    output(first + lane, position) = static_cast<T>(row[lane]);
  }
}

template <class T>
void filter_bundle(const Lines<const T> input, const Lines<T> output, const int64_t first,
                   const int64_t count, const Kernel& kernel, std::vector<double>& memory) {
  const int64_t radius = kernel.radius;
  memory.resize((input.size + 2 * radius) * lanes);
  const Bundle bundle{memory.data()};
  for (int64_t position = -radius; position < input.size + radius; ++position) {
    double* const row = bundle[position + radius];
    const int64_t source = extend(position, input.size, kernel.extension);
    if (source == outside) {
      std::fill(row, row + lanes, kernel.cval);
    } else {
      load(input, first, count, source, row);
    }
  }
  double filtered[lanes];
  for (int64_t position = 0; position < output.size; ++position) {
    gaussian_filter::correlate(bundle, position + radius, kernel.weights, radius, filtered);
    store(output, first, count, position, filtered);
  }
}

// The transposed map: spread each value over the extended line, then fold the extension back.
template <class T>
void spread_bundle(const Lines<const T> input, const Lines<T> output, const int64_t first,
                   const int64_t count, const Kernel& kernel, std::vector<double>& memory) {
  const int64_t size = input.size;
  const int64_t radius = kernel.radius;
  const int64_t padding = 2 * radius;
  const int64_t padded = size + 2 * padding;
  memory.assign((padded + size) * lanes, 0.0);
  const Bundle spread{memory.data()};
  const Bundle folded{memory.data() + padded * lanes};
  for (int64_t position = 0; position < size; ++position) {
    load(input, first, count, position, spread[position + padding]);
  }
  double filtered[lanes];
  for (int64_t position = -radius; position < size + radius; ++position) {
    const int64_t target = extend(position, size, kernel.extension);
    if (target == outside) continue;
    gaussian_filter::correlate(spread, position + padding, kernel.weights, radius, filtered);
    for (int64_t lane = 0; lane < lanes; ++lane) folded[target][lane] += filtered[lane];
  }
  for (int64_t position = 0; position < size; ++position) {
    store(output, first, count, position, folded[position]);
  }
}

}  // namespace

void gaussian_filter_axis(const uintptr_t input, const uintptr_t output, const Dtype dtype,
                          const int64_t outer, const int64_t size, const int64_t inner,
                          const uintptr_t weights, const int64_t radius, const Extension extension,
                          const double cval, const bool adjoint) {
  dispatch_floating(dtype, [&](const auto type) {
    using T = typename decltype(type)::type;
    const Lines<const T> source{reinterpret_cast<const T*>(input), size, inner};
    const Lines<T> target{reinterpret_cast<T*>(output), size, inner};
    const Kernel kernel{reinterpret_cast<const double*>(weights), radius, extension, cval};
    const int64_t lines = outer * inner;
    const int64_t bundles = (lines + lanes - 1) / lanes;
    const int64_t work = std::max<int64_t>(1, lanes * size * (radius + 1));
    const int64_t grain = std::max<int64_t>(1, 65536 / work);
    parallel_for(bundles, grain, [&](const int64_t begin, const int64_t end) {
      std::vector<double> memory;
      for (int64_t bundle = begin; bundle < end; ++bundle) {
        const int64_t first = bundle * lanes;
        const int64_t count = std::min(lanes, lines - first);
        if (adjoint) {
          spread_bundle(source, target, first, count, kernel, memory);
        } else {
          filter_bundle(source, target, first, count, kernel, memory);
        }
      }
    });
  });
}

}  // namespace marginseg
