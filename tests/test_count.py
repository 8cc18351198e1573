from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from thinned import ALIKE, slow_or_exhaustive
from torch import nn

from seclcompress import networks, resolve, substitutions
from seclcompress.count import Count, Totals, check_rewritten, count_network, dense_parameters
from seclcompress.errors import NetworkError, PlanError
from seclcompress.networks import torchvision_zoo
from seclcompress.plan import Plan, PlanOptions, make_plan
from seclcompress.rewrite import rewrite_network, to_dense
from seclcompress.trace import trace_network
from seclcompress.witness import fvcore_mult_adds, verify


def counted(name: str, **options: Any) -> tuple[Count, Plan]:
    source = resolve.locate(name)
    network = source.skeleton()
    trace = trace_network(network, source.input_size)
    plan = make_plan(network, trace, PlanOptions(**options))
    return count_network(network, trace, plan), plan


def figures(count: Count) -> dict[str, tuple[int, int]]:
    return {name: (c.parameters, c.mult_adds) for name, c in count.columns.items()}


#: docs/reference_counts.md: WRN(40,2) with stem, shortcuts and classifier kept.
SHORTCUTS = {"keep": ("*.shortcut",)}


def test_wrn40_2_with_twelve_layers() -> None:
    count, plan = counted("wrn40_2", **SHORTCUTS)
    assert figures(count) == {
        "original": (2_243_546, 327_599_360),
        "separable": (288_362, 44_127_488),
        "dense": (105_578, 44_127_488),
        "fast": (105_578, 271_013_120),
        "auto": (105_578, 44_127_488),
    }
    assert {layer.execution for layer in plan.rewritten} == {"dense"}


def test_wrn40_2_with_eleven_layers_and_with_one() -> None:
    count, _ = counted("wrn40_2", config={"depth": 11}, **SHORTCUTS)
    assert figures(count)["fast"] == (100_202, 249_091_328)
    assert figures(count)["auto"] == (100_202, 44_127_488)
    count, _ = counted("wrn40_2", config={"depth": 1}, **SHORTCUTS)
    assert count.columns["auto"].parameters == 46_442


def test_wrn28_10_of_the_log() -> None:
    """The research log's 555,498 parameters, with a depth of 11 and shortcuts kept."""
    count, _ = counted("wrn28_10", config={"depth": 11}, **SHORTCUTS)
    assert figures(count)["original"][0] == 36_479_194
    assert figures(count)["auto"][0] == 555_498


def test_rows_add_up_and_every_layer_has_one() -> None:
    count, plan = counted("resnet18")
    assert tuple(count.columns) == ("original", "separable", "dense", "fast", "auto")
    for column in count.columns:
        assert sum(row.columns[column].parameters for row in count.rows) == (
            count.columns[column].parameters
        )
        assert sum(row.columns[column].mult_adds for row in count.rows) == (
            count.columns[column].mult_adds
        )
    names = [row.name for row in count.rows]
    assert names[: len(plan.layers)] == [layer.name for layer in plan.layers]
    assert names[-2:] == ["fc", "(the rest)"]
    assert count.ratio("auto", "parameters") == pytest.approx(11_689_512 / 676_200)


def test_separable_is_no_better_than_itself() -> None:
    count, _ = counted("resnet18", substitution="separable")
    columns = figures(count)
    assert list(columns) == ["original", "separable", "dense", "auto"]
    assert columns["separable"] == columns["dense"] == columns["auto"]
    assert count.column("fast") == count.columns["auto"]  # dense runs in its stead


@pytest.mark.parametrize(
    "name", ["resnext50_32x4d", "regnet_y_400mf", "mobilenet_v2", "densenet121"]
)
@pytest.mark.parametrize("depth", [1, 12, 200])
def test_the_baseline_is_a_real_separable_network(name: str, depth: int) -> None:
    """The second column agrees with `--substitution separable`, whatever layers the family keeps."""
    source = resolve.locate(name)
    network = source.skeleton()
    trace = trace_network(network, source.input_size)
    plans = [
        make_plan(network, trace, PlanOptions(**options), may_be_empty=True)
        for options in ({"config": {"depth": depth}}, {"substitution": "separable"})
    ]
    ours, separable = (count_network(network, trace, plan).columns for plan in plans)
    assert ours["separable"] == separable["auto"]
    assert ours["separable"].parameters <= ours["original"].parameters


