// What the processor has, beyond what the compiler chooses clones by.
#pragma once

#include <ATen/Version.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <xmmintrin.h>

// Before functions of intrinsics: for processors where has_avx2(), has_avx512() or has_avx512_bf16() is true.
#define EASEL_AVX2 __attribute__((target("avx2,fma,f16c")))
#define EASEL_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define EASEL_AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#endif

namespace easel::cpu {

// With FMA and the conversions of float16, which every processor has that has AVX2.
inline bool has_avx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#else
  return false;
#endif
}

// Nor does libtorch's own variable ATEN_CPU_CAPABILITY=avx2 forbid it, by which older processors' kernels can be tried.
inline bool has_avx512() {
#if defined(__x86_64__)
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                          at::get_cpu_capability() == "AVX512";
  return has;
#else
  return false;
#endif
}

inline bool has_avx512_bf16() {
#if defined(__x86_64__)
  return has_avx512() && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

inline bool has_avx512_vnni() {
#if defined(__x86_64__)
  return has_avx512() && __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

// A bit of what the processor says of its extensions in EDX of leaf 7, which the compiler may not know yet.
inline bool has_extension([[maybe_unused]] unsigned bit) {
#if defined(__x86_64__)
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & 1u << bit) != 0;
#else
  return false;
#endif
}
inline bool has_amx_bf16() { return has_extension(22); }
inline bool has_amx_int8() { return has_extension(25); }

// After stores past the caches, before another thread is told that they are done.
inline void finish_streams() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

}  // namespace easel::cpu
