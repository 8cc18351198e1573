"""A layer's moments are its true errors, and its solvers end where the errors are smallest."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from seclcompress import substitutions
from seclcompress.errors import UsageError
from seclcompress.recover import pairs_of
from seclcompress.recover.moments import Moments
from seclcompress.recover.solve import correct, distance, solve
from seclcompress.substitutions import StructuredLayer
from seclcompress.substitutions.site import folded

LAYERS = {
    "plain": (lambda: nn.Conv2d(6, 8, 3, padding=1, bias=False), (6, 9, 7)),
    "stride": (lambda: nn.Conv2d(6, 8, (3, 5), stride=(2, 1), padding=(1, 2)), (6, 9, 8)),
    "reflect": (lambda: nn.Conv2d(6, 8, 3, padding=1, padding_mode="reflect"), (6, 9, 7)),
    "same": (lambda: nn.Conv2d(6, 8, 2, padding="same", dilation=2), (6, 9, 7)),
    "groups": (lambda: nn.Conv2d(6, 8, 3, groups=2), (6, 9, 7)),
    "1d": (lambda: nn.Conv1d(6, 8, 3, padding=1), (6, 9)),
    "3d": (lambda: nn.Conv3d(6, 8, 3, padding=1), (6, 4, 5, 3)),
    "linear": (lambda: nn.Linear(6, 8), (5, 6)),
}


def inputs(size: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(10, *size, generator=torch.Generator().manual_seed(seed)) + 0.3


def relative(mine: Tensor, theirs: Tensor, channel: int) -> float:
    """The error of outputs, by the definition."""
    over = [axis for axis in range(theirs.dim()) if axis != channel % theirs.dim()]
    about_mean = theirs - theirs.mean(over, keepdim=True)
    return float((mine - theirs).norm() / about_mean.norm())


def replaced(old: nn.Module, family: str, **options: object) -> StructuredLayer:
    torch.manual_seed(2)
    chosen = substitutions.get(family)
    return chosen.build(old, chosen.config(options)).eval()


def moments_of(old: nn.Module, theirs: Tensor, mine: Tensor | None) -> Moments:
    found = Moments(old)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for one in range(0, 10, 4):
            own = None if mine is None else mine[one : one + 4]
            found.add(theirs[one : one + 4], own, 10_000, generator)
    return found


@pytest.mark.parametrize("name", list(LAYERS))
@pytest.mark.parametrize("own", [False, True])
def test_the_error_is_that_of_the_outputs(name: str, own: bool) -> None:
    torch.manual_seed(0)
    make, size = LAYERS[name]
    old = make()
    new = replaced(old, "separable" if name != "linear" else "low_rank")
    theirs, other = inputs(size, 0), inputs(size, 1)
    mine = theirs + 0.5 * other if own else theirs
    found = moments_of(old, theirs, mine if own else None)
    far = distance(new, old)
    assert far is not None
    channel = -1 if name == "linear" else 1
    with torch.no_grad():
        expected = relative(new(mine), old(theirs), channel)
        assert found.error(far) == pytest.approx(expected, rel=1e-4)
        nearest = relative(old(mine), old(theirs), channel)
        assert found.error(torch.zeros_like(far)) == pytest.approx(nearest, rel=1e-4, abs=1e-6)

    before, after = solve(new, old, found, 60)
    assert before == pytest.approx(expected, rel=1e-4)
    with torch.no_grad():
        assert after == pytest.approx(relative(new(mine), old(theirs), channel), rel=1e-3)
    assert after < 0.95 * before


@pytest.mark.parametrize("name", ["plain", "stride", "groups", "1d", "3d"])
@pytest.mark.parametrize("own", [False, True])
def test_filters_and_matrix_apart_are_a_short_way_to_the_same_end(
    name: str, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer that hides its two parts is solved by its whole weight; the end is the same."""
    torch.manual_seed(0)
    make, size = LAYERS[name]
    old = make().double()
    theirs = inputs(size, 0).double()
    mine = theirs + 0.5 * inputs(size, 1).double() if own else None
    found = moments_of(old, theirs, mine)
    apart, whole = replaced(old, "separable"), replaced(old, "separable")
    assert apart.split_weight() is not None
    first = solve(apart, old, found, 40)
    monkeypatch.setattr(type(whole), "split_weight", lambda _self: None)
    monkeypatch.setattr(type(whole), "whole_weight", lambda self: _multiplied(self))
    second = solve(whole, old, found, 40)
    assert first == pytest.approx(second, rel=1e-6)
    for name_, value in whole.state_dict().items():
        torch.testing.assert_close(apart.state_dict()[name_], value, rtol=1e-3, atol=1e-4)


