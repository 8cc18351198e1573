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
    *,
    decoupled: tuple[float, float] | None = None,
    standardise: bool = False,
) -> Tensor:
    """`α · 2T² · KL(teacher ‖ student at temperature T) + (1 − α) · cross-entropy`.

    The divergence may be replaced by its two parts with weights of their own
    (`decoupled_divergence`). Both logits may be standardised before they are divided by T.

    Args:
        logits: The student's logits, shape (batch, classes).
        teacher_logits: The teacher's logits, shape (batch, classes).
        targets: Class indices, shape (batch,), or probabilities, shape (batch, classes).
        alpha: The share α of the teacher; 0 gives plain cross-entropy.
        temperature: The temperature T (Hinton et al., 2015).
        label_smoothing: Label smoothing of the cross-entropy.
        decoupled: The weights of the parts on the target class and on the others, in place of the
            divergence.
        standardise: Whether to compare `standardised` logits.

    Returns:
        A scalar, the mean over the batch.
    """
    supervised = F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    if alpha == 0:
        return supervised
    if standardise:
        logits, teacher_logits = standardised(logits), standardised(teacher_logits)
    mine, theirs = logits / temperature, teacher_logits / temperature
    if decoupled is None:
        divergence = F.kl_div(
            F.log_softmax(mine, dim=1),
            F.log_softmax(theirs, dim=1),
            reduction="batchmean",
            log_target=True,
        )
    else:
        divergence = decoupled_divergence(mine, theirs, targets, *decoupled)
    return divergence * (alpha * 2 * temperature**2) + supervised * (1 - alpha)


def standardised(logits: Tensor) -> Tensor:
    """Logits with mean 0 and variance 1 over the classes of each image.

    A student then need not reach its teacher's range, but only its relations ("Logit Standardization in
    Knowledge Distillation", Sun et al., CVPR 2024; its base temperature is mostly 2). The variance has
    1e-5 added, so that logits that are all the same have a finite gradient.

    Args:
        logits: Shape (batch, classes).
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.layer_norm(wide, wide.shape[1:])


def decoupled_divergence(
    logits: Tensor,
    teacher_logits: Tensor,
    targets: Tensor,
    target_weight: float,
    others_weight: float,
) -> Tensor:
    """`a · TCKD + b · NCKD` of "Decoupled Knowledge Distillation" (Zhao et al., CVPR 2022).

    TCKD is the divergence of (p_t, 1 − p_t), the probabilities of the target class and of all others
    together; NCKD is that of the probabilities among the others. The ordinary divergence is TCKD +
    (1 − p_t of the teacher) · NCKD, so a sure teacher hides what it knows of the other classes. The
    paper calls the weights α and β.

    Args:
        logits: The student's logits ÷ temperature, shape (batch, classes).
        teacher_logits: The teacher's, likewise.
        targets: Class indices, shape (batch,); or the probabilities of at most two classes, as mixup and
            CutMix make them, shape (batch, classes): each of the two counts as the target with its
            share.
        target_weight: The weight a of TCKD.
        others_weight: The weight b of NCKD.

    Returns:
        A scalar, the mean over the batch.
    """
    if targets.is_floating_point():
        shares, classes = targets.topk(2, dim=1)
        parts = [
            _decoupled(logits, teacher_logits, which, target_weight, others_weight)
            for which in classes.unbind(1)
        ]
        return (torch.stack(parts, dim=1) * shares).sum(1).mean()
    return _decoupled(logits, teacher_logits, targets, target_weight, others_weight).mean()


def _decoupled(mine: Tensor, theirs: Tensor, targets: Tensor, a: float, b: float) -> Tensor:
    """The decoupled divergence of each image, shape (batch,)."""
    count = mine.shape[1]
    own = targets[:, None]
    others = (own + torch.arange(1, count, device=own.device)) % count  # all classes but the target

    def split(logits: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the target and the rest, (batch, 2), and among the rest."""
        logs = F.log_softmax(logits, dim=1)
        rest = logs.gather(1, others)
        binary = torch.cat([logs.gather(1, own), rest.logsumexp(1, keepdim=True)], dim=1)
        return binary, F.log_softmax(rest, dim=1)

    (binary, among), (their_binary, their_among) = split(mine), split(theirs)
    target = F.kl_div(binary, their_binary, reduction="none", log_target=True).sum(1)
    other = F.kl_div(among, their_among, reduction="none", log_target=True).sum(1)
    return a * target + b * other


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
