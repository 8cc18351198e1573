"""Which of the dictionaries in a checkpoint holds the network's weights.

A training script may keep the weights, their moving average, the best ones and an optimizer's state in
one file. What fits the network is taken. Where several fit, it is the weights rather than their average;
and where that does not decide, the person has to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seclcompress.errors import WeightsError, short
from seclcompress.networks.weights.heads import differ_in_classes
from seclcompress.networks.weights.matching import Match, matches
from seclcompress.networks.weights.pickled import kind_in_words
from seclcompress.networks.weights.values import oddity

_DEEPEST, _MOST = 4, 10_000  # nested dictionaries, and dictionaries in all
_LISTED = 8
#: Words in a key that say that weights are averaged over training.
_AVERAGED = re.compile(r"(^|[._])(ema|swa|avg|average|averaged)([._]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Choice:
    """The weights that were chosen in a file.

    Attributes:
        match: How they match the network.
        untrained: The network's names that keep their own values, because they have another number of
            classes.
        others: The averaged weights that fit as well, as `--weights-key` takes them.
    """

    match: Match
    untrained: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def is_averaged(self) -> bool:
        """Whether the weights are averaged over training, by their key."""
        return is_averaged(self.match)


def is_averaged(match: Match) -> bool:
    """Whether its key, or a count of models, says that weights are averaged over training."""
    counted = any(name.endswith("n_averaged") for name in match.strays)
    return counted or _AVERAGED.search(match.name) is not None


def choose(
    own: Mapping[str, Tensor],
    content: Mapping[Any, Any],
    source: str,
    *,
    key: str | None = None,
    new_head: bool = False,
    option: str = "--weights-key",
) -> Choice:
    """Chooses the weights in a file that fit a network.

    Args:
        own: The network's tensors by name.
        content: What the file holds.
        source: Where it comes from, for messages.
        key: The place of the weights in the file, if the person named it.
        new_head: Whether the network's head may have another number of classes than the file's.
        option: The option with which a person names the place, for messages.

    Raises:
        WeightsError: If nothing fits (the message lists what is wrong with the nearest), several fit
            alike, or the named place is not there.
    """
    found = list(_dictionaries(content))
    if key is None and not any(_has_tensors(each) for _, each in found):
        raise WeightsError(_no_tensors(content, source))
    every = [match for place, each in found for match in matches(own, place, each)]
    if key is not None:
        every = _at(key, every, found, source, option)
    fitting = [match for match in every if match.is_exact]
    if not fitting and new_head:
        fitting = [m for m in every if m.has_all and differ_in_classes(own, m.tensors, m.odd)]
    fitting = _distinct(fitting)
    if not fitting:
        raise WeightsError(_misfit(own, _nearest(every), source, new_head))
    chosen, others = _decide(fitting, key, source, option)
    return Choice(chosen, chosen.odd, others)


def _decide(
    fitting: list[Match], key: str | None, source: str, option: str
) -> tuple[Match, tuple[str, ...]]:
    """The match to take, and the names of averaged ones that were not taken."""
    averaged = [match for match in fitting if is_averaged(match)]
    plain = [match for match in fitting if not is_averaged(match)]
    exactly = [match for match in fitting if key is not None and match.name == key]
    if len(exactly) == 1:
        return exactly[0], ()
    candidates = plain or averaged
    if len(candidates) > 1:
        places = ", ".join(f"'{match.name}'" for match in candidates[:_LISTED])
        raise WeightsError(
            f"{source} holds {len(candidates)} different sets of weights that fit the network, under "
            f"{places}. Name one with {option}."
        )
    return candidates[0], tuple(match.name for match in averaged) if plain else ()


def _at(
    key: str,
    every: list[Match],
    found: list[tuple[str, Mapping[Any, Any]]],
    source: str,
    option: str,
) -> list[Match]:
    """The matches at the place that a person named, or below it."""
    for fits in (str.__eq__, lambda name, key: name.startswith(f"{key}.")):
        there = [match for match in every if fits(match.name, key) or fits(match.key, key)]
        if there:
            return there
    known = {match.name for match in every if match.name and match.is_exact} or {
        place for place, each in found if place and _has_tensors(each)
    }
    listed = ", ".join(f"'{name}'" for name in sorted(known)[:_LISTED]) or "no further keys"
    raise WeightsError(
        f"{source} has no weights under {option} {short(key, 200)}; it has {listed}."
    )


def _dictionaries(content: Mapping[Any, Any]) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """A file's content and the dictionaries in it, each with its keys joined by dots."""
    seen: set[int] = set()
    waiting: list[tuple[str, Mapping[Any, Any], int]] = [("", content, 0)]
    while waiting and len(seen) < _MOST:
        place, each, depth = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield place, each
        if depth < _DEEPEST:
            for name, value in each.items():
                if isinstance(value, Mapping) and isinstance(name, str) and len(name) < 200:
                    waiting.append((f"{place}.{name}" if place else name, value, depth + 1))


