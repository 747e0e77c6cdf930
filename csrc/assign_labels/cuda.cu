#include <cmath>
#include <type_traits>

#include "assign_labels/cuda.cuh"
#include "common/cuda/block.cuh"
#include "common/cuda/floating.cuh"
#include "common/parts.h"

namespace marginseg::assign_labels {
namespace {

using Count = unsigned long long;

// Voxels that a thread labels, side by side: their values are under way together.
constexpr int each = 4;
constexpr int voxels_per_block = each * threads;

// Channels whose sums a block keeps to itself until its end. Of more, all blocks add to memory.
constexpr int channels_in_block = 2048;

template <class V, class Label>
struct Arrays {
  const V* values;
  const computing<V>* scale;
  const computing<V>* offset;
  Label* labels;
  Count* volumes;
  Count* masses;
};

// The voxels of one channel that a thread meets in a row: neighbours have the same one. What has no
// channel is not counted.
struct Run {
  int channel = -1;
  Count volume = 0;
  Count mass = 0;
};

struct AddRuns {
  __device__ void operator()(Run& sum, const Run& other) const {
    sum.volume += other.volume;
    sum.mass += other.mass;
  }
};

// Calls add(run) on one lane for each channel that runs of a warp's lanes have: most voxels are
// background, and threads that add to one place wait for each other. All lanes take part.
template <class Add>
__device__ inline void add_together(const Run& run, const Add& add) {
  for (unsigned left = __ballot_sync(all_lanes, run.channel >= 0); left != 0;) {
    const int channel = __shfl_sync(all_lanes, run.channel, __ffs(left) - 1);
    const bool same = run.channel == channel;
    const Run sum = warp_reduce(same ? run : Run{}, AddRuns{});
    if (lane_number() == 0) add(Run{channel, sum.volume, sum.mass});
    left &= ~__ballot_sync(all_lanes, same);
  }
}

// Each block labels some voxels of one case.
template <class V, class Label>
__global__ __launch_bounds__(threads) void label_voxels(const Pass pass,
                                                        const Arrays<V, Label> arrays,
                                                        const int64_t blocks,
                                                        const double units_of_one) {
  using C = computing<V>;
  __shared__ Count shared[2 * channels_in_block];
  const int64_t number = blockIdx.x / blocks;
  const int64_t start = (blockIdx.x - number * blocks) * voxels_per_block + threadIdx.x;
  const int channels = static_cast<int>(pass.channels);
  const bool apart = channels <= channels_in_block;
  const auto to_memory = [&](const Run& run) {
    atomicAdd(arrays.volumes + number * channels + run.channel, run.volume);
    atomicAdd(arrays.masses + number * channels + run.channel, run.mass);
  };
  const auto add = [&](const Run& run) {
    if (!apart) return to_memory(run);
    atomicAdd(shared + run.channel, run.volume);
    atomicAdd(shared + channels + run.channel, run.mass);
  };
  if (apart) {
    for (int i = threadIdx.x; i < 2 * channels; i += threads) shared[i] = 0;
    __syncthreads();
  }
  C gain[each];
  C m[each];
  int channel[each];
#pragma unroll
  for (int k = 0; k < each; ++k) {
    gain[k] = static_cast<C>(pass.floor);
    m[k] = C{0};
    channel[k] = static_cast<int>(pass.fallback);
  }
  const V* map = arrays.values + number * channels * pass.voxels + start;
  for (int c = 0; c < channels; ++c, map += pass.voxels) {
    const C scale = arrays.scale[number * channels + c];
    const C offset = arrays.offset[number * channels + c];
#pragma unroll
    for (int k = 0; k < each; ++k) {
      if (start + k * threads >= pass.voxels) continue;
      const C value = widen(map[k * threads]);
      const C found = value * scale - offset;
      if (found > gain[k]) {
        gain[k] = found;
        m[k] = value;
        channel[k] = c;
      }
    }
  }
  Run run;
#pragma unroll
  for (int k = 0; k < each; ++k) {
    const int64_t voxel = start + k * threads;
    const bool inside = voxel < pass.voxels;
    const bool ends = inside && channel[k] != run.channel;
    add_together(ends ? run : Run{}, add);
    if (ends) run = {channel[k], 0, 0};
    if (!inside) continue;
    arrays.labels[number * pass.voxels + voxel] =
        static_cast<Label>(channel[k] + pass.first_label());
    ++run.volume;
    run.mass += static_cast<Count>(units(static_cast<double>(m[k]), units_of_one));
  }
  add_together(run, add);
  if (!apart) return;
  __syncthreads();
  for (int c = threadIdx.x; c < channels; c += threads) {
    if (shared[c] != 0) to_memory({c, shared[c], shared[channels + c]});
  }
}

}  // namespace

void run(const Context& context, const Pass& pass, const uintptr_t values, const Dtype dtype,
         const uintptr_t scale, const uintptr_t offset, const uintptr_t labels,
         const Dtype label_dtype, const uintptr_t volumes, const uintptr_t masses) {
  const int64_t blocks = parts(pass.voxels, voxels_per_block);
  dispatch_stored(dtype, [&](const auto type) {
    using V = typename decltype(type)::type;
    const auto launch = [&](auto* const target) {
      using Label = std::remove_pointer_t<decltype(target)>;
      const Arrays<V, Label> arrays{reinterpret_cast<const V*>(values),
                                    reinterpret_cast<const computing<V>*>(scale),
                                    reinterpret_cast<const computing<V>*>(offset),
                                    target,
                                    reinterpret_cast<Count*>(volumes),
                                    reinterpret_cast<Count*>(masses)};
      context.launch(label_voxels<V, Label>, pass.count * blocks, threads, pass, arrays, blocks,
                     std::ldexp(1.0, pass.bits));
    };
    if (label_dtype == Dtype::uint8) {
      launch(reinterpret_cast<uint8_t*>(labels));
    } else {
      launch(reinterpret_cast<int16_t*>(labels));
    }
  });
}

}  // namespace marginseg::assign_labels
