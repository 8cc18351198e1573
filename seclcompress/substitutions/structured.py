"""The base classes of all replacements, and functions on networks that contain replacements."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, fx, nn

from seclcompress.cost import EXECUTIONS
from seclcompress.errors import UsageError
from seclcompress.substitutions.fitting import Fit
from seclcompress.substitutions.site import Convolution

#: The attributes of a convolution, beside its weights, that networks read.
_READ = "in_channels out_channels kernel_size stride padding dilation groups padding_mode".split()


class StructuredLayer(nn.Module, ABC):
    """A built replacement: same input and output shapes as the layer it was built from."""

    @property
    def affine(self) -> bool:
        """Whether it computes `W x + b`, with the same W and b in training and in eval mode."""
        return True

    @property
    def executions(self) -> tuple[str, ...]:
        """The ways it can run, one or more of `cost.EXECUTIONS`. For another it runs the first."""
        return ("dense",)

    def fused(self, dtype: torch.dtype) -> bool:  # noqa: ARG002
        """Whether its fast execution is one call of the fused kernel on inputs of a dtype."""
        return False

    @property
    @abstractmethod
    def execution(self) -> str:
        """One of `cost.EXECUTIONS`, or `auto`: as planned in eval mode, the cheaper one in training."""

    @execution.setter
    @abstractmethod
    def execution(self, value: str) -> None: ...

    @property
    @abstractmethod
    def planned_execution(self) -> str:
        """The execution that `auto` runs in eval mode: the plan's choice for this layer."""

    @planned_execution.setter
    @abstractmethod
    def planned_execution(self, value: str) -> None: ...

    def __prepare_scriptable__(self) -> nn.Module:
        """Refuses torch.jit.script in words; torch asks every module for this method before it compiles.

        Raises:
            TypeError: Always.
        """
        # Plain layers could be returned, but torch would put them into the person's own network.
        raise TypeError(
            f"TorchScript cannot compile a {type(self).__name__}, which chooses between executions. "
            "Script seclcompress.to_plain(network)."
        )

    @abstractmethod
    def to_plain(self) -> nn.Module:
        """Converts to torch's own layers, with the structure kept where torch can express it.

        The result computes what this layer computes in eval mode. It shares no tensors with this layer.
        """

    @abstractmethod
    def to_dense(self) -> nn.Module | None:
        """Converts to torch's own layers, with factors multiplied out; None if that is impossible.

        It is impossible for a layer that is not affine. The result shares no tensors with this layer.
        """

    def made_weights(self) -> dict[str, nn.Module]:
        """How `to_dense`'s parameters are made from factors, for files that hold the factors.

        Returns:
            By the name of a parameter of `to_dense`'s result, a module without inputs that makes it from
            its own parameters and buffers (`shapes.Making`). Parameters that are not made from factors
            are left out; by default all.
        """
        return {}

    def ready(self, execution: str) -> nn.Module:
        """The module that inference runs for an execution.

        For `dense` it is a plain module, for `fast` a copy of this layer with its execution set.

        Args:
            execution: One of `cost.EXECUTIONS`.
        """
        if execution not in self.executions:
            execution = self.executions[0]
        if execution == "dense":
            return multiplied_out(self)
        running = copy.deepcopy(self)
        running.execution = execution
        return running

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that an optimiser treats separately, by group name; the others need no group.

        The names are those of `settings.training.GROUPS`: the `factors` of a product, `gains` that scale
        normalised filters, the parameters of normalisations (`norms`), and `gates`.
        """
        return {}

    def fit(self, layer: nn.Module) -> Fit | None:  # noqa: ARG002
        """Changes the parameters so that the layer comes near the original's weights.

        Args:
            layer: The layer that this one replaces.

        Returns:
            How near it comes to which weights; None if this family cannot be fitted, in which case
            nothing changes.
        """
        return None

    def whole_weight(self) -> tuple[Tensor, Tensor | None, int] | None:
        """The one convolution that computes the same, or Linear, differentiable.

        Returns:
            Its weight, its bias, and its groups; None by default, where the layer has no such weight.
        """
        return None

    def split_weight(self) -> tuple[Tensor, Tensor | None, Tensor] | None:
        """The parts whose product is `whole_weight`, where channels are filtered and then mixed.

        Returns:
            The matrix that mixes, (out_channels, in_channels), the bias, and the filters, (in_channels,
            kernel's size), all differentiable; None by default, where there are no such parts.
        """
        return None

    def products(self) -> list[Tensor]:
        """The tensors that are made from factors, differentiable; none in a layer without factors.

        They are those of the last forward pass where `keep_product` has asked it to keep them, and made
        anew otherwise.
        """
        return []

    def keep_product(self, keep: bool) -> None:
        """Sets whether a forward pass in training keeps its tensors for `products`."""

    def scale_outputs(self, scale: Tensor, shift: Tensor) -> bool:  # noqa: ARG002
        """Folds `y -> scale * y + shift`, such as a batch norm's map in eval mode, into the layer.

        For networks that are run and not trained.

        Args:
            scale: Shape (out_channels,).
            shift: Shape (out_channels,).

        Returns:
            Whether the family can do this; if not, nothing changes.
        """
        return False


class StructuredConv(StructuredLayer):
    """The replacement of a convolution.

    The attributes that a network may read from a convolution (`in_channels`, `out_channels`,
    `kernel_size`, `stride`, `padding`, `dilation`, `groups`, `padding_mode`) have the original's values.

    Args:
        conv: The convolution to replace; its geometry is copied.
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
        """One of `cost.EXECUTIONS`, or `auto`: as planned in eval mode, the cheaper one in training."""
        return self._execution

    @execution.setter
    def execution(self, value: str) -> None:
        if value not in (*EXECUTIONS, "auto"):
            raise UsageError(f"Unknown execution '{value}'. There are: dense, fast, auto.")
        self._execution = value

    @property
    def planned_execution(self) -> str:
        """The execution that `auto` runs in eval mode: the plan's choice for this layer."""
        return self._planned_execution

    @planned_execution.setter
    def planned_execution(self, value: str) -> None:
        if value not in EXECUTIONS:
            raise UsageError(f"Unknown planned execution '{value}'. There are: dense, fast.")
        self._planned_execution = value

    def running(self, quickest_in_training: Callable[[], str]) -> str:
        """The execution that a forward pass runs, one of `executions`.

        Args:
            quickest_in_training: Names the one that makes a training step cheaper. It is asked only
                where that decides.
        """
        if len(self.executions) == 1:
            return self.executions[0]
        wanted = self.execution
        if wanted == "auto":
            wanted = quickest_in_training() if self.training else self.planned_execution
        return wanted if wanted in self.executions else self.executions[0]

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, in_channels, *spatial) to (batch, out_channels, *output_size).

        Like torch's convolutions, it also takes a single image without a batch dimension.

        Raises:
            TypeError: If torch.fx traces into it.
        """
        given: object = x
        if isinstance(given, fx.Proxy):
            raise TypeError(
                f"torch.fx cannot trace into a {type(self).__name__}, which chooses between executions. "
                "Trace seclcompress.to_plain(network), or make StructuredLayer a leaf of the tracer."
            )
        if x.dim() == len(self.kernel_size) + 1:
            return self.convolve(x.unsqueeze(0)).squeeze(0)
        return self.convolve(x)

    @abstractmethod
    def convolve(self, x: Tensor) -> Tensor:
        """Maps (batch, in_channels, *spatial) to (batch, out_channels, *output_size)."""

    def extra_repr(self) -> str:
        """Channels, kernel size and stride, and the execution where there is a choice."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        text += f", stride={self.stride}"
        if len(self.executions) > 1:
            text += f", execution={self.execution}"
            text += f" ({self.planned_execution})" if self.execution == "auto" else ""
        return text


