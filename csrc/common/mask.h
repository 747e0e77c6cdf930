// Masks say which lanes of a pack are meant. AVX-512 has registers for them; elsewhere a mask is a
// pack of integers, of which each lane has all bits set or none.
#pragma once

#include <cstdint>
#include <type_traits>

#include "common/simd.h"

namespace marginseg {
inline namespace MARGINSEG_INSTRUCTION_SET {

#if defined(__AVX512F__)

template <class T>
struct MaskOf;
template <>
struct MaskOf<float> {
  using type = __mmask16;
};
template <>
struct MaskOf<double> {
  using type = __mmask8;
};
template <class T>
using Mask = typename MaskOf<T>::type;

inline Mask<float> at_least(const Pack<float> values, const Pack<float> bound) {
  return _mm512_cmp_ps_mask(values, bound, _CMP_GE_OQ);
}

inline Mask<double> at_least(const Pack<double> values, const Pack<double> bound) {
  return _mm512_cmp_pd_mask(values, bound, _CMP_GE_OQ);
}

inline Pack<float> where(const Mask<float> mask, const Pack<float> values) {
  return _mm512_maskz_mov_ps(mask, values);
}

inline Pack<double> where(const Mask<double> mask, const Pack<double> values) {
  return _mm512_maskz_mov_pd(mask, values);
}

// The mask as an integer: lane i as bit i.
template <class T>
uint32_t bits(const Mask<T> mask) {
  return mask;
}

#else

template <class T>
using Mask = decltype(Pack<T>{} < Pack<T>{});

inline Mask<float> at_least(const Pack<float> values, const Pack<float> bound) {
  return values >= bound;
}

inline Mask<double> at_least(const Pack<double> values, const Pack<double> bound) {
  return values >= bound;
}

inline Pack<float> where(const Mask<float> mask, const Pack<float> values) {
  return mask ? values : Pack<float>{};
}

inline Pack<double> where(const Mask<double> mask, const Pack<double> values) {
  return mask ? values : Pack<double>{};
}

template <class T>
uint32_t bits(const Mask<T> mask) {
#if defined(__AVX2__)
  if constexpr (sizeof(T) == 4) {
    return _mm256_movemask_ps(reinterpret_cast<__m256>(mask));
  } else {
    return _mm256_movemask_pd(reinterpret_cast<__m256d>(mask));
  }
#elif defined(__SSE2__)
  if constexpr (sizeof(T) == 4) {
    return _mm_movemask_ps(reinterpret_cast<__m128>(mask));
  } else {
    return _mm_movemask_pd(reinterpret_cast<__m128d>(mask));
  }
#else
  uint32_t result = 0;
  for (int i = 0; i < lanes<T>; ++i) result |= static_cast<uint32_t>(mask[i] & 1) << i;
  return result;
#endif
}

#endif

template <class T>
constexpr uint32_t all_lanes = (uint32_t{1} << lanes<T>)-1;

// Whether any bit of the packs at `values` is set: false only if all values are +0.
template <class T, int packs>
bool any_bit(const T* const values) {
  typedef int64_t Words __attribute__((vector_size(vector_bytes)));
  Words any{};
  for (int p = 0; p < packs; ++p) any |= reinterpret_cast<Words>(load(values + p * lanes<T>));
#if defined(__AVX512F__)
  return _mm512_test_epi64_mask(reinterpret_cast<__m512i>(any), reinterpret_cast<__m512i>(any)) !=
         0;
#elif defined(__AVX2__)
  return _mm256_testz_si256(reinterpret_cast<__m256i>(any), reinterpret_cast<__m256i>(any)) == 0;
#else
  int64_t word = 0;
  for (int i = 0; i < vector_bytes / 8; ++i) word |= any[i];
  return word != 0;
#endif
}

// Whether any lane is not +0.
template <class P>
bool any_lane(const P& pack) {
  using T = std::remove_cv_t<std::remove_reference_t<decltype(pack[0])>>;
  T values[lanes<T>];
  std::memcpy(values, &pack, sizeof(pack));
  return any_bit<T, 1>(values);
}

inline Mask<float> both(const Mask<float> a, const Mask<float> b) { return a & b; }

// Adds those lanes of `values`, which are `widened` to doubles, that the mask means. Each set reads
// what is faster for it.
inline void add_where(Halves& sums, const Mask<float> mask, const Pack<float> values,
                      const Halves& widened) {
#if defined(__AVX512F__)
  (void)values;
  sums.first = _mm512_mask_add_pd(sums.first, mask, sums.first, widened.first);
  sums.second = _mm512_mask_add_pd(sums.second, mask >> 8, sums.second, widened.second);
#else
  (void)widened;
  const Halves chosen = widen(where(mask, values));
  sums.first += chosen.first;
  sums.second += chosen.second;
#endif
}

// Writes the lanes of `chosen` (a bit each) of the pack at `values` side by side to `target`, which
// has room for a whole pack.
template <class T>
void compress(uint32_t chosen, const T* const values, T* target) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    _mm512_storeu_ps(target, _mm512_maskz_compress_ps(chosen, load(values)));
  } else {
    _mm512_storeu_pd(target, _mm512_maskz_compress_pd(chosen, load(values)));
  }
#else
  for (; chosen != 0; chosen &= chosen - 1) *target++ = values[__builtin_ctz(chosen)];
#endif
}

}  // namespace MARGINSEG_INSTRUCTION_SET
}  // namespace marginseg
