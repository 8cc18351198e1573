"""Layers with unusual uses: read, shared, transposed, traced, hooked, run many times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from seclcompress import networks
from seclcompress.count import check_rewritten, count_network
from seclcompress.inference import for_inference
from seclcompress.plan import LayerPlan, Plan, PlanOptions, fit_plan, make_plan, read_plan
from seclcompress.rewrite import rewrite_network, to_dense
from seclcompress.substitutions import StructuredConv, StructuredLinear
from seclcompress.taps import find_taps
from seclcompress.trace import trace_network


def planned(network: nn.Module, size: tuple[int, ...], **options: Any) -> Plan:
    """Plans and rewrites a network, and checks that the result has the plan's figures."""
    network.eval()
    trace = trace_network(network, size)
    plan = make_plan(network, trace, PlanOptions(**{"config": {"depth": 1}, **options}))
    count = count_network(network, trace, plan)
    assert count.columns["original"].parameters == sum(p.numel() for p in network.parameters())
    assert count.columns["original"].mult_adds == trace.total_mult_adds
    rewrite_network(network, plan)
    assert count.columns["auto"].parameters == sum(p.numel() for p in network.parameters())
    check_rewritten(network, count)
    return plan


def ran(layer: LayerPlan) -> list[tuple[object, ...]]:
    """Input size, output size and times of each of a layer's calls."""
    return [(calls.input_size, calls.output_size, calls.times) for calls in layer.calls]


def fates(plan: Plan) -> dict[str, str]:
    return {x.name: "rewritten" if x.action == "rewrite" else x.reason for x in plan.layers}


class Reads(nn.Module):
    """A network that reads one convolution's attribute and the weights of others.

    Some of the others are also called, some are not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 1)
        self.asked = nn.Conv2d(32, 32, 3, padding=1)
        self.read = nn.Conv2d(32, 32, 3, padding=1)
        self.taken = nn.Conv2d(32, 32, 3, padding=1)
        self.part = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.asked(self.stem(x)) / self.asked.out_channels
        x = self.read(x) + self.read.weight.mean()
        x = F.conv2d(x, self.taken.weight, self.taken.bias, padding=1)
        return self.part(x).mean((2, 3))


def test_weights_that_others_read() -> None:
    network = Reads()
    getter = nn.Module.__getattr__
    assert fates(planned(network, (3, 8, 8), head=True)) == {
        "stem": "the stem (the first convolution); --stem rewrites it too",
        "asked": "rewritten",
        "read": "its weights are read by the network itself",
        "taken": "its weights are read by the network itself",
        "part.0": "rewritten",
    }
    assert nn.Module.__getattr__ is getter
    network.train()(torch.randn(2, 3, 8, 8)).sum().backward()


def test_transposed_convolutions_are_kept_and_counted() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 32, 1), nn.ConvTranspose2d(32, 16, 2, stride=2), nn.Conv2d(16, 64, 3)
    )
    plan = planned(network, (3, 8, 8), head=True)
    assert fates(plan)["1"].startswith("a ConvTranspose2d upsamples: split in two, its pointwise")
    assert plan.layers[1].original.parameters == 32 * 16 * 4 + 16
    assert plan.layers[1].original.under("dense") == 8 * 8 * 32 * 16 * 4
    assert fates(plan)["2"] == "rewritten"


class Pyramid(nn.Module):
    """A network with a head that runs at two sizes, like RetinaNet's."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 1)
        self.head = nn.Conv2d(64, 64, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x)
        return {"large": self.head(x), "small": self.head(F.max_pool2d(x, 2))}


def test_a_head_at_several_sizes_is_rewritten_once_and_counted_at_each() -> None:
    network = Pyramid()
    plan = planned(network, (3, 8, 8), head=True)
    head = plan.layers[1]
    assert ran(head) == [((8, 8), (8, 8), 1), ((4, 4), (4, 4), 1)]
    assert head.original.under("dense") == (64 + 16) * 64 * 64 * 9
    assert head.cost.under("dense") == (64 + 16) * (64 * 64 + 64 * 9)
    assert head.cost.parameters == 64 * 9 + 2 * 64 + 64
    assert isinstance(network.head, StructuredConv)


def test_a_layer_that_runs_for_each_region() -> None:
    network = networks.build(networks.named_spec("maskrcnn_resnet50_fpn"), skeleton=True)
    trace = trace_network(network, (3, 800, 800))
    plan = make_plan(network, trace, PlanOptions())
    layers = {layer.name: layer for layer in plan.layers}
    mask = layers["roi_heads.mask_head.0.0"]
    assert ran(mask) == [((14, 14), (14, 14), 100)]
    assert mask.original.under("dense") == 100 * 14 * 14 * 256 * 256 * 9
    assert [times for _, _, times in ran(layers["rpn.head.conv.0.0"])] == [1, 1, 1, 1, 1]
    assert trace.assumed["nms"] == 2
    assert layers["roi_heads.mask_predictor.conv5_mask"].action == "keep"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("retinanet_resnet50_fpn", [f"backbone.body.layer{i}" for i in (1, 2, 3, 4)]),
        ("maskrcnn_resnet50_fpn_v2", [f"backbone.body.layer{i}" for i in (1, 2, 3, 4)]),
        ("fcn_resnet50", ["backbone.layer1", "backbone.layer4"]),
        ("r3d_18", [f"layer{i}" for i in (1, 2, 3, 4)]),
    ],
)
def test_attention_is_compared_in_the_backbone(name: str, expected: list[str]) -> None:
    spec = networks.named_spec(name)
    network = networks.build(spec, skeleton=True)
    assert find_taps(network, trace_network(network, networks.default_input_size(spec))) == expected


