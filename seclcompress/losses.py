"""Losses: attention transfer, knowledge distillation, and penalties on weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

#: Weight of each auxiliary output, as in torchvision's reference training of Inception.
AUXILIARY_WEIGHT = 0.4


def attention_map(x: Tensor) -> Tensor:
    """The spatial attention map of a layer's output (Zagoruyko & Komodakis, ICLR 2017).

    Args:
        x: Shape (batch, channels, *spatial).

    Returns:
        Shape (batch, positions): the mean of x² over channels, normalised to unit length.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))  # squares lose digits in half precision
    return F.normalize(x.square().mean(dim=1).flatten(1))


def attention_transfer(student: Sequence[Tensor], teacher: Sequence[Tensor], beta: float) -> Tensor:
    """`β · 3 ÷ taps · Σ_taps mean((Q_s − Q_t)²)`.

    The factor 3 ÷ taps makes the size of the sum independent of the number of taps. With the three taps
    of a wide residual network it is 1 (Crowley et al., "Moonshine", 2018, with β = 1000).

    Args:
        student: The student's attention maps, each (batch, positions).
        teacher: The teacher's attention maps, of the same sizes.
        beta: The weight β.

    Returns:
        A scalar; 0 without taps.
    """
    if not student:
        return torch.zeros(())
    distances = [F.mse_loss(mine, theirs) for mine, theirs in zip(student, teacher, strict=True)]
    return torch.stack(distances).sum() * (beta * 3 / len(distances))


def knowledge_distillation(
    logits: Tensor,
    teacher_logits: Tensor,
    targets: Tensor,
    alpha: float,
    temperature: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """`α · 2T² · KL(teacher ‖ student at temperature T) + (1 − α) · cross-entropy`.

    Args:
        logits: The student's logits, shape (batch, classes).
        teacher_logits: The teacher's logits, shape (batch, classes).
        targets: Class indices, shape (batch,), or probabilities, shape (batch, classes).
        alpha: The share α of the teacher; 0 gives plain cross-entropy.
        temperature: The temperature T (Hinton et al., 2015).
        label_smoothing: Label smoothing of the cross-entropy.

    Returns:
        A scalar, the mean over the batch.
    """
    supervised = F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    if alpha == 0:
        return supervised
    divergence = F.kl_div(
        F.log_softmax(logits / temperature, dim=1),
        F.log_softmax(teacher_logits / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * (alpha * 2 * temperature**2) + supervised * (1 - alpha)


def product_decay(matrices: Iterable[Tensor], weight_decay: float) -> Tensor:
    """`λ/2 · Σ ‖W‖²_F` over the matrices W that are products of factors (Khodak et al., ICLR 2021).

    Its gradient with respect to W is λW, that of weight decay λ on W; the chain rule carries it to the
    factors.

    Args:
        matrices: The matrices W of the structured layers.
        weight_decay: The decay λ.

    Returns:
        A scalar; 0 without matrices.
    """
    energies = [matrix.float().square().sum() for matrix in matrices]
    return torch.stack(energies).sum() * (weight_decay / 2) if energies else torch.zeros(())


def asymmetry(weights: Iterable[Tensor], rho: float, norm: str) -> Tensor:
    """`ρ · Σ ‖W − Wᵀ‖` over weights W, where Wᵀ has its input and output channels exchanged.

    The soft constraint of Hu, Zagoruyko & Komodakis, "Exploring Weight Symmetry in Deep Neural
    Networks", 2018.

    Args:
        weights: Weights of convolutions, each (channels, channels, *kernel_size).
        rho: The weight ρ.
        norm: `l1`, the sum of absolute differences, or `l2`, the square root of the sum of squares.

    Returns:
        A scalar; 0 without weights.
    """
    order = {"l1": 1, "l2": 2}[norm]
    distances = [
        torch.linalg.vector_norm((weight - weight.transpose(0, 1)).float(), order)
        for weight in weights
    ]
    return torch.stack(distances).sum() * rho if distances else torch.zeros(())
