"""No option in a file makes a builder fetch weights, write, or run what it names; for every network."""

from __future__ import annotations

import json
import os
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import models

from seclcompress import artefact, networks, resolve
from seclcompress.artefact import ArtefactConfig
from seclcompress.errors import NetworkError
from seclcompress.networks import NetworkSpec
from seclcompress.networks.torchvision_options import check_builder_options
from seclcompress.networks.torchvision_zoo import SOURCE
from seclcompress.workflows import count

_events: list[tuple[str, Any]] = []
_watching = False
_FORBIDDEN = (
    "socket",
    "urllib",
    "http",
    "subprocess",
    "os.system",
    "os.exec",
    "os.fork",
    "os.mkdir",
)
_FORBIDDEN += ("os.posix_spawn", "os.rename", "os.remove", "os.symlink", "os.link", "shutil", "ssl")


def _note(event: str, arguments: Any) -> None:
    if not _watching:
        return
    if event == "open" and sys._getframe(1).f_code.co_filename != tokenize.__file__:
        mode, flags = arguments[1], arguments[2]
        writes = bool(set(mode or "") & set("wax+")) or bool(
            isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
        if writes:
            _events.append((event, arguments))
    elif event.startswith(_FORBIDDEN):
        _events.append((event, arguments))


sys.addaudithook(_note)  # a hook cannot be removed, so it is installed once


@pytest.fixture
def nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Watches for sockets, processes and writes. torch's cache would be in a folder that is missing."""
    global _watching
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    _events.clear()
    _watching = True
    yield
    _watching = False
    assert _events == []
    assert not (tmp_path / "hub").exists()


NAMES = SOURCE.names()
FETCHING = [
    (option, value)
    for option in ("weights", "weights_backbone", "pretrained", "pretrained_backbone")
    for value in (True, 1, "DEFAULT", "IMAGENET1K_V1", "ResNet50_Weights.IMAGENET1K_V1")
]


def test_the_watch_sees_something(tmp_path: Path) -> None:
    global _watching
    _events.clear()
    _watching = True
    (tmp_path / "x").write_text("x")
    (tmp_path / "y").mkdir()
    _watching = False
    assert {event for event, _ in _events} == {"open", "os.mkdir"}


@pytest.mark.parametrize("name", NAMES)
def test_no_network_is_fetched(name: str, nothing_is_fetched: None) -> None:
    spec = networks.named_spec(name)
    networks.build(spec, skeleton=True)
    for option, value in FETCHING:
        bad = spec.model_copy(update={"options": {option: value}})
        with pytest.raises(NetworkError, match=f"with {option}: weights are named with --weights"):
            networks.build(bad, skeleton=True)


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "fcn_resnet50", "ssd300_vgg16"])
@pytest.mark.parametrize("schema", [1, 2])
def test_count_of_a_strangers_folder_downloads_nothing(
    tmp_path: Path, name: str, schema: int, nothing_is_fetched: None
) -> None:
    global _watching
    _watching = False  # while the stranger writes
    spec = {"source": "torchvision", "name": name, "options": {"weights_backbone": True}}
    content = {"schema_version": schema, "input_size": [3, 64, 64]}
    content["network" if schema == 2 else "recipe"] = spec
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    _watching = True
    for call in (count, artefact.load):
        with pytest.raises(NetworkError, match=f"Cannot build {name} with weights_backbone"):
            call(folder)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("resnet18", "norm_layer", "torch.nn.BatchNorm2d"),
        ("resnet18", "progress", True),
        ("resnet18", "num_classes", 3),
        ("resnet18", "block", "os:system"),
        ("fasterrcnn_resnet50_fpn", "rpn_head", 1),
        ("fasterrcnn_resnet50_fpn", "box_roi_pool", "x"),
        ("fcn_resnet50", "frozen_norm", True),
        ("r3d_18", "stem", "x"),
        ("raft_small", "corr_block", 1),
        ("vit_b_16", "conv_stem_configs", "x"),
    ],
)
def test_what_is_not_on_the_list(name: str, option: str, value: Any) -> None:
    spec = networks.named_spec(name).model_copy(update={"options": {option: value}})
    with pytest.raises(
        NetworkError, match=f"Cannot build {name} with {option}: the options that can"
    ):
        networks.build(spec, skeleton=True)


@pytest.mark.parametrize("value", ["0.5", "", "DEFAULT", {"a": 1}, [["x"]], print])
def test_values_are_numbers(value: Any) -> None:
    with pytest.raises(
        NetworkError, match="with dropout .*: it takes a number, true or false, or a"
    ):
        check_builder_options(
            "vgg11", SOURCE.task(networks.named_spec("vgg11")), {"dropout": value}
        )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_b_16", {"image_size": 64}),
        ("mobilenet_v2", {"width_mult": 0.5, "dropout": 0.1}),
        ("resnet18", {"zero_init_residual": True}),
        ("resnet50", {"groups": 2, "width_per_group": 32}),
        ("googlenet", {"aux_logits": False, "transform_input": True}),
        ("fcn_resnet50", {"aux_loss": True}),
        ("fasterrcnn_resnet50_fpn", {"frozen_norm": True, "min_size": 64, "box_score_thresh": 0.5}),
    ],
)
def test_what_is_on_the_list(name: str, options: dict[str, Any]) -> None:
    networks.build(networks.named_spec(name, None, options), skeleton=True)


def test_the_options_of_every_networks_published_weights_are_on_the_list() -> None:
    for name in NAMES:
        for weights in models.get_model_weights(name).__members__:
            published = SOURCE.published_weights(name, weights)
            check_builder_options(name, SOURCE.task(networks.named_spec(name)), published.options)


def test_a_folder_of_published_weights_still_loads(tmp_path: Path) -> None:
    spec = NetworkSpec(
        source="torchvision", name="vit_b_16", num_classes=2, options={"image_size": 32}
    )
    network = networks.build_untrained(spec)
    artefact.save(tmp_path / "net", network, ArtefactConfig(network=spec, input_size=(3, 32, 32)))
    assert resolve.locate(tmp_path / "net").load()[0].image_size == 32
