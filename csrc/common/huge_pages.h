// Large results in large pages.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace marginseg {

// A fresh result of many megabytes is mapped page by page as it is written, which takes longer than
// writing it; pages of 2 MB take a fraction of that. NumPy asks for them from the same size on.
// A request: nothing happens where the system does not grant it.
inline void prefer_huge_pages(void* const memory, const std::size_t bytes) {
#if defined(__linux__)
  constexpr std::size_t least = std::size_t{1} << 22;
  constexpr std::uintptr_t page = 4096;
  if (bytes < least) return;
  const auto begin = (reinterpret_cast<std::uintptr_t>(memory) + page - 1) / page * page;
  const auto end = (reinterpret_cast<std::uintptr_t>(memory) + bytes) / page * page;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)memory;
  (void)bytes;
#endif
}

}  // namespace marginseg
