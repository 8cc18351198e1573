// Large pages for large outputs, where the system provides them (Linux). On a virtual machine the
// page faults of a newly mapped output in small pages take as long as a wide stack of a few layers.
#pragma once

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

#include <cstddef>
#include <cstdint>

namespace acdc {

// Only advises the system: no memory is written, and it does not matter if the system declines.
inline void advise_large_pages(void* data, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr size_t kLargePage = 2 << 20;
  if (bytes < kLargePage) return;
  static const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t first = reinterpret_cast<uintptr_t>(data);
  const uintptr_t begin = (first + page - 1) / page * page, end = (first + bytes) / page * page;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data;
  (void)bytes;
#endif
}

}  // namespace acdc
