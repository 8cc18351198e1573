"""Networks in torch on their way to a file: example images, float16 inside, outputs as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from seclcompress.export.contract import Array, Runner
from seclcompress.torch_private import tree_leaves
from seclcompress.trace import floating_dtype


class InHalves(nn.Module):
    """A network that computes in float16 and takes and returns float32.

    Args:
        network: The network; it is changed to float16.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.half()

    def forward(self, images: Tensor) -> Any:
        """Maps what the network maps."""
        out = self.network(images.half())
        if isinstance(out, Tensor):
            return out.float()
        if isinstance(out, Mapping):
            return {name: value.float() for name, value in out.items()}
        return tuple(value.float() for value in out)


def example(network: nn.Module, input_size: tuple[int, ...], batch: int, seed: int = 0) -> Tensor:
    """Random images as a network takes them, shape (batch, *input_size)."""
    images = torch.randn(batch, *input_size, generator=torch.Generator().manual_seed(seed))
    return images if isinstance(network, InHalves) else images.to(floating_dtype(network))


def runner_of(network: nn.Module, layout: torch.memory_format = torch.preserve_format) -> Runner:
    """Runs a network in torch, in the network's dtype, from and to float32 arrays.

    Args:
        network: The network, in eval mode.
        layout: The memory layout of its images.
    """
    dtype = floating_dtype(network)

    def run(images: Array) -> list[Array]:
        with torch.inference_mode():
            shown = torch.from_numpy(images).to(dtype, memory_format=layout)
            outputs = tree_leaves(network(shown))
        return [one.float().numpy() for one in outputs if isinstance(one, Tensor)]

    return run
