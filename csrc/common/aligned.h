// Memory that begins at a cache line, so that no vector of values straddles two lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

namespace marginseg {

template <class T>
struct CacheLineAllocator {
  using value_type = T;
  static constexpr std::align_val_t alignment{64};

  CacheLineAllocator() = default;
  template <class U>
  explicit CacheLineAllocator(const CacheLineAllocator<U>&) {}

  T* allocate(const std::size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), alignment));
  }
  void deallocate(T* const memory, std::size_t) { ::operator delete(memory, alignment); }

  template <class U>
  bool operator==(const CacheLineAllocator<U>&) const {
    return true;
  }
  template <class U>
  bool operator!=(const CacheLineAllocator<U>&) const {
    return false;
  }
};

template <class T>
using AlignedVector = std::vector<T, CacheLineAllocator<T>>;

// Memory that is not zeroed first, for values that are all written before they are read.
template <class T>
class AlignedBuffer {
 public:
  explicit AlignedBuffer(const int64_t count)
      : data_(CacheLineAllocator<T>().allocate(static_cast<std::size_t>(count))) {}
  T* data() const { return data_.get(); }

 private:
  struct Delete {
    void operator()(T* const memory) const { CacheLineAllocator<T>().deallocate(memory, 0); }
  };
  std::unique_ptr<T, Delete> data_;
};

// Rows are padded to multiples of so many values, which fill whole cache lines in any type.
constexpr int64_t padding = 16;

constexpr int64_t padded(const int64_t size) { return (size + padding - 1) / padding * padding; }

}  // namespace marginseg
