"""What is put in a layer's place: a convolution's replacement, and a Linear's around it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeAlias

import torch
from torch import Tensor, nn

from seclcompress.cost import EXECUTIONS
from seclcompress.errors import UsageError

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
#: What networks read of a convolution, beside its weights.
_READ = "in_channels out_channels kernel_size stride padding dilation groups padding_mode".split()
_UNIT_VECTORS = 256  # at a time: 25088 at once would be 5 GB


class StructuredLayer(nn.Module, ABC):
    """A built replacement: same input and output shapes as the layer it was built from."""

    @property
    @abstractmethod
    def execution(self) -> str:
        """`dense`, `fast`, or `auto`: what was planned in eval mode, the cheaper in training."""

    @execution.setter
    @abstractmethod
    def execution(self, value: str) -> None: ...

    @property
    @abstractmethod
    def planned_execution(self) -> str:
        """`dense` or `fast`: what `auto` means in eval mode, the plan's choice for this layer."""

    @planned_execution.setter
    @abstractmethod
    def planned_execution(self, value: str) -> None: ...

    @abstractmethod
    def to_dense(self) -> nn.Module:
        """The same map as plain torch layers with trained dense weights, nothing shared."""

    @abstractmethod
    def factors(self) -> list[nn.Parameter]:
        """The structured factors, which train with a weight decay of their own."""

    def fit(self, conv: Convolution) -> float | None:  # noqa: ARG002
        """Takes over from the original's weights what the structure can hold.

        Args:
            conv: The convolution that this layer stands in for; `contract.as_convolution` of a Linear.

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

    def extra_repr(self) -> str:
        """The convolution's own words, and the execution."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        text += f", stride={self.stride}, execution={self.execution}"
        return text + (f" ({self.planned_execution})" if self.execution == "auto" else "")


class StructuredLinear(StructuredLayer):
    """The replacement of a Linear: that of a 1×1 convolution, run over all positions.

    The attributes that a network may read of a Linear (`in_features`, `out_features`) are the
    original's.

    Args:
        convolution: The replacement of the convolution that `contract.as_convolution` makes of it.
    """

    def __init__(self, convolution: StructuredConv) -> None:
        super().__init__()
        self.in_features, self.out_features = convolution.in_channels, convolution.out_channels
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., in_features) to (..., out_features)."""
        shape = (*x.shape[:-1], self.out_features)
        if x.numel() == 0:
            return x.new_zeros(shape)
        positions = x.reshape(-1, self.in_features).mT
        y: Tensor = self.convolution(positions[None])
        return y[0].mT.reshape(shape)

    @property
    def execution(self) -> str:
        """As of the convolution inside."""
        return self.convolution.execution

    @execution.setter
    def execution(self, value: str) -> None:
        self.convolution.execution = value

    @property
    def planned_execution(self) -> str:
        """As of the convolution inside."""
        return self.convolution.planned_execution

    @planned_execution.setter
    def planned_execution(self, value: str) -> None:
        self.convolution.planned_execution = value

    def to_dense(self) -> nn.Linear:
        """One matrix, whatever the convolutions are that the family makes of a 1×1 one."""
        dense = self.convolution.to_dense()
        example = next(dense.parameters())
        linear = nn.Linear(
            self.in_features,
            self.out_features,
            bias=any(name.endswith("bias") for name, _ in dense.named_parameters()),
            device=example.device,
            dtype=example.dtype,
        )
        with torch.no_grad():
            weight, bias = _matrix(dense, self.in_features)
            linear.weight.copy_(weight)
            if linear.bias is not None:
                linear.bias.copy_(bias)
        return linear.train(self.training)

    def factors(self) -> list[nn.Parameter]:
        """Those of the convolution inside, which an optimiser finds by itself."""
        return self.convolution.factors()

    def fit(self, conv: Convolution) -> float | None:
        """As of the convolution inside."""
        return self.convolution.fit(conv)

    def products(self) -> list[Tensor]:
        """Those of the convolution inside."""
        return self.convolution.products()

    def keep_product(self, keep: bool) -> None:
        """As of the convolution inside."""
        self.convolution.keep_product(keep)

    def extra_repr(self) -> str:
        """The Linear's own words."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


def plain(layer: StructuredLayer) -> nn.Module:
    """`to_dense`, with the attributes that a network may read of the original layer."""
    dense = layer.to_dense()
    for name in _READ:
        if hasattr(layer, name) and not hasattr(dense, name):
            setattr(dense, name, getattr(layer, name))
    return dense


def _matrix(dense: nn.Module, in_features: int) -> tuple[Tensor, Tensor]:
    """The map of plain 1×1 convolutions, shape (out_features, in_features), and its bias."""
    if isinstance(dense, nn.Conv1d) and dense.groups == 1:
        bias = dense.weight.new_zeros(1) if dense.bias is None else dense.bias
        return dense.weight.squeeze(-1), bias
    # Several in a row: the images of zero and, some at a time, of the unit vectors.
    exact = dense.double()
    device = next(exact.parameters()).device
    bias = exact(torch.zeros(1, in_features, 1, dtype=torch.float64, device=device))[0]
    columns = []
    for start in range(0, in_features, _UNIT_VECTORS):
        number = min(_UNIT_VECTORS, in_features - start)
        unit = torch.zeros(1, in_features, number, dtype=torch.float64, device=device)
        unit[0].diagonal(-start).fill_(1)
        columns.append(exact(unit)[0] - bias)
    return torch.cat(columns, 1), bias[:, 0]


def structured_layers(network: nn.Module) -> list[StructuredLayer]:
    """The structured layers of a network, itself included, those inside others left out."""
    found = [module for module in network.modules() if isinstance(module, StructuredLayer)]
    inside = {id(part) for layer in found for part in layer.modules() if part is not layer}
    return [layer for layer in found if id(layer) not in inside]