class Attention(nn.Module):
    """A transformer block with torch's packed attention, and an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 96, 4, stride=4)
        self.attention = nn.MultiheadAttention(96, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(96, 384), nn.GELU(), nn.Linear(384, 96))
        self.head = nn.Linear(96, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).mT
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head((x + self.mlp(x)).mean(1))


def test_linear_layers_on_demand(tmp_path: Path) -> None:
    assert [layer.name for layer in make(Attention()).layers] == ["patches"]
    network = Attention()
    plan = planned(network, (3, 16, 16), linear=True)
    found = fates(plan)
    assert found["attention"].startswith(
        "the packed projections of a MultiheadAttention are no layers"
    )
    assert found["attention.out_proj"] == "its weights are read by attention itself"
    assert found["mlp.0"] == found["mlp.2"] == "rewritten"
    assert (
        found["head"] == "the classifier (a Linear that makes the outputs); --head rewrites it too"
    )
    parameters = {layer.name: layer.original.parameters for layer in plan.layers}
    assert parameters["attention"] == 3 * (96 * 96 + 96), "its out_proj has an entry of its own"
    assert parameters["attention.out_proj"] == 96 * 96 + 96
    layer = next(layer for layer in plan.layers if layer.name == "mlp.0")
    assert ran(layer) == [((16,), (16,), 1)]
    assert layer.original.under("dense") == 16 * 96 * 384
    assert layer.cost.parameters == 2 * 384 + 384
    assert isinstance(network.mlp[0], StructuredLinear)
    x = torch.randn(2, 3, 16, 16)
    for other in (to_dense(network), for_inference(network, (3, 16, 16))):
        with torch.no_grad():
            torch.testing.assert_close(other.eval()(x), network.eval()(x), atol=1e-4, rtol=1e-4)
    assert type(to_dense(network).mlp[0]) is nn.Linear
    (tmp_path / "plan.json").write_text(plan.to_json(), encoding="utf-8")
    again = Attention().eval()
    trace = trace_network(again, (3, 16, 16))
    assert fit_plan(read_plan(tmp_path / "plan.json"), again, trace, "plan.json") == plan


def make(network: nn.Module) -> Plan:
    trace = trace_network(network, (3, 16, 16))
    return make_plan(network, trace, PlanOptions(config={"depth": 1}), may_be_empty=True)


def test_the_classifier_on_demand() -> None:
    plan = planned(Attention(), (3, 16, 16), linear=True, head=True)
    assert fates(plan)["head"] == "rewritten"


def test_a_transformer_whose_fast_path_reads_its_layers() -> None:
    layer = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True)
    network = nn.Sequential(nn.Conv1d(8, 64, 1), nn.Conv1d(64, 64, 9), nn.Flatten(2), layer)
    found = fates(planned(network, (8, 72), linear=True, head=True))
    assert found["3.linear1"] == "its weights are read by 3 itself"


def test_under_torch_fx() -> None:
    from conftest import Awkward

    torch.manual_seed(0)
    network = Awkward()
    plan = planned(fx.symbolic_trace(network), (3, 16, 16))
    assert "rewritten" in fates(plan).values()
    network.unused = nn.Identity()  # fx leaves out modules that do not run
    assert fates(plan) == fates(planned(network, (3, 16, 16)))


def test_old_weight_norm_and_hooks_are_kept_by_name() -> None:
    network = nn.Sequential(*[nn.Conv2d(n, 32, 3, padding=1) for n in (3, 32, 32, 32)])
    with pytest.warns(FutureWarning):
        torch.nn.utils.weight_norm(network[1])
    network[2].register_forward_hook(lambda module, args, output: output)
    found = fates(planned(network, (3, 8, 8), head=True))
    assert found["1"] == "the weight of this Conv2d is made from other parameters at every call"
    assert found["2"] == "it has hooks, which would be lost with it"
    assert found["3"] == "rewritten"


def test_a_mask_and_unique_values_are_taken_at_their_largest() -> None:
    class Picks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 8, 1), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x).flatten(2).mT
            return self.fc(x[x.sum(-1) > 0]) + self.fc(x[0][torch.where(x[0, :, 0] > 0)])

    trace = trace_network(Picks(), (3, 4, 4))
    assert trace.assumed == {"index by a mask": 1, "nonzero": 1}
    assert trace.mult_adds["fc"] == 2 * 16 * 8 * 5
