// What a pass counts of the values whose bits begin alike: how many there are, and the sum of the
// bits that follow. Both are integers, exact in any order.
#pragma once

#include <cmath>
#include <cstdint>

#include "dice_threshold/cut.h"

namespace marginseg::dice_threshold {

using Unsigned128 = unsigned __int128;

// How many values there are of one prefix, zeros left out, and the sum of their bits after it.
template <class Rest>
struct Entry {
  int64_t count = 0;
  Rest rest = 0;

  void add(const bool counts, const uint64_t more) {
    count += counts;
    rest += more;
  }
};

// An entry in one word, which takes one addition a value; for up to most_values of them with up to
// 16 bits after the prefix.
struct PackedEntry {
  static constexpr int rest_bits = 40;
  static constexpr int64_t most_values = int64_t{1} << 23;

  uint64_t word = 0;

  void add(const bool counts, const uint64_t more) {
    word += (uint64_t{counts} << rest_bits) + more;
  }
};

template <class Rest>
void move_to(Entry<Rest>& total, PackedEntry& part) {
  total.count += static_cast<int64_t>(part.word >> PackedEntry::rest_bits);
  total.rest += part.word & ((uint64_t{1} << PackedEntry::rest_bits) - 1);
  part = {};
}

template <class Rest>
void move_to(Entry<Rest>& total, Entry<Rest>& part) {
  total.count += part.count;
  total.rest += part.rest;
  part = {};
}

// The mass of an entry whose smallest possible value has the bits `first`: all its values have one
// exponent, so that it is an integer times their unit. 48 bits at a time are exact as doubles.
template <class Format, class Rest>
Sum mass_of(const Entry<Rest>& entry, const typename Format::Bits first) {
  const Unsigned128 units =
      static_cast<Unsigned128>(entry.count) * Format::significand(first) + entry.rest;
  const double unit = Format::unit(first);
  Sum mass{0.0, 0.0};
  for (int shift = 96; shift >= 0; shift -= 48) {
    const auto digit = static_cast<uint64_t>(units >> shift) & ((uint64_t{1} << 48) - 1);
    add(mass, static_cast<double>(digit) * (unit * std::ldexp(1.0, shift)));
  }
  return mass;
}

}  // namespace marginseg::dice_threshold
