#include "common/instruction_set.h"

#include <cstdlib>
#include <stdexcept>

namespace marginseg {
namespace {

bool available(const InstructionSet set) {
#if defined(__x86_64__)
  switch (set) {
    case InstructionSet::base:
      return true;
    case InstructionSet::avx2:
      return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
    case InstructionSet::avx512:
      return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
             __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0;
  }
  return false;
#else
  return set == InstructionSet::base;
#endif
}

InstructionSet choose() {
  constexpr InstructionSet sets[] = {InstructionSet::avx512, InstructionSet::avx2,
                                     InstructionSet::base};
  const char* const forced = std::getenv("MARGINSEG_SIMD");
  for (const InstructionSet set : sets) {
    if (forced == nullptr || *forced == '\0' ? available(set) : name_of(set) == forced) {
      if (available(set)) return set;
      throw std::invalid_argument("MARGINSEG_SIMD: this processor has no " + name_of(set));
    }
  }
  throw std::invalid_argument("MARGINSEG_SIMD: expected base, avx2 or avx512, got " +
                              std::string(forced));
}

}  // namespace

InstructionSet instruction_set() {
  static const InstructionSet chosen = choose();
  return chosen;
}

std::string name_of(const InstructionSet set) {
  switch (set) {
    case InstructionSet::avx2:
      return "avx2";
    case InstructionSet::avx512:
      return "avx512";
    default:
      return "base";
  }
}

}  // namespace marginseg
