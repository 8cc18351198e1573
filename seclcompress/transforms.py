"""The orthonormal DCT-II, its inverse, the riffle, expand and fold: pure functions on tensors.

All of them act along the last dimension. `C` in the comments is the orthonormal DCT-II matrix with
`x @ C == dct(x)` for row vectors, so `C⁻¹ = Cᵀ`.

The fast forms follow J. Makhoul, "A fast cosine transform in one and two dimensions", 1980: with the
even entries first and the odd ones reversed behind them, one real FFT of the same length, turned by
`w_k = exp(-iπk / 2N)`, holds `X_k` in its real part and `-X_{N-k}` in its imaginary part.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

_Table = Callable[[int, torch.dtype, torch.device], Tensor]

#: Prime factors that the FFTs in use transform without padding (torch.fft and the fused kernel).
FAST_RADICES = (2, 3, 5, 7)


def next_fast_length(n: int) -> int:
    """The smallest length of at least `n` whose prime factors are all in `FAST_RADICES`.

    Args:
        n: A positive length.

    Returns:
        `n` itself where it is 7-smooth, otherwise the next 7-smooth number (88 gives 90).

    Raises:
        ValueError: If `n` is not positive.
    """
    if n < 1:
        raise ValueError(f"A transform needs a length of at least 1, got {n}.")
    while not _is_smooth(n):
        n += 1
    return n


def _is_smooth(n: int) -> bool:
    for radix in FAST_RADICES:
        while n % radix == 0:
            n //= radix
    return n == 1


def _cached_table(make: _Table) -> _Table:
    """Keeps one table a length, dtype and device, unless it would outlive the mode it was made in.

    A tensor made under inference mode could not be used in training later, and one made while a
    graph is being traced, or a CUDA graph captured, belongs to that graph.
    """
    tables: dict[tuple[int, torch.dtype, torch.device], Tensor] = {}

    @wraps(make)
    def table(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        if torch.compiler.is_compiling():
            return make(n, dtype, device)
        key = (n, dtype, device)
        found = tables.get(key)
        if found is None:
            with torch.inference_mode(False):
                found = make(n, dtype, device)
            capturing = torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()
            if type(found) is Tensor and not capturing:  # nor a FakeTensor
                tables[key] = found
        return found

    return table


@_cached_table
def dct_matrix(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The orthonormal DCT-II matrix `C`, with `x @ C == dct(x)`.

    Args:
        n: The length N of the transform.
        dtype: A floating-point type; the entries are computed in float64 and rounded once.
        device: Where the matrix is wanted.

    Returns:
        Shape (N, N): `C[m, k] = s_k cos(π(2m + 1)k / 2N)`, `s_0 = √(1/N)`, else `√(2/N)`.
    """
    m = torch.arange(n, dtype=torch.float64, device=device)
    # Reducing the integer argument modulo 4N first keeps the cosine exact for long transforms.
    steps = torch.remainder((2 * m[:, None] + 1) * m[None, :], 4 * n)
    matrix = torch.cos(steps * (math.pi / (2 * n)))
    return (matrix * _scale(n, torch.float64, device)).to(dtype)