def _has_tensors(content: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in content.values())


def _distinct(fitting: list[Match]) -> list[Match]:
    """Drops matches with the tensors or the values of an earlier one."""
    kept: list[Match] = []
    for match in fitting:
        if not any(_same(match.tensors, earlier.tensors) for earlier in kept):
            kept.append(match)
    return kept


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        value is other[name]
        or (
            value.dtype == other[name].dtype
            and not (oddity(value) or oddity(other[name]))
            and torch.equal(value, other[name])
        )
        for name, value in one.items()
    )


def _nearest(every: list[Match]) -> Match:
    """The match with the fewest faults, for the message; rather not an averaged one."""
    return min(
        every,
        key=lambda m: (-len(m.tensors), len(m.odd) + len(m.unexpected), is_averaged(m), m.name),
    )


def _no_tensors(content: Mapping[Any, Any], source: str) -> str:
    """A message for a file without a tensor that has a name."""
    name, value = next(iter(content.items()))
    return (
        f"{source} holds no tensors by name, so it is not a state_dict: under {short(repr(name), 60)} "
        f"it holds {kind_in_words(value)}."
    )


def _misfit(own: Mapping[str, Tensor], nearest: Match, source: str, new_head: bool) -> str:
    """A message that tells why the nearest match does not fit."""
    complaints = [
        _some("missing ", [f"{name}{_instead(name, nearest)}" for name in nearest.missing]),
        # Batch norm's counters come last: they say the least.
        _some("unexpected ", sorted(nearest.unexpected, key=lambda n: n.endswith("_tracked"))),
        _some(
            "",
            [
                f"{name} has shape {_shape(nearest.tensors[name])} instead of {_shape(own[name])}"
                for name in nearest.odd
            ],
        ),
    ]
    listed = "; ".join(filter(None, complaints))
    where = f" under '{short(nearest.name, 200)}'" if nearest.name else ""
    hint = ""
    heads = nearest.odd and nearest.has_all and not new_head
    if heads and differ_in_classes(own, nearest.tensors, nearest.odd):
        classes = nearest.tensors[nearest.odd[-1]].shape[0]
        hint = (
            f" Only the number of classes differs: --num-classes {classes} takes all of it; with "
            "another number, said by --num-classes, the classifier starts anew."
        )
    return f"{source} does not fit the network{where}: {listed}.{hint}"


def _some(kind: str, complaints: Sequence[str], most: int = 3) -> str:
    """The first complaints of a kind, and the number of the others."""
    if not complaints:
        return ""
    shown = ", ".join(short(words, 300) for words in complaints[:most])
    more = f" and {len(complaints) - most:,} more" if len(complaints) > most else ""
    return f"{kind}{shown}{more}"


def _instead(name: str, match: Match) -> str:
    """What is in the place of a missing tensor."""
    value = match.content.get(match.prefix + name.removeprefix(match.own_prefix))
    if value is None:
        return ""
    return f" (there is {kind_in_words(value)} instead of a tensor)"


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"
