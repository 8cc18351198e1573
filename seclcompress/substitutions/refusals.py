"""Reasons that forbid every family to replace a layer."""

from __future__ import annotations

from torch import nn

from seclcompress.substitutions.folding import folded_weight
from seclcompress.substitutions.site import CONVOLUTIONS
from seclcompress.torch_private import (
    ConvTransposeNd,
    computes_as,
    has_hooks,
    own_parameters,
)

#: The reason why every family keeps layers of a class; {name} is the layer's own class.
_KEPT: dict[type[nn.Module], str] = {
    ConvTransposeNd: "a {name} upsamples: split in two, its pointwise part would have to run at the "
    "larger size",
    nn.MultiheadAttention: "the packed projections of a {name} are no layers: it multiplies by them "
    "itself",
}


def reason_for_all(layer: nn.Module) -> str | None:
    """The reason why no family can replace a layer, worded for a plan; None if there is none."""
    name = type(layer).__name__
    for kind, reason in _KEPT.items():
        if isinstance(layer, kind):
            return reason.format(name=name)
    made = folded_weight(layer)
    if made is None and not _computes_plainly(layer):
        plain = "Linear" if isinstance(layer, nn.Linear) else "convolution"
        return f"a {name} may compute something else than a plain {plain}"
    if made is None and "weight" not in own_parameters(layer):
        return f"the weight of this {name} is made from other parameters at every call"
    if has_hooks(layer):
        return "it has hooks, which would be lost with it"
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)
    if not layer.weight.is_floating_point():
        return f"its weights are {layer.weight.dtype}, not floating-point numbers"
    if 0 in layer.weight.shape[:2]:
        return f"it has no channels (weights of {'×'.join(map(str, layer.weight.shape))})"
    return None


def _computes_plainly(layer: nn.Module) -> bool:
    """Whether a layer computes what torch's own class does, as torchvision's Conv3DSimple does."""
    kind = next((k for k in (*CONVOLUTIONS.values(), nn.Linear) if isinstance(layer, k)), None)
    if kind is None:
        return False
    # Parameters other than weight and bias would be lost. (The caller has a reason of its own for a
    # weight that is made from other parameters.)
    own = own_parameters(layer)
    return computes_as(layer, kind) and ("weight" not in own or own.keys() <= {"weight", "bias"})
