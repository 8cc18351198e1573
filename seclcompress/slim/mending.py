"""The weights that read channels take over those that are lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from seclcompress.graph import Group
from seclcompress.slim.attaching import input_dimension
from seclcompress.slim.choice import Lost
from seclcompress.slim.readings import Reading, Readings, has_bias


@torch.no_grad()
def mend(
    network: nn.Module,
    groups: Sequence[Group],
    readings: Readings,
    lost: Lost,
    values: Mapping[str, Tensor] | None = None,
) -> None:
    """Changes the weights that read channels so that they can do without some.

    A lost channel x_l is close to m_l + T(x_k − m_k), the best linear function of those that are kept in
    the least squares of the pictures. So W_k becomes W_k + W_l T, and a bias takes W_l (m_l − T m_k): of
    all biases it changes the layer's outputs least. Without a bias the means are zero, and a batch norm
    behind the layer takes over what is left.

    Args:
        network: The network before it is narrowed.
        groups: Its groups.
        readings: What its layers read.
        lost: Numbers of the atoms that are lost, by the group's name.
        values: Tensors by the names of the network's parameters, which are changed in place; None for
            the parameters themselves. Names that are missing are passed over.
    """
    tensors = dict(network.named_parameters()) if values is None else values
    for group in groups:
        gone = sorted(lost.get(group.name, ()))
        if not gone:
            continue
        for reading in readings[group.name]:
            layer = network.get_submodule(reading.layer)
            weight = tensors.get(f"{reading.layer}.weight")
            if weight is None:
                continue
            bias = tensors.get(f"{reading.layer}.bias") if has_bias(layer) else None
            _mend(weight, bias, input_dimension(layer), reading, gone)


def _mend(
    weight: Tensor, bias: Tensor | None, dimension: int, reading: Reading, gone: Sequence[int]
) -> None:
    out = torch.tensor(gone)
    stay = torch.ones(len(reading.moments), dtype=torch.bool)
    stay[out] = False
    kept = stay.nonzero().flatten()
    within, across = reading.moments[kept][:, kept], reading.moments[kept][:, out]
    mixing = torch.linalg.solve(within, across)  # T transposed: (kept, lost)
    missing = reading.mean[out] - mixing.T @ reading.mean[kept]
    wide = weight.double().movedim(dimension, 0)  # (inputs, …)
    positions = reading.positions.to(wide.device)
    mixing, missing = mixing.to(wide.device), missing.to(wide.device)
    for place in range(positions.shape[1]):
        of_lost = wide[positions[out, place]]
        wide[positions[kept, place]] += torch.tensordot(mixing, of_lost, 1)
        if bias is not None:
            by_output = of_lost.reshape(*of_lost.shape[:2], -1).sum(2)  # over the kernel
            bias += (missing @ by_output).to(bias.dtype)
    weight.copy_(wide.movedim(0, dimension))
