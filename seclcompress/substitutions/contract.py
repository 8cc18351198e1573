"""The contract of a family of structured replacements.

The methods of a family take a `Site`: a layer, its place in the network, and how often it runs on which
sizes. `Site.convolution` turns a Linear into a 1×1 convolution over its positions, so a family needs
code for convolutions only.
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
    """Options of one substitution, given as JSON in a plan or as `--option KEY=VALUE`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def ladder(cls) -> tuple[dict[str, Any], ...]:
        """Options of different sizes, from which a plan for a budget chooses for each layer.

        By default the family has one size.
        """
        return ({},)


class Substitution(ABC):
    """One family of replacements. Instances hold no state; methods take the options as `config`."""

    #: The name on the command line and in plans.
    name: ClassVar[str]
    #: The family's title in reports. Empty: the name is the title.
    title: ClassVar[str] = ""
    #: One line for `seclcompress substitutions`.
    summary: ClassVar[str]
    Config: ClassVar[type[SubstitutionConfig]]
    #: The kinds of layers that it replaces. Most families cannot improve on a depthwise convolution.
    kinds: ClassVar[frozenset[Kind]] = frozenset({"convolution", "linear"})
    #: Whether a plan keeps every layer that the family would not make smaller.
    must_shrink: ClassVar[bool] = True
    #: Whether what it builds computes `W x + b`, the same in training as in eval mode. A family that is
    #: not affine replaces no Linear: torch's layers between its convolutions know no `(..., features)`.
    affine: ClassVar[bool] = True
    #: The ways to execute its replacements: `dense`, and `fast` where they have a transform.
    executions: ClassVar[tuple[str, ...]] = ("dense",)

    def config(self, options: Mapping[str, Any]) -> SubstitutionConfig:
        """Checks options and fills in the defaults.

        Args:
            options: Values by name; a string is parsed as the option's type.

        Raises:
            UsageError: If an option is unknown or its value is out of range.
        """
        known = ", ".join(self.Config.model_fields) or "none"
        unknown = [name for name in options if name not in self.Config.model_fields]
        if unknown:
            raise UsageError(
                f"{self.name} takes no option {', '.join(unknown)}. It takes: {known}."
            )
        try:
            return self.Config.model_validate(dict(options))
        except ValidationError as error:
            complaint = describe_validation_error(error)
            raise UsageError(
                f"Options of substitution '{self.name}': {complaint}. It takes: {known}."
            ) from error

    def alias(self, name: str) -> Mapping[str, Any] | None:  # noqa: ARG002
        """The options that another name of this family stands for; None if it has no such name.

        Args:
            name: As in `--substitution`.
        """
        return None

    def refuse(self, site: Site | nn.Module, config: SubstitutionConfig) -> str | None:
        """The reason why this layer cannot be rewritten, worded for a plan; None if it can be.

        Args:
            site: The layer's site, or the layer alone.
            config: Options of this family.
        """
        site = _site(site)
        reason = reason_for_all(site.layer)
        if reason is not None:
            return reason
        if site.kind == "linear" and not self.affine:
            return f"{self.name} is not affine, so it is not for Linear layers"
        if site.kind not in self.kinds:
            return _OF_ANOTHER_KIND[site.kind].format(name=self.name)
        return self._refuse(site, config)

    def _refuse(self, site: Site, config: Any) -> str | None:  # noqa: ARG002
        """The family's own reason to refuse a layer, after the reasons common to all families."""
        return None

    @abstractmethod
    def cost(self, site: Site, config: Any) -> LayerCost:
        """The replacement's parameters, and its Mult-Adds per image for each execution.

        Args:
            site: The site of a layer that is not refused, with its calls. Only shapes are read.
            config: Options of this family.
        """

    def build(self, site: Site | nn.Module, config: SubstitutionConfig) -> StructuredLayer:
        """Builds an untrained replacement, on the layer's device and in its dtype.

        For white input (independent entries of variance 1), the outputs of an affine replacement start
        with the variance of the layer's own outputs. The replacement starts with the layer's bias.
        All its parameters are trained, even if those of the layer are frozen: their values are new.

        Args:
            site: The layer's site, or the layer alone.
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
            parameter.requires_grad_(True)
        whole = StructuredLinear(built) if site.kind == "linear" else built
        return whole.train(site.layer.training)

    @abstractmethod
    def _build(self, site: Site, config: Any) -> StructuredConv:
        """Builds the replacement of `site.convolution`, for `build`.

        `build` calls it under `torch.no_grad()`, for a site that is not refused.
        """


_OF_ANOTHER_KIND: Mapping[Kind, str] = {
    "convolution": "{name} is not for convolutions of this kind",
    "depthwise": "it is depthwise already",
    "linear": "{name} is not for Linear layers",
}


def _site(site: Site | nn.Module) -> Site:
    return site if isinstance(site, Site) else Site(site)
