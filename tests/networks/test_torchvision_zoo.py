from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from seclcompress import downloads, networks, resolve
from seclcompress.errors import NetworkError, UsageError, WeightsError
from seclcompress.networks import torchvision_zoo
from seclcompress.networks.torchvision_zoo import SOURCE


def test_quantised_networks_are_refused_in_a_sentence() -> None:
    assert torchvision_zoo.quantised_names()
    for name in torchvision_zoo.quantised_names():
        with pytest.raises(NetworkError) as caught:
            networks.named_spec(name)
        words = str(caught.value)
        assert words.startswith(f"{name} computes with 8-bit integers")
        assert f"name {name.removeprefix('quantized_')} and" in words
        assert name.removeprefix("quantized_") in SOURCE.names()


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (self.path.touch, ())


class TestPublishedWeights:
    """Loading by torchvision's own code, from a file in the place where a download would put it."""

    @pytest.fixture
    def hub(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
        (tmp_path / "checkpoints").mkdir()
        return tmp_path / "checkpoints"

    def put(self, hub: Path, weights: models.WeightsEnum, network: nn.Module) -> None:
        torch.save(network.state_dict(), hub / weights.url.rsplit("/", 1)[-1])

    def test_by_every_spelling(self, hub: Path) -> None:
        torch.manual_seed(1)
        network = models.mobilenet_v3_small()
        self.put(hub, models.MobileNet_V3_Small_Weights.IMAGENET1K_V1, network)
        for spelling in ("IMAGENET1K_V1", "DEFAULT", "MobileNet_V3_Small_Weights.DEFAULT"):
            loaded, decided = resolve.locate("mobilenet_v3_small", weights=spelling).load()
            assert decided.words() == ""
            assert torch.equal(loaded.classifier[3].weight, network.classifier[3].weight)

    def test_a_new_head(self, hub: Path) -> None:
        self.put(hub, models.ResNet18_Weights.DEFAULT, models.resnet18())
        source = resolve.locate("resnet18", weights="DEFAULT", num_classes=5)
        assert source.load()[1].untrained == ("fc.weight", "fc.bias")

    def test_what_torchvision_changes_with_the_weights(self, hub: Path) -> None:
        full = models.googlenet(init_weights=False)
        self.put(hub, models.GoogLeNet_Weights.DEFAULT, full)
        loaded, _ = resolve.locate("googlenet", weights="DEFAULT").load()
        reference = models.googlenet(weights="DEFAULT").eval()
        x = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            assert torch.equal(loaded(x), reference(x))
        assert loaded.transform_input
        assert not any(key.startswith("aux") for key in loaded.state_dict())

    @pytest.mark.parametrize(
        "name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "deeplabv3_mobilenet_v3_large"]
    )
    def test_of_other_tasks(self, hub: Path, name: str) -> None:
        """With published weights, detectors have frozen batch norms, others auxiliary classifiers."""
        weights = models.get_model_weights(name).DEFAULT
        options = SOURCE.published_weights(name, "DEFAULT").options
        self.put(hub, weights, networks.build(networks.named_spec(name, None, options)))
        loaded, decided = resolve.locate(name, weights="DEFAULT").load()
        assert decided.words() == ""
        reference = models.get_model(name, weights="DEFAULT").state_dict()
        assert loaded.state_dict().keys() == reference.keys()
        assert all(torch.equal(v, reference[k]) for k, v in loaded.state_dict().items())

    def test_no_download_unless_asked(self, hub: Path) -> None:
        with pytest.raises(WeightsError, match="Allow the download with --download"):
            resolve.locate("resnet18", weights="DEFAULT").load()
        assert not list(hub.iterdir())

    def test_the_bar_of_a_download_is_shown_where_it_is_asked_for(
        self, hub: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Downloaded by torch, from a file in another place: the name must end with its hash."""
        torch.save(models.mobilenet_v3_small().state_dict(), hub / "whole.pth")
        digest = hashlib.sha256((hub / "whole.pth").read_bytes()).hexdigest()[:8]
        (hub / "whole.pth").rename(hub.parent / f"small-{digest}.pth")
        weights = models.MobileNet_V3_Small_Weights.IMAGENET1K_V1
        there = replace(weights.value, url=(hub.parent / f"small-{digest}.pth").as_uri())
        monkeypatch.setattr(weights, "_value_", there)
        source = resolve.locate("mobilenet_v3_small", weights="IMAGENET1K_V1", download=True)
        for shown in (False, True):
            monkeypatch.setattr(downloads, "_shown", shown)
            source.load()
            assert ("%" in capfd.readouterr().err) == shown
            (hub / f"small-{digest}.pth").unlink()

    def test_a_pickle_with_code_in_the_cache(self, hub: Path) -> None:
        path = hub / models.ResNet18_Weights.DEFAULT.url.rsplit("/", 1)[-1]
        torch.save({"conv1.weight": Evil(hub / "evil")}, path)
        with pytest.raises(WeightsError, match="resnet18.*could run code. Remove it"):
            resolve.locate("resnet18", weights="DEFAULT").load()
        assert not (hub / "evil").exists()

    def test_unknown_spelling(self) -> None:
        with pytest.raises(
            WeightsError, match="torchvision has: IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT|"
        ):
            resolve.locate("resnet50", weights="IMAGENET21K")
        with pytest.raises(UsageError, match="only torchvision's networks have weights with names"):
            resolve.locate("wrn16_2", weights="DEFAULT").load()

    def test_the_input_size_follows_the_weights(self) -> None:
        source = resolve.locate("vit_b_16", weights="IMAGENET1K_SWAG_E2E_V1")
        assert source.input_size == (3, 384, 384)
        assert source.network.options == {"image_size": 384}
