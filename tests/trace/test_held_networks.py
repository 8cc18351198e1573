"""Networks of other packages: our counts beside those of torch's own FlopCounterMode.

Both use torch's formulas, but walk through the network in their own ways. Where they differ, the reason
stands here. `make test-slow` installs the packages; a test is skipped if its package is missing.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from seclcompress.plan import PlanOptions, make_plan
from seclcompress.trace import Trace, trace_network

pytestmark = pytest.mark.filterwarnings("ignore")

TIMM = """
    resnetv2_50x1_bit nf_resnet50 dm_nfnet_f0 efficientnet_b0 mobilenetv3_large_100 ghostnet_100
    mobilenetv4_conv_small regnetx_002 resnest14d res2net50_26w_4s skresnet18 seresnet18 ecaresnet26t
    dpn68 densenet121 inception_v4 xception41 cspresnet50 hrnet_w18_small dla34 vovnet39a rexnet_100
    repvgg_a2 convnext_atto convnextv2_atto convmixer_768_32 vit_tiny_patch16_224 levit_128s
    swin_tiny_patch4_window7_224 mixer_s32_224 resmlp_12_224 gmlp_ti16_224 coat_lite_tiny
    crossvit_tiny_240 twins_pcpvt_small pvt_v2_b0 poolformer_s12 edgenext_xx_small mobilevit_xxs
    efficientformer_l1 fastvit_t8 maxvit_tiny_tf_224 xcit_nano_12_p16_224 eva02_tiny_patch14_224
    lcnet_050 sequencer2d_s nest_tiny volo_d1_224 focalnet_tiny_srf davit_tiny inception_next_tiny
""".split()

SMP = [
    *(("Unet", "resnet18"), ("UnetPlusPlus", "resnet18"), ("FPN", "mobilenet_v2")),
    *(("PSPNet", "resnet18"), ("DeepLabV3Plus", "mobilenet_v2"), ("MAnet", "resnet18")),
    *(("Linknet", "resnet18"), ("PAN", "resnet18")),
]


def by_torch(network: nn.Module, size: tuple[int, ...]) -> int:
    """Mult-Adds by torch.utils.flop_counter, which counts a Mult-Add as two operations."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it hides products in one operation
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.device("meta"):
            network.to("meta")(torch.zeros(1, *size))
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return int(counter.get_total_flops()) // 2


def check(network: nn.Module, size: tuple[int, ...]) -> Trace:
    network.eval()
    traced = trace_network(network, size)
    make_plan(network, traced, PlanOptions(), may_be_empty=True)
    assert traced.unknown == {}
    assert traced.total_mult_adds == by_torch(network, size)
    return traced


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str) -> None:
    network = pytest.importorskip("timm").create_model(name, pretrained=False)
    traced = check(network, network.default_cfg["input_size"])
    classifier = network.default_cfg["classifier"]
    # Without classes, EVA gives features: a sum of what all its blocks made.
    if name != "eva02_tiny_patch14_224":
        heads = [classifier] if isinstance(classifier, str) else [*classifier]
        assert set(heads) & traced.makers


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "encoder"), SMP)
def test_segmentation_models(kind: str, encoder: str) -> None:
    package = pytest.importorskip("segmentation_models_pytorch")
    network = getattr(package, kind)(encoder, encoder_weights=None, classes=4)
    traced = check(network, (3, 128, 128))
    assert any(name.startswith("segmentation_head") for name in traced.makers) or kind == "PAN"


class Yolo(nn.Module):
    """Like a YOLO: a backbone with concatenated halves, and 1×1 heads at three sizes, decoded."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 32, 64, 128)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(b), nn.SiLU()
            )
            for a, b in itertools.pairwise(widths)
        )
        self.halves = nn.ModuleList(nn.Conv2d(w // 2, w // 2, 3, padding=1) for w in widths[1:])
        self.heads = nn.ModuleList(nn.Conv2d(w, 3 * (5 + 4), 1) for w in widths[2:])
        self.grids: dict[tuple[int, ...], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for stage, half in zip(self.stages, self.halves, strict=True):
            one, two = stage(x).chunk(2, 1)
            x = torch.cat([half(one), two], 1)
            found.append(x)
        decoded = []
        for head, features in zip(self.heads, found[1:], strict=True):
            y = head(features)
            size = tuple(y.shape[2:])
            if size not in self.grids:
                rows, columns = (torch.arange(side, device=y.device) for side in size)
                self.grids[size] = torch.stack(torch.meshgrid(columns, rows, indexing="xy"))
            y = y.reshape(len(y), 3, 9, *size).sigmoid()
            centres = y[:, :, :2] * 2 - 0.5 + self.grids[size]
            decoded.append(torch.cat([centres, y[:, :, 2:]], 2).flatten(3).flatten(1, 2))
        return torch.cat(decoded, 2)


@pytest.mark.slow
def test_a_network_like_yolo() -> None:
    network = Yolo()
    traced = check(network, (3, 64, 96))
    assert traced.makers == {"heads.0", "heads.1", "heads.2"}
    plan = make_plan(network, traced, PlanOptions())
    reasons = {layer.name: layer.reason for layer in plan.layers}
    assert all("makes the outputs" in reasons[f"heads.{i}"] for i in range(3))
    whole = make_plan(network, traced, PlanOptions(head=True))
    assert "makes the outputs" not in " ".join(layer.reason for layer in whole.layers)
