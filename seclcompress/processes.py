"""Several processes that train together, as torchrun starts them. A single process needs no torchrun."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from seclcompress.errors import UsageError


@dataclass(frozen=True)
class Processes:
    """This process and the number of processes that train together.

    Attributes:
        rank: The number of this process, from 0. Process 0 writes files and prints.
        size: The number of processes.
        device: The device on which this process computes.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """Sums a tensor over all processes, in place; with one process it is returned unchanged."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Copies tensors, such as batch norm's running statistics, from process 0 to all others."""
        if self.size > 1:
            for tensor in tensors:
                # A copy: it is contiguous, and copied back in a way that autograd and caches notice.
                theirs = tensor.detach().clone(memory_format=torch.contiguous_format)
                dist.broadcast(theirs, 0)
                with torch.no_grad():
                    tensor.copy_(theirs)

    def wait(self) -> None:
        """Waits until all processes have reached this call."""
        if self.size > 1:
            dist.barrier()


#: The kinds of device that are named to a person; torch may know others.
_DEVICES = ("cpu", "cuda", "mps", "xpu")


def rank() -> int:
    """This process's rank, from torchrun's environment variable; 0 without it."""
    return int(os.environ.get("RANK", "0"))


def check_device(device: str) -> None:
    """Checks that torch can compute on a device.

    Raises:
        UsageError: If it cannot.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        kind = device.partition(":")[0]
        if kind not in _DEVICES:
            reason = f"it takes {', '.join(_DEVICES)}, or one by its number, as cuda:1."
        else:
            reason = (
                f"{str(error).strip().splitlines()[0].rstrip('.')}. Without it the CPU computes."
            )
        raise UsageError(f"--device {device}: {reason}") from error


@contextlib.contextmanager
def join(device: str) -> Iterator[Processes]:
    """Joins the processes that torchrun started, for the duration of the block.

    Args:
        device: As in `--device`; with several processes, `cuda` becomes this process's own GPU.

    Yields:
        This process's place among them.

    Raises:
        UsageError: If the environment asks for several processes and they cannot be joined.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Processes(device=device)
        return
    if device.startswith("cuda:"):
        raise UsageError(f"--device {device}: with several processes say --device cuda.")
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        try:
            torch.cuda.set_device(device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UsageError(
                f"--device cuda: process {rank()} has no {device}: {reason}"
            ) from error
    backend = "nccl" if device.startswith("cuda") else "gloo"
    try:
        dist.init_process_group(backend)
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            f"WORLD_SIZE={size} in the environment asks for several processes, but they cannot be "
            f"joined: {error}. Start them with torchrun."
        ) from error
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
