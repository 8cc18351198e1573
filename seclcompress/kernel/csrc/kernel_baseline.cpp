// The kernel for the instructions that every processor of the platform has: SSE2, NEON.
#include "kernel_headers.h"

#define ACDC_VECTOR_BYTES 16
#define ACDC_SEPARATE_ADDERS 0
#define ACDC_KERNEL kBaselineKernel
#define ACDC_KERNEL_NAME "baseline"
#include "kernel_body.h"
