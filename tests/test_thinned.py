"""The thinned list stands for all of torchvision."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from thinned import ALIKE, LARGER, representatives, slow_or_exhaustive
from torch import nn
from torchvision import models

from seclcompress import networks
from seclcompress.networks import torchvision_zoo
from seclcompress.torch_private import ConvNd

NAMES = torchvision_zoo.SOURCE.names()


@cache
def kinds_of_layers(name: str) -> set[tuple[Any, ...]]:
    """What a network is made of, without numbers of layers, channels, and pixels of a patch."""
    network = networks.build(networks.named_spec(name), skeleton=True)
    kinds = set()
    for module in network.modules():
        kind = (type(module),)
        if isinstance(module, ConvNd):
            depthwise = module.groups == module.in_channels > 1
            grouped = module.groups > 1
            windows = (module.kernel_size, module.stride, module.padding, module.dilation)
            if module.kernel_size == module.stride and max(module.stride) > 1:
                windows = ("patches", module.padding)
            kind = (*kind, *windows, depthwise, grouped, module.bias is None)
        elif isinstance(module, nn.Linear):
            kind = (*kind, module.bias is None)
        kinds.add(kind)
    return kinds


def module_of(name: str) -> str:
    return models.get_model_builder(name).__module__


@pytest.mark.slow
@pytest.mark.parametrize("smaller", LARGER)
def test_a_larger_one_has_no_other_kind_of_layer(smaller: str) -> None:
    names = smaller.split()
    kinds = set().union(*map(kinds_of_layers, names))
    for larger in LARGER[smaller]:
        assert kinds_of_layers(larger) <= kinds, larger
        assert {module_of(larger)} == {*map(module_of, names)}


@pytest.mark.slow
def test_what_may_be_left_out_has_no_layer_of_its_own() -> None:
    some = representatives(NAMES)
    assert {*ALIKE} <= {*some}
    others = set(some) - {*ALIKE}
    kinds = set().union(*map(kinds_of_layers, others))
    for name in ALIKE:
        assert kinds_of_layers(name) <= kinds, name
        assert module_of(name) in {*map(module_of, others)}, name


def test_every_builder_of_torchvision_is_represented() -> None:
    every, some = ({*map(module_of, names)} for names in (NAMES, representatives(NAMES)))
    assert some == every
    assert len(every) > 20


def test_every_name_is_torchvisions_and_stands_once() -> None:
    larger = [name for names in LARGER.values() for name in names]
    smaller = " ".join(LARGER).split()
    assert len(larger) == len(set(larger))
    assert not set(larger) & set(smaller)
    assert {*larger, *smaller} <= set(NAMES)


def test_none_is_lost() -> None:
    """All run in one of the three ways, each in one."""
    marked = slow_or_exhaustive(NAMES, ["resnet18"])
    assert marked[NAMES.index("resnet18")] == "resnet18"
    marks = {one.values[0]: one.marks[0].name for one in marked if one != "resnet18"}
    assert {*marks, "resnet18"} == set(NAMES)
    assert marks["resnet34"] == "exhaustive"
    assert marks["resnet50"] == "slow"
    assert set(marks.values()) == {"slow", "exhaustive"}
