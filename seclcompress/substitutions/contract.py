"""What a family of structured replacements promises.

The contract stands at the level of the whole convolution, because in some families the depthwise
part sits between two pointwise ones. A Linear is a 1×1 convolution over its positions; it is made one
here, so that every family can replace it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from seclcompress.cost import LayerCost
from seclcompress.errors import SubstitutionError, UsageError, describe_validation_error
from seclcompress.substitutions.structured import (
    Convolution,
    StructuredConv,
    StructuredLayer,
    StructuredLinear,
    structured_layers,
)

__all__ = [
    "CONVOLUTIONS",
    "CONVOLUTION_KINDS",
    "LINEAR_KINDS",
    "Convolution",
    "StructuredConv",
    "Substitution",
    "SubstitutionConfig",
    "as_convolution",
    "set_execution",
]

#: These classes, and subclasses that compute as they do (`_computes_plainly`).
CONVOLUTIONS: dict[int, type[Convolution]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
#: What a plan says something of, subclasses included, and of what on demand.
CONVOLUTION_KINDS: tuple[type[nn.Module], ...] = (*CONVOLUTIONS.values(), _ConvTransposeNd)
LINEAR_KINDS: tuple[type[nn.Module], ...] = (nn.Linear, nn.MultiheadAttention)
#: Why layers of a kind are kept by every family; {name} is the layer's class.
_KEPT: dict[type[nn.Module], str] = {
    _ConvTransposeNd: "a {name} upsamples: split in two, its pointwise part would have to run at the "
    "larger size",
    nn.MultiheadAttention: "the packed projections of a {name} are no layers: it multiplies by them "
    "itself",
}


_HOOKS = "_forward_hooks _forward_pre_hooks _backward_hooks _backward_pre_hooks".split()


def as_convolution(layer: nn.Module) -> Convolution:
    """The convolution that a layer is: itself, or for a Linear the 1×1 one over its positions.

    Args:
        layer: A convolution or a Linear; a Linear's weights are shared, not copied.
    """
    if not isinstance(layer, nn.Linear):
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        return layer
    conv = nn.Conv1d(layer.in_features, layer.out_features, 1, bias=False, device="meta")
    trained = layer.weight.requires_grad
    conv.weight = nn.Parameter(layer.weight.detach()[:, :, None], requires_grad=trained)
    conv.bias = layer.bias
    return conv.train(layer.training)


def _computes_plainly(layer: nn.Module) -> bool:
    """Whether a layer computes what torch's own class does: torchvision's Conv3DSimple, say."""
    kind = next((k for k in (*CONVOLUTIONS.values(), nn.Linear) if isinstance(layer, k)), None)
    if kind is None:
        return False
    inherits = all(
        getattr(type(layer), method, None) is getattr(kind, method, None)
        for method in ("forward", "_conv_forward", "__call__")
    )
    # What else it has would be lost. (Of a weight that is made from others, `refuse` says so.)
    own = {"weight", "bias"}
    return inherits and ("weight" not in layer._parameters or layer._parameters.keys() <= own)


class SubstitutionConfig(BaseModel):
    """Options of one substitution: JSON in a plan, `--option KEY=VALUE` on the command line."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Substitution(ABC):
    """One family of replacements. Instances hold no state; options come as a `config`."""

    #: The name on the command line and in plans.
    name: ClassVar[str]
    #: One line for `seclcompress substitutions`.
    summary: ClassVar[str]
    Config: ClassVar[type[SubstitutionConfig]]

    def config(self, options: Mapping[str, Any]) -> SubstitutionConfig:
        """Checks options and fills in the defaults.

        Args:
            options: Values by name; strings are read as the option's type.

        Raises:
            UsageError: If an option is unknown or its value is out of range.
        """
        try:
            return self.Config.model_validate(dict(options))
        except ValidationError as error:
            known = ", ".join(self.Config.model_fields) or "none"
            complaint = describe_validation_error(error)
            raise UsageError(
                f"Options of substitution '{self.name}': {complaint}. It takes: {known}."
            ) from error

    def refuse(self, layer: nn.Module, config: SubstitutionConfig) -> str | None:
        """Why this layer cannot be rewritten, in words that a plan can print; None if it can."""
        name = type(layer).__name__
        for kind, reason in _KEPT.items():
            if isinstance(layer, kind):
                return reason.format(name=name)
        if not _computes_plainly(layer):
            plain = "Linear" if isinstance(layer, nn.Linear) else "convolution"
            return f"a {name} may compute something else than a plain {plain}"
        if "weight" not in layer._parameters:
            return f"the weight of this {name} is made from other parameters at every call"
        if any(getattr(layer, hooks) for hooks in _HOOKS):
            return "it has hooks, which would be lost with it"
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)
        if not layer.weight.is_floating_point():
            return f"its weights are {layer.weight.dtype}, not floating-point numbers"
        if 0 in layer.weight.shape[:2]:
            return f"it has no channels (weights of {'×'.join(map(str, layer.weight.shape))})"
        conv = as_convolution(layer)
        if conv.groups == conv.in_channels and conv.groups > 1:
            return "it is depthwise already"
        return self._refuse(conv, config)

    def _refuse(self, conv: Convolution, config: SubstitutionConfig) -> str | None:  # noqa: ARG002
        """What this family cannot do beyond what none of them can."""
        return None

    @abstractmethod
    def cost(self, conv: Convolution, config: Any, output_size: Sequence[int]) -> LayerCost:
        """Parameters, and Mult-Adds an image for each way of executing the replacement.

        Args:
            conv: A convolution that is not refused; only its shapes are read.
            config: Options of this family.
            output_size: The convolution's spatial output size, one number a dimension.
        """

    def build(self, layer: nn.Module, config: SubstitutionConfig) -> StructuredLayer:
        """A freshly initialised replacement, on the layer's device and in its dtype.

        Outputs start with the variance that the layer gives for white input. The bias is the layer's
        own.

        Args:
            layer: A convolution or a Linear.
            config: Options of this family.

        Raises:
            SubstitutionError: If `refuse` gives a reason.
        """
        reason = self.refuse(layer, config)
        if reason is not None:
            raise SubstitutionError(f"Cannot rewrite {layer} as '{self.name}': {reason}.")
        conv = as_convolution(layer)
        with torch.no_grad():
            built = self._build(conv, config)
        for parameter in built.parameters():
            parameter.requires_grad_(conv.weight.requires_grad)
        whole = StructuredLinear(built) if isinstance(layer, nn.Linear) else built
        return whole.train(layer.training)

    @abstractmethod
    def _build(self, conv: Convolution, config: Any) -> StructuredConv:
        """`build` for a convolution that is not refused, without gradients."""

    def length(self, conv: Convolution) -> int | None:  # noqa: ARG002
        """The transform's length N for this convolution; None for a family without transforms."""
        return None


def set_execution(network: nn.Module, execution: str) -> None:
    """Switches every structured layer of a network.

    Args:
        network: Any module; one without structured layers stays as it is.
        execution: `dense`, `fast`, or `auto`.

    Raises:
        UsageError: If the execution is none of these.
    """
    for layer in structured_layers(network):
        layer.execution = execution
