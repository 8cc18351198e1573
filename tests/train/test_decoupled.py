"""Decoupled knowledge distillation and standardised logits: closed forms, identities, and in a run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import digits, distiller, same_weights
from torch import Tensor
from torch.nn import functional as F

from seclcompress.losses import decoupled_divergence, knowledge_distillation, standardised


def pair(seed: int, batch: int, classes: int, spread: float) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    s, t = (
        torch.randn(batch, classes, generator=generator, dtype=torch.float64) * spread
        for _ in range(2)
    )
    return s, t, torch.randint(classes, (batch,), generator=generator)


def as_in_the_paper(s: Tensor, t: Tensor, y: Tensor, a: float, b: float) -> float:
    """Sums over images and classes, equations 1 to 6."""
    total = 0.0
    for mine, theirs, target in zip(s.softmax(1), t.softmax(1), y.tolist(), strict=True):
        p, q = theirs.tolist(), mine.tolist()
        rest_p, rest_q = 1 - p[target], 1 - q[target]
        tckd = p[target] * math.log(p[target] / q[target]) + rest_p * math.log(rest_p / rest_q)
        others = [i for i in range(len(p)) if i != target]
        nckd = sum(p[i] / rest_p * math.log((p[i] / rest_p) / (q[i] / rest_q)) for i in others)
        total += a * tckd + b * nckd
    return total / len(y)


def test_by_hand() -> None:
    """Probabilities ½, ¼, ¼ of the teacher and ¼, ¼, ½ of the student; the class is the first."""
    t, s = torch.tensor([[2.0, 1.0, 1.0]]).log(), torch.tensor([[1.0, 1.0, 2.0]]).log()
    y = torch.tensor([0])
    tckd = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    nckd = 0.5 * math.log(3 / 2) + 0.5 * math.log(3 / 4)
    assert float(decoupled_divergence(s, t, y, 1, 0)) == pytest.approx(tckd, rel=1e-5)
    assert float(decoupled_divergence(s, t, y, 0, 1)) == pytest.approx(nckd, rel=1e-5)
    assert float(decoupled_divergence(s, t, y, 3, 8)) == pytest.approx(
        3 * tckd + 8 * nckd, rel=1e-5
    )


SHAPES = {
    "seed": st.integers(0, 2**32 - 1),
    "batch": st.integers(1, 5),
    "classes": st.integers(2, 7),
    "spread": st.sampled_from([0.1, 1.0, 5.0]),
}


@settings(max_examples=60, deadline=None)
@given(**SHAPES, a=st.floats(0, 10), b=st.floats(0, 10))
def test_the_papers_sums(
    seed: int, batch: int, classes: int, spread: float, a: float, b: float
) -> None:
    s, t, y = pair(seed, batch, classes, spread)
    found = float(decoupled_divergence(s, t, y, a, b))
    assert found == pytest.approx(as_in_the_paper(s, t, y, a, b), rel=1e-6, abs=1e-9)
    assert found >= -1e-12
    assert float(decoupled_divergence(t, t, y, a, b)) == pytest.approx(0, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(**SHAPES)
def test_its_parts_are_the_ordinary_divergence(
    seed: int, batch: int, classes: int, spread: float
) -> None:
    """KL = TCKD + (1 − the teacher's probability of the class) · NCKD, image by image."""
    s, t, y = pair(seed, batch, classes, spread)
    for image in range(batch):
        one, other, label = s[image : image + 1], t[image : image + 1], y[image : image + 1]
        rest = 1 - float(other.softmax(1)[0, label])
        whole = F.kl_div(one.log_softmax(1), other.log_softmax(1), log_target=True, reduction="sum")
        found = decoupled_divergence(one, other, label, 1.0, rest)
        assert float(found) == pytest.approx(float(whole), rel=1e-6, abs=1e-9)


def test_of_two_classes_there_is_no_other_part() -> None:
    s, t, y = pair(0, 4, 2, 1.0)
    assert float(decoupled_divergence(s, t, y, 0, 8)) == pytest.approx(0, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_of_mixed_images_each_class_has_its_share(share: float, seed: int) -> None:
    s, t, y = pair(seed, 3, 5, 1.0)
    other = (y + 1) % 5
    mixed = share * F.one_hot(y, 5).double() + (1 - share) * F.one_hot(other, 5).double()
    expected = share * decoupled_divergence(s, t, y, 1, 8) + (1 - share) * decoupled_divergence(
        s, t, other, 1, 8
    )
    torch.testing.assert_close(decoupled_divergence(s, t, mixed, 1, 8), expected)


def test_large_logits_stay_finite() -> None:
    """A teacher that is sure beyond single precision."""
    s = torch.tensor([[300.0, -300.0, 0.0]], requires_grad=True)
    t = torch.tensor([[-200.0, 200.0, 0.0]])
    loss = decoupled_divergence(s, t, torch.tensor([1]), 1.0, 8.0)
    loss.backward()
    assert loss.isfinite()
    assert s.grad is not None
    assert bool(s.grad.isfinite().all())


def test_in_the_loss_it_takes_the_divergences_place() -> None:
    s, t, y = pair(3, 6, 4, 1.0)
    found = knowledge_distillation(s, t, y, 0.9, 4.0, 0.1, decoupled=(1.0, 8.0))
    part = decoupled_divergence(s / 4, t / 4, y, 1.0, 8.0)
    expected = 0.9 * 2 * 16 * part + 0.1 * F.cross_entropy(s, y, label_smoothing=0.1)
    torch.testing.assert_close(found, expected)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(0.5, 50), shift=st.floats(-20, 20))
def test_standardised_logits_know_no_scale_and_shift(seed: int, scale: float, shift: float) -> None:
    s, t, y = pair(seed, 4, 6, 3.0)
    found = standardised(s)
    assert found.mean(1).abs().max() < 1e-9
    torch.testing.assert_close(
        found.var(1, correction=0), torch.ones(4, dtype=torch.float64), rtol=1e-3, atol=0
    )
    by_hand = (s - s.mean(1, keepdim=True)) / s.std(1, correction=0, keepdim=True)
    torch.testing.assert_close(found, by_hand, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(standardised(s * scale + shift), found, rtol=1e-3, atol=1e-4)
    for decoupled in (None, (1.0, 8.0)):
        how = {"decoupled": decoupled, "standardise": True}
        loss = knowledge_distillation(t * scale + shift, t, y, 1.0, 2.0, **how)
        assert float(loss) == pytest.approx(0, abs=1e-4)
    same = knowledge_distillation(standardised(s), standardised(t), y, 1.0, 2.0)
    torch.testing.assert_close(knowledge_distillation(s, t, y, 1.0, 2.0, standardise=True), same)


def test_the_classes_are_learnt_from_the_logits_as_they_are() -> None:
    s, t, y = pair(5, 4, 6, 3.0)
    for alpha in (0.0, 1e-12):
        loss = knowledge_distillation(s, t, y, alpha, 2.0, standardise=True)
        torch.testing.assert_close(loss, F.cross_entropy(s, y))


def test_logits_that_are_all_the_same_have_a_finite_gradient() -> None:
    s = torch.zeros(2, 5, requires_grad=True)
    loss = knowledge_distillation(
        s, torch.randn(2, 5), torch.tensor([0, 1]), 0.9, 2.0, standardise=True
    )
    loss.backward()
    assert s.grad is not None
    assert float(s.grad.abs().max()) < 1e4


def test_half_precision_is_standardised_in_single() -> None:
    assert standardised(torch.randn(2, 5).half()).dtype == torch.float32
    assert standardised(torch.randn(2, 5).double()).dtype == torch.float64


def test_the_weights_and_the_standardisation_change_a_run(tmp_path: Path) -> None:
    data = digits()
    ends = []
    for number, how in enumerate(
        (
            {},
            {"kd": "dkd"},
            {"kd": "dkd", "dkd_target": 2.0},
            {"kd": "dkd", "dkd_others": 2.0},
            {"standardize_logits": True},
            {"kd": "dkd", "standardize_logits": True, "mixup": 0.4},
        )
    ):
        run = distiller(tmp_path / str(number), data, beta=0.0, lr=0.01, batch_size=200, **how)
        run.run()
        ends.append(run.network)
    for number, one in enumerate(ends):
        assert not any(same_weights(one, other) for other in ends[:number])
