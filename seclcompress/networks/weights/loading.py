"""Putting a file's weights into a network, all or none, and telling what was decided for it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from seclcompress.errors import short
from seclcompress.networks.weights.choice import Choice, choose
from seclcompress.networks.weights.matching import Match
from seclcompress.networks.weights.values import COUNTER, Cast, admit
from seclcompress.torch_private import module_versions, set_module_versions

_NAMED = 3


@dataclass(frozen=True)
class Loaded:
    """What was decided when weights were loaded.

    Attributes:
        source: Where the weights come from.
        untrained: The network's names that keep their first values, because the weights have another
            number of classes.
        key: The place of the weights in the file; empty if they are the file's only content.
        others: Places of averaged weights that fit as well.
        is_averaged: Whether the weights that were taken are averaged over training.
        prefix: What the file has before each name.
        own_prefix: What the network has before each name and the file has not.
        left_out: Names in the file that are no parameters of the network.
        counters: How many counters of batches the file lacks.
        casts: Changes of dtype.
        option: The option with which a person names the place in the file.
    """

    source: str = ""
    untrained: tuple[str, ...] = ()
    key: str = ""
    others: tuple[str, ...] = ()
    is_averaged: bool = False
    prefix: str = ""
    own_prefix: str = ""
    left_out: tuple[str, ...] = ()
    counters: int = 0
    casts: tuple[Cast, ...] = ()
    option: str = "--weights-key"

    def words(self) -> str:
        """One line on all that was decided in the person's name; empty if nothing was."""
        parts = []
        if self.key:
            averaged = ", which is averaged over training," if self.is_averaged else ""
            parts.append(f"the weights under '{self.key}'{averaged} were taken")
        if self.others:
            others = " or ".join(f"{self.option} {name}" for name in self.others)
            parts.append(f"averaged weights are there too, for {others}")
        if self.prefix:
            parts.append(f"'{self.prefix}' was taken off each name")
        if self.own_prefix:
            parts.append(f"'{self.own_prefix}' was put before each name")
        if self.left_out:
            parts.append(f"left out, as it is none of the network's: {_few(self.left_out)}")
        if self.counters:
            parts.append(f"{COUNTER} is missing and starts at 0")
        parts += [str(cast) for cast in self.casts]
        if self.untrained:
            parts.append(f"fresh, for another number of classes: {', '.join(self.untrained)}")
        return f"{self.source}: {'; '.join(parts)}." if parts else ""


def _few(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(short(name, 100) for name in names[:_NAMED]) + more


def load_weights(
    network: nn.Module,
    content: Mapping[Any, Any],
    source: str,
    *,
    key: str | None = None,
    new_head: bool = False,
    option: str = "--weights-key",
) -> Loaded:
    """Loads weights into a network, either all of them or none.

    Args:
        network: The network; it keeps its dtypes.
        content: Tensors by parameter name, or what a checkpoint holds: such dictionaries under keys like
            `state_dict` or `model_ema`. What fits the network is taken. Prefixes that all names have,
            such as that of DataParallel, are taken off.
        source: Where the weights come from, for messages.
        key: The place of the weights in the checkpoint; None to find it.
        new_head: Allows the network's head to have another number of classes; its tensors then stay
            untrained.
        option: The option with which a person names the place, for messages.

    Returns:
        What was decided.

    Raises:
        WeightsError: If nothing fits (the message lists what is wrong), several sets of weights fit
            alike, a dtype or layout cannot become the network's, or a value is not finite.
    """
    own = network.state_dict()
    choice = choose(own, content, source, key=key, new_head=new_head, option=option)
    match = choice.match
    taken = {name: t for name, t in match.tensors.items() if name not in choice.untrained}
    admitted, casts = admit(taken, own, source)
    state = {name: admitted.get(name, value) for name, value in own.items()}
    put_state(network, _with_versions(state, _versions(match)))
    return _told(source, choice, casts, option)


def _told(source: str, choice: Choice, casts: list[Cast], option: str) -> Loaded:
    match = choice.match
    return Loaded(
        source,
        untrained=choice.untrained,
        key=match.key,
        others=choice.others,
        is_averaged=choice.is_averaged,
        prefix=match.prefix,
        own_prefix=match.own_prefix,
        left_out=(*match.strays, *match.outside),
        counters=len(match.counters),
        casts=tuple(casts),
        option=option,
    )


def _versions(match: Match) -> dict[str, Any]:
    """The versions of modules that stand beside the chosen tensors, by the network's names."""
    return {
        f"{match.own_prefix}{f'{module}.'.removeprefix(match.prefix)}".removesuffix("."): {
            "version": about["version"]
        }
        for module, about in module_versions(match.content).items()
        if f"{module}.".startswith(match.prefix)
        and isinstance(about, Mapping)
        and type(about.get("version")) is int
    }


def _with_versions(
    state: Mapping[str, Tensor], versions: Mapping[str, Any]
) -> OrderedDict[str, Tensor]:
    """An ordered dictionary of the tensors, with the modules' versions beside them, as torch has it."""
    versioned = OrderedDict(state)
    if versions:
        set_module_versions(versioned, versions)
    return versioned


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
    network.load_state_dict(_with_versions(state, versions), assign=assign)
