"""Choosing the weights in a checkpoint, and finding the names under which they fit a network.

Training scripts put the weights under many keys, beside averaged ones (EMA), optimiser states and
settings, and before the names stand the prefixes of wrappers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from seclcompress.errors import WeightsError
from seclcompress.torch_private import module_versions, set_module_versions

#: How deep the weights may lie in a checkpoint: `{"ema": {"module": …}}`.
_DEEPEST = 3
_MOST_STATES = 200
#: Tensors that wrappers and profilers add, and that belong to no layer.
_NO_PARAMETERS = ("n_averaged", "total_ops", "total_params")
#: Parts of keys under which averaged weights stand.
_AVERAGED = ("ema", "swa", "average")


@dataclass
class Chosen:
    """The weights that were chosen.

    Attributes:
        key: Where they stood in the checkpoint, such as `ema.module`; empty for the file itself.
        state: Tensors by the network's own names where they fit.
        notes: Sentences on what was decided.
    """

    key: str
    state: Mapping[str, Tensor]
    notes: list[str] = field(default_factory=list)


def choose(
    content: Mapping[str, Any], own: Mapping[str, Tensor], source: str, key: str | None = None
) -> Chosen:
    """Chooses the weights for a network.

    Of several that have the network's names, the ones that are not averaged are taken; another choice is
    made by `key`.

    Args:
        content: A file's content: tensors by name, or a checkpoint.
        own: The network's tensors by name.
        source: The file, for messages.
        key: Where the weights stand, such as `model_ema`; None to look for them.

    Raises:
        WeightsError: If the content has no weights, or none under this key.
    """
    found = dict(_states(content))
    if not found:
        there = ", ".join(repr(name) for name in [*content][:5]) or "nothing"
        raise WeightsError(f"{source} holds no tensors by name: it has {there}.")
    if key is not None:
        if key not in found:
            there = ", ".join(name for name in found if name) or "weights without a key"
            raise WeightsError(f"{source} has no weights under '{key}'. There are: {there}.")
        found = {key: found[key]}
    chosen = {name: _fitted(name, state, own) for name, state in found.items()}

    def rank(name: str) -> tuple[bool, bool, int]:
        missing = len(own.keys() - chosen[name].state.keys())
        return missing > 0, _is_averaged(name), missing

    best = min(chosen, key=rank)
    others = [
        name for name in chosen if name != best and not own.keys() - chosen[name].state.keys()
    ]
    result = chosen[best]
    if best and (others or _is_averaged(best)):
        kind = "averaged weights" if _is_averaged(best) else "weights"
        words = f"{source}: took the {kind} under '{best}'."
        if others:
            words += f" There are also {', '.join(others)}: --weights-key takes those."
        result.notes.insert(0, words)
    return result


def _is_averaged(key: str) -> bool:
    return any(part in key.lower() for part in _AVERAGED)


def _states(
    content: Mapping[str, Any], key: str = ""
) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """The mappings in a checkpoint that hold tensors by name, with the keys that lead to them."""
    queue: list[tuple[str, Mapping[str, Any], int]] = [(key, content, 0)]
    for seen, (name, mapping, depth) in enumerate(queue):
        if seen > _MOST_STATES:
            return
        tensors = {str(k): v for k, v in mapping.items() if isinstance(v, Tensor)}
        if tensors:
            versions = {
                module: {"version": about["version"]}
                for module, about in module_versions(mapping).items()
                if isinstance(about, Mapping) and type(about.get("version")) is int
            }
            yield name, with_versions(tensors, versions)
        if depth < _DEEPEST:
            queue += [
                (f"{name}.{inner}" if name else str(inner), value, depth + 1)
                for inner, value in mapping.items()
                if isinstance(value, Mapping)
            ]


def _fitted(key: str, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Chosen:
    """Takes off what is no parameter, and the prefix with which most names fit."""
    extra = [k for k in state if k not in own and k.rpartition(".")[2] in _NO_PARAMETERS]
    notes = [f"Left out, as they are no parameters: {', '.join(extra[:3])}."] if extra else []
    kept = with_versions({k: v for k, v in state.items() if k not in extra}, module_versions(state))
    prefix = _best_prefix(kept, own)
    if not prefix:
        return Chosen(key, kept, notes)
    others = [k for k in kept if not k.startswith(prefix)]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        notes.append(
            f"Left out, as only '{prefix}…' is the network: {', '.join(others[:3])}{more}."
        )
    versions = {
        f"{module}.".removeprefix(prefix).removesuffix("."): version
        for module, version in module_versions(kept).items()
        if f"{module}.".startswith(prefix)
    }
    plain = {k.removeprefix(prefix): v for k, v in kept.items() if k.startswith(prefix)}
    return Chosen(key, with_versions(plain, versions), notes)


def _best_prefix(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """The prefix with which most of the network's names are there; empty if none is better.

    DataParallel puts `module.` before every name, torch.compile `_orig_mod.`, Lightning `model.`.
    """
    best, hits = "", len(own.keys() & state.keys())
    prefixes: dict[str, int] = {}
    for name in state:
        parts = name.split(".")[:-1]
        for depth in range(1, min(len(parts), 4) + 1):
            prefix = ".".join(parts[:depth]) + "."
            if name.removeprefix(prefix) in own:
                prefixes[prefix] = prefixes.get(prefix, 0) + 1
    for prefix, count in prefixes.items():
        if count > hits:
            best, hits = prefix, count
    return best


def with_versions(
    state: Mapping[str, Tensor], versions: Mapping[str, Any]
) -> OrderedDict[str, Tensor]:
    """An ordered dictionary of the tensors, with the modules' versions beside them, as torch has it."""
    versioned = OrderedDict(state)
    if versions:
        set_module_versions(versioned, versions)
    return versioned
