// The kernel for x86 processors with AVX2 and FMA; dispatch.cpp detects them.
#include "kernel_headers.h"

#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

#define ACDC_VECTOR_BYTES 32
#define ACDC_SEPARATE_ADDERS 1
#define ACDC_KERNEL kAvx2Kernel
#define ACDC_KERNEL_NAME "avx2"
#include "kernel_body.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#else

namespace acdc {
const Kernel kAvx2Kernel = {"avx2", nullptr, nullptr, nullptr, nullptr, nullptr};
}

#endif
