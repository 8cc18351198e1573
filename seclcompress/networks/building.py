"""Building networks from specs: with untrained weights, or as skeletons without values."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from seclcompress.errors import ArtefactError, NetworkError, short
from seclcompress.narrowing import resize
from seclcompress.networks import sources
from seclcompress.networks.sources import NetworkSpec, Source

#: Exceptions that builders raise for options that do not suit them.
_ODD_OPTIONS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
_LARGE = 2**16  # elements; builders may read the values of smaller tensors


def build(
    spec: NetworkSpec, *, factory_name: str | None = None, skeleton: bool = False
) -> nn.Module:
    """Builds a network with untrained weights, as wide as its spec says.

    The values come from torch's global random state.

    Args:
        spec: The network to build.
        factory_name: The factory that the person named in this call. A factory that only a file names
            is not imported.
        skeleton: Leaves large weights on the meta device, without values, which takes little time and
            memory. A factory's network is built in full all the same.

    Raises:
        NetworkError: If the network cannot be built.
        ArtefactError: If the spec asks for a factory that the person did not name.
    """
    return resize(_as_wide_as_ever(spec, factory_name, skeleton), spec.widths)


def _as_wide_as_ever(spec: NetworkSpec, factory_name: str | None, skeleton: bool) -> nn.Module:
    source = sources.get(spec.source)
    if source.runs_foreign_code:
        if factory_name is None or not source.is_named(spec, factory_name):
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

    torch's global random state is left as it is.

    Args:
        spec: The network to build.
        factory_name: The factory that the person named in this call.
        seed: Seed of the weights.

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
        if spec.options or (spec.num_classes or 0) > _LARGE:
            raise  # with what a stranger's file may say, the full network could be of any size
        return source.build(spec)  # SSDlite's builder runs the backbone, which needs values


class _LargeOnMeta(TorchFunctionMode):
    """Puts the results of `torch.empty`, from which layers make their weights, on the meta device.

    It does the same with large results of `torch.zeros` and `torch.ones`, from which normalisations
    make their weights. `torch.device("meta")` would put all tensors there, but RegNet's builder computes
    widths with tensors and needs their values.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.empty, torch.zeros, torch.ones) and kwargs.get("device") is None:
            made = func(*args, **{**kwargs, "device": "meta"})
            if func is torch.empty or made.numel() > _LARGE:
                return made
        return func(*args, **kwargs)