def _multiplied(layer: StructuredLayer) -> tuple[Tensor, Tensor | None, int]:
    filters, matrix = layer.depthwise.weight, layer.pointwise.make_weight()
    whole = matrix.reshape(*matrix.shape, *[1] * (filters.dim() - 2)) * filters.transpose(0, 1)
    return whole, layer.pointwise.bias, 1


def test_a_full_rank_replacement_becomes_exact_and_stays_it() -> None:
    torch.manual_seed(0)
    old = nn.Conv2d(6, 8, 3, padding=1)
    theirs = inputs((6, 9, 7), 0)
    found = moments_of(old, theirs, None)
    new = replaced(old, "low_rank", on="kernel", rank=8)
    assert solve(new, old, found, 500)[1] < 1e-3  # from random values

    exact = replaced(old, "low_rank", on="kernel", rank=8)
    fit = exact.fit(folded(old))
    assert fit is not None
    assert fit.left < 1e-5
    before, after = solve(exact, old, found, 200)
    assert after <= before < 1e-5
    with torch.no_grad():
        torch.testing.assert_close(exact(theirs), old(theirs), rtol=1e-4, atol=1e-5)


def test_a_kept_layer_takes_the_least_squares() -> None:
    """With hardly any ridge it is torch's own least squares; with much, the teacher's weights stay."""
    torch.manual_seed(0)
    old, new = nn.Linear(6, 8).double(), nn.Linear(6, 8).double()
    new.load_state_dict(old.state_dict())
    theirs = inputs((5, 6), 0).double()
    mine = (theirs + 0.5 * inputs((5, 6), 1)).tanh()
    found = moments_of(old, theirs, mine)
    correct(new, old, found, 1e9)
    torch.testing.assert_close(new.weight, old.weight, rtol=1e-6, atol=1e-6)
    new.load_state_dict(old.state_dict())
    before, after = correct(new, old, found, 1e-12)
    with torch.no_grad():
        targets = old(theirs).reshape(-1, 8)
    rows = torch.cat([mine.reshape(-1, 6), torch.ones(50, 1)], 1)
    best = torch.linalg.lstsq(rows, targets).solution
    torch.testing.assert_close(new.weight.detach(), best[:6].T, rtol=1e-4, atol=1e-4)
    assert after < 0.95 * before


def test_positions_are_drawn_alike_for_both_inputs() -> None:
    old = nn.Conv2d(6, 8, 3, padding=1)
    found = Moments(old)
    theirs = inputs((6, 9, 7), 0)
    with torch.no_grad():
        found.add(theirs, theirs.clone(), 5, torch.Generator().manual_seed(0))
    assert float(found.inputs[-1, -1]) == 50  # the ones of the bias count the patches
    assert found.lacked == 0
    assert not found.lacking.any()


def test_pairs_are_in_running_order() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(8, 3)
            self.second = nn.Conv2d(8, 8, 3, padding=1)
            self.first = nn.Conv2d(3, 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.second(self.second(self.first(x).relu()).relu())
            return self.last(x.mean((2, 3)))

    teacher, student = Net(), Net()
    student.second = replaced(teacher.second, "separable")
    images = torch.randn(2, 3, 8, 8)
    pairs = pairs_of(student, teacher, images, "T")
    assert [(pair.name, pair.rewritten, pair.calls) for pair in pairs] == [
        ("second", True, 2),
        ("last", False, 1),
    ]
    del teacher.second
    with pytest.raises(UsageError, match="--teacher T has no layer second, which the student has"):
        pairs_of(student, teacher, images, "T")
