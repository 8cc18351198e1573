"""Losses: attention transfer, knowledge distillation, and decay of a product of factors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

#: Weights of the outputs behind the first, as in torchvision's reference training of Inception.
AUXILIARY_WEIGHT = 0.4


def attention_map(x: Tensor) -> Tensor:
    """Where a layer is active, whatever its channels (Zagoruyko & Komodakis, ICLR 2017).

    Args:
        x: Shape (batch, channels, *spatial).

    Returns:
        Shape (batch, positions): the mean over channels of x², normalised to length 1.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))  # squares of halves lose digits
    return F.normalize(x.square().mean(dim=1).flatten(1))


def attention_transfer(student: Sequence[Tensor], teacher: Sequence[Tensor], beta: float) -> Tensor:
    """`β · 3 ÷ taps · Σ_taps mean((Q_s − Q_t)²)`.

    The factor keeps the sum's size whatever the number of taps; with the three taps of a wide
    residual network it is β alone (Crowley et al., "Moonshine", 2018, with β = 1000).

    Args:
        student: The student's attention maps, each (batch, positions).
        teacher: The teacher's, of the same sizes.
        beta: The weight.

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
        logits: The student's, shape (batch, classes).
        teacher_logits: The teacher's, shape (batch, classes).
        targets: Class indices, shape (batch,), or probabilities, shape (batch, classes).
        alpha: The teacher's share; 0 leaves plain cross-entropy.
        temperature: T (Hinton et al., 2015).
        label_smoothing: Of the cross-entropy.

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
    """`λ/2 · Σ ‖W‖²_F` over the matrices that factors multiply to (Khodak et al., ICLR 2021).

    Its gradient is what weight decay λ on a dense W would be, carried to the factors.

    Args:
        matrices: W of each structured layer.
        weight_decay: λ.
    """
    energies = [matrix.float().square().sum() for matrix in matrices]
    return torch.stack(energies).sum() * (weight_decay / 2) if energies else torch.zeros(())
