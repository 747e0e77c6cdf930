// The passes over a map that are compiled for each instruction set.
#pragma once

#include <cstdint>

#include "common/instruction_set.h"
#include "dice_threshold/cut.h"

namespace marginseg::dice_threshold {

template <class T>
struct Values {
  const T* data;
  int64_t size;
};

// The largest size of the values that one call takes.
constexpr int64_t largest_block = 1 << 15;

// What a pass learns of a block of values, given a bracket 0 < low <= high.
template <class T>
struct Survey {
  T low;
  T high;
  // Where to put the values within [low, high), in their order: as many as `room` allows, and up to
  // `spare` more of no meaning.
  T* kept;
  int64_t room;
  // Results, which the pass adds to what is there.
  int64_t count;  // of the values within the bracket, kept or not
  Sum whole;      // the mass of all values, NaN where one is
  Cut above;      // {m >= high}
};

constexpr int64_t spare = 16;

// A sample of the map, cut at a threshold t.
struct Estimate {
  double whole;  // w times its mass
  double mass;
  double volume;
  double error;  // the standard deviation of mass - t (whole + volume)
};

// The error is estimated from the scatter of `sample_groups` groups of the sample. Its runs of
// `sample_run` neighbours, which resemble each other, belong to the groups in turn.
constexpr int64_t sample_run = 16;
constexpr int sample_groups = 16;

template <class T>
struct Kernels {
  void (*survey)(Values<T> values, Survey<T>& survey);
  // The sample's size is a multiple of sample_run * sample_groups.
  Estimate (*estimate)(Values<T> sample, T threshold, T weight);
};

template <class T>
struct Simd {
  template <InstructionSet set>
  static const Kernels<T>& kernels();
};

}  // namespace marginseg::dice_threshold
