#include "gaussian_field/cpu.h"

#include <algorithm>

#include "common/huge_pages.h"
#include "common/parallel.h"
#include "gaussian_field/factors.h"

namespace marginseg::gaussian_field {
namespace {

constexpr int64_t voxels_per_task = 8192;

// So many rows are expanded together, and share the loads of the last factor.
constexpr int64_t rows_at_once = 8;

// Evaluates planes [begin, end) of all fields, counted from the first plane of the first field.
template <class T>
void evaluate_planes(const Factors<T>& factors, const T* const coefficients, T* const output,
                     const int64_t begin, const int64_t end) {
  const auto& [planes, rows, columns] = factors.size();
  AlignedVector<T> prepared;
  AlignedVector<T> of_plane(factors.plane_size());
  AlignedVector<T> of_rows(rows * factors.row_size());
  AlignedVector<T> expanded(rows_at_once * factors.expanded_size());
  for (int64_t plane = begin; plane < end; ++plane) {
    if (plane == begin || plane % planes == 0) {
      prepared = factors.prepared(coefficients + plane / planes * factors.coefficient_count());
    }
    factors.plane(prepared.data(), plane % planes, of_plane.data());
    factors.rows(of_plane.data(), of_rows.data(), factors.row_size());
    for (int64_t row = 0; row < rows; row += rows_at_once) {
      const int64_t count = std::min(rows_at_once, rows - row);
      factors.expand(of_rows.data() + row * factors.row_size(), count, 0, columns, expanded.data());
      for (int64_t i = 0; i < count; ++i) {
        std::copy_n(expanded.data() + i * factors.expanded_size(), columns,
                    output + (plane * rows + row + i) * columns);
      }
    }
  }
}

}  // namespace

void run(const uintptr_t coefficients, const uintptr_t output, const Dtype dtype,
         const int64_t count, const std::vector<int64_t>& ranks, const std::vector<int64_t>& shape,
         const std::vector<uintptr_t>& addresses) {
  dispatch_floating(dtype, [&](const auto type) {
    using T = typename decltype(type)::type;
    const Factors<T> factors(ranks, shape, addresses);
    const auto& [planes, rows, columns] = factors.size();
    const int64_t grain = std::max<int64_t>(1, voxels_per_task / (rows * columns));
    prefer_huge_pages(reinterpret_cast<void*>(output), count * planes * rows * columns * sizeof(T));
    parallel_for(count * planes, grain, [&](const int64_t begin, const int64_t end) {
      evaluate_planes(factors, reinterpret_cast<const T*>(coefficients),
                      reinterpret_cast<T*>(output), begin, end);
    });
  });
}

}  // namespace marginseg::gaussian_field
