// Memory that each thread keeps from call to call.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

namespace acdc {

class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(data_); }

  // Returns at least `bytes` bytes on a cache line boundary, or null if there is no memory left.
  // The previous contents are lost.
  void* reserve(size_t bytes) {
    if (bytes > size_) {
      std::free(data_);
      size_ = 0;
      data_ = nullptr;
      if (posix_memalign(&data_, 64, bytes) != 0) return data_ = nullptr;
      size_ = bytes;
    }
    return data_;
  }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace acdc
