// The operands of one call of the kernel, and the kernel for each instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "convolve.h"

namespace acdc {

enum class Type : int32_t { kFloat32, kFloat64, kBFloat16 };

// A tensor (batch, channels, rows, width); strides in elements. No two elements of a tensor that is
// written may overlap. If all positions of an image are equally far apart, the image is one row.
struct View {
  void* data;
  int64_t channels, batch_stride, channel_stride, position_stride;
  int64_t width, row_stride;
};

// Sizes and operands of one call. All sizes have been checked: n is a length with an FFT plan, the
// channels of both views are within [1, n], layers >= 1. Parameters have the type of the
// computation (float for bfloat16 views) and are contiguous.
struct Call {
  Type type;
  int32_t n, layers, threads;
  int64_t batch, positions;  // positions = rows * width of every view
  const void *a, *d;  // (layers, n)
  const void *scale, *bias;  // (channels of output), or null; forward only: y * scale + bias
  bool transposed;    // forward only: run the transposed stack, from the last layer to the first
  // Forward only: what Kernel::prepare has made of a and d; null to make it anew in this call.
  const void* prepared;
  // A view that is read may have null data. It is then the identity: one image whose channel p is 1
  // at position p and 0 at all others, with as many channels as positions.
  View input;
  View output;      // forward: written; backward: its gradient, read
  View input_grad;  // backward: written unless its data is null
  void *a_grad, *d_grad;  // backward: (layers, n), written
};

struct Kernel {
  const char* name;
  // All throw std::bad_alloc. Null if the kernel is for another processor family.
  void (*forward)(const Call&);
  void (*backward)(const Call&);
  void (*convolve)(const ConvolveCall&);
  // The bytes that `prepare` writes, of a call whose type, n, layers, a and d are set. They serve
  // this kernel alone.
  size_t (*prepared_bytes)(const Call&);
  void (*prepare)(const Call&, void*);
};

// From the newest instruction set to the baseline, which runs everywhere.
extern const Kernel kAvx512Kernel, kAvx2Kernel, kBaselineKernel;

// The best kernel for this machine, or the one called `name`; null if that cannot run here.
const Kernel* find_kernel(const char* name);

}  // namespace acdc
