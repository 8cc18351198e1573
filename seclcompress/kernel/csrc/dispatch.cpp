#include <cstring>
#include <initializer_list>

#include "kernel.h"

namespace acdc {
namespace {

bool runs_here(const Kernel* kernel) {
#if defined(__x86_64__)
  if (kernel == &kAvx512Kernel) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("fma");
  }
  if (kernel == &kAvx2Kernel) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  }
#endif
  return kernel->forward != nullptr;
}

}  // namespace

const Kernel* find_kernel(const char* name) {
  for (const Kernel* kernel : {&kAvx512Kernel, &kAvx2Kernel, &kBaselineKernel}) {
    const bool wanted = name == nullptr || std::strcmp(name, kernel->name) == 0;
    if (wanted && runs_here(kernel)) return kernel;
  }
  return nullptr;
}

}  // namespace acdc
