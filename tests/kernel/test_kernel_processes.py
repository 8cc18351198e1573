"""The fused kernel in forked processes, and beside other threads."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from compiled_kernel import RUNS_KERNEL
from dense_reference import (
    random_stack,
)
from new_process import words_of_a_new_process

from seclcompress import kernel

pytestmark = RUNS_KERNEL


def in_child(check: object) -> int:
    """Forks, runs check in the child, and returns its exit code; kills it after 20 seconds."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if check() else 1)  # type: ignore[operator]
        except BaseException:
            os._exit(2)
    for _ in range(2000):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_survives_fork() -> None:
    """A forked child computes the same, even if another thread was using the kernel."""
    torch.set_num_threads(3)
    a, d = random_stack(128, 4, torch.float32)
    x = torch.randn(2, 128, 100)
    y = kernel.acdc_stack(x, a, d, 128)
    stop = threading.Event()

    def keep_the_pool_busy() -> None:
        while not stop.is_set():
            kernel.acdc_stack(x, a, d, 128)

    thread = threading.Thread(target=keep_the_pool_busy)
    thread.start()
    try:
        codes = [
            in_child(lambda: torch.equal(kernel.acdc_stack(x, a, d, 128), y)) for _ in range(5)
        ]
    finally:
        stop.set()
        thread.join()
    assert codes == [0] * 5
    assert torch.equal(kernel.acdc_stack(x, a, d, 128), y)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="where threads have numbers")
def test_a_small_call_leaves_torchs_threads_alive() -> None:
    """GNU OpenMP ends the threads that a smaller team leaves out; torch would start them again."""
    code = """
import os, torch
from seclcompress import kernel
torch.set_num_threads(6)
product, small, (a, d) = torch.randn(700, 700), torch.randn(1, 24, 49), torch.randn(2, 1, 24)
def threads():
    return set(os.listdir("/proc/self/task"))
product @ product
before = threads()
for _ in range(3):
    kernel.acdc_stack(small, a, d, 24)
    product @ product
print(len(before) >= 6, len(before - threads()))
"""
    assert words_of_a_new_process(code) == ["True", "0"]


def test_concurrent_calls_agree() -> None:
    """Calls from several Python threads at once give the same results."""
    torch.set_num_threads(2)
    a, d = random_stack(128, 4, torch.float32)
    x = torch.randn(2, 128, 100)
    y = kernel.acdc_stack(x, a, d, 128)
    wrong = []

    def call() -> None:
        for _ in range(50):
            if not torch.equal(kernel.acdc_stack(x, a, d, 128), y):
                wrong.append(threading.get_ident())

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
