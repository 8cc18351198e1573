"""What a family of structured replacements promises.

A family meets a site: a layer, where it stands, and how often it runs on which sizes. A Linear is a 1×1
convolution over its positions; `Site.convolution` makes it one, so that every family can replace it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from seclcompress.cost import LayerCost
from seclcompress.errors import SubstitutionError, UsageError, describe_validation_error
from seclcompress.substitutions.linear import StructuredLinear
from seclcompress.substitutions.refusals import reason_for_all
from seclcompress.substitutions.site import Kind, Site
from seclcompress.substitutions.structured import StructuredConv, StructuredLayer


class SubstitutionConfig(BaseModel):
    """Options of one substitution: JSON in a plan, `--option KEY=VALUE` on the command line."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Substitution(ABC):
    """One family of replacements. Instances hold no state; options come as a `config`."""

    #: The name on the command line and in plans.
    name: ClassVar[str]
    #: What reports call a network rewritten by it; the name, unless a family is known by another.
    title: ClassVar[str] = ""
    #: One line for `seclcompress substitutions`.
    summary: ClassVar[str]
    Config: ClassVar[type[SubstitutionConfig]]
    #: The layers that it can replace. Most families have nothing for a depthwise convolution.
    kinds: ClassVar[frozenset[Kind]] = frozenset({"convolution", "linear"})
    #: Whether a layer that would not get smaller is kept as it is.
    must_shrink: ClassVar[bool] = True
    #: The ways to execute what it builds, one or more of `cost.EXECUTIONS`.
    executions: ClassVar[tuple[str, ...]] = ("dense",)

    def config(self, options: Mapping[str, Any]) -> SubstitutionConfig:
        """Checks options and fills in the defaults.

        Args:
            options: Values by name; strings are read as the option's type.

        Raises:
            UsageError: If an option is unknown or its value is out of range.
        """
        known = ", ".join(self.Config.model_fields) or "none"
        unknown = [name for name in options if name not in self.Config.model_fields]
        if unknown:
            raise UsageError(
                f"Options of substitution '{self.name}': it has no option {', '.join(unknown)}. It "
                f"takes: {known}."
            )
        try:
            return self.Config.model_validate(dict(options))
        except ValidationError as error:
            complaint = describe_validation_error(error)
            raise UsageError(
                f"Options of substitution '{self.name}': {complaint}. It takes: {known}."
            ) from error

    def refuse(self, site: Site | nn.Module, config: SubstitutionConfig) -> str | None:
        """Why this layer cannot be rewritten, in words that a plan can print; None if it can.

        Args:
            site: Where the layer stands; the layer alone will do.
            config: Options of this family.
        """
        site = _site(site)
        reason = reason_for_all(site.layer)
        if reason is not None:
            return reason
        if site.kind not in self.kinds:
            return _OF_ANOTHER_KIND[site.kind].format(name=self.name)
        return self._refuse(site, config)

    def _refuse(self, site: Site, config: Any) -> str | None:  # noqa: ARG002
        """What this family cannot do beyond what none of them can."""
        return None

    @abstractmethod
    def cost(self, site: Site, config: Any) -> LayerCost:
        """Parameters, and Mult-Adds an image for each way of executing the replacement.

        Args:
            site: Of a layer that is not refused, with its calls; only shapes are read.
            config: Options of this family.
        """

    def build(self, site: Site | nn.Module, config: SubstitutionConfig) -> StructuredLayer:
        """A freshly initialised replacement, on the layer's device and in its dtype.

        The outputs of an affine one start with the variance that the layer gives for white input. The
        bias is the layer's own.

        Args:
            site: Where the layer stands; the layer alone will do.
            config: Options of this family.

        Raises:
            SubstitutionError: If `refuse` gives a reason.
        """
        site = _site(site)
        reason = self.refuse(site, config)
        if reason is not None:
            raise SubstitutionError(f"Cannot rewrite {site.layer} as '{self.name}': {reason}.")
        with torch.no_grad():
            built = self._build(site, config)
        for parameter in built.parameters():
            parameter.requires_grad_(site.convolution.weight.requires_grad)
        whole = StructuredLinear(built) if site.kind == "linear" else built
        return whole.train(site.layer.training)

    @abstractmethod
    def _build(self, site: Site, config: Any) -> StructuredConv:
        """`build` for the convolution of a site that is not refused, without gradients."""


_OF_ANOTHER_KIND: Mapping[Kind, str] = {
    "convolution": "{name} is not for convolutions of this kind",
    "depthwise": "it is depthwise already",
    "linear": "{name} is not for Linear layers",
}


def _site(site: Site | nn.Module) -> Site:
    return site if isinstance(site, Site) else Site(site)
