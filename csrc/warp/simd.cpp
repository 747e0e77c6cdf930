#include "warp/simd.h"

#include "common/simd.h"

namespace marginseg::warp {
inline namespace MARGINSEG_INSTRUCTION_SET {
namespace {

constexpr int width = lanes<float>;

typedef int32_t Integers __attribute__((vector_size(vector_bytes)));
// Sums and products of indices, which wrap around where a voxel is moved out of reach.
typedef uint32_t Unsigned __attribute__((vector_size(vector_bytes)));

// Truncates; values that no int32 can hold, and NaN, become the smallest int32.
Integers to_integers(const Pack<float> values) {
#if defined(__AVX512F__)
  return reinterpret_cast<Integers>(_mm512_cvttps_epi32(values));
#elif defined(__AVX2__)
  return reinterpret_cast<Integers>(_mm256_cvttps_epi32(values));
#elif defined(__SSE2__)
  return reinterpret_cast<Integers>(_mm_cvttps_epi32(values));
#else
  Integers result;
  for (int lane = 0; lane < width; ++lane) {
    const bool fits = values[lane] >= -0x1p31f && values[lane] < 0x1p31f;
    result[lane] = fits ? static_cast<int32_t>(values[lane]) : INT32_MIN;
  }
  return result;
#endif
}

// Exact where an int32 can hold the result. The base set gives other values elsewhere, but such
// that to_integers() still makes the smallest int32 of them.
Pack<float> floor(const Pack<float> values) {
#if defined(__AVX512F__)
  return _mm512_roundscale_ps(values, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
#elif defined(__AVX2__)
  return _mm256_floor_ps(values);
#else
  const Pack<float> truncated = __builtin_convertvector(to_integers(values), Pack<float>);
  return truncated > values ? truncated - 1.0f : truncated;
#endif
}

Pack<float> gather(const float* const image, const Integers places) {
#if defined(__AVX512F__)
  return _mm512_i32gather_ps(reinterpret_cast<__m512i>(places), image, 4);
#elif defined(__AVX2__)
  return _mm256_i32gather_ps(image, reinterpret_cast<__m256i>(places), 4);
#else
  Pack<float> result;
  for (int lane = 0; lane < width; ++lane) result[lane] = image[places[lane]];
  return result;
#endif
}

// Lanes with 0 <= index < size are all ones.
Integers inside(const Unsigned index, const int32_t size) {
  return index < static_cast<uint32_t>(size);
}

bool all(const Integers mask) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask(reinterpret_cast<__m512i>(mask)) == 0xffff;
#elif defined(__AVX2__)
  return _mm256_movemask_ps(reinterpret_cast<__m256>(mask)) == 0xff;
#elif defined(__SSE2__)
  return _mm_movemask_ps(reinterpret_cast<__m128>(mask)) == 0xf;
#else
  bool result = true;
  for (int lane = 0; lane < width; ++lane) result = result && mask[lane] != 0;
  return result;
#endif
}

// 0, 1, 2, ... up to the lanes.
Unsigned ramp() {
  Unsigned result{};
  for (int lane = 0; lane < width; ++lane) result[lane] = static_cast<uint32_t>(lane);
  return result;
}

// A pack of voxels of a row, and by how much each is moved: a Position of place.h in each lane.
struct Positions {
  Unsigned voxel[3];
  Pack<float> moved[3];
};

Positions positions_at(const Row& row, const int64_t x, const int64_t count, const Unsigned ramp) {
  const auto moved = [&](const int axis) {
    const float* const address = row.displacement[axis] + x;
    return count == width ? load(address) : load_some(address, count);
  };
  return {{Unsigned{} + static_cast<uint32_t>(row.plane),
           Unsigned{} + static_cast<uint32_t>(row.row), ramp + static_cast<uint32_t>(x)},
          {moved(0), moved(1), moved(2)}};
}

// A movement split into its floor, added to the voxel, and the rest. Where no int32 holds the
// floor, it is the smallest one, which no voxel, nor one more, makes an index of a volume.
struct Split {
  Unsigned index;
  Pack<float> fraction;
};

Split split(const Unsigned voxel, const Pack<float> moved) {
  const Pack<float> whole = floor(moved);
  return {voxel + reinterpret_cast<Unsigned>(to_integers(whole)), moved - whole};
}

int64_t lanes_left(const Row& row, const int64_t x) {
  return row.end - x < width ? row.end - x : width;
}

// The voxels nearest to where a pack of voxels is moved, and which of them lie inside. The scalar
// form is nearest_place() in place.h.
struct Nearest {
  Unsigned place;
  Integers inside;
};

Nearest nearest_to(const Positions& positions, const Volume& volume) {
  Nearest result{{}, Integers{} - 1};
  unrolled<3>([&](const auto axis) __attribute__((always_inline)) {
    const int32_t size = volume.size[axis.value];
    const Split along = split(positions.voxel[axis.value], positions.moved[axis.value]);
    // What holds is -1 in each lane.
    const Unsigned index = along.index - reinterpret_cast<Unsigned>(along.fraction >= 0.5f);
    result.inside &= inside(index, size);
    result.place = result.place * static_cast<uint32_t>(size) + index;
  });
  return result;
}

void nearest(const Volume& volume, const Row& row, int32_t* const places) {
  const Unsigned steps = ramp();
  for (int64_t x = row.begin; x < row.end; x += width) {
    const int64_t count = lanes_left(row, x);
    const Nearest found = nearest_to(positions_at(row, x, count, steps), volume);
    const Integers result = found.inside ? reinterpret_cast<Integers>(found.place) : Integers{} - 1;
    if (count == width) {
      std::memcpy(places + x, &result, sizeof(result));
    } else {
      for (int64_t lane = 0; lane < count; ++lane) places[x + lane] = result[lane];
    }
  }
}

void nearest_byte(const uint8_t* const label, const Volume& volume, const Row& row,
                  uint8_t* const output) {
  const Unsigned steps = ramp();
#if defined(__AVX512F__)
  // Four bytes are gathered, none beyond the label's last, and the right one is shifted down.
  const int32_t last = volume.size[0] * volume.size[1] * volume.size[2] - 4;
  if (last >= 0) {
    for (int64_t x = row.begin; x < row.end; x += width) {
      const int64_t count = lanes_left(row, x);
      const Nearest found = nearest_to(positions_at(row, x, count, steps), volume);
      const __m512i place = reinterpret_cast<__m512i>(found.place);
      const __m512i start = _mm512_min_epi32(place, _mm512_set1_epi32(last));
      const __mmask16 valid = _mm512_movepi32_mask(reinterpret_cast<__m512i>(found.inside));
      const __m512i words =
          _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), valid, start, label, 1);
      const __m512i shift = _mm512_slli_epi32(_mm512_sub_epi32(place, start), 3);
      const __mmask16 kept = static_cast<__mmask16>((1u << count) - 1);
      _mm512_mask_cvtepi32_storeu_epi8(output + x, kept, _mm512_srlv_epi32(words, shift));
    }
    return;
  }
#endif
  for (int64_t x = row.begin; x < row.end; x += width) {
    const int64_t count = lanes_left(row, x);
    const Nearest found = nearest_to(positions_at(row, x, count, steps), volume);
    const Unsigned place = found.inside ? found.place : Unsigned{};
    for (int64_t lane = 0; lane < count; ++lane) {
      const uint8_t value = label[place[lane]];
      output[x + lane] = found.inside[lane] != 0 ? value : uint8_t{0};
    }
  }
}

// Along the last axis there are two corners, along the others as many as told.
template <int planes, int rows>
int64_t linear_among(const float* const image, const Volume& volume, const Row& row,
                     float* const output, int64_t* const left) {
  const Unsigned steps = ramp();
  const int32_t strides[3] = {volume.size[1] * volume.size[2], volume.size[2], 1};
  int64_t count_left = 0;
  for (int64_t x = row.begin; x < row.end; x += width) {
    const int64_t count = lanes_left(row, x);
    const Positions positions = positions_at(row, x, count, steps);
    Pack<float> after[3];  // the weight of the corners behind, along each axis
    Pack<float> before[3];
    Unsigned place{};
    Integers valid = Integers{} - 1;
    unrolled<3>([&](const auto axis) __attribute__((always_inline)) {
      constexpr int i = decltype(axis)::value;
      const Split along = split(positions.voxel[i], positions.moved[i]);
      after[i] = along.fraction;
      before[i] = 1.0f - after[i];
      // An axis of one voxel has no second corner; a displacement of 0 gives it no weight.
      const int32_t corners = volume.size[i] > 1 ? volume.size[i] - 1 : 1;
      valid &= inside(along.index, corners);
      if (volume.size[i] == 1) valid &= after[i] == 0.0f;
      place += along.index * static_cast<uint32_t>(strides[i]);
    });
    if (!all(valid)) {
      for (int64_t lane = 0; lane < count; ++lane) left[count_left++] = x + lane;
      continue;
    }
    const Integers corner = reinterpret_cast<Integers>(place);
    Pack<float> sum{};
    unrolled<planes * rows>([&](const auto line) __attribute__((always_inline)) {
      constexpr int z = decltype(line)::value / rows;
      constexpr int y = decltype(line)::value % rows;
      const int32_t beside_z = volume.size[0] > 1 ? z * strides[0] : 0;
      const int32_t beside_y = volume.size[1] > 1 ? y * strides[1] : 0;
      const int32_t beside_x = volume.size[2] > 1 ? 1 : 0;
      const Integers start = corner + (beside_z + beside_y);
      const Pack<float> weight = (z == 0 ? before[0] : after[0]) * (y == 0 ? before[1] : after[1]);
      sum +=
          weight * (before[2] * gather(image, start) + after[2] * gather(image, start + beside_x));
    });
    store_some(output + x, sum, count);
  }
  return count_left;
}

int64_t linear(const float* const image, const Volume& volume, const Row& row, float* const output,
               int64_t* const left) {
  const auto among = volume.single[0]
                         ? (volume.single[1] ? linear_among<1, 1> : linear_among<1, 2>)
                         : (volume.single[1] ? linear_among<2, 1> : linear_among<2, 2>);
  return among(image, volume, row, output, left);
}

constexpr Kernels table{nearest, nearest_byte, linear};

}  // namespace
}  // namespace MARGINSEG_INSTRUCTION_SET

template <>
const Kernels& Simd::kernels<this_set>() {
  return table;
}

}  // namespace marginseg::warp
