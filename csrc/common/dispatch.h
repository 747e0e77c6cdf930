// The kernels of one op for the instruction set in use.
#pragma once

#include "common/instruction_set.h"

namespace marginseg {

// `Op::kernels<set>()` is the table of functions that simd.cpp, compiled for that set, defines.
template <class Op>
const auto& kernels_in_use() {
#if defined(__x86_64__)
  switch (instruction_set()) {
    case InstructionSet::avx512:
      return Op::template kernels<InstructionSet::avx512>();
    case InstructionSet::avx2:
      return Op::template kernels<InstructionSet::avx2>();
    default:
      break;
  }
#endif
  return Op::template kernels<InstructionSet::base>();
}

}  // namespace marginseg
