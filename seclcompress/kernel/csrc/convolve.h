// The operands of one call of the fused convolution: filters over space, then a map of the channels.
#pragma once

#include <cstdint>

namespace acdc {

// Columns of a packed matrix lie in blocks of so many output channels; see ConvolveCall::matrix.
constexpr int64_t kBlock = 16;

// Images are channels last and contiguous: (batch, rows, columns, channels). Sizes have been checked.
struct ConvolveCall {
  int32_t threads;
  int64_t batch, rows, columns, channels;
  int64_t out_rows, out_columns, out_channels;
  int64_t kernel[2], stride[2], padding[2], dilation[2];  // of rows, of columns
  const float* input;
  const float* filters;      // (kernel rows, kernel columns, channels); null if the kernel is 1 x 1
  const float* filter_bias;  // (channels), added behind the filters; or null
  // For each block of kBlock output channels (channels + 1, kBlock): their weights, zero behind the
  // last channel, and a row of zeros, which keeps blocks from lying at powers of two. Null if the
  // channels are not mapped: then filters are not null, and out_channels = channels.
  const float* matrix;
  const float* bias;  // (out_channels), or null; with a matrix only
  const float* residual;  // added to the output before ReLU; its shape; or null
  bool relu;
  float* output;
};

}  // namespace acdc
