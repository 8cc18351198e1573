"""Finding the network that a person typed: names, folders as strings and as paths, factories."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seclcompress import artefact, resolve
from seclcompress.errors import ArtefactError, NetworkError, UsageError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A saved network in the current folder, as `net`."""
    monkeypatch.chdir(tmp_path)
    save(Path("net"))
    return Path("net")


def save(folder: Path) -> None:
    located = resolve.locate("wrn10_1", num_classes=5)
    config = artefact.ArtefactConfig(network=located.network, input_size=(3, 8, 8))
    artefact.save(folder, located.load(seed=3)[0], config)


def test_a_folder_as_a_string_and_as_a_path(folder: Path) -> None:
    assert resolve.locate("net") == resolve.locate(folder)
    assert resolve.locate(folder).label == "net"
    assert resolve.locate(folder).input_size == (3, 8, 8)
    for given in ("net", folder, folder.absolute(), str(folder.absolute())):
        assert resolve.is_folder(given)
        assert not resolve.is_name(given)
        one, two = artefact.load(given), resolve.locate(given).load()[0]
        assert all(torch.equal(v, two.state_dict()[k]) for k, v in one.state_dict().items())


def test_a_path_is_a_folder_whatever_its_name(folder: Path) -> None:
    with pytest.raises(ArtefactError, match="There is no folder resnet18"):
        resolve.locate(Path("resnet18"))
    with pytest.raises(ArtefactError, match="There is no folder os:getcwd"):
        resolve.locate(Path("os:getcwd"))
    save(Path("wrn10_1"))
    with pytest.raises(
        UsageError, match=r"network and a folder here. Say ./wrn10_1 for the folder"
    ):
        resolve.locate("wrn10_1")
    for given in (Path("wrn10_1"), "./wrn10_1"):
        assert resolve.locate(given).network.num_classes == 5


def test_a_folder_has_its_classes(folder: Path) -> None:
    for given in ("net", folder):
        with pytest.raises(UsageError, match="net has its number of classes already"):
            resolve.locate(given, num_classes=3)


def test_names_and_factories() -> None:
    assert resolve.is_name("resnet18")
    assert resolve.is_name("nothing of this name")
    for factory in ("os:getcwd", "conftest:awkward"):
        assert not resolve.is_name(factory)
        assert not resolve.is_folder(factory)
        assert resolve.locate(factory).factory_name == factory
    assert resolve.locate("resnet18", factory_name="os:getcwd").factory_name == "os:getcwd"
    with pytest.raises(NetworkError, match="decides its number of classes itself"):
        resolve.locate("conftest:awkward", num_classes=3)


@pytest.mark.parametrize("name", ["resnet18", "wrn10_1"])
def test_more_classes_than_any_network_has(name: str) -> None:
    with pytest.raises(NetworkError, match=rf"{name} cannot be built so: num_classes: .*10000000"):
        resolve.locate(name, num_classes=10**8)
