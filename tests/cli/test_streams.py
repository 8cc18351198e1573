"""Output that cannot be written, and memory that cannot be had, are errors in words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seclcompress.cli.memory import is_want_of_memory
from seclcompress.cli.streams import LenientFile

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
FULL = Path("/dev/full")


#: Help and a table, and, in the slow tests, what prints in these ways and imports torch for it.
ORDERS = [
    "--help",
    "train --help",
    "count wrn10_1",
    *(
        pytest.param(order, marks=pytest.mark.slow)
        for order in ("--version", "networks", "count wrn10_1 --json", "survey resnet18 --csv")
    ),
]


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("order", ORDERS)
def test_a_full_device(order: str) -> None:
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "seclcompress", *order.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            timeout=120,
            check=False,
        )
    assert done.returncode == 1
    assert "Error: The output could not be written: No space left on device." in done.stderr
    assert "Internal" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


class Closed:
    """A terminal that was closed."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")

    def flush(self) -> None:
        raise OSError(5, "Input/output error")


def test_messages_that_nobody_can_read() -> None:
    file = LenientFile(Closed())
    assert file.write("words") == 5
    file.flush()
    assert file.encoding == "utf-8"


def caused_by(error: Exception) -> Exception:
    try:
        try:
            raise error
        except Exception as first:
            raise ValueError("of a library") from first
    except ValueError as second:
        return second


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("std::bad_alloc"),
        OSError(12, "Cannot allocate memory"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("can't start new thread"),
        caused_by(MemoryError()),
    ],
)
def test_want_of_memory_is_told_apart(error: Exception) -> None:
    assert is_want_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("no"), ImportError("no"), OSError(2, "no"), None])
def test_other_errors_are_not(error: Exception | None) -> None:
    assert not is_want_of_memory(error)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not bound address space")
@pytest.mark.parametrize("megabytes", [400, 700, 1000, 1600, 2500])
def test_little_memory(megabytes: int, tmp_path: Path) -> None:
    """Whatever fails first, the command ends in words; with enough memory it works."""
    code = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({megabytes} * 2**20,) * 2)\n"
        "from seclcompress.__main__ import main\n"
        "sys.argv = ['seclcompress', 'convert', 'resnet152', '-o', 'out']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, "OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    if done.returncode == 0:
        assert (tmp_path / "out").is_dir()
        return
    assert done.returncode == 1, done.stderr[-2000:]
    assert "There is not enough memory" in done.stderr, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
