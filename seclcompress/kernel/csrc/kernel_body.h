// The kernel, compiled once for each instruction set. The including file switches the compiler to
// that instruction set and defines ACDC_KERNEL, ACDC_KERNEL_NAME and the macros that simd.h needs.
// kernel_headers.h has included the headers that are not specific to an instruction set before.

namespace acdc {
namespace {

#include "simd.h"
#include "butterflies.h"
#include "passes.h"
#include "tile_io.h"
#include "ahead.h"
#include "stack.h"
#include "stack_backward.h"
#include "depthwise.h"
#include "product.h"
#include "fused.h"

template <template <class, class> class Operation>
void run_typed(const Call& call) {
  const FlushSubnormals flush;
  switch (call.type) {
    case Type::kFloat32: return Operation<float, float>(call).run();
    case Type::kFloat64: return Operation<double, double>(call).run();
    case Type::kBFloat16: return Operation<float, BFloat16>(call).run();
  }
}

size_t prepared_bytes(const Call& call) {
  return call.type == Type::kFloat64 ? ForwardCall<double, double>::prepared_bytes(call)
                                     : ForwardCall<float, float>::prepared_bytes(call);
}

void prepare(const Call& call, void* memory) {
  if (call.type == Type::kFloat64) {
    ForwardCall<double, double>::prepare(call, memory);
  } else {
    ForwardCall<float, float>::prepare(call, memory);
  }
}

}  // namespace

const Kernel ACDC_KERNEL = {ACDC_KERNEL_NAME, run_typed<ForwardCall>, run_typed<BackwardCall>,
                            convolve, prepared_bytes, prepare};

}  // namespace acdc
