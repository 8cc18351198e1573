"""Runs the compiled kernel of an installed package, and compares it with torch.fft.

Every wheel is tried with it, so it needs nothing but the package: `python tests/try_kernel.py`.
"""

import ctypes
import sys

import torch

import seclcompress
from seclcompress import kernel
from seclcompress.kernel import by_fft

print("seclcompress", seclcompress.__version__, "in", seclcompress.__path__[0])
print(kernel.description())
if not kernel.available():
    sys.exit("The kernel is not there.")
torch.manual_seed(0)
x, a, d = torch.randn(2, 48, 5, 5), torch.randn(3, 96), torch.randn(3, 96)
assert kernel.supports(96, x.dtype, x.device)
fused = kernel.acdc_stack(x, a, d, 64)
by_torch = by_fft.forward(x, a, d, 64, bias=None, scale=None, transposed=False)
torch.testing.assert_close(fused, by_torch, rtol=1e-4, atol=1e-4 * float(by_torch.abs().max()))
print("The kernel and torch.fft agree.")
ctypes.CDLL(seclcompress.onnxruntime_library()).RegisterCustomOps  # noqa: B018 - it must be there
print("The library for ONNX Runtime is there.")
