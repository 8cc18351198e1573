"""Checkpoints of the SECL authors' programs, in terms of ours.

`pytorch-acdc` (gngdb) and `deficient-efficient` (BayesWatch) save a dictionary with the network's
tensors under `net`. Their names are read here, and nothing else of the file. Those of a wide residual
network are

    conv1, block<G>.0.layer.<i>.{bn1, conv1, bn2, conv2, convShortcut}, bn1, fc

A convolution that they replaced has `grouped.weight`, its depthwise filters, and `….layers.<l>.A` and
`.D`, each of shape N×1: their `FastStackedConvACDC`, which computes

    y = x · P C D_K C⁻¹ A_K · … · P C D_1 C⁻¹ A_1

or has a riffle between D and C⁻¹ as well, which no file tells. That is our stack in the order
`transposed`, with the layers counted from the other end. `….A` and `….D` without a number are one
`ConvACDC`, which has no P.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seclcompress.errors import WeightsError
from seclcompress.networks.weights import check_finite, read_weights

#: The place of a layer that is not in a stack.
_ALONE = -1
_BLOCK = re.compile(r"block(\d+)\.0\.layer\.(\d+)\.(.+)")
_CONVOLUTION = r"(?:block\d+\.0\.layer\.\d+\.(?:conv[12]|convShortcut)|conv1)"
_NORM = r"(?:block\d+\.0\.layer\.\d+\.bn[12]|bn1)"
#: The depthwise filters of a convolution that they replaced.
_FILTERS = re.compile(rf"({_CONVOLUTION})\.grouped\.weight")
#: A or D of a stack's layer, or of a single layer. Other modules' names may stand before `layers`.
_FACTOR = re.compile(rf"({_CONVOLUTION})(?:\.[A-Za-z_]\w*)*?(?:\.layers\.(\d+))?\.([AD])")
_ORDINARY = re.compile(
    rf"({_CONVOLUTION}|{_NORM}|fc)\.(weight|bias|running_mean|running_var|num_batches_tracked)"
)


@dataclass(frozen=True)
class SeclStack:
    """A stack of the authors' layers as our `acdc` has it.

    Attributes:
        a: The diagonals A in our order, shape (L, N).
        d: The diagonals D, shape (L, N).
        permutation: `riffle`, or `none` for a single `ConvACDC`.
    """

    a: Tensor
    d: Tensor
    permutation: str

    def config(self, *, extra_riffle: bool) -> dict[str, Any]:
        """The options of `acdc` with which our stack is theirs.

        Args:
            extra_riffle: Whether they ran it with a riffle between the transforms.
        """
        return {
            "depth": len(self.a),
            "order": "transposed",
            "permutation": self.permutation,
            "extra_riffle": extra_riffle,
        }


@dataclass(frozen=True)
class SeclCheckpoint:
    """An authors' wide residual network by our names.

    Attributes:
        state: The tensors of layers that are ordinary, and the depthwise filters of the others as
            `<layer>.depthwise.weight`.
        stacks: The stacks, by the name of the convolution that they replace.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    stacks: dict[str, SeclStack] = field(default_factory=dict)


def looks_like_secl(content: Mapping[Any, Any]) -> bool:
    """Whether a file's content is that of the authors' programs, by the names of their layers."""
    state = content.get("net", content)
    return isinstance(state, Mapping) and any(
        isinstance(name, str) and _FILTERS.fullmatch(name.removeprefix("module.")) for name in state
    )


def read_secl(path: Path) -> SeclCheckpoint:
    """Reads an authors' checkpoint. No code of the file is run.

    Raises:
        WeightsError: If it cannot be read, has no `net`, has names that are not those of an authors'
            wide residual network, or holds values that are not finite.
    """
    content: Mapping[str, Any] = read_weights(path)
    net = content.get("net", content)
    if not isinstance(net, Mapping):
        raise WeightsError(
            f"{path}: what stands under 'net' is a {type(net).__name__}, no tensors."
        )
    state = {str(k): v for k, v in net.items() if isinstance(v, Tensor)}
    if state and all(key.startswith("module.") for key in state):  # DataParallel's
        state = {key.removeprefix("module."): value for key, value in state.items()}
    if not any(_BLOCK.fullmatch(key) for key in state):
        there = ", ".join(list(state)[:3]) or "no tensors"
        raise WeightsError(
            f"{path} is no checkpoint of the SECL authors' wide residual networks, which have "
            f"block1.0.layer.0.… under 'net': it has {there}."
        )
    check_finite(state, str(path))
    return _translated(state, path)


def _translated(state: Mapping[str, Tensor], path: Path) -> SeclCheckpoint:
    found = SeclCheckpoint()
    factors: dict[str, dict[tuple[int, str], Tensor]] = {}
    strange = []
    for key, value in state.items():
        if match := _FILTERS.fullmatch(key):
            found.state[f"{_ours(match[1])}.depthwise.weight"] = value
        elif match := _FACTOR.fullmatch(key):
            place = _ALONE if match[2] is None else int(match[2])
            factors.setdefault(_ours(match[1]), {})[place, match[3]] = value
        elif match := _ORDINARY.fullmatch(key):
            found.state[f"{_ours(match[1])}.{match[2]}"] = value
        else:
            strange.append(key)
    if strange:
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        raise WeightsError(
            f"{path} has tensors that this program does not know: {', '.join(strange[:3])}{more}. It "
            "reads wide residual networks with dense convolutions and FastStackedConvACDC."
        )
    for layer, parts in factors.items():
        found.stacks[layer] = _stack(layer, parts, path)
    return found


def _ours(name: str) -> str:
    """Our name of a module of theirs."""
    match = _BLOCK.fullmatch(name)
    if match is None:
        return "bn" if name == "bn1" else name
    inner = match[3].replace("convShortcut", "shortcut")
    return f"group{match[1]}.{match[2]}.{inner}"


def _stack(layer: str, parts: Mapping[tuple[int, str], Tensor], path: Path) -> SeclStack:
    places = sorted({place for place, _ in parts})
    if len(parts) != 2 * len(places) or (_ALONE in places and len(places) > 1):
        listed = ", ".join(f"{which} of {place}" for place, which in sorted(parts))
        raise WeightsError(
            f"{path}: every ACDC layer of {layer} needs one A and one D; there are {listed}."
        )
    shapes = sorted({tuple(value.shape) for value in parts.values()})
    lengths = {value.numel() for value in parts.values()}
    if len(lengths) > 1 or any(max(shape, default=0) != math.prod(shape) for shape in shapes):
        raise WeightsError(f"{path}: the diagonals of {layer} are not of one length: {shapes}.")
    a, d = (
        torch.stack([parts[place, which].flatten() for place in reversed(places)]) for which in "AD"
    )
    return SeclStack(a, d, "none" if places == [_ALONE] else "riffle")
