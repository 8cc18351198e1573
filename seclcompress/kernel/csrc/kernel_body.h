// The kernel, compiled once for each instruction set. The including file switches the compiler to
// it and defines what simd.h asks for, ACDC_KERNEL and ACDC_KERNEL_NAME. The standard library's headers
// and ours that are not specific to it were included before, by kernel_headers.h.

namespace acdc {
namespace {

#include "simd.h"
#include "butterflies.h"
#include "passes.h"
#include "tile_io.h"
#include "ahead.h"
#include "stack.h"
#include "stack_backward.h"

template <template <class, class> class Operation>
void run_typed(const Call& call) {
  const FlushSubnormals flush;
  switch (call.type) {
    case Type::kFloat32: return Operation<float, float>(call).run();
    case Type::kFloat64: return Operation<double, double>(call).run();
    case Type::kBFloat16: return Operation<float, BFloat16>(call).run();
  }
}

}  // namespace

const Kernel ACDC_KERNEL = {ACDC_KERNEL_NAME, run_typed<ForwardCall>, run_typed<BackwardCall>};

}  // namespace acdc
