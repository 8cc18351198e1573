"""Builds the fused kernel if there is a compiler; everything else is in pyproject.toml.

Without a compiler the package installs and runs all the same, with torch.fft in place of the kernel.
Both wheels have the same name; `seclcompress --version` tells them apart. With
SECLCOMPRESS_REQUIRE_KERNEL=1 in the environment, a build without the kernel fails.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

SOURCES = Path("seclcompress/kernel/csrc")
REQUIRED = os.environ.get("SECLCOMPRESS_REQUIRE_KERNEL", "0") != "0"
if REQUIRED and sys.platform == "win32":
    sys.exit("SECLCOMPRESS_REQUIRE_KERNEL: there is no kernel for Windows.")

# The sources use the vector extensions of GCC and Clang.
extensions = (
    []
    if sys.platform == "win32"
    else [
        Extension(
            "seclcompress.kernel._native",
            sources=sorted(str(path) for path in SOURCES.glob("*.cpp")),
            depends=sorted(str(path) for path in SOURCES.glob("*.h")),
            define_macros=[("Py_LIMITED_API", "0x030A0000")],
            py_limited_api=True,
            extra_compile_args=[
                "-std=c++17",
                "-O3",
                "-g0",
                "-ffp-contract=fast",
                "-fvisibility=hidden",
            ],
            extra_link_args=["-pthread", *(["-ldl"] if sys.platform == "linux" else [])],
            optional=not REQUIRED,
        )
    ]
)

setup(ext_modules=extensions, options={"bdist_wheel": {"py_limited_api": "cp310"}})
