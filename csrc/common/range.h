// Ranges along one axis, and where a row is not 0.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace marginseg {

// [begin, end) along one axis.
struct Range {
  int64_t begin;
  int64_t end;
  int64_t size() const { return std::max<int64_t>(0, end - begin); }
  bool holds(const int64_t index) const { return begin <= index && index < end; }
};

inline Range hull(const Range a, const Range b) {
  return {std::min(a.begin, b.begin), std::max(a.end, b.end)};
}

// The bytes of `row` that are not 0, word by word: rows are mostly 0.
inline Range nonzero_bytes(const char* const row, const int64_t size) {
  const auto word = [&](const int64_t at) {
    uint64_t value;
    std::memcpy(&value, row + at, sizeof(value));
    return value;
  };
  int64_t begin = 0;
  while (begin + 32 <= size &&
         (word(begin) | word(begin + 8) | word(begin + 16) | word(begin + 24)) == 0) {
    begin += 32;
  }
  while (begin < size && row[begin] == 0) ++begin;
  int64_t end = size;
  while (end - 32 >= begin &&
         (word(end - 8) | word(end - 16) | word(end - 24) | word(end - 32)) == 0) {
    end -= 32;
  }
  while (end > begin && row[end - 1] == 0) --end;
  return {begin, end};
}

// The values of `row` with other bits than +0, NaN among them.
template <class L>
Range nonzero(const L* const row, const int64_t size) {
  constexpr auto width = static_cast<int64_t>(sizeof(L));
  const Range bytes = nonzero_bytes(reinterpret_cast<const char*>(row), size * width);
  if (bytes.size() == 0) return {size, 0};
  return {bytes.begin / width, (bytes.end + width - 1) / width};
}

// The rows of a plane that hold such values, and perhaps others between them.
template <class L>
Range nonzero_rows(const L* const plane, const int64_t rows, const int64_t columns) {
  const Range set = nonzero(plane, rows * columns);
  if (set.size() == 0) return {rows, 0};
  return {set.begin / columns, (set.end - 1) / columns + 1};
}

}  // namespace marginseg
