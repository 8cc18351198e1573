"""Several processes that train together, as torchrun starts them; or one, which needs none of this."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from seclcompress.errors import UsageError


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is.

    Attributes:
        rank: From 0; the one that writes and speaks.
        size: How many there are.
        device: Where this one computes.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes; on one, the values themselves."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def share_buffers(self, network: nn.Module) -> None:
        """Gives all processes the first one's buffers, such as batch norm's running statistics."""
        if self.size > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, 0)

    def wait(self) -> None:
        """Waits until all processes are here."""
        if self.size > 1:
            dist.barrier()


def rank() -> int:
    """This process's rank, as torchrun says in the environment; 0 without it. Needs no torch."""
    return int(os.environ.get("RANK", "0"))


def check_device(device: str) -> None:
    """Makes sure that torch has this device.

    Raises:
        UsageError: If it has not.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"--device {device}: {reason}") from error


@contextlib.contextmanager
def join(device: str) -> Iterator[Processes]:
    """Joins the processes that torchrun started, for as long as the block runs.

    Args:
        device: As in `--device`; `cuda` becomes this process's own GPU.

    Raises:
        UsageError: If the environment speaks of several processes and they cannot be joined.
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
