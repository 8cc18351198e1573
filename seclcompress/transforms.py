"""The orthonormal DCT-II, its inverse, the riffle, expand and fold: pure functions on tensors.

All of them act along the last dimension. `C` in the comments is the orthonormal DCT-II matrix with
`x @ C == dct(x)` for row vectors, so `C⁻¹ = Cᵀ`.

The fast forms follow J. Makhoul, "A fast cosine transform in one and two dimensions", 1980. Put the
even entries first and the odd ones after them in reverse order (Makhoul's order), take one real FFT
of the same length N, and multiply its entry k by `w_k = exp(-iπk / 2N)`. The product has `X_k`, the
DCT's coefficient without its scale `s_k`, as real part and `-X_{N-k}` as imaginary part. So the half
spectrum of N // 2 + 1 complex numbers holds all N coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

_Table = Callable[[int, torch.dtype, torch.device], Tensor]

#: Prime factors of lengths that both FFTs in use (torch.fft and the fused kernel) transform fast.
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
    """Caches a function's tables by length, dtype and device.

    Tables are made outside of inference mode, because training cannot use tensors of that mode. A table
    made while torch traces a graph or captures a CUDA graph belongs to that graph, so it is not cached.
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
        device: The device of the matrix.

    Returns:
        Shape (N, N): `C[m, k] = s_k cos(π(2m + 1)k / 2N)`, `s_0 = √(1/N)`, else `√(2/N)`.
    """
    m = torch.arange(n, dtype=torch.float64, device=device)
    # The cosine has period 4N in this integer. Reducing it first keeps long transforms accurate.
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
    """The factors `w_k` of the half spectrum, shape (N // 2 + 1,), complex of `dtype`'s precision."""
    angle = torch.arange(n // 2 + 1, dtype=torch.float64, device=device) * (-math.pi / (2 * n))
    return torch.complex(torch.cos(angle).to(dtype), torch.sin(angle).to(dtype))


@_cached_table
def _turn_back(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The factors `1 / w_k`, as real memory: operators' kernels overlook torch's lazy conjugate bit."""
    return torch.conj_physical(_turn(n, dtype, device))


@_cached_table
def _mirror(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:  # noqa: ARG001
    """The coefficients in the half spectrum's two parts, `(k, (N - k) mod N)`, shape (N // 2 + 1, 2)."""
    k = torch.arange(n // 2 + 1, device=device)
    return torch.stack([k, torch.remainder(n - k, n)], dim=-1)


def riffle(x: Tensor) -> Tensor:
    """One perfect riffle shuffle: splits the entries in half and interleaves the halves.

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
    """Computes `idct(gain * dct(x))` on entries in Makhoul's order, before and after.

    The scales of the two transforms cancel. A gain of `X_k` is a gain of the real or imaginary parts
    that hold `X_k` in the half spectrum. So this saves reorderings and passes over memory.

    Args:
        x: Shape (..., N), float32 or float64: the even entries, then the odd ones from the last to
            the first.
        gain: Shape (N,), the diagonal `D` in `x C D C⁻¹`.

    Returns:
        Shape (..., N), in the same order.
    """
    return _leave_spectrum(_spectrum(x) * gain[_mirror(x.shape[-1], x.dtype, x.device)], x)


def _spectrum(x: Tensor) -> Tensor:
    """The half spectrum of ordered entries, times `w_k`, shape (..., N // 2 + 1, 2).

    Its real and imaginary parts are the unscaled coefficients that `_mirror` names, up to their sign.
    """
    return torch.view_as_real(torch.fft.rfft(x) * _turn(x.shape[-1], x.dtype, x.device))


def _leave_spectrum(parts: Tensor, x: Tensor) -> Tensor:
    """The inverse of `_spectrum`; the result has the last dimension of x."""
    turned_back = torch.view_as_complex(parts) * _turn_back(x.shape[-1], x.dtype, x.device)
    return torch.fft.irfft(turned_back, n=x.shape[-1])


def filter_gradients_ordered(x: Tensor, gain: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of `filter_ordered`.

    The filter's matrix `C D C⁻¹` is symmetric, so the gradient of x is the filtered `grad`. The gradient
    of a gain is the product of the DCT coefficients of x and `grad`, summed over all vectors.

    Args:
        x: The filter's input, shape (..., N).
        gain: Shape (N,).
        grad: The gradient of the filter's output, shape (..., N).

    Returns:
        The gradient of x, shape (..., N), and that of the gain, shape (N,).
    """
    n = x.shape[-1]
    mirror = _mirror(n, x.dtype, x.device)
    of_x, of_grad = _spectrum(x), _spectrum(grad)
    # The coefficients are unscaled, so their products lack s_k², which is 2/N, but 1/N for k = 0. For
    # even N the last entry holds X_{N/2} in both its parts, so each counts half.
    products = (of_x * of_grad).reshape(-1, *of_x.shape[-2:]).sum(0) * (2 / n)
    products[0] /= 2
    if n % 2 == 0:
        products[-1] /= 2
    of_gain = torch.zeros_like(gain).index_add_(0, mirror.flatten(), products.flatten())
    return _leave_spectrum(of_grad * gain[mirror], x), of_gain


def enter_order(x: Tensor) -> Tensor:
    """Reorders entries from natural order into Makhoul's. Shape (..., N) to (..., N)."""
    return _flip_second_half(unriffle(x))


def leave_order(x: Tensor) -> Tensor:
    """Reorders entries from Makhoul's order back into natural order. Shape (..., N) to (..., N)."""
    return riffle(_flip_second_half(x))


def riffle_ordered(x: Tensor) -> Tensor:
    """Does the same as `riffle` on entries in Makhoul's order, before and after.

    That is `leave_order`, `riffle`, `enter_order`. The first step of `enter_order` undoes a riffle, so
    one riffle and two flips of half a vector remain.
    """
    return _flip_second_half(riffle(_flip_second_half(x)))


def unriffle_ordered(x: Tensor) -> Tensor:
    """The inverse of `riffle_ordered`."""
    return _flip_second_half(unriffle(_flip_second_half(x)))


def expand(x: Tensor, length: int) -> Tensor:
    """Repeats the last dimension: entry i is `x[i mod c]`. Shape (..., c) to (..., length)."""
    channels = x.shape[-1]
    if channels == length:
        return x
    copies = math.ceil(length / channels)
    return x.repeat(*[1] * (x.dim() - 1), copies)[..., :length]


def fold(y: Tensor, channels: int) -> Tensor:
    """Adds up the entries whose indices agree modulo `channels`. Shape (..., N) to (..., channels)."""
    length = y.shape[-1]
    if channels == length:
        return y
    padded = torch.nn.functional.pad(y, (0, -length % channels))
    return padded.unflatten(-1, (-1, channels)).sum(-2)
