#include "gaussian_field/cpu.h"

#include <algorithm>

#include "common/parallel.h"
#include "gaussian_field/factors.h"

namespace marginseg {
namespace {

using gaussian_field::Factors;

constexpr int64_t voxels_per_task = 8192;

// Planes [begin, end) of all fields, the fields' planes one after another.
template <class T>
void evaluate_planes(const Factors<T>& factors, const T* const coefficients, T* const output,
                     const int64_t begin, const int64_t end) {
  const auto& [planes, rows, columns] = factors.size();
  std::vector<T> prepared;
  std::vector<T> of_plane(factors.plane_size());
  std::vector<T> of_row(factors.row_size());
  std::vector<T> expanded(factors.expanded_size());
  for (int64_t plane = begin; plane < end; ++plane) {
    if (plane == begin || plane % planes == 0) {
      prepared = factors.prepared(coefficients + plane / planes * factors.coefficient_count());
    }
    factors.plane(prepared.data(), plane % planes, of_plane.data());
    for (int64_t row = 0; row < rows; ++row) {
      factors.row(of_plane.data(), row, of_row.data());
      factors.expand(of_row.data(), 0, factors.expanded_size(), expanded.data());
      std::copy_n(expanded.data(), columns, output + (plane * rows + row) * columns);
    }
  }
}

}  // namespace

void evaluate_gaussian_field(const uintptr_t coefficients, const uintptr_t output,
                             const Dtype dtype, const int64_t count,
                             const std::vector<int64_t>& ranks, const std::vector<int64_t>& shape,
                             const std::vector<uintptr_t>& addresses) {
  dispatch_floating(dtype, [&](const auto type) {
    using T = typename decltype(type)::type;
    const Factors<T> factors(ranks, shape, addresses);
    const auto& [planes, rows, columns] = factors.size();
    const int64_t grain = std::max<int64_t>(1, voxels_per_task / (rows * columns));
    parallel_for(count * planes, grain, [&](const int64_t begin, const int64_t end) {
      evaluate_planes(factors, reinterpret_cast<const T*>(coefficients),
                      reinterpret_cast<T*>(output), begin, end);
    });
  });
}

}  // namespace marginseg
