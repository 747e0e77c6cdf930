// Vectors of the instruction set that a source file is compiled for.
//
// Each `simd.cpp` is compiled once for every set, with the flags in CMakeLists.txt, and the set
// that the processor has is chosen when the module is loaded (common/dispatch.h).
#pragma once

#include <cstdint>
#include <cstring>

#include "common/instruction_set.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace marginseg {
inline namespace MARGINSEG_INSTRUCTION_SET {

constexpr InstructionSet this_set = InstructionSet::MARGINSEG_INSTRUCTION_SET;
constexpr int vector_bytes =
    this_set == InstructionSet::avx512 ? 64 : (this_set == InstructionSet::avx2 ? 32 : 16);

template <class T>
struct PackOf {
  typedef T type __attribute__((vector_size(vector_bytes)));
};

// `lanes<T>` values of T side by side; + - * < & and so on act lane by lane.
template <class T>
using Pack = typename PackOf<T>::type;

template <class T>
constexpr int lanes = vector_bytes / static_cast<int>(sizeof(T));

template <int i>
struct Index {
  static constexpr int value = i;
};

// Calls function(Index<0>{}) .. function(Index<count - 1>{}): an array of packs that is only
// indexed by constants stays in registers.
template <int count, int i = 0, class Function>
inline __attribute__((always_inline)) void unrolled(const Function& function) {
  if constexpr (i < count) {
    function(Index<i>{});
    unrolled<count, i + 1>(function);
  }
}

template <class T>
Pack<T> broadcast(const T value) {
  return value - Pack<T>{};
}

template <class T>
Pack<T> load(const T* const address) {
  Pack<T> pack;
  std::memcpy(&pack, address, sizeof(pack));
  return pack;
}

// Keeps a pack in its register, where compilers would rather read it from memory at every use.
template <class T>
inline __attribute__((always_inline)) void hold(T& pack) {
#if defined(__AVX512F__)
  asm("" : "+v"(pack));
#elif defined(__SSE2__)
  asm("" : "+x"(pack));
#else
  (void)pack;
#endif
}

template <class T>
void store(T* const address, const Pack<T> pack) {
  std::memcpy(address, &pack, sizeof(pack));
}

// `count` <= lanes values from `address`, or to it; lanes beyond are 0, and nothing beyond is
// touched.
template <class T>
Pack<T> load_some(const T* const address, const int64_t count) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    return _mm512_maskz_loadu_ps((1u << count) - 1, address);
  } else {
    return _mm512_maskz_loadu_pd((1u << count) - 1, address);
  }
#else
  Pack<T> pack{};
  for (int64_t lane = 0; lane < count; ++lane) pack[lane] = address[lane];
  return pack;
#endif
}

template <class T>
void store_some(T* const address, const Pack<T> pack, const int64_t count) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    _mm512_mask_storeu_ps(address, (1u << count) - 1, pack);
  } else {
    _mm512_mask_storeu_pd(address, (1u << count) - 1, pack);
  }
#else
  for (int64_t lane = 0; lane < count; ++lane) address[lane] = pack[lane];
#endif
}

// The first and the second half of the lanes, as doubles.
struct Halves {
  Pack<double> first;
  Pack<double> second;
};

inline Halves widen(const Pack<float> pack) {
#if defined(__AVX512F__)
  return {_mm512_cvtps_pd(_mm512_castps512_ps256(pack)),
          _mm512_cvtps_pd(_mm512_extractf32x8_ps(pack, 1))};
#elif defined(__AVX2__) && defined(__FMA__)
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(pack)),
          _mm256_cvtps_pd(_mm256_extractf128_ps(pack, 1))};
#elif defined(__SSE2__)
  return {_mm_cvtps_pd(pack), _mm_cvtps_pd(_mm_movehl_ps(pack, pack))};
#else
  Halves halves;
  for (int lane = 0; lane < lanes<double>; ++lane) {
    halves.first[lane] = pack[lane];
    halves.second[lane] = pack[lane + lanes<double>];
  }
  return halves;
#endif
}

// The same from memory, which takes less shuffling.
inline Halves widen(const float* const address) {
#if defined(__AVX512F__)
  return {_mm512_cvtps_pd(_mm256_loadu_ps(address)), _mm512_cvtps_pd(_mm256_loadu_ps(address + 8))};
#elif defined(__AVX2__) && defined(__FMA__)
  return {_mm256_cvtps_pd(_mm_loadu_ps(address)), _mm256_cvtps_pd(_mm_loadu_ps(address + 4))};
#else
  return widen(load(address));
#endif
}

// a * b + c, fused where the set can do it: rounded once there, twice in the base set.
inline Pack<float> multiply_add(const Pack<float> a, const Pack<float> b, const Pack<float> c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__) && defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

inline Pack<double> multiply_add(const Pack<double> a, const Pack<double> b, const Pack<double> c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_pd(a, b, c);
#elif defined(__AVX2__) && defined(__FMA__)
  return _mm256_fmadd_pd(a, b, c);
#else
  return a * b + c;
#endif
}

}  // namespace MARGINSEG_INSTRUCTION_SET
}  // namespace marginseg
