"""Reasons to keep a layer that apply before any family is asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import nn

from seclcompress.plan.entries import Layer
from seclcompress.plan.layers import matches
from seclcompress.settings.planning import PlanOptions
from seclcompress.substitutions.site import CONVOLUTION_KINDS

#: Classifiers of one network; a detector with six sizes of maps has twelve.
_MOST_MAKERS = 16
NOT_RUN = "it does not run in eval mode, so it has no size to plan for"


def ends(
    ran: Sequence[str],
    found: Mapping[str, nn.Module],
    makers: Collection[str],
    options: PlanOptions,
) -> dict[str, str]:
    """Reasons to keep the first convolution and the layers that make the outputs, by name.

    A layer that an assignment names exactly is wanted, and so has no such reason.

    Args:
        ran: The names of the layers that ran, in running order.
        found: The layers by name.
        makers: The modules that make the network's outputs, as traced. Without any, the last Linear
            counts as the one.
        options: The options of the plan.
    """
    first = [name for name in ran if isinstance(found[name], CONVOLUTION_KINDS)][:1]
    linears = [name for name in ran if isinstance(found[name], nn.Linear)]
    made = [name for name in dict.fromkeys(ran) if name in makers]
    if len(made) > _MOST_MAKERS:  # features: a sum of what most blocks made
        made = []
    last = made or linears[-1:]
    kept: dict[str, str] = {}
    if not options.stem:
        kept |= dict.fromkeys(first, "the stem (the first convolution); --stem rewrites it too")
    if not options.head:
        for name in last:
            what = "a Linear" if isinstance(found[name], nn.Linear) else "a convolution"
            kept[name] = f"the classifier ({what} that makes the outputs); --head rewrites it too"
    wanted = {wish.pattern for wish in options.assign}
    return {name: reason for name, reason in kept.items() if name not in wanted}


def asked_to_stay(layer: Layer, end: str | None, options: PlanOptions) -> str | None:
    """The reason why the options keep a layer; None if they do not.

    Args:
        layer: The layer.
        end: The layer's reason from `ends`, if it has one.
        options: The options of the plan.
    """
    name, module = layer.site.name, layer.site.layer
    if layer.bound and not layer.runs:
        return None  # `layer.bound` is the better reason: another module reads its weights instead
    for pattern in options.keep:
        if matches(pattern, name):
            return f"kept by --keep {pattern}"
    if options.only and not any(matches(pattern, name) for pattern in options.only):
        return "not named by --only"
    if not layer.runs and not isinstance(module, nn.MultiheadAttention):  # its output is a tuple
        return NOT_RUN
    if end is not None:
        return end
    narrow = min(_channels(module))
    if 0 < narrow < options.min_channels:  # every family refuses a layer without channels
        return f"it has {narrow} channels, fewer than --min-channels {options.min_channels}"
    return None


def _channels(module: nn.Module) -> tuple[int, ...]:
    """A layer's input and output channels, under the names that its class gives them."""
    names = "in_channels out_channels in_features out_features embed_dim".split()
    return tuple(getattr(module, name) for name in names if hasattr(module, name))
