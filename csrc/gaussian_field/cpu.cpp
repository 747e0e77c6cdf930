#include "gaussian_field/cpu.h"

#include <algorithm>
#include <array>

#include "common/parallel.h"
#include "gaussian_field/body.h"

namespace marginseg {
namespace {

using gaussian_field::contract;
using gaussian_field::Matrix;

// Volumes of fewer axes are volumes whose first axes have size and rank 1.
template <class T>
struct Factors {
  std::array<int64_t, 3> size{1, 1, 1};
  std::array<int64_t, 3> rank{1, 1, 1};
  // factor[0], factor[1]: (size, rank); last: transposed, (rank, size), so that a row of the
  // output is a sum of contiguous rows.
  std::array<std::vector<T>, 3> factor{std::vector<T>{1}, std::vector<T>{1}, std::vector<T>{1}};
};

template <class T>
Factors<T> read_factors(const std::vector<int64_t>& ranks, const std::vector<int64_t>& shape,
                        const std::vector<uintptr_t>& addresses) {
  Factors<T> factors;
  const size_t missing = 3 - shape.size();
  for (size_t i = 0; i < shape.size(); ++i) {
    const size_t axis = missing + i;
    const Matrix<const T> source{reinterpret_cast<const T*>(addresses[i]), shape[i], ranks[i]};
    factors.size[axis] = shape[i];
    factors.rank[axis] = ranks[i];
    std::vector<T>& target = factors.factor[axis];
    target.resize(shape[i] * ranks[i]);
    for (int64_t row = 0; row < source.rows; ++row) {
      for (int64_t column = 0; column < source.columns; ++column) {
        const int64_t place =
            axis == 2 ? column * source.rows + row : row * source.columns + column;
        target[place] = source[row][column];
      }
    }
  }
  return factors;
}

// One plane (the first axis at `position`) of one field.
template <class T>
void field_plane(const Factors<T>& factors, const T* const coefficients, const int64_t position,
                 T* const output, std::vector<T>& memory) {
  const int64_t rows = factors.size[1];
  const int64_t columns = factors.size[2];
  const auto& [plane_rank, row_rank, column_rank] = factors.rank;
  memory.resize((row_rank + 1) * column_rank);
  T* const of_plane = memory.data();
  T* const of_row = of_plane + row_rank * column_rank;
  contract<T>(factors.factor[0].data() + position * plane_rank,
              {coefficients, plane_rank, row_rank * column_rank}, of_plane);
  for (int64_t row = 0; row < rows; ++row) {
    contract<T>(factors.factor[1].data() + row * row_rank, {of_plane, row_rank, column_rank},
                of_row);
    contract<T>(of_row, {factors.factor[2].data(), column_rank, columns}, output + row * columns);
  }
}

}  // namespace

void evaluate_gaussian_field(const uintptr_t coefficients, const uintptr_t output,
                             const Dtype dtype, const int64_t count,
                             const std::vector<int64_t>& ranks, const std::vector<int64_t>& shape,
                             const std::vector<uintptr_t>& addresses) {
  dispatch_floating(dtype, [&](const auto type) {
    using T = typename decltype(type)::type;
    const Factors<T> factors = read_factors<T>(ranks, shape, addresses);
    const auto* const source = reinterpret_cast<const T*>(coefficients);
    auto* const target = reinterpret_cast<T*>(output);
    const int64_t planes = factors.size[0];
    const int64_t plane_size = factors.size[1] * factors.size[2];
    const int64_t coefficient_count = factors.rank[0] * factors.rank[1] * factors.rank[2];
    const int64_t work = std::max<int64_t>(1, plane_size * factors.rank[2]);
    parallel_for(count * planes, std::max<int64_t>(1, 65536 / work),
                 [&](const int64_t begin, const int64_t end) {
                   std::vector<T> memory;
                   for (int64_t plane = begin; plane < end; ++plane) {
                     field_plane(factors, source + plane / planes * coefficient_count,
                                 plane % planes, target + plane * plane_size, memory);
                   }
                 });
  });
}

}  // namespace marginseg
