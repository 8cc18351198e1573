"""Loading weights into a network, either all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from seclcompress.errors import WeightsError
from seclcompress.networks.weights.choosing import choose, with_versions
from seclcompress.networks.weights.dtypes import converted, reason_to_refuse
from seclcompress.torch_private import module_versions

#: A counter of batch norm that old files lack. torch's own strict loading does without it as well.
_COUNTER = "num_batches_tracked"
_LISTED = 4


@dataclass(frozen=True)
class LoadedWeights:
    """What became of weights that were asked for.

    Attributes:
        untrained: The names of the network's tensors that have no values from the file.
        notes: Sentences on what was decided in the person's name.
    """

    untrained: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def load_weights(
    network: nn.Module,
    content: Mapping[str, Any],
    source: str,
    *,
    key: str | None = None,
    new_head: bool = False,
) -> LoadedWeights:
    """Loads weights into a network, either all of them or none.

    Args:
        network: The network; it keeps its dtype.
        content: Tensors by parameter name, or a checkpoint that has them somewhere inside, possibly with
            a prefix before every name.
        source: Where the weights come from, for messages.
        key: Where in the checkpoint they stand; None to look for them.
        new_head: Allows the network's head to have another number of classes; its tensors then stay
            untrained.

    Raises:
        WeightsError: If names or shapes differ (the message lists the first few), a tensor is of a kind
            that the network does not take, or a value is not finite.
    """
    own = network.state_dict()
    chosen = choose(content, own, source, key)
    state = chosen.state
    odd = [name for name in own if name in state and own[name].shape != state[name].shape]
    untrained = odd if new_head and _differ_in_classes(own, state, odd) else []
    old = {name for name in own if name not in state and name.rpartition(".")[2] == _COUNTER}
    complaints = [f"missing {name}" for name in own if name not in state and name not in old]
    complaints += [f"unexpected {name}" for name in state if name not in own]
    complaints += [
        f"{name} has shape {_shape(state[name])} instead of {_shape(own[name])}"
        for name in odd
        if name not in untrained
    ]
    if not complaints:
        reasons = {
            name: reason_to_refuse(own[name], state[name]) for name in own.keys() & state.keys()
        }
        complaints += [f"{name} {reasons[name]}" for name in own if reasons.get(name)]
    if complaints:
        listed = "; ".join(complaints[:_LISTED])
        more = f"; and {len(complaints) - _LISTED} more" if len(complaints) > _LISTED else ""
        hint = ""
        if odd and len(complaints) == len(odd) and _differ_in_classes(own, state, odd):
            hint = " If only the number of classes differs, say it with --num-classes."
        raise WeightsError(f"{source} does not fit the network: {listed}{more}.{hint}")
    fitting = {name: state[name] for name in state if name not in untrained}
    values, notes = converted(own, fitting, source)
    kept = {name: own[name] for name in (*untrained, *old)}
    put_state(network, with_versions({**values, **kept}, module_versions(state)))
    return LoadedWeights(untrained, chosen.notes + notes)


def put_state(network: nn.Module, state: Mapping[str, Tensor], *, assign: bool = False) -> None:
    """Calls `load_state_dict`, also for tensors without the versions of their modules.

    A module may refuse tensors of an unknown version, as MNASNet does. A `.pth` file has versions, which
    are passed on. A safetensors file has none; the network's own are used instead, which is correct
    because the callers have compared names and shapes with the network's.

    Args:
        network: The network.
        state: Tensors by name.
        assign: Makes these tensors the network's own instead of copying their values.

    Raises:
        RuntimeError: If names or shapes differ.
    """
    versions = module_versions(state) or module_versions(network.state_dict())
    network.load_state_dict(with_versions(state, versions), assign=assign)


def _differ_in_classes(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], odd: list[str]
) -> bool:
    """Whether the tensors of other shapes are heads that differ only in their number of classes.

    The network's last matrix must be among them.

    Args:
        own: The network's tensors.
        state: The file's tensors.
        odd: The names of the tensors of other shapes.
    """
    if not odd:
        return True
    matrices = [key for key, value in own.items() if value.dim() > 1]
    if not matrices:
        return False
    last = matrices[-1]
    numbers = {(own[key].shape[0], state[key].shape[0]) for key in odd if own[key].dim() > 0}
    rest_fits = all(own[key].shape[1:] == state[key].shape[1:] for key in odd)
    return last in odd and len(numbers) == 1 and rest_fits


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"
