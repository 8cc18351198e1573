"""What a person would do with a network, from plan to loaded folder, in one function."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seclcompress import artefact, networks
from seclcompress.count import check_rewritten, count_network
from seclcompress.networks import NetworkSpec
from seclcompress.networks.tasks import Detection, task_of
from seclcompress.plan import Plan, PlanOptions, make_plan
from seclcompress.rewrite import rewrite_network
from seclcompress.torch_private import tree_leaves
from seclcompress.trace import trace_network

LARGEST_MEMORY = 12 * 2**30


def training_output(network: nn.Module, images: Tensor) -> Any:
    """A forward pass in training mode, with targets where the network wants some."""
    arguments = task_of(network).arguments(images)
    if not isinstance(task_of(network), Detection):
        return network(*arguments)
    height, width = images.shape[-2:]
    box = torch.tensor([[8.0, 8.0, width - 16.0, height - 24.0]])
    target = {
        "boxes": box,
        "labels": torch.ones(1, dtype=torch.int64),
        "masks": torch.ones(1, height, width, dtype=torch.uint8),
        "keypoints": torch.tensor([[[20.0, 20.0, 1.0]]]).expand(1, 17, 3).contiguous(),
    }
    return network(*arguments, [dict(target) for _ in images])


def leaves(output: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]


def lives(
    spec: NetworkSpec,
    folder: Path,
    size: tuple[int, ...],
    small: tuple[int, ...],
    *,
    batch: int = 2,
    linear: bool = False,
    shrink: Callable[[nn.Module], nn.Module] = lambda network: network,
) -> Plan:
    """Build, plan, rewrite, forward in train and eval, backward, save, load, the same output.

    Args:
        spec: Of the network.
        folder: Where to save.
        size: At which it is planned and counted; no values are made for that.
        small: At which it is run.
        batch: Images at once.
        linear: Whether to rewrite Linear layers; where nothing else can be, they are anyway.
        shrink: Makes the built network run at a small size.
    """
    trusted = spec.name if networks.sources.get(spec.source).runs_foreign_code else None
    skeleton = networks.build(spec, factory_name=trusted, skeleton=True)
    trace = trace_network(skeleton, size)
    assert trace.unknown == {}
    wanted = PlanOptions(config={"depth": 4}, linear=linear)
    plan = make_plan(skeleton, trace, wanted, may_be_empty=True)
    if not plan.rewritten:  # a transformer
        update = {"linear": True}
        plan = make_plan(skeleton, trace, wanted.model_copy(update=update), may_be_empty=True)
    if not plan.rewritten:  # a DiracNet: all convolutions but the stem are structured already
        plan = make_plan(skeleton, trace, wanted.model_copy(update={"stem": True}))
    counted = count_network(skeleton, trace, plan)
    original = counted.columns["original"]
    assert original.mult_adds == trace.total_mult_adds
    assert original.parameters == sum(p.numel() for p in skeleton.parameters())
    assert counted.columns["auto"].parameters < original.parameters
    check_rewritten(rewrite_network(skeleton, plan), counted)
    del skeleton

    torch.manual_seed(0)
    network = shrink(rewrite_network(networks.build(spec, factory_name=trusted), plan))
    assert sum(p.numel() for p in network.parameters()) == counted.columns["auto"].parameters
    images = torch.rand(batch, *small)
    loss = sum(leaf.float().mean() for leaf in leaves(training_output(network.train(), images)))
    assert isinstance(loss, Tensor)
    loss.backward()
    for layer in plan.rewritten:
        for parameter in network.get_submodule(layer.name).parameters():
            assert parameter.grad is not None, layer.name
            assert torch.isfinite(parameter.grad).all(), layer.name
    network.zero_grad(set_to_none=True)
    arguments = task_of(network).arguments(images)
    with torch.no_grad():
        expected = leaves(network.eval()(*arguments))
    assert all(torch.isfinite(leaf).all() for leaf in expected if leaf.is_floating_point())
    config = artefact.ArtefactConfig(network=spec, plan=plan, input_size=size)
    artefact.save(folder / "saved", network, config)
    del network
    loaded = shrink(artefact.load(folder / "saved", factory_name=trusted))
    with torch.no_grad():
        found = leaves(loaded(*arguments))
    assert len(found) == len(expected) > 0
    for one, two in zip(found, expected, strict=True):
        # The weights are the same bytes; where they lie in memory decides the last bit of a product.
        scale = max(1.0, float(two.abs().max())) if two.numel() else 1.0
        torch.testing.assert_close(one, two, atol=1e-5 * scale, rtol=0)
    if sys.platform == "linux":
        import resource

        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert peak < LARGEST_MEMORY, f"{peak / 2**30:.1f} GiB"
    return plan
