// Where the probability maps lie on the device, and where their results go.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/host_device.h"
#include "common/parts.h"
#include "dice_threshold/climb.h"

namespace marginseg::dice_threshold {

// [begin, end) of the values.
struct Span {
  int64_t begin;
  int64_t end;
  __device__ int64_t size() const { return end - begin; }
};

// What a block does for a map: part `number` of `count` equal parts. None where count is 0.
struct Share {
  int64_t map;
  int64_t number;
  int64_t count;

  // Part of [0, size).
  __device__ Span of(const int64_t size) const {
    const int64_t length = parts(size, count);
    const int64_t begin = min(number * length, size);
    return {begin, min(begin + length, size)};
  }
};

// Maps of one size, end to end, or segments between offsets.
struct Maps {
  int64_t count;
  int64_t size;            // of a map; of all values where there are offsets
  const int64_t* offsets;  // count + 1, or nullptr
  const int* faulty;       // whether the offsets are: then no value is read

  MARGINSEG_HOST_DEVICE int64_t values() const { return offsets == nullptr ? count * size : size; }

  __device__ bool known() const { return offsets == nullptr || *faulty == 0; }

  __device__ Span of(const int64_t map) const {
    if (offsets == nullptr) return {map * size, (map + 1) * size};
    if (!known()) return {0, 0};
    return {offsets[map], offsets[map + 1]};
  }

  // The map that the value i belongs to, or `count` where it lies in no segment.
  __device__ int64_t containing(const int64_t i) const {
    if (offsets == nullptr) return i / size;
    if (!known() || i < offsets[0] || i >= offsets[count]) return count;
    // It belongs to the last segment that begins at or before it.
    int64_t below = 0;
    int64_t above = count;
    while (above - below > 1) {
      const int64_t middle = below + (above - below) / 2;
      (offsets[middle] <= i ? below : above) = middle;
    }
    return below;
  }

  // How blocks share maps of very different sizes that the host does not know: all values are cut
  // into chunks, and each map of at least `least` >= chunk values is shared out among the chunks
  // that it touches. No more than two such maps touch a chunk: one that holds its first value, and
  // one that begins later and holds its last. So a chunk has two blocks, or one where no map begins
  // within a chunk.
  MARGINSEG_HOST_DEVICE int sides(const int64_t chunk) const {
    return offsets == nullptr && size % chunk == 0 ? 1 : 2;
  }
  int64_t shares(const int64_t chunk) const { return parts(values(), chunk) * sides(chunk); }

  __device__ Share share(const int64_t block, const int64_t chunk, const int64_t least) const {
    constexpr Share none{0, 0, 0};
    const int of_chunk = sides(chunk);
    const int64_t begin = block / of_chunk * chunk;
    const bool later = block % of_chunk != 0;
    const int64_t map = containing(later ? min(begin + chunk, values()) - 1 : begin);
    if (map == count) return none;
    const Span span = of(map);
    if (span.size() < least || (later && span.begin <= begin)) return none;
    const int64_t first = span.begin / chunk;
    return {map, begin / chunk - first, (span.end - 1) / chunk - first + 1};
  }

  // The block that has share `number` of a map.
  __device__ int64_t block(const Span& span, const int64_t number, const int64_t chunk) const {
    const int64_t begin = (span.begin / chunk + number) * chunk;
    return begin / chunk * sides(chunk) + (begin < span.begin ? 1 : 0);
  }
};

struct Results {
  double* threshold;
  double* value;
  int64_t* volume;

  __device__ void write(const int64_t map, const Optimum& best) const {
    threshold[map] = best.threshold;
    value[map] = best.value;
    volume[map] = best.volume;
  }
};

}  // namespace marginseg::dice_threshold
