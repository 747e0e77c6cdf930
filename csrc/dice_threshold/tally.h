// t* of maps that do not fit into memory: they come in chunks, and are gone through again for every
// pass.
//
// Positive floating-point numbers have the order of their bits, read as integers. The first pass
// tells values apart by their leading 16 bits: for each such prefix it counts the values, and sums
// up the bits that follow. These are integers, exact in any order, and enough to know the mass of
// the values of each prefix, so T of {m >= t} (cut.h) for every t at which a prefix begins. A
// threshold t is at most t* exactly where t <= T(t) / 2, which leaves one prefix that t* has. The
// next pass
// tells the values of that prefix apart by their next 16 bits, and so on until no bits are left:
// one pass for half types, two for float32, four for float64.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>

#include "common/dtype.h"

namespace marginseg::dice_threshold {

// The values further outside [0, 1] than rounding puts them. The extremes are of those that are no
// NaN.
struct Misfits {
  int64_t count = 0;
  bool any_nan = false;
  double least = std::numeric_limits<double>::infinity();
  double greatest = -std::numeric_limits<double>::infinity();
};

class Tally {
 public:
  virtual ~Tally() = default;

  // Takes `size` more values of each map, those of one map after those of the other.
  virtual void add(uintptr_t values, int64_t size) = 0;

  // Ends a pass over all values; returns whether there has to be another one. The first pass counts
  // the misfits, and means nothing if there are any.
  virtual bool finish_pass() = 0;

  // Of all maps together.
  virtual Misfits misfits() const = 0;

  // Whether a later pass has met other values than the first.
  virtual bool changed() const = 0;

  // An entry for each map: as run() of dice_threshold/cpu.h does.
  virtual void results(uintptr_t threshold, uintptr_t value, uintptr_t volume) const = 0;
};

// For `count` maps of this floating type, half types included. `weight`: as for run(). `at_half`:
// for the cut at 1/2 instead of the one at t*, which takes one pass.
std::unique_ptr<Tally> make_tally(Dtype dtype, int64_t count, double weight, bool at_half);

}  // namespace marginseg::dice_threshold
