"""Batch norm synchronised over processes equals torch's batch norm."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from seclcompress.train.batch_norm import SynchronisedBatchNorm, restore, synchronise


@pytest.fixture
def alone(tmp_path: Path):
    """A process group of one process, in which a sum over processes changes nothing."""
    if not dist.is_available():
        pytest.skip("this torch has no torch.distributed")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("affine", [True, False])
def test_synchronised_batch_norm_is_batch_norm(alone, momentum, affine) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.BatchNorm2d(3, momentum=momentum, affine=affine))
    other = nn.Sequential(nn.BatchNorm2d(3, momentum=momentum, affine=affine))
    names = list(other.state_dict())
    synchronise(other)
    assert isinstance(other[0], SynchronisedBatchNorm)
    assert list(other.state_dict()) == names
    for _ in range(3):
        x = torch.randn(4, 3, 5, 5) * 3 + 7
        one, two = x.clone().requires_grad_(), x.clone().requires_grad_()
        weight = torch.randn(4, 3, 5, 5)
        (plain(one) * weight).sum().backward()
        (other(two) * weight).sum().backward()
        torch.testing.assert_close(one.grad, two.grad, atol=1e-5, rtol=1e-4)
    restore(other)
    assert isinstance(other[0], nn.BatchNorm2d)
    for a, b in zip(plain.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)
    if affine:
        torch.testing.assert_close(plain[0].weight.grad, other[0].weight.grad)
    torch.testing.assert_close(plain.eval()(x), other.eval()(x))
