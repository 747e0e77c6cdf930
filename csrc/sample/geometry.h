#pragma once

#include <cstdint>
#include <vector>

namespace marginseg::sample {

// `samples` noisy versions of `batch` labels of `channels` channels each, of up to three axes. Each
// version of each label has a field of its own, which its channels share.
struct Geometry {
  int64_t samples;
  int64_t batch;
  int64_t channels;
  std::vector<int64_t> shape;
  bool linear;
};

}  // namespace marginseg::sample
