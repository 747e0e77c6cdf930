// The instruction sets that the kernels are compiled for, and the one in use.
#pragma once

#include <string>

// The set that this file is compiled for. Every inline function and template that a `simd.cpp`
// includes lies in an inline namespace of this name, and it uses no STL templates: else the linker
// could merge a function compiled for AVX-512 with its namesake, and run it anywhere.
#if defined(__AVX512F__)
#define MARGINSEG_INSTRUCTION_SET avx512
#elif defined(__AVX2__) && defined(__FMA__)
#define MARGINSEG_INSTRUCTION_SET avx2
#else
#define MARGINSEG_INSTRUCTION_SET base
#endif

namespace marginseg {

enum class InstructionSet : int { base = 0, avx2 = 1, avx512 = 2 };

// The best that this processor has, or the one that the environment variable MARGINSEG_SIMD names
// (base, avx2 or avx512). Throws where it names another, or one that the processor lacks.
InstructionSet instruction_set();

std::string name_of(InstructionSet set);

}  // namespace marginseg
