#include <algorithm>
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#include <utility>

#include "dice_threshold/cuda.cuh"
#include "dice_threshold/iterate.cuh"
#include "dice_threshold/sort.cuh"

namespace marginseg::dice_threshold {
namespace {

__global__ void check_offsets(const Maps maps, int* const faulty) {
  const int64_t i = thread_number();
  if (i > maps.count) return;
  const int64_t least = i == 0 ? 0 : maps.offsets[i - 1];
  if (maps.offsets[i] < least || maps.offsets[i] > maps.size) *faulty = 1;
}

Maps maps_of(const Context& context, const uintptr_t offsets, const int64_t count,
             const int64_t size) {
  if (offsets == 0) return {count, size, nullptr, nullptr};
  int* const faulty = context.allocate<int>(1);
  context.set_zero(faulty, 1);
  const Maps maps{count, size, reinterpret_cast<const int64_t*>(offsets), faulty};
  context.launch(check_offsets, blocks_for(count + 1), threads, maps, faulty);
  return maps;
}

// Chunks are small where there would be too few of them to keep the device busy to the end.
int64_t chunk_for(const int64_t values) {
  return values < int64_t{1} << 26 ? largest_chunk / 4 : largest_chunk;
}

template <class V>
void iterate(const Context& context, const V* const values, const Maps& maps, const double weight,
             const Results& results) {
  using C = computing<V>;
  const int64_t total = maps.values();
  // The host does not know the sizes of segments.
  const int64_t largest = maps.offsets == nullptr ? maps.size : total;
  const bool all_sampled = maps.offsets == nullptr && maps.size >= smallest_sampled;
  Steps<C> steps{};
  steps.weight = weight;
  if (largest >= smallest_sampled) {
    steps.chunk = chunk_for(total);
    const int64_t shares = maps.shares(steps.chunk);
    steps.guesses = context.allocate<Guess>(maps.count);
    steps.counts = context.allocate<unsigned long long>(maps.count);
    steps.done = context.allocate<unsigned>(maps.count);
    steps.searches = context.allocate<Search<C>>(maps.count);
    steps.passes = context.allocate<Pass>(std::max(shares, maps.shares(chunk_for_many)));
    steps.kept = context.allocate<C>(total / kept_share + 1);
    if (largest >= smallest_for_many) {
      steps.bins =
          context.allocate<unsigned long long>((total / smallest_for_many + 1) * bin_count);
    }
    context.launch(guess_threshold<V>, maps.count, threads, values, maps, steps);
    context.launch(survey_maps<V>, shares, threads, values, maps, steps, results);
  }
  if (steps.bins != nullptr) {
    for (int round = 0; round < most_rounds<C>; ++round) {
      context.launch(narrow_searches<V>, maps.shares(chunk_for_many), threads, values, maps, steps);
    }
  }
  if (steps.bins != nullptr || !all_sampled) {
    context.launch(find_threshold<V>, maps.count, threads, values, maps, steps, results);
  }
}

// Calls a function of CUB, first for the size of the memory that it needs.
template <class Function>
void with_memory(const Context& context, const Function& function) {
  size_t bytes = 0;
  context.check(function(nullptr, bytes));
  context.check(function(context.allocate<char>(static_cast<int64_t>(bytes)), bytes));
}

// Two buffers of one kind: a sort reads one and writes the other.
template <class T>
struct Buffers {
  T* from;
  T* to;
  Buffers(const Context& context, const int64_t count)
      : from(context.allocate<T>(count)), to(context.allocate<T>(count)) {}
  void swap() { std::swap(from, to); }
};

struct SameMap {
  MARGINSEG_HOST_DEVICE bool operator()(const unsigned left, const unsigned right) const {
    return left == right;
  }
};

struct AddSums {
  MARGINSEG_HOST_DEVICE Sum operator()(const Sum& left, const Sum& right) const {
    Sum sum = left;
    add(sum, right);
    return sum;
  }
};

int bits_for(const int64_t count) {
  int bits = 0;
  while (bits < 32 && (count >> bits) != 0) ++bits;
  return bits;
}

template <class V>
Ordered<computing<V>> order(const Context& context, const V* const values, const Maps& maps,
                            const double weight) {
  using C = computing<V>;
  const int64_t total = maps.values();
  if (maps.count >= int64_t{1} << 32) throw std::invalid_argument("dice_threshold: 2^32 maps");
  Buffers<Key<C>> keys(context, total);
  Buffers<unsigned> numbers(context, total);
  Sum* const masses = context.allocate<Sum>(total);
  context.launch(make_keys<V>, blocks_for(total), threads, values, maps, total, keys.from,
                 numbers.from);
  with_memory(context, [&](void* const memory, size_t& bytes) {
    return cub::DeviceRadixSort::SortPairs(memory, bytes, keys.from, keys.to, numbers.from,
                                           numbers.to, total, 0, 8 * static_cast<int>(sizeof(C)),
                                           context.stream());
  });
  keys.swap();
  numbers.swap();
  // The second sort, by map, leaves the values of each map in the order of the first: a radix sort
  // does not reorder what is equal.
  if (maps.count > 1 || maps.offsets != nullptr) {
    with_memory(context, [&](void* const memory, size_t& bytes) {
      return cub::DeviceRadixSort::SortPairs(memory, bytes, numbers.from, numbers.to, keys.from,
                                             keys.to, total, 0, bits_for(maps.count),
                                             context.stream());
    });
    keys.swap();
    numbers.swap();
  }
  with_memory(context, [&](void* const memory, size_t& bytes) {
    return cub::DeviceScan::InclusiveScanByKey(memory, bytes, numbers.from, Masses<C>(keys.from),
                                               masses, AddSums{}, total, SameMap{},
                                               context.stream());
  });
  return {maps, keys.from, numbers.from, masses, weight};
}

template <class V>
void sort_and_scan(const Context& context, const V* const values, const Maps& maps,
                   const double weight, const Results& results) {
  const int64_t total = maps.values();
  Ordered<computing<V>> ordered{maps, nullptr, nullptr, nullptr, weight};
  auto* const best = context.allocate<unsigned long long>(maps.count);
  if (total > 0) {
    ordered = order(context, values, maps, weight);
    context.set_zero(best, maps.count);
    context.launch(largest_twice_threshold<computing<V>>, blocks_for(total), threads, ordered,
                   total, best);
  }
  context.launch(conclude<computing<V>>, blocks_for(maps.count), threads, ordered, best, results);
}

}  // namespace

void run(const Context& context, const uintptr_t values, const Dtype dtype, const uintptr_t offsets,
         const int64_t count, const int64_t size, const bool sorted, const double weight,
         const uintptr_t threshold, const uintptr_t value, const uintptr_t volume) {
  if (count == 0) return;
  const Maps maps = maps_of(context, offsets, count, size);
  const Results results{reinterpret_cast<double*>(threshold), reinterpret_cast<double*>(value),
                        reinterpret_cast<int64_t*>(volume)};
  dispatch_stored(dtype, [&](const auto type) {
    using V = typename decltype(type)::type;
    const auto* const source = reinterpret_cast<const V*>(values);
    if (sorted) {
      sort_and_scan(context, source, maps, weight, results);
    } else {
      iterate(context, source, maps, weight, results);
    }
  });
}

void run_curve(const Context& context, const uintptr_t values, const Dtype dtype,
               const int64_t count, const int64_t size, const double weight, const uintptr_t sorted,
               const uintptr_t value, const uintptr_t volume) {
  const int64_t total = count * size;
  if (total == 0) return;
  dispatch_stored(dtype, [&](const auto type) {
    using V = typename decltype(type)::type;
    using C = computing<V>;
    const auto ordered = order(context, reinterpret_cast<const V*>(values),
                               maps_of(context, 0, count, size), weight);
    context.launch(write_curve<C>, blocks_for(total), threads, ordered, total,
                   reinterpret_cast<C*>(sorted), reinterpret_cast<double*>(value),
                   reinterpret_cast<int64_t*>(volume));
  });
}

}  // namespace marginseg::dice_threshold