@_cached_table
def _scale(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    scale = torch.full((n,), math.sqrt(2 / n), dtype=torch.float64, device=device)
    scale[0] = math.sqrt(1 / n)
    return scale.to(dtype)


@_cached_table
def _turn(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`w_k` for the half spectrum, shape (N // 2 + 1,), complex of `dtype`'s precision."""
    angle = torch.arange(n // 2 + 1, dtype=torch.float64, device=device) * (-math.pi / (2 * n))
    return torch.complex(torch.cos(angle).to(dtype), torch.sin(angle).to(dtype))


@_cached_table
def _turn_back(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`1 / w_k`, as numbers: a lazy conjugate is not seen as one inside of an operator's kernel."""
    return torch.conj_physical(_turn(n, dtype, device))


@_cached_table
def _mirror(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:  # noqa: ARG001
    """Where the half spectrum's real and imaginary parts lie: `(k, (N - k) mod N)`, (N//2+1, 2)."""
    k = torch.arange(n // 2 + 1, device=device)
    return torch.stack([k, torch.remainder(n - k, n)], dim=-1)


def riffle(x: Tensor) -> Tensor:
    """One perfect riffle shuffle: split in half, interleave.

    Args:
        x: Shape (..., N). For odd N the first half is the longer one.

    Returns:
        Shape (..., N): `x[0], x[h], x[1], x[h + 1], …` with `h = ⌈N / 2⌉`.
    """
    n = x.shape[-1]
    half = (n + 1) // 2
    first, second = x[..., :half], x[..., half:]
    paired = torch.stack([first[..., : n // 2], second], dim=-1).flatten(-2)
    return paired if n % 2 == 0 else torch.cat([paired, first[..., -1:]], dim=-1)


def unriffle(x: Tensor) -> Tensor:
    """The inverse of `riffle`: the even entries, then the odd ones. Shape (..., N) to (..., N)."""
    return torch.cat([x[..., ::2], x[..., 1::2]], dim=-1)


def _flip_second_half(x: Tensor) -> Tensor:
    half = (x.shape[-1] + 1) // 2
    return torch.cat([x[..., :half], x[..., half:].flip(-1)], dim=-1)


def dct(x: Tensor) -> Tensor:
    """The orthonormal DCT-II along the last dimension.

    Args:
        x: Shape (..., N), float32 or float64.

    Returns:
        Shape (..., N): `X_k = s_k Σ_m x_m cos(π(2m + 1)k / 2N)`.
    """
    n = x.shape[-1]
    spectrum = torch.fft.rfft(enter_order(x)) * _turn(n, x.dtype, x.device)
    lower, upper = spectrum.real, -spectrum.imag[..., 1 : (n + 1) // 2].flip(-1)
    return torch.cat([lower, upper], dim=-1) * _scale(n, x.dtype, x.device)


def idct(x: Tensor) -> Tensor:
    """The inverse of `dct` (the orthonormal DCT-III). Shape (..., N) to (..., N)."""
    n = x.shape[-1]
    x = x / _scale(n, x.dtype, x.device)
    lower = x[..., : n // 2 + 1]
    upper = torch.cat([torch.zeros_like(x[..., :1]), x[..., (n + 1) // 2 :].flip(-1)], dim=-1)
    spectrum = torch.complex(lower, -upper) * _turn_back(n, x.dtype, x.device)
    return leave_order(torch.fft.irfft(spectrum, n=n))


def filter_ordered(x: Tensor, gain: Tensor) -> Tensor:
    """`idct(gain * dct(x))` on entries that stand in Makhoul's order before and after.

    The scales of the two transforms cancel, and a gain of `X_k` is a gain of one real or imaginary
    part of the half spectrum, so reorderings and passes over memory are saved.

    Args:
        x: Shape (..., N), float32 or float64: the even entries, then the odd ones from the last to
            the first.
        gain: Shape (N,), the diagonal `D` in `x C D C⁻¹`.

    Returns:
        Shape (..., N), in the same order.
    """
    return _leave_spectrum(_spectrum(x) * gain[_mirror(x.shape[-1], x.dtype, x.device)], x)


def _spectrum(x: Tensor) -> Tensor:
    """The turned half spectrum of ordered entries, shape (..., N // 2 + 1, 2): where `_mirror` says."""
    return torch.view_as_real(torch.fft.rfft(x) * _turn(x.shape[-1], x.dtype, x.device))


def _leave_spectrum(parts: Tensor, x: Tensor) -> Tensor:
    """The inverse of `_spectrum`, to the shape and dtype of x."""
    turned_back = torch.view_as_complex(parts) * _turn_back(x.shape[-1], x.dtype, x.device)
    return torch.fft.irfft(turned_back, n=x.shape[-1])


def filter_gradients_ordered(x: Tensor, gain: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of `filter_ordered`.

    Args:
        x: Shape (..., N), what was filtered.
        gain: Shape (N,).
        grad: Shape (..., N), the gradient of the filter's output.

    Returns:
        The gradient of x, which is the filtered `grad`, and that of the gain, shape (N,).
    """
    n = x.shape[-1]
    mirror = _mirror(n, x.dtype, x.device)
    of_x, of_grad = _spectrum(x), _spectrum(grad)
    # By Parseval; the half spectrum holds all but the first and, for even N, the last entry twice.
    products = (of_x * of_grad).reshape(-1, *of_x.shape[-2:]).sum(0) * (2 / n)
    products[0] /= 2
    if n % 2 == 0:
        products[-1] /= 2
    of_gain = torch.zeros_like(gain).index_add_(0, mirror.flatten(), products.flatten())
    return _leave_spectrum(of_grad * gain[mirror], x), of_gain


def enter_order(x: Tensor) -> Tensor:
    """From natural order into Makhoul's. Shape (..., N) to (..., N)."""
    return _flip_second_half(unriffle(x))


def leave_order(x: Tensor) -> Tensor:
    """From Makhoul's order back into the natural one. Shape (..., N) to (..., N)."""
    return riffle(_flip_second_half(x))


def riffle_ordered(x: Tensor) -> Tensor:
    """`riffle` on entries that stand in Makhoul's order before and after.

    Entering the order undoes one riffle, so of `leave_order`, `riffle`, `enter_order` one riffle
    and two flips of half a vector remain.
    """
    return _flip_second_half(riffle(_flip_second_half(x)))


def unriffle_ordered(x: Tensor) -> Tensor:
    """The inverse of `riffle_ordered`."""
    return _flip_second_half(unriffle(_flip_second_half(x)))


def expand(x: Tensor, length: int) -> Tensor:
    """Repeats the last dimension up to `length`: entry i is `x[i mod c]`. Shape (..., c)."""
    channels = x.shape[-1]
    if channels == length:
        return x
    copies = math.ceil(length / channels)
    return x.repeat(*[1] * (x.dim() - 1), copies)[..., :length]


def fold(y: Tensor, channels: int) -> Tensor:
    """Adds up the entries of the last dimension that agree modulo `channels`. To (..., channels)."""
    length = y.shape[-1]
    if channels == length:
        return y
    padded = torch.nn.functional.pad(y, (0, -length % channels))
    return padded.unflatten(-1, (-1, channels)).sum(-2)
