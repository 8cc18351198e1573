"""What a structured replacement of a convolution promises.

The contract stands at the level of the whole convolution, because in some families the depthwise
part sits between two pointwise ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from seclcompress.cost import EXECUTIONS, LayerCost
from seclcompress.errors import SubstitutionError, UsageError, describe_validation_error

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
#: Exactly these classes: a subclass may compute something else in its forward.
CONVOLUTIONS: dict[int, type[Convolution]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class SubstitutionConfig(BaseModel):
    """Options of one substitution: JSON in a plan, `--option KEY=VALUE` on the command line."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StructuredConv(nn.Module, ABC):
    """A built replacement: same input and output shapes as the convolution it was built from.

    The attributes that a network may read of a convolution (`in_channels`, `out_channels`,
    `kernel_size`, `stride`, `padding`, `dilation`, `groups`, `padding_mode`) are the original's.

    Args:
        conv: The convolution whose geometry is taken over.
    """

    def __init__(self, conv: Convolution) -> None:
        super().__init__()
        self.in_channels = conv.in_channels
        self.out_channels = conv.out_channels
        self.kernel_size = conv.kernel_size
        self.stride = conv.stride
        self.padding = conv.padding
        self.dilation = conv.dilation
        self.groups = conv.groups
        self.padding_mode = conv.padding_mode
        self._execution = "auto"
        self._planned_execution = "dense"

    @property
    def execution(self) -> str:
        """`dense`, `fast`, or `auto`: what was planned in eval mode, the cheaper in training."""
        return self._execution

    @execution.setter
    def execution(self, value: str) -> None:
        if value not in (*EXECUTIONS, "auto"):
            raise UsageError(f"Unknown execution '{value}'. There are: dense, fast, auto.")
        self._execution = value

    @property
    def planned_execution(self) -> str:
        """`dense` or `fast`: what `auto` means in eval mode, the plan's choice for this layer."""
        return self._planned_execution

    @planned_execution.setter
    def planned_execution(self, value: str) -> None:
        if value not in EXECUTIONS:
            raise UsageError(f"Unknown planned execution '{value}'. There are: dense, fast.")
        self._planned_execution = value

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, in_channels, *spatial) to (batch, out_channels, *output_size)."""

    @abstractmethod
    def to_dense(self) -> nn.Module:
        """The same map as plain torch convolutions with trained dense weights, nothing shared."""

    def factors(self) -> list[nn.Parameter]:
        """The structured factors, which train with a weight decay of their own. None by default."""
        return []

    def fit(self, conv: Convolution) -> float | None:  # noqa: ARG002
        """Takes over from the original's weights what the structure can hold.

        Args:
            conv: The convolution that this layer stands in for.

        Returns:
            The part of the pointwise matrix that it cannot hold, ‖W − target‖ ÷ ‖target‖; None if this
            family has no such start, and nothing was changed.
        """
        return None

    def products(self) -> list[Tensor]:
        """The dense matrices that the factors multiply to, differentiable; those of the last pass.

        A structured layer without factors has none.
        """
        return []

    def keep_product(self, keep: bool) -> None:
        """Whether a forward pass in training keeps its matrices for `products`."""

    def extra_repr(self) -> str:
        """The convolution's own words, and the execution."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        text += f", stride={self.stride}, execution={self.execution}"
        return text + (f" ({self.planned_execution})" if self.execution == "auto" else "")


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

    def refuse(self, conv: nn.Module, config: SubstitutionConfig) -> str | None:
        """Why this layer cannot be rewritten, in words that a plan can print; None if it can."""
        if type(conv) not in CONVOLUTIONS.values():
            return f"a {type(conv).__name__} may compute something else than a plain convolution"
        assert isinstance(conv, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        if conv.in_channels == 0 or conv.out_channels == 0:
            return f"it has no channels ({conv.in_channels} in, {conv.out_channels} out)"
        if not conv.weight.is_floating_point():
            return f"its weights are {conv.weight.dtype}, not floating-point numbers"
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

    def build(self, conv: nn.Module, config: SubstitutionConfig) -> StructuredConv:
        """A freshly initialised replacement, on the convolution's device and in its dtype.

        Outputs start with the variance that the convolution gives for white input. The bias is the
        convolution's own.

        Raises:
            SubstitutionError: If `refuse` gives a reason.
        """
        reason = self.refuse(conv, config)
        if reason is not None:
            raise SubstitutionError(f"Cannot rewrite {conv} as '{self.name}': {reason}.")
        assert isinstance(conv, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        with torch.no_grad():
            built = self._build(conv, config)
        for parameter in built.parameters():
            parameter.requires_grad_(conv.weight.requires_grad)
        return built.train(conv.training)

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
    for module in network.modules():
        if isinstance(module, StructuredConv):
            module.execution = execution
