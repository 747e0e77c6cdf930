// What the kernels that evaluate a field begin with, computed once and kept in memory: the
// coefficients of each plane, and the factors of rows and columns as their threads read them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "common/cuda/context.cuh"

namespace marginseg::gaussian_field {

// Fields of more coefficients along an axis are evaluated axis by axis.
constexpr int largest_rank = 32;

// Volumes of fewer than three axes are volumes whose first axes have size and rank 1, and no
// factor: it is 1.
template <class T>
struct Factors {
  int64_t size[3] = {1, 1, 1};
  int rank[3] = {1, 1, 1};
  const T* factor[3] = {nullptr, nullptr, nullptr};

  Factors(const std::vector<int64_t>& ranks, const std::vector<int64_t>& shape,
          const std::vector<uintptr_t>& addresses) {
    const size_t missing = 3 - shape.size();
    for (size_t i = 0; i < shape.size(); ++i) {
      size[missing + i] = shape[i];
      rank[missing + i] = static_cast<int>(ranks[i]);
      factor[missing + i] = reinterpret_cast<const T*>(addresses[i]);
    }
  }

  int largest() const { return std::max({rank[0], rank[1], rank[2]}); }
};

// Calls function(std::integral_constant<int, r>{}) for a small r that is at least `rank`: the
// coefficients of a column are registers, and the compiler must know their number.
template <class Function>
void dispatch_rank(const int rank, const Function& function) {
  if (rank <= 12) return function(std::integral_constant<int, 12>{});
  if (rank <= 20) return function(std::integral_constant<int, 20>{});
  return function(std::integral_constant<int, largest_rank>{});
}

// How many rows and columns of a plane a block takes.
constexpr int tile_rows = 64;
constexpr int tile_columns = 128;

// So many values fill one access to memory, which rows of coefficients are a multiple of.
template <class T>
constexpr int packed = 16 / static_cast<int>(sizeof(T));

// All are padded with 0: ranks to `most`, which is the number that dispatch_rank() chose, rows and
// columns to whole tiles. What is padded adds 0 · 0 to sums, and leaves them as they are.
template <class T>
struct Prepared {
  const T* planes;   // the coefficients of each plane: (entries, planes, most, components, most)
  const T* rows;     // the factor of the rows: (rows, most)
  const T* columns;  // that of the columns, in packs: (most / packed, stride, packed)
  int64_t stride;
};

// Prepares `entries` fields of `components` components, with `factors` of no rank above the
// largest.
template <class T>
Prepared<T> prepare(const Context& context, const T* coefficients, int64_t entries, int components,
                    const Factors<T>& factors);

}  // namespace marginseg::gaussian_field
