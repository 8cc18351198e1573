"""The fused kernel as an operator of ONNX Runtime: where its library is."""

from __future__ import annotations

from pathlib import Path

from seclcompress.errors import UsageError

_PATH = Path(__file__).with_name("libseclcompress_onnxruntime.so")
#: Why it may be missing, and what to do.
LIBRARY_MISSING = (
    f"The library for ONNX Runtime is not there ({_PATH.name}): seclcompress was installed without a "
    "C++ compiler, or on Windows. Install GCC or Clang and seclcompress again, or export with "
    "--execution dense."
)


def onnxruntime_library() -> str:
    """The library with the operator `seclcompress.AcdcStack`, for ONNX Runtime 1.17 and later.

    Files that `seclcompress export --execution auto` has written need it:

        options = onnxruntime.SessionOptions()
        options.register_custom_ops_library(seclcompress.onnxruntime_library())

    It depends on neither Python nor torch, so it can be copied to where the file is deployed.

    Returns:
        Its path.

    Raises:
        UsageError: If it was not built.
    """
    if not _PATH.is_file():
        raise UsageError(LIBRARY_MISSING)
    return str(_PATH)


def has_onnxruntime_library() -> bool:
    """Whether the library was built."""
    return _PATH.is_file()
