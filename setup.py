"""Builds the fused kernel if there is a compiler; everything else is in pyproject.toml.

It is built twice from the same objects: as a Python module, and as a library with an operator for ONNX
Runtime, which knows neither Python nor torch and so can be shipped with any program.

Without a compiler the package installs and runs all the same, with torch.fft in place of the kernel.
Both wheels have the same name; `seclcompress --version` tells them apart. With
SECLCOMPRESS_REQUIRE_KERNEL=1 in the environment, a build without the kernel fails.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = Path("seclcompress/kernel/csrc")
FOR_PYTHON = [str(SOURCES / "module.cpp"), str(SOURCES / "threads.cpp")]
KERNEL = sorted({str(path) for path in SOURCES.glob("*.cpp")} - set(FOR_PYTHON))
FOR_ONNX_RUNTIME = sorted(str(path) for path in SOURCES.glob("onnxruntime/*.cpp"))
HEADERS = sorted(str(path) for path in SOURCES.rglob("*.h"))
LIBRARY = "seclcompress.kernel.libseclcompress_onnxruntime"
REQUIRED = os.environ.get("SECLCOMPRESS_REQUIRE_KERNEL", "0") != "0"
if REQUIRED and sys.platform == "win32":
    sys.exit("SECLCOMPRESS_REQUIRE_KERNEL: there is no kernel for Windows.")


class BuildExt(build_ext):
    """Builds the library beside the Python module, from that one's objects."""

    def get_ext_filename(self, fullname):
        """A library that is not Python's has no version of Python in its name."""
        if LIBRARY.endswith(fullname):  # called with the last part of a name as well
            return str(Path(*fullname.split(".")).with_suffix(".so"))
        return super().get_ext_filename(fullname)

    def build_extension(self, ext):
        """Compiles what is not there: the kernel's sources take most of the time."""
        if ext.name == LIBRARY:
            objects = self.compiler.object_filenames(KERNEL, output_dir=self.build_temp)
            if all(Path(one).exists() for one in objects):
                ext.extra_objects, ext.sources = objects, FOR_ONNX_RUNTIME
        super().build_extension(ext)


def extension(name, sources, **options):
    """A build of the kernel. Its sources use the vector extensions of GCC and Clang."""
    return Extension(
        name,
        sources=sources,
        depends=HEADERS,
        extra_compile_args=[
            "-std=c++17",
            "-O3",
            "-g0",
            "-ffp-contract=fast",
            "-fvisibility=hidden",
        ],
        extra_link_args=["-pthread", *(["-ldl"] if sys.platform == "linux" else [])],
        optional=not REQUIRED,
        **options,
    )


extensions = (
    []
    if sys.platform == "win32"
    else [
        extension(
            "seclcompress.kernel._native",
            KERNEL + FOR_PYTHON,
            define_macros=[("Py_LIMITED_API", "0x030A0000")],
            py_limited_api=True,
        ),
        extension(LIBRARY, KERNEL + FOR_ONNX_RUNTIME),
    ]
)

setup(
    ext_modules=extensions,
    cmdclass={"build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
