"""torch's tools for deployment on a network that still has structured layers."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

import seclcompress
from seclcompress.plan import PlanOptions, make_plan
from seclcompress.rewrite import rewrite_network
from seclcompress.substitutions import StructuredLayer
from seclcompress.trace import trace_network


@pytest.fixture
def student() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(64, 64), nn.Linear(64, 10),
    ).eval()  # fmt: skip
    plan = make_plan(
        network, trace_network(network, (3, 9, 9)), PlanOptions(linear=True, config={"depth": 2})
    )
    return rewrite_network(network, plan).eval()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_torchscript_is_told_of_to_plain(student: nn.Module) -> None:
    x = torch.randn(2, 3, 9, 9)
    with pytest.raises(TypeError, match=r"Script seclcompress.to_plain\(network\)"):
        torch.jit.script(student)
    scripted = torch.jit.script(seclcompress.to_plain(student))
    torch.testing.assert_close(scripted(x), student(x), atol=1e-5, rtol=1e-4)
    assert any(isinstance(module, StructuredLayer) for module in student.modules())


def test_torch_fx_is_told_of_to_plain(student: nn.Module) -> None:
    with pytest.raises(TypeError, match=r"Trace seclcompress.to_plain\(network\), or make"):
        fx.symbolic_trace(student)
    plain = seclcompress.to_plain(student)
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(fx.symbolic_trace(plain)(x), student(x), atol=1e-5, rtol=1e-4)
