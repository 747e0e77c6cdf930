#include "gaussian_filter/simd.h"

#include "common/simd.h"

namespace marginseg::gaussian_filter {
inline namespace MARGINSEG_INSTRUCTION_SET {
namespace {

template <class T>
Pack<T> load_as(const T* const address) {
  return load(address);
}

template <class T>
Pack<T> load_as(const uint8_t* const address) {
  if constexpr (sizeof(T) == 4) {
#if defined(__AVX512F__)
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(address));
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
#elif defined(__AVX2__)
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(address));
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
#endif
  }
  Pack<T> pack;
  for (int lane = 0; lane < lanes<T>; ++lane) pack[lane] = static_cast<T>(address[lane]);
  return pack;
}

template <class T, class L>
Pack<T> load_some_as(const L* const address, const int64_t count) {
  if constexpr (sizeof(L) == sizeof(T)) {
    return load_some(address, count);
  } else {
    Pack<T> pack{};
    for (int64_t lane = 0; lane < count; ++lane) pack[lane] = static_cast<T>(address[lane]);
    return pack;
  }
}

// `outputs` sums in registers, so that a row is read once for all of them. Row j meets output i
// with weight j - i; the first rows do not reach the last outputs, nor the last rows the first.
template <int outputs, int packs, class L, class T>
void across_tile(const L* const* const rows, T* const* const targets, const Weights<T> weights,
                 const int64_t x, const int64_t count) {
  Pack<T> sum[outputs][packs] = {};
  const bool whole = count == packs * lanes<T>;
  const auto add_row = [&](const int64_t j, const auto meets) __attribute__((always_inline)) {
    Pack<T> values[packs];
    unrolled<packs>([&](const auto p) __attribute__((always_inline)) {
      const L* const address = rows[j] + x + p.value * lanes<T>;
      values[p.value] = whole ? load_as<T>(address) : load_some_as<T>(address, count);
    });
    unrolled<outputs>([&](const auto i) __attribute__((always_inline)) {
      if (!meets(i)) return;
      const Pack<T> weight = broadcast(weights.data[j - i.value]);
      unrolled<packs>([&](const auto p) __attribute__((always_inline)) {
        sum[i.value][p.value] = multiply_add(weight, values[p.value], sum[i.value][p.value]);
      });
    });
  };
  const int64_t all = weights.count + outputs - 1;
  if (weights.count < outputs) {
    for (int64_t j = 0; j < all; ++j) {
      add_row(j, [&](const auto i) { return j >= i.value && j - i.value < weights.count; });
    }
  } else {
    unrolled<outputs - 1>([&](const auto j) __attribute__((always_inline)) {
      add_row(j.value, [](const auto i) { return i.value <= decltype(j)::value; });
    });
    for (int64_t j = outputs - 1; j < weights.count; ++j) {
      add_row(j, [](const auto) { return true; });
    }
    unrolled<outputs - 1>([&](const auto beyond) __attribute__((always_inline)) {
      add_row(weights.count + beyond.value,
              [](const auto i) { return i.value > decltype(beyond)::value; });
    });
  }
  unrolled<outputs>([&](const auto i) __attribute__((always_inline)) {
    unrolled<packs>([&](const auto p) __attribute__((always_inline)) {
      T* const address = targets[i.value] + x + p.value * lanes<T>;
      const Pack<T> result = sum[i.value][p.value];
      if (whole) {
        store(address, result);
      } else {
        store_some(address, result, count);
      }
    });
  });
}

template <int outputs, class L, class T>
void across_rows(const L* const* const rows, T* const* const targets, const Weights<T> weights,
                 const int64_t length) {
  constexpr int packs = this_set == InstructionSet::avx512 ? 2 : 1;
  constexpr int64_t width = packs * lanes<T>;
  int64_t x = 0;
  for (; x + width <= length; x += width) {
    across_tile<outputs, packs>(rows, targets, weights, x, width);
  }
  for (; x + lanes<T> <= length; x += lanes<T>) {
    across_tile<outputs, 1>(rows, targets, weights, x, lanes<T>);
  }
  if (x == length) return;
  if (length >= lanes<T>) {
    across_tile<outputs, 1>(rows, targets, weights, length - lanes<T>, lanes<T>);
  } else {
    across_tile<outputs, 1>(rows, targets, weights, x, length - x);
  }
}

template <class L, class T>
void across(const L* const* rows, T* const* targets, int64_t count, const Weights<T> weights,
            const int64_t length) {
  for (; count >= 8; count -= 8, rows += 8, targets += 8) {
    across_rows<8>(rows, targets, weights, length);
  }
  for (; count >= 4; count -= 4, rows += 4, targets += 4) {
    across_rows<4>(rows, targets, weights, length);
  }
  for (; count > 0; --count, ++rows, ++targets) across_rows<1>(rows, targets, weights, length);
}

template <int packs, class T>
void along_tile(const T* const row, T* const output, const Weights<T> weights) {
  Pack<T> sum[packs] = {};
  for (int64_t k = 0; k < weights.count; ++k) {
    const Pack<T> weight = broadcast(weights.data[k]);
    unrolled<packs>([&](const auto p) __attribute__((always_inline)) {
      sum[p.value] = multiply_add(weight, load(row + k + p.value * lanes<T>), sum[p.value]);
    });
  }
  for (int p = 0; p < packs; ++p) store(output + p * lanes<T>, sum[p]);
}

template <class T>
void along(const T* const row, T* const output, const Weights<T> weights, const int64_t length) {
  constexpr int packs = 4;
  int64_t x = 0;
  for (; x + packs * lanes<T> <= length; x += packs * lanes<T>) {
    along_tile<packs>(row + x, output + x, weights);
  }
  for (; x + lanes<T> <= length; x += lanes<T>) along_tile<1>(row + x, output + x, weights);
  if (x == length) return;
  if (length >= lanes<T>) {
    along_tile<1>(row + length - lanes<T>, output + length - lanes<T>, weights);
    return;
  }
  for (; x < length; ++x) {
    T sum = 0;
    for (int64_t k = 0; k < weights.count; ++k) sum += weights.data[k] * row[x + k];
    output[x] = sum;
  }
}

template <class T>
void add_difference(const T* const a, const T* const b, const T factor, T* const output,
                    const int64_t length) {
  const Pack<T> factors = broadcast(factor);
  int64_t x = 0;
  for (; x + lanes<T> <= length; x += lanes<T>) {
    store(output + x, load(output + x) + factors * (load(a + x) - load(b + x)));
  }
  for (; x < length; ++x) output[x] += factor * (a[x] - b[x]);
}

template <class T>
constexpr Kernels<T> table{across<T, T>, across<uint8_t, T>, along<T>, add_difference<T>};

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

}  // namespace marginseg::gaussian_filter