class Odd(nn.Module):
    """A network with a module under two names, tied convolutions, a parametrised one, and one that is
    called without a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 1)
        self.a = self.b = nn.Conv2d(64, 64, 3, padding=1)
        self.tied = nn.Conv2d(64, 64, 3, padding=1)
        self.knot = nn.Conv2d(64, 64, 3, padding=1)
        self.knot.weight = self.tied.weight
        self.back = nn.ConvTranspose2d(64, 64, 3)
        self.forth = nn.Conv2d(64, 64, 3)
        self.back.weight = self.forth.weight
        self.normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(64, 64, 3, padding=1))
        self.alone = nn.Conv2d(64, 64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.back(self.forth(self.b(self.a(self.stem(x)))))
        return self.rest(x)

    def rest(self, x: torch.Tensor) -> torch.Tensor:
        x = self.normed(self.knot(self.tied(x)))
        return self.alone(x[0]).mean((1, 2))[None]


def test_networks_that_use_modules_oddly() -> None:
    network = Odd().eval()
    trace = trace_network(network, (3, 8, 8))
    plan = make_plan(network, trace, PlanOptions(config={"depth": 2}, head=True))
    reasons = {layer.name: layer.reason for layer in plan.layers}
    assert [layer.name for layer in plan.rewritten] == ["a", "normed", "alone"]
    assert reasons["tied"] == "its weights are shared with knot"
    assert reasons["forth"] == "its weights are shared with back"
    assert reasons["back"] == "its weights are shared with forth"
    baseline = make_plan(network, trace, PlanOptions(substitution="separable", head=True))
    baseline_count = count_network(network, trace, baseline)
    count = count_network(network, trace, plan)
    assert count.columns["original"].parameters == sum(p.numel() for p in network.parameters())
    assert count.columns["original"].mult_adds == trace.total_mult_adds
    assert count.columns["separable"] == baseline_count.columns["auto"]
    rewrite_network(network, plan)
    assert network.a is network.b
    assert count.columns["auto"].parameters == sum(p.numel() for p in network.parameters())
    check_rewritten(network, count)
    network.a = nn.Conv2d(64, 64, 3, padding=1)
    with pytest.raises(PlanError, match="cannot be seen from outside"):
        check_rewritten(network, count)


def test_an_operation_that_nobody_counts_is_handed_on(awkward_network: nn.Module) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = awkward_network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(self.inner(x))

    network = Odd()
    trace = trace_network(network, (3, 16, 16))
    count = count_network(
        network, trace, make_plan(network, trace, PlanOptions(config={"depth": 2}))
    )
    assert count.unknown == {"special_bessel_j0": 1}
    assert count.columns["original"].parameters == sum(p.numel() for p in network.parameters())


def test_a_figure_that_is_wrong_is_found() -> None:
    count, plan = counted("wrn10_1", config={"depth": 2})
    network = networks.build(networks.named_spec("wrn10_1"))
    columns = {**count.columns, "dense": Totals(1, 2)}
    with pytest.raises(NetworkError, match=r"'dense': torch counts .* we count 1 and 2"):
        verify(network, plan, dataclasses.replace(count, columns=columns))


def agrees_with_fvcore(name: str, size: tuple[int, ...] | None = None) -> None:
    source = resolve.locate(name, input_size=(3, *size) if size else None)
    network = networks.build(source.network)
    trace = trace_network(network, source.input_size)
    assert fvcore_mult_adds(network, source.input_size)[0] == trace.total_mult_adds
    try:
        plan = make_plan(network, trace, PlanOptions(config={"depth": 2}))
    except PlanError:
        return  # a transformer has no convolution but its stem
    count = count_network(network, trace, plan)
    rewrite_network(network, plan)
    assert sum(p.numel() for p in network.parameters()) == count.columns["auto"].parameters
    dense = to_dense(network)
    assert fvcore_mult_adds(dense, source.input_size)[0] == count.columns["dense"].mult_adds
    assert trace_network(dense, source.input_size).total_mult_adds == (
        count.columns["dense"].mult_adds
    )


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", 64),
        ("wrn16_2", None),
        ("vit_b_32", None),
        ("swin_t", None),
        ("shufflenet_v2_x0_5", 64),
        ("lraspp_mobilenet_v3_large", 64),
        ("r3d_18", (4, 32, 32)),
        ("swin3d_t", (4, 64, 64)),
        # These take longer; the slow test below has most of them again, at their usual sizes.
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in (
                ("maxvit_t", None),
                ("efficientnet_b0", 64),
                ("googlenet", 64),
                ("fcn_resnet50", 64),
                ("raft_small", 128),
            )
        ),
    ],
)
def test_fvcore_is_a_second_witness(name: str, size: int | tuple[int, ...] | None) -> None:
    agrees_with_fvcore(name, (size, size) if isinstance(size, int) else size)


def test_what_an_image_decides_is_not_compared() -> None:
    with pytest.raises(NetworkError, match="object detection runs depends on the image"):
        fvcore_mult_adds(networks.build(networks.named_spec("ssd300_vgg16")), (3, 300, 300))


@pytest.mark.parametrize(
    "name",
    slow_or_exhaustive(
        [
            name
            for name in torchvision_zoo.SOURCE.names()
            if name not in ("regnet_y_128gf", "vit_h_14")
            and torchvision_zoo.SOURCE.task(networks.named_spec(name)).name
            == "image classification"
        ],
        rare=ALIKE,
    ),
)
def test_fvcore_is_a_second_witness_for_all(name: str) -> None:
    """Counts at each network's usual size. The two largest would need more memory than CI has."""
    agrees_with_fvcore(name)


@pytest.mark.parametrize("family", substitutions.names())
def test_dense_parameters_are_those_of_to_dense(family: str) -> None:
    network = networks.build(networks.named_spec("wrn10_2", 10), skeleton=True)
    trace = trace_network(network, (3, 32, 32))
    options = PlanOptions(substitution=family, min_channels=32)
    plan = make_plan(network, trace, options, may_be_empty=True)
    promised = dense_parameters(network, plan)
    dense = to_dense(rewrite_network(network, plan))
    assert promised == sum(parameter.numel() for parameter in dense.parameters())
