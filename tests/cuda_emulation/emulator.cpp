#include "emulator.h"

#include <ucontext.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

emulation::Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {
namespace {

constexpr size_t stack_bytes = 256 * 1024;

enum class State { ready, at_block_barrier, at_warp_barrier, done };

struct Fibre {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[stack_bytes]};
  State state = State::done;
  int steps = 0;  // exchanges within the warp so far
};

// Two steps of exchange can overlap: one lane writes the next while another reads the last.
struct WarpState {
  Warp slots[2];
};

struct Block {
  std::vector<Fibre> fibres;
  std::vector<WarpState> warps;
  ucontext_t scheduler;
  const std::function<void()>* body = nullptr;
  size_t running = 0;
  std::exception_ptr error;
} block;

// The same each time, and no order that a kernel could rely on.
uint64_t random_state = 0x9e3779b97f4a7c15u;

Recorder recorder = nullptr;

size_t random_below(const size_t bound) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<size_t>((random_state >> 33) % bound);
}

void shuffle(std::vector<size_t>& order) {
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random_below(i)]);
}

void enter() {
  try {
    (*block.body)();
  } catch (...) {
    block.error = std::current_exception();
  }
  block.fibres[block.running].state = State::done;
}

void suspend(const State state) {
  Fibre& fibre = block.fibres[block.running];
  fibre.state = state;
  swapcontext(&fibre.context, &block.scheduler);
}

void resume(const size_t thread) {
  block.running = thread;
  threadIdx = Index(static_cast<unsigned>(thread), 0, 0);
  swapcontext(&block.scheduler, &block.fibres[thread].context);
}

// Lets a warp go on whose lanes have all arrived.
void release_warps(const size_t threads) {
  for (size_t first = 0; first < threads; first += warpSize) {
    const size_t last = std::min(threads, first + warpSize);
    bool all = true;
    for (size_t i = first; i < last; ++i) {
      all = all && block.fibres[i].state == State::at_warp_barrier;
    }
    if (!all) continue;
    for (size_t i = first; i < last; ++i) block.fibres[i].state = State::ready;
  }
}

size_t count(const size_t threads, const State state) {
  return std::count_if(block.fibres.begin(), block.fibres.begin() + threads,
                       [&](const Fibre& fibre) { return fibre.state == state; });
}

void run_block(const size_t threads) {
  for (size_t i = 0; i < threads; ++i) {
    Fibre& fibre = block.fibres[i];
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack.get();
    fibre.context.uc_stack.ss_size = stack_bytes;
    fibre.context.uc_link = &block.scheduler;
    makecontext(&fibre.context, enter, 0);
    fibre.state = State::ready;
    fibre.steps = 0;
  }
  std::vector<size_t> order(threads);
  std::iota(order.begin(), order.end(), size_t{0});
  for (;;) {
    shuffle(order);
    for (const size_t thread : order) {
      if (block.fibres[thread].state == State::ready) resume(thread);
      if (block.error) std::rethrow_exception(std::exchange(block.error, nullptr));
    }
    release_warps(threads);
    if (count(threads, State::ready) > 0) continue;
    const size_t done = count(threads, State::done);
    if (done == threads) return;
    if (done + count(threads, State::at_block_barrier) != threads) {
      throw std::logic_error("a shuffle that not all lanes of the warp reach");
    }
    if (done > 0) throw std::logic_error("a barrier that not all threads of the block reach");
    for (size_t i = 0; i < threads; ++i) block.fibres[i].state = State::ready;
  }
}

}  // namespace

void run(const Index grid, const Index block_of, const std::function<void()>& body) {
  gridDim = grid;
  blockDim = block_of;
  block.body = &body;
  const size_t threads = block_of.x;
  if (block.fibres.size() < threads) block.fibres.resize(threads);
  block.warps.assign((threads + warpSize - 1) / warpSize, WarpState{});
  std::vector<size_t> order(grid.x);
  std::iota(order.begin(), order.end(), size_t{0});
  shuffle(order);
  for (const size_t number : order) {
    blockIdx = Index(static_cast<unsigned>(number), 0, 0);
    run_block(threads);
  }
}

void launch(Launch launch, const std::function<void()>& body) {
  if (recorder != nullptr && recorder(&launch) == 0) return;
  run(Index(launch.blocks), Index(launch.threads), body);
  launch.ran = 1;
  if (recorder != nullptr) recorder(&launch);
}

void wait_for_block() { suspend(State::at_block_barrier); }

const Warp& exchange(const uint64_t bits) {
  Fibre& fibre = block.fibres[block.running];
  Warp& slots = block.warps[block.running / warpSize].slots[fibre.steps++ % 2];
  slots.bits[lane()] = bits;
  suspend(State::at_warp_barrier);
  return slots;
}

}  // namespace emulation

// For bench/machine_code: from here on the recorder sees all launches, until nullptr is given.
extern "C" __attribute__((visibility("default"))) void marginseg_emulation_record(
    const emulation::Recorder recorder) {
  emulation::recorder = recorder;
}
