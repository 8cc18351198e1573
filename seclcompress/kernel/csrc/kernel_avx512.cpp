// The kernel for x86 processors with AVX-512; dispatch.cpp detects them.
#include "kernel_headers.h"

#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")
#endif

#define ACDC_VECTOR_BYTES 64
#define ACDC_SEPARATE_ADDERS 1
#define ACDC_KERNEL kAvx512Kernel
#define ACDC_KERNEL_NAME "avx512"
#include "kernel_body.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#else

namespace acdc {
const Kernel kAvx512Kernel = {"avx512", nullptr, nullptr, nullptr, nullptr, nullptr};
}

#endif