def multiplied_out(layer: StructuredLayer) -> nn.Module:
    """Converts a layer by `to_dense`, or by `to_plain` where it cannot be multiplied out.

    The result has the attributes that a network may read from the original layer.

    Args:
        layer: A built replacement; it is not changed.
    """
    return _readable(layer.to_dense() or layer.to_plain(), layer)


def plain_layers(layer: StructuredLayer) -> nn.Module:
    """Converts a layer by `to_plain`, with the attributes that a network may read from the original."""
    return _readable(layer.to_plain(), layer)


def _readable(module: nn.Module, layer: StructuredLayer) -> nn.Module:
    for name in _READ:
        if hasattr(layer, name) and not hasattr(module, name):
            setattr(module, name, getattr(layer, name))
    return module


def structured_layers(network: nn.Module) -> list[StructuredLayer]:
    """The structured layers of a network, itself included; those inside others are left out."""
    found = [module for module in network.modules() if isinstance(module, StructuredLayer)]
    inside = {id(part) for layer in found for part in layer.modules() if part is not layer}
    return [layer for layer in found if id(layer) not in inside]


def set_execution(network: nn.Module, execution: str) -> None:
    """Sets the execution of every structured layer of a network.

    Args:
        network: Any module; nothing changes in one without structured layers.
        execution: `dense`, `fast`, or `auto`. A layer without the named execution runs its first.

    Raises:
        UsageError: If the execution is none of these.
    """
    for layer in structured_layers(network):
        layer.execution = execution
