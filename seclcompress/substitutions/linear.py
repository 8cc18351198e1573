"""The replacement of a Linear: a structured 1×1 convolution, run over all positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seclcompress.substitutions.fitting import Fit
from seclcompress.substitutions.shapes.factored import Making
from seclcompress.substitutions.site import as_convolution
from seclcompress.substitutions.structured import StructuredConv, StructuredLayer

_UNIT_VECTORS = 256  # at a time; all 25088 of VGG's first Linear would take 5 GB


class StructuredLinear(StructuredLayer):
    """A structured 1×1 convolution with the interface of a Linear.

    The attributes that a network may read from a Linear (`in_features`, `out_features`) have the
    original's values.

    Args:
        convolution: The replacement for the convolution that `site.as_convolution` makes from a Linear.
    """

    def __init__(self, convolution: StructuredConv) -> None:
        super().__init__()
        self.in_features, self.out_features = convolution.in_channels, convolution.out_channels
        self.convolution = convolution

    @property
    def affine(self) -> bool:
        """Whether the convolution inside is affine."""
        return self.convolution.affine

    @property
    def executions(self) -> tuple[str, ...]:
        """The executions of the convolution inside."""
        return self.convolution.executions

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., in_features) to (..., out_features)."""
        shape = (*x.shape[:-1], self.out_features)
        if x.numel() == 0:
            return x.new_zeros(shape)
        positions = x.reshape(-1, self.in_features).mT
        y: Tensor = self.convolution(positions[None])
        return y[0].mT.reshape(shape)

    def whole_weight(self) -> tuple[Tensor, Tensor | None, int] | None:
        """The convolution's weight as that of a Linear, shape (out_features, in_features)."""
        whole = self.convolution.whole_weight()
        if whole is None:
            return None
        weight, bias, groups = whole
        return weight.flatten(1), bias, groups

    def fused(self, dtype: torch.dtype) -> bool:
        """Whether the convolution inside runs in the fused kernel."""
        return self.convolution.fused(dtype)

    @property
    def execution(self) -> str:
        """The execution of the convolution inside."""
        return self.convolution.execution

    @execution.setter
    def execution(self, value: str) -> None:
        self.convolution.execution = value

    @property
    def planned_execution(self) -> str:
        """The planned execution of the convolution inside."""
        return self.convolution.planned_execution

    @planned_execution.setter
    def planned_execution(self, value: str) -> None:
        self.convolution.planned_execution = value

    def to_plain(self) -> nn.Module:
        """Converts to one Linear, or to several in a row where the structure is a product of matrices.

        Where the plain convolutions are grouped, the result is one Linear, multiplied out: torch has no
        grouped Linear, so their structure is lost.

        Raises:
            TypeError: If the family is not affine; such a family has to refuse Linears.
        """
        steps = self.convolution.to_plain()
        convolutions = list(steps) if isinstance(steps, nn.Sequential) else [steps]
        linears = [_as_linear(conv) for conv in convolutions]
        if all(linear is not None for linear in linears):
            row = [linear for linear in linears if linear is not None]
            whole = row[0] if len(row) == 1 else nn.Sequential(*row)
            return whole.train(self.training)
        dense = self.to_dense()
        if dense is None:
            name = type(self.convolution).__name__
            raise TypeError(f"{name} is not affine: its family cannot replace a Linear.")
        return dense

    def to_dense(self) -> nn.Linear | None:
        """Multiplies out to one Linear; None if the convolution inside is not affine."""
        dense = self.convolution.to_dense()
        if dense is None or not self.affine:
            return None
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

    def made_weights(self) -> dict[str, nn.Module]:
        """How the Linear's weight is made, where the convolution inside is one matrix."""
        made = self.convolution.made_weights()
        weight = made.get("weight")
        if len(made) != 1 or not isinstance(weight, Making):
            return {}
        shape = (self.out_features, self.in_features)
        return {"weight": Making(weight.factored, shape, weight.scale)}

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameter groups of the convolution inside."""
        return self.convolution.parameter_groups()

    def fit(self, layer: nn.Module) -> Fit | None:
        """Fits the convolution inside to the Linear's weights."""
        return self.convolution.fit(as_convolution(layer))

    def products(self) -> list[Tensor]:
        """The products of the convolution inside."""
        return self.convolution.products()

    def keep_product(self, keep: bool) -> None:
        """Sets whether the convolution inside keeps its products."""
        self.convolution.keep_product(keep)

    def extra_repr(self) -> str:
        """The sizes, as a Linear prints them."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


def _as_linear(conv: nn.Module) -> nn.Linear | None:
    """Converts an ungrouped 1×1 convolution to a Linear; returns None for anything else."""
    if type(conv) is not nn.Conv1d or conv.groups != 1 or conv.kernel_size != (1,):
        return None
    linear = nn.Linear(
        conv.in_channels, conv.out_channels, bias=conv.bias is not None, device="meta"
    )
    linear.weight = nn.Parameter(conv.weight.detach().squeeze(-1))
    linear.bias = conv.bias  # type: ignore[assignment]
    return linear


def _matrix(dense: nn.Module, in_features: int) -> tuple[Tensor, Tensor]:
    """The matrix, shape (out_features, in_features), and the bias of plain 1×1 convolutions.

    Convolutions in a row are an affine map. Its value at zero is the bias, and its values at the unit
    vectors, less the bias, are the matrix's columns.
    """
    if isinstance(dense, nn.Conv1d) and dense.groups == 1:
        bias = dense.weight.new_zeros(1) if dense.bias is None else dense.bias
        return dense.weight.squeeze(-1), bias
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
