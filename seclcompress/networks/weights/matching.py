"""How the names of a dictionary of tensors match a network's: prefixes, counters, strays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from seclcompress.networks.weights.values import COUNTER, oddity

_LONGEST_NAME = 1000  # characters; no module lies deeper
#: Last parts of names that training tools leave in a state_dict: how many models an average is of, and
#: the operations that a profiler has counted.
_STRAYS = ("n_averaged", "total_ops", "total_params")


@dataclass(frozen=True)
class Match:
    """How a dictionary's tensors match a network.

    Attributes:
        key: Where the dictionary lies in the file, its keys joined by dots; empty for the file itself.
        content: The dictionary.
        prefix: What stands before each of the network's names, such as `module.`; may be empty.
        own_prefix: What the network has before each name and the dictionary has not.
        tensors: Tensors by the network's name.
        missing: The network's names that the dictionary lacks, without counters of batches.
        counters: Counters of batches that the dictionary lacks, as those of before torch 0.4.1 do.
        unexpected: Names that the network does not have.
        odd: The network's names whose tensors have another shape.
        strays: Names of the dictionary that belong to no parameter, and that training tools leave there.
        outside: Names without the prefix.
    """

    key: str
    content: Mapping[Any, Any]
    prefix: str
    own_prefix: str
    tensors: Mapping[str, Tensor]
    missing: tuple[str, ...]
    counters: tuple[str, ...]
    unexpected: tuple[str, ...]
    odd: tuple[str, ...]
    strays: tuple[str, ...]
    outside: tuple[str, ...]

    @property
    def name(self) -> str:
        """The place of the weights, as `--weights-key` takes it: the key, then the prefix."""
        return ".".join(filter(None, (self.key, self.prefix.rstrip("."))))

    @property
    def has_all(self) -> bool:
        """Whether the network's names are there, and no others below the prefix."""
        return not self.missing and not self.unexpected

    @property
    def is_exact(self) -> bool:
        """Whether names and shapes are the network's."""
        return self.has_all and not self.odd


def matches(own: Mapping[str, Tensor], key: str, content: Mapping[Any, Any]) -> Iterator[Match]:
    """The ways in which a dictionary's names may match a network's; the likeliest come first.

    Args:
        own: The network's tensors by name.
        key: Where the dictionary lies in the file.
        content: The dictionary; what is not a tensor in it is a stray.
    """
    tensors = {name: value for name, value in content.items() if _is_entry(name, value)}
    seen = set()
    for own_prefix in _leading(own):
        names = {name.removeprefix(own_prefix): name for name in own}
        votes = Counter(prefix for name in tensors for prefix in _prefixes(name, names))
        votes.setdefault("", 0)
        needed = sum(not _is_counter(name) for name in own)
        ranked = sorted(votes, key=lambda prefix: (-votes[prefix], len(prefix)))
        for place, prefix in enumerate(ranked):
            # One that lacks names does not fit; the best of them serves for the message.
            if (place and votes[prefix] < needed) or (own_prefix, prefix) in seen:
                continue
            seen.add((own_prefix, prefix))
            found = _match(own, names, key, content, tensors, prefix, own_prefix)
            # Where both sides lose a prefix, a part of another network could pass for this one.
            if not (own_prefix and found.outside):
                yield found


def _match(
    own: Mapping[str, Tensor],
    names: Mapping[str, str],
    key: str,
    content: Mapping[Any, Any],
    tensors: Mapping[str, Tensor],
    prefix: str,
    own_prefix: str,
) -> Match:
    others = tuple(str(name) for name in content if name not in tensors)
    below = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
    found = {names[n]: value for n, value in below.items() if n in names}
    lacking = [name for name in own if name not in found]
    extra = [f"{prefix}{name}" for name in below if name not in names]
    has_counters = any(_is_counter(name) for name in own)
    dropped = [n for n in extra if _is_stray(n) or (_is_counter(n) and not has_counters)]
    outside = [n for n in tensors if not n.startswith(prefix)]
    return Match(
        key,
        content,
        prefix,
        own_prefix,
        {name: found[name] for name in own if name in found},
        missing=tuple(name for name in lacking if not _is_counter(name)),
        counters=tuple(name for name in lacking if _is_counter(name)),
        unexpected=tuple(name for name in extra if name not in dropped),
        odd=tuple(n for n in own if n in found and _shape(found[n]) not in (own[n].shape, None)),
        strays=(*dropped, *(n for n in outside if _is_stray(n)), *others),
        outside=tuple(n for n in outside if not _is_stray(n)),
    )


def _is_entry(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor) and len(name) <= _LONGEST_NAME


def _shape(tensor: Tensor) -> Any:
    """A tensor's shape; None for what has no one shape, which is refused for its layout."""
    return None if oddity(tensor) else tensor.shape


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] == COUNTER


def _is_stray(name: str) -> bool:
    return name.rpartition(".")[2] in _STRAYS


def _leading(own: Mapping[str, Tensor]) -> list[str]:
    """The prefixes that all names of a network have, from none to the longest, each with its dot."""
    found = [""]
    names = list(own)
    while names:
        first, dot, _ = names[0].removeprefix(found[-1]).partition(".")
        prefix = found[-1] + first + dot
        if not dot or not all(name.startswith(prefix) for name in names):
            break
        found.append(prefix)
    return found


def _prefixes(name: str, names: Mapping[str, str]) -> Iterator[str]:
    """What stands before a network's name at the end of another one."""
    place = 0
    while True:
        rest = name[place:]
        if rest in names and not _is_counter(rest):
            yield name[:place]
        place = name.find(".", place) + 1
        if place == 0:
            return
