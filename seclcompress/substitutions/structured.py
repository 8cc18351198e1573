"""What is put in a layer's place, and what every replacement can be asked."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod

from torch import Tensor, nn

from seclcompress.cost import EXECUTIONS
from seclcompress.errors import UsageError
from seclcompress.substitutions.fitting import Fit
from seclcompress.substitutions.site import Convolution

#: What networks read of a convolution, beside its weights.
_READ = "in_channels out_channels kernel_size stride padding dilation groups padding_mode".split()


class StructuredLayer(nn.Module, ABC):
    """A built replacement: same input and output shapes as the layer it was built from."""

    @property
    def affine(self) -> bool:
        """Whether it computes `W x + b`, the same in training as in eval mode."""
        return True

    @property
    def executions(self) -> tuple[str, ...]:
        """The ways it can run, one or more of `cost.EXECUTIONS`; asked for another it runs the first."""
        return ("dense",)

    @property
    @abstractmethod
    def execution(self) -> str:
        """One of `cost.EXECUTIONS`, or `auto`: as planned in eval mode, the cheaper in training."""

    @execution.setter
    @abstractmethod
    def execution(self, value: str) -> None: ...

    @property
    @abstractmethod
    def planned_execution(self) -> str:
        """What `auto` means in eval mode: the plan's choice for this layer."""

    @planned_execution.setter
    @abstractmethod
    def planned_execution(self, value: str) -> None: ...

    @abstractmethod
    def to_plain(self) -> nn.Module:
        """The same map in torch's own layers, the structure kept where torch can express it.

        Nothing is shared with this layer. It computes what this layer computes in eval mode.
        """

    @abstractmethod
    def to_dense(self) -> nn.Module | None:
        """The same map in torch's own layers, factors multiplied out; None where there is no such map.

        Nothing is shared with this layer.
        """

    def ready(self, execution: str) -> nn.Module:
        """What inference runs for an execution: plain layers, or a copy that runs its transform.

        Args:
            execution: One of `cost.EXECUTIONS`.
        """
        if execution not in self.executions:
            execution = self.executions[0]
        if execution == "dense":
            return plain(self)
        running = copy.deepcopy(self)
        running.execution = execution
        return running

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that optimisers treat apart, by the group's name; what is in none is the rest.

        The names are those of `settings.training.GROUPS`: `factors` of a product, `gains` that scale
        what is normalised, the `norms`' own.
        """
        return {}

    def fit(self, layer: nn.Module) -> Fit | None:  # noqa: ARG002
        """Takes over from the original's weights what the structure can hold.

        Args:
            layer: The layer that this one stands in for.

        Returns:
            How much it could not hold, and of what; None if this family has no such start, and nothing
            was changed.
        """
        return None

    def products(self) -> list[Tensor]:
        """The tensors that the factors multiply to, differentiable; those of the last pass.

        A structured layer without factors has none.
        """
        return []

    def keep_product(self, keep: bool) -> None:
        """Whether a forward pass in training keeps its tensors for `products`."""

    def scale_outputs(self, scale: Tensor, shift: Tensor) -> bool:  # noqa: ARG002
        """Folds `y -> scale * y + shift` into the layer, as a batch norm behind it does in eval mode.

        For networks that are run and not trained.

        Args:
            scale: One number for each output channel.
            shift: Likewise.

        Returns:
            Whether the family can; if not, nothing was changed.
        """
        return False


class StructuredConv(StructuredLayer):
    """The replacement of a convolution.

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
        """One of `cost.EXECUTIONS`, or `auto`: as planned in eval mode, the cheaper in training."""
        return self._execution

    @execution.setter
    def execution(self, value: str) -> None:
        if value not in (*EXECUTIONS, "auto"):
            raise UsageError(f"Unknown execution '{value}'. There are: dense, fast, auto.")
        self._execution = value

    @property
    def planned_execution(self) -> str:
        """What `auto` means in eval mode: the plan's choice for this layer."""
        return self._planned_execution

    @planned_execution.setter
    def planned_execution(self, value: str) -> None:
        if value not in EXECUTIONS:
            raise UsageError(f"Unknown planned execution '{value}'. There are: dense, fast.")
        self._planned_execution = value

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, in_channels, *spatial) to (batch, out_channels, *output_size).

        As torch's convolutions do, it takes one image without a batch, too.
        """
        if x.dim() == len(self.kernel_size) + 1:
            return self.convolve(x.unsqueeze(0)).squeeze(0)
        return self.convolve(x)

    @abstractmethod
    def convolve(self, x: Tensor) -> Tensor:
        """Maps (batch, in_channels, *spatial) to (batch, out_channels, *output_size)."""

    def extra_repr(self) -> str:
        """The convolution's own words, and the execution."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        text += f", stride={self.stride}"
        if len(self.executions) > 1:
            text += f", execution={self.execution}"
            text += f" ({self.planned_execution})" if self.execution == "auto" else ""
        return text


def plain(layer: StructuredLayer) -> nn.Module:
    """A layer multiplied out, or plain where it cannot be, with what a network may read of the original.

    Args:
        layer: A built replacement; it stays as it is.
    """
    return _readable(layer.to_dense() or layer.to_plain(), layer)


def structure_kept(layer: StructuredLayer) -> nn.Module:
    """`to_plain`, with the attributes that a network may read of the original layer."""
    return _readable(layer.to_plain(), layer)


def _readable(module: nn.Module, layer: StructuredLayer) -> nn.Module:
    for name in _READ:
        if hasattr(layer, name) and not hasattr(module, name):
            setattr(module, name, getattr(layer, name))
    return module


def structured_layers(network: nn.Module) -> list[StructuredLayer]:
    """The structured layers of a network, itself included, those inside others left out."""
    found = [module for module in network.modules() if isinstance(module, StructuredLayer)]
    inside = {id(part) for layer in found for part in layer.modules() if part is not layer}
    return [layer for layer in found if id(layer) not in inside]


def set_execution(network: nn.Module, execution: str) -> None:
    """Switches every structured layer of a network.

    Args:
        network: Any module; one without structured layers stays as it is.
        execution: `dense`, `fast`, or `auto`. A layer that has not the named one runs what it has.

    Raises:
        UsageError: If the execution is none of these.
    """
    for layer in structured_layers(network):
        layer.execution = execution
