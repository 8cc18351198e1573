"""What structured maps are fitted to: random matrices, layers of networks, the log's examples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from seclcompress.resolve import is_folder, locate
from seclcompress.substitutions.fitting import split_kernel
from seclcompress.substitutions.site import CONVOLUTIONS, as_convolution


@dataclass(frozen=True)
class Goal:
    """A linear map, and the examples on which another one is compared with it.

    Attributes:
        name: What it is called in the results.
        kind: What it is an example of: `random`, `log`, or the network's name.
        matrix: The map's matrix, shape (N, N), float64.
        inputs: Shape (examples, N); the unit vectors where all of the matrix is compared.
        outputs: Shape (examples, N).
        bias: Whether the maps have a bias.
    """

    name: str
    kind: str
    matrix: Tensor
    inputs: Tensor
    outputs: Tensor
    bias: bool = False

    @property
    def size(self) -> int:
        """The matrix's side N."""
        return self.matrix.shape[0]

    @property
    def is_matrix(self) -> bool:
        """Whether the matrix itself is compared, for which there are closed forms."""
        return self.kind != "log"


def _of_matrix(name: str, kind: str, matrix: Tensor) -> Goal:
    unit = torch.eye(matrix.shape[1], dtype=matrix.dtype)
    return Goal(name, kind, matrix, unit, matrix.mT.contiguous())


def random_goal(size: int, seed: int) -> Goal:
    """A matrix of independent Gaussian entries of variance 1 ÷ N."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, size, generator=generator, dtype=torch.float64) / math.sqrt(size)
    return _of_matrix(f"random-{seed}", "random", matrix)


def log_goal(size: int, seed: int, *, bias: bool, examples: int = 100) -> Goal:
    """The research log's problem.

    By the authors' program (linear_layer_approx.py in their repository of ACDC layers), a new
    `nn.Linear` maps 100 examples with entries between 0 and 1, and the mean squared error on these
    very examples is minimised. The inputs' variance is 1/12 and that of the matrix's entries 1/(3N).
    So the best constant output is expected to leave N · 1/12 · 1/(3N) = 1/36 = 0.0278, for every N.

    Args:
        size: N; 32 in the log.
        seed: Seed of the map and of the examples.
        bias: Whether the fitted map has a bias: in the log those of grouped maps and blocks had.
        examples: Number of examples.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        linear = nn.Linear(size, size, dtype=torch.float64)
        inputs = torch.rand(examples, size, dtype=torch.float64)
    with torch.no_grad():
        outputs = linear(inputs)
    name = f"log-{seed}" + ("-bias" if bias else "")
    return Goal(name, "log", linear.weight.detach(), inputs, outputs, bias)


def network_goals(given: str, size: int, count: int) -> list[Goal]:
    """Square layers of a network, evenly spaced over its depth.

    Args:
        given: A network's name, with fresh weights; NAME=FILE with those of a file; or a saved folder.
        size: N, the number of inputs and of outputs.
        count: How many layers.

    Returns:
        The matrices of Linears and 1×1 convolutions, and those that `split_kernel` finds in larger
        ones; fewer than `count` where the network has fewer, none where it has none.
    """
    name, _, weights = given.partition("=")
    typed = Path(given) if Path(given).is_dir() else name
    located = locate(typed, weights=weights or None)
    network, _ = located.load(seed=0)
    fresh = "" if weights or is_folder(typed) else " (fresh)"
    there = [
        (place, module)
        for place, module in network.named_modules()
        if isinstance(module, (nn.Linear, *CONVOLUTIONS.values())) and _is_square(module, size)
    ]
    kind = f"{located.network.name}{fresh}"
    found = []
    for number in range(min(count, len(there))):
        place, module = there[len(there) * (2 * number + 1) // (2 * min(count, len(there)))]
        found.append(_of_matrix(f"{kind} {place}", kind, _matrix(module)))
    return found


def _is_square(module: nn.Module, size: int) -> bool:
    conv = as_convolution(module)
    return conv.groups == 1 and conv.in_channels == conv.out_channels == size


def _matrix(module: nn.Module) -> Tensor:
    conv = as_convolution(module)
    space, matrix = split_kernel(conv)
    if all(side == 1 for side in conv.kernel_size):  # nothing was split
        matrix = matrix * space.reshape(-1)
    return matrix.double()
