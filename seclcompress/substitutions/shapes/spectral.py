"""Stacks of layers that multiply by (block-)diagonal matrices before and behind a transform.

    y = fold( expand(x) · Π_l A_l T [Q] D_l T⁻¹ P )                      order `acdc`
    y = fold( expand(x) · Π_l P T D_l [Q] T⁻¹ A_l )                      order `transposed`

`T` is the orthonormal DCT-II (ACDC), or the Fourier transform with complex A and D, of which the real
part is taken at the end of the stack (AFDF; Moczulski et al., ICLR 2016, section 3). `P` is a
permutation, and `Q`, if it is asked for, a riffle. Both may be inverted. With a block size b above 1, A
and D are block-diagonal with blocks of b × b (the research log's BDACDC and BDAFDF).

`seclcompress.stack` has the case that the SECL paper describes, which the fused kernel runs as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from seclcompress.cost import EXECUTIONS
from seclcompress.stack import (
    FFT_FROM_LENGTH,
    product_in_pairs,
    stack_mult_adds,
    stack_parameters,
    vector_cost,
)
from seclcompress.substitutions.graph import GraphWriter
from seclcompress.substitutions.shapes.permutation import Permutation, PermutationKind
from seclcompress.substitutions.shapes.pointwise import FactoredPointwise
from seclcompress.substitutions.shapes.precision import at_least_float32, without_autocast
from seclcompress.substitutions.shapes.quickest import quickest
from seclcompress.substitutions.shapes.spectral_graph import write_stack
from seclcompress.substitutions.shapes.spectral_real import run_fourier
from seclcompress.substitutions.site import Convolution
from seclcompress.transforms import (
    dct,
    dct_matrix,
    expand,
    fold,
    idct,
    next_fast_length,
    riffle,
    unriffle,
)

Order: TypeAlias = Literal["acdc", "transposed"]
#: The search for a fast length would take too long beyond.
WIDEST = 2**20
#: Up to this length W is made in pairs on a GPU; beyond, the layers' matrices take too much memory.
IN_PAIRS_TO_LENGTH = 1024
_MOST_IN_PAIRS = 2**26
#: Blocks may have as many numbers as so many N×N matrices; fewer than one would be useful.
_MOST_MATRICES = 4


@dataclass(frozen=True)
class Form:
    """What a stack's layers look like.

    Attributes:
        fourier: Whether T is the Fourier transform; otherwise it is the DCT.
        depth: Number L of layers.
        block: The size b of the blocks of A and D; 1 for diagonals.
        order: The order of the factors in a layer, see the module's first lines.
        permutation: The kind of P.
        permutation_seed: The seed of a random P.
        extra_riffle: Whether there is a riffle Q between the transforms.
        inverse_riffle: Whether P and Q are inverted.
    """

    fourier: bool = False
    depth: int = 12
    block: int = 1
    order: Order = "acdc"
    permutation: PermutationKind = "riffle"
    permutation_seed: int = 0
    extra_riffle: bool = False
    inverse_riffle: bool = False

    @property
    def is_papers(self) -> bool:
        """Whether it is the SECL paper's stack, or that with the log's extra riffle."""
        return self == Form(depth=self.depth, extra_riffle=self.extra_riffle)

    def length(self, conv: Convolution) -> int:
        """N: the larger channel count, rounded up to whole blocks, and to a fast length of blocks."""
        return self.block * next_fast_length(math.ceil(widest(conv) / self.block))

    def refusal(self, conv: Convolution) -> str | None:
        """Why no such stack can replace the pointwise part of a convolution; None if it can."""
        if widest(conv) > WIDEST:
            return f"it has {widest(conv):,} channels; a stack takes at most {WIDEST:,}"
        if self.block > widest(conv):
            return f"blocks of {self.block} are larger than its {widest(conv)} channels"
        length = self.length(conv)
        # A stranger's file must not make a small layer fill the memory.
        if self.block > 1 and self.parameters(length) > _MOST_MATRICES * length**2:
            return (
                f"{self.depth} layers with blocks of {self.block} have "
                f"{self.parameters(length):,} numbers, more than {_MOST_MATRICES} matrices of "
                f"{length}×{length}"
            )
        return None

    def note(self, conv: Convolution) -> str:
        """Says where a stack is longer than the channels are many; empty where it is not."""
        length, channels = self.length(conv), widest(conv)
        if length == channels:
            return ""
        if self.block > 1:
            return f"N is {length}, as {channels} is not a fast number of blocks of {self.block}"
        return f"N is {length}, as {channels} has a large prime factor"

    def parameters(self, length: int) -> int:
        """`2NLb` real numbers; twice as many for complex ones."""
        return stack_parameters(length, self.depth) * self.block * (2 if self.fourier else 1)

    def mult_adds(self, length: int) -> int:
        """Mult-Adds at one position by fast transforms.

        With the DCT `L(4N + 2N(b − 1) + 5N log₂ N)`: the paper's formula, where a block takes b
        Mult-Adds for an entry instead of one. With the Fourier transform `L(8Nb + 10N log₂ N)`: a
        complex product takes four Mult-Adds, and a complex transform as much as two real ones. A
        layer's figure is rounded up.
        """
        if self.fourier:
            transforms = math.ceil(10 * length * math.log2(length))
            return self.depth * (8 * length * self.block + transforms)
        return stack_mult_adds(length, self.depth) + 2 * self.depth * length * (self.block - 1)

    def shape(self, length: int) -> tuple[int, ...]:
        """The shape of A, and of D, as they are stored: (L, N), or (L, N, numbers of a row).

        A row of a block has b numbers, or 2b where they are complex: real and imaginary parts in turns.
        (torch's channels_last layout wants tensors of four dimensions permuted and refuses five.)
        """
        row = self.block * (2 if self.fourier else 1)
        return (self.depth, length) if row == 1 else (self.depth, length, row)

    def factors(self, stored: Tensor) -> Tensor:
        """A, or D, as it multiplies, from how it is stored.

        Args:
            stored: Shape `shape(N)`, float32 or float64.

        Returns:
            Diagonals of shape (L, N), or blocks of shape (L, N ÷ b, b, b), complex if T is Fourier's.
        """
        if self.fourier:
            stored = torch.view_as_complex(stored.unflatten(-1, (-1, 2)).contiguous())
        if self.block == 1:
            return stored.squeeze(-1) if self.fourier else stored
        return stored.unflatten(1, (-1, self.block))

    def between(self, length: int, device: torch.device | str = "cpu") -> Permutation:
        """The permutation P, without its inversion."""
        return Permutation(self.permutation, length, self.permutation_seed, device)


def widest(conv: Convolution) -> int:
    """The larger number of channels."""
    return max(conv.in_channels, conv.out_channels)


class SpectralPointwise(FactoredPointwise):
    """A stack of such layers that maps the channels at every position.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        bias: The initial bias, or None.
        a: The initial factors A, of shape `form.shape(N)`.
        d: The initial factors D, of the same shape.
        form: What the layers look like.
        length: The length N.
    """

    executions = EXECUTIONS

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bias: Tensor | None,
        a: Tensor,
        d: Tensor,
        form: Form,
        length: int,
    ) -> None:
        super().__init__(in_channels, out_channels, bias)
        self.a, self.d = nn.Parameter(a), nn.Parameter(d)
        self.form, self.length = form, length
        self.between = form.between(length, a.device)

    def factors(self) -> list[nn.Parameter]:
        """The factors A and D."""
        return [self.a, self.d]

    def make_weight(self) -> Tensor:
        """Multiplies the stack out to a matrix of shape (out_channels, in_channels).

        The stack maps the unit vectors of its inputs to the columns, the transposed stack those of its
        outputs to the rows. The one with fewer vectors is run.
        """
        return self._multiplied_out()

    def make_weight_in_graph(self) -> Tensor:
        """Multiplies the stack out by products with the transform's matrix, in real arithmetic."""
        return self._multiplied_out(in_graph=True)

    def write_weight(self, graph: GraphWriter) -> Any:
        """Writes the stack of diagonals as products with small matrices, see `spectral_graph`."""
        form = self.form
        if form.fourier or form.block > 1 or form.extra_riffle:
            return None
        ends = self.in_channels, self.out_channels
        last = form.order == "transposed"
        inverse = form.inverse_riffle
        return write_stack(graph, self.a, self.d, self.between, *ends, inverse=inverse, last=last)

    def _multiplied_out(self, *, in_graph: bool = False) -> Tensor:
        with without_autocast(self.a):
            a, d = at_least_float32(self.a), at_least_float32(self.d)
            if not in_graph and self.multiplies_in_pairs():
                return self._multiply_in_pairs(a, d).to(self.a.dtype)
            by_rows = self.out_channels < self.in_channels
            ends = (self.in_channels, self.out_channels)
            start, end = ends[::-1] if by_rows else ends
            y = expand(torch.eye(start, dtype=a.dtype, device=a.device), self.length)
            if in_graph and self.form.fourier:
                permute = partial(self.between, inverse=by_rows)
                y = run_fourier(y, a, d, self.form.block, permute, transposed=by_rows)
            else:
                by_matrix = in_graph or self.length < FFT_FROM_LENGTH
                y = self._run(y, a, d, transposed=by_rows, by_matrix=by_matrix)
            found = fold(y, end)
            return (found if by_rows else found.mT.contiguous()).to(self.a.dtype)

    def multiplies_in_pairs(self) -> bool:
        """Whether W is made from all layers at once: on a GPU, where launches cost most."""
        numbers = self.form.depth * self.length**2  # of the matrices of all layers
        return self.a.is_cuda and self.length <= IN_PAIRS_TO_LENGTH and numbers <= _MOST_IN_PAIRS

    def _multiply_in_pairs(self, a: Tensor, d: Tensor) -> Tensor:
        """Makes W in a number of calls that grows with the logarithm of the depth.

        One call of each step makes the matrices of all layers, shape (L, N, N). `product_in_pairs`
        multiplies them. `expand` and `fold` add up rows and columns of the product.
        """
        unit = torch.eye(self.length, dtype=a.dtype, device=a.device)
        factors = (self.form.factors(stored).unsqueeze(1) for stored in (a, d))
        whole = product_in_pairs(self._layer(unit, *factors, by_matrix=True))
        whole = whole.real if self.form.fourier else whole
        of_inputs = fold(whole.mT, self.in_channels)
        return fold(of_inputs.mT, self.out_channels).mT.contiguous()

    def transform(self, x: Tensor) -> Tensor:
        """Applies the stack to vectors by fast transforms."""
        with without_autocast(x):
            a, d = at_least_float32(self.a), at_least_float32(self.d)
            y = self._run(expand(x.to(a.dtype), self.length), a, d)
            return fold(y, self.out_channels).to(x.dtype)

    def _run(
        self, y: Tensor, a: Tensor, d: Tensor, *, transposed: bool = False, by_matrix: bool = False
    ) -> Tensor:
        """Runs the layers, or those of the transposed stack, on vectors of shape (..., N).

        The transpose of a product is the product of the transposes in reverse order. So the layers run
        from the last to the first, in the other order, with inverted permutations and transposed blocks.
        `T D T⁻¹` is symmetric for the DCT; for the Fourier transform, T and T⁻¹ change places.
        """
        form = self.form
        a, d = form.factors(a), form.factors(d)
        if transposed:
            a, d = a.flip(0), d.flip(0)
            if form.block > 1:
                a, d = a.mT, d.mT
        for a_l, d_l in zip(a, d, strict=True):
            y = self._layer(y, a_l, d_l, transposed=transposed, by_matrix=by_matrix)
        return y.real if form.fourier else y

    def _layer(
        self, y: Tensor, a: Tensor, d: Tensor, *, transposed: bool = False, by_matrix: bool = False
    ) -> Tensor:
        """Runs one layer on vectors of shape (..., N); dimensions before the factors' are broadcast."""
        form = self.form
        behind = (form.order == "transposed") == transposed
        inverse = form.inverse_riffle != transposed
        y = self._times(y, a) if behind else self.between(y, inverse=inverse)
        y = self._there(y, transposed, by_matrix)
        if form.extra_riffle and behind:
            y = unriffle(y) if inverse else riffle(y)
        y = self._times(y, d)
        if form.extra_riffle and not behind:
            y = unriffle(y) if inverse else riffle(y)
        y = self._there(y, not transposed, by_matrix, back=True)
        return self.between(y, inverse=inverse) if behind else self._times(y, a)

    def _times(self, y: Tensor, factor: Tensor) -> Tensor:
        block = self.form.block
        if block == 1:
            return y * factor
        parts = y.to(factor.dtype).unflatten(-1, (-1, block))
        # ONNX lets no ellipsis stand for nothing beside one that stands for something.
        blocks = "gij" if factor.dim() == 3 else "...gij"
        return torch.einsum(f"...gi,{blocks}->...gj", parts, factor).flatten(-2)

    def _there(self, y: Tensor, other: bool, by_matrix: bool, *, back: bool = False) -> Tensor:
        """T, or its way back. `other` tells the Fourier transform from its inverse."""
        if self.form.fourier:
            return torch.fft.ifft(y) if other else torch.fft.fft(y)
        if by_matrix:
            c = dct_matrix(self.length, y.dtype, y.device)
            return y @ (c.mT if back else c)
        return idct(y) if back else dct(y)

    def quickest_in_training(self, positions: int) -> str:
        """The execution that makes a training step cheaper.

        `fast` runs the stack on all positions. `dense` runs it on the narrower side of the identity,
        which makes W, and multiplies W with all positions.
        """
        form = self.form
        vector = vector_cost(self.length, form.depth, fused=self.fused(self.a.dtype))
        vector *= 2 if form.fourier else 1
        vector += 2 * form.depth * self.length * (form.block - 1)
        narrower = min(self.in_channels, self.out_channels)
        matrix = narrower * vector + positions * self.in_channels * self.out_channels
        return quickest(positions * vector, matrix, narrower, 0)

    def extra_repr(self) -> str:
        """Channels, depth and length."""
        return f"{self.in_channels}, {self.out_channels}, depth={self.form.depth}, length={self.length}"
