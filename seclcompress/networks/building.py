"""From a spec to a network in memory: with untrained weights, or as a skeleton without values."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from seclcompress.errors import ArtefactError, NetworkError, short
from seclcompress.networks import sources
from seclcompress.networks.sources import NetworkSpec, Source

#: What builders raise over options that they were not made for.
_ODD_OPTIONS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
_LARGE = 2**16  # numbers; among smaller tensors are those that builders look at


def build(
    spec: NetworkSpec, *, factory_name: str | None = None, skeleton: bool = False
) -> nn.Module:
    """Builds a network with untrained weights, from torch's global random numbers.

    Args:
        spec: What to build.
        factory_name: The factory that the person named in this call. One that only stands in a file
            is not imported.
        skeleton: Leaves large weights on the meta device, without values: quick, and no memory. A
            factory's network is built in full all the same.

    Raises:
        NetworkError: If the network cannot be built.
        ArtefactError: If the spec asks for a factory that the person did not name.
    """
    source = sources.get(spec.source)
    if source.runs_foreign_code:
        if factory_name != spec.name:
            raise ArtefactError(
                f"This network is built by {spec.name}, which is code of somebody's. "
                f"Where you trust it, say so with --factory {spec.name}"
            )
        return source.build(spec)
    try:
        if skeleton:
            return _skeleton(source, spec)
        with torch.device("cpu"):
            return source.build(spec)
    except _ODD_OPTIONS as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        options = short(str(dict(spec.options)), 1000)
        raise NetworkError(f"Cannot build {spec.name} {options}: {short(reason, 1000)}") from error


def build_untrained(
    spec: NetworkSpec, *, factory_name: str | None = None, seed: int = 0
) -> nn.Module:
    """Builds a network with untrained weights from a seed.

    torch's global random numbers stay as they are.

    Args:
        spec: What to build.
        factory_name: The factory that the person named in this call.
        seed: Of the weights.

    Raises:
        NetworkError: If the network cannot be built.
        ArtefactError: If the spec asks for a factory that the person did not name.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(spec, factory_name=factory_name)


def _skeleton(source: Source, spec: NetworkSpec) -> nn.Module:
    try:
        with _LargeOnMeta():
            return source.build(spec)
    except RuntimeError:
        if spec.options:  # with somebody's options a network in full may be of any size
            raise
        return source.build(spec)  # SSDlite runs its backbone while it is built


class _LargeOnMeta(TorchFunctionMode):
    """Makes every `torch.empty`, from which layers take their weights, land on the meta device.

    Large zeros and ones, from which normalisations take theirs, do so too.

    The whole network under `torch.device("meta")` would not do: RegNet computes its widths with
    tensors while it is built.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.empty, torch.zeros, torch.ones) and kwargs.get("device") is None:
            made = func(*args, **{**kwargs, "device": "meta"})
            if func is torch.empty or made.numel() > _LARGE:
                return made
        return func(*args, **kwargs)
