"""Networks of other packages, as factories: timm, segmentation-models-pytorch and MONAI.

`make test-slow` installs the packages. A test is skipped if its package is missing.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from living import lives
from torch import nn

from seclcompress.networks import NetworkSpec


def timm(name: str) -> nn.Module:
    return pytest.importorskip("timm").create_model(name, pretrained=False)  # type: ignore[no-any-return]


def smp(kind: str, encoder: str) -> nn.Module:
    package = pytest.importorskip("segmentation_models_pytorch")
    return getattr(package, kind)(encoder, encoder_weights=None, classes=4)  # type: ignore[no-any-return]


def monai(kind: str, **options: Any) -> nn.Module:
    return getattr(pytest.importorskip("monai.networks.nets"), kind)(**options)  # type: ignore[no-any-return]


def timm_resnet() -> nn.Module:
    """A ResNet with a deep stem and pooled shortcuts."""
    return timm("resnet18d")


def timm_standardised() -> nn.Module:
    """Its convolutions standardise their weights at every call, and are rewritten all the same."""
    return timm("resnetv2_50x1_bit")


def timm_padded() -> nn.Module:
    """A network with TensorFlow's padding: its strided convolutions are subclasses with own forwards."""
    return timm("tf_mobilenetv3_small_100")


def timm_convnext() -> nn.Module:
    """Depthwise convolutions, and channels mixed by Linear layers."""
    return timm("convnext_atto")


def timm_vit() -> nn.Module:
    """Attention that calls its Linear layers, unlike torch's and torchvision's."""
    return timm("vit_tiny_patch16_224")


def smp_unet() -> nn.Module:
    return smp("Unet", "resnet18")


def smp_deeplab() -> nn.Module:
    return smp("DeepLabV3Plus", "mobilenet_v2")


def monai_unet() -> nn.Module:
    """Volumes, and transposed convolutions on the way up."""
    return monai(
        "UNet",
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        channels=(32, 64, 128),
        strides=(2, 2),
        num_res_units=2,
    )


def monai_segresnet() -> nn.Module:
    return monai("SegResNet", spatial_dims=3, init_filters=32, in_channels=1, out_channels=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factory", "size", "small", "linear", "kept"),
    [
        (timm_resnet, (3, 224, 224), (3, 64, 64), False, ()),
        (timm_standardised, (3, 224, 224), (3, 64, 64), False, ("the classifier (a conv",)),
        (timm_padded, (3, 224, 224), (3, 64, 64), False, ("Conv2dSame",)),
        (timm_convnext, (3, 224, 224), (3, 64, 64), True, ("depthwise already",)),
        (timm_vit, (3, 224, 224), (3, 224, 224), True, ()),
        (smp_unet, (3, 256, 256), (3, 64, 64), False, ()),
        (smp_deeplab, (3, 256, 256), (3, 64, 64), False, ("depthwise already",)),
        (monai_unet, (1, 32, 32, 32), (1, 16, 16, 16), False, ("ConvTranspose3d",)),
        (monai_segresnet, (1, 32, 32, 32), (1, 16, 16, 16), False, ()),
    ],
)
def test_they_live(
    factory: Any,
    size: tuple[int, ...],
    small: tuple[int, ...],
    linear: bool,
    kept: tuple[str, ...],
    tmp_path: Path,
) -> None:
    factory()  # skips the test if the package is missing
    spec = NetworkSpec(source="factory", name=f"{__name__}:{factory.__name__}")
    plan = lives(spec, tmp_path, size, small, linear=linear)
    reasons = Counter(layer.reason for layer in plan.layers if layer.action == "keep")
    for words in kept:
        assert any(words in reason for reason in reasons), reasons
