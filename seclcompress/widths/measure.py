"""All statistics of some layers, from one pass over images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from seclcompress.moments import Moments
from seclcompress.narrowing import groups_of, widths_of
from seclcompress.substitutions import StructuredLayer
from seclcompress.widths.components import components
from seclcompress.widths.following import Call, Place
from seclcompress.widths.mixtures import exponential_and_normal, two_gammas
from seclcompress.widths.normality import normality
from seclcompress.widths.result import LayerWidths
from seclcompress.widths.singular import singular_values
from seclcompress.widths.sites import Site, run

#: Covariances of more channels are a matrix of more than 0.5 GB.
WIDEST = 8192


@dataclass(frozen=True)
class Gathered:
    """Moments of a layer's channels.

    Attributes:
        before: Before the activation, with covariances up to `WIDEST` channels.
        behind: Behind it, without.
    """

    before: Moments
    behind: Moments


def gather(
    network: nn.Module, sites: Sequence[Site], batches: Iterable[Tensor]
) -> Mapping[str, Gathered]:
    """Shows a network images once and adds up the moments of its layers' channels.

    Memory does not depend on the number of images: 8 bytes × channels² for each layer.

    Args:
        network: The network, on the images' device. It runs in eval mode, and nothing is changed.
        sites: The layers.
        batches: The images, (batch, *input_size).

    Returns:
        The moments by the layer's name.
    """
    found = {
        site.name: Gathered(
            Moments(site.channels, covariance=site.channels <= WIDEST),
            Moments(site.channels, covariance=False),
        )
        for site in sites
    }
    layers = {site.name: site.layer for site in sites}
    axes = {site.name: site.axis for site in sites}
    before = {site.name: site.before for site in sites}

    def see(call: Call, place: Place, value: Tensor, activation: str | None) -> None:
        del activation
        if place == before[call.layer]:
            found[call.layer].before.add(value, call.axis)
        elif place == "read":
            found[call.layer].behind.add(value, call.axis)

    for images in batches:
        run(network, layers, axes, images, see)
    return found


def measured(site: Site, moments: Gathered) -> LayerWidths:
    """Computes a layer's statistics from its moments and its weights.

    What cannot be computed is None, and `notes` says why where that is not plain from the figures.

    Args:
        site: The layer.
        moments: Those of its channels.
    """
    notes = []
    behind, before = moments.behind, moments.before
    variances = None
    if behind.finite:
        variances = behind.variances.numpy()
    elif behind.count:
        notes.append("its activations are not finite numbers")
    else:
        notes.append("nothing reads it")
    principal = None
    if site.channels > WIDEST:
        notes.append(f"more than {WIDEST:,} channels are too many for covariances")
    elif before.finite:
        principal = components(before.covariance.numpy())
    else:
        notes.append("its outputs are not finite numbers")
    singular = singular_values(site.layer)
    if singular is None:
        notes.append("its weights make no single matrix of finite numbers that are not all zero")
    live = None if variances is None else variances[~behind.constant.numpy()]
    return LayerWidths(
        name=site.name,
        kind=kind_of(site.layer),
        channels=site.channels,
        activation=site.activation,
        before=site.before,
        values=behind.count,
        variances=None if variances is None else tuple(variances.tolist()),
        total_variance=None if variances is None else float(variances.sum()),
        dead=None if variances is None else int(behind.constant.sum()),
        normality=None if variances is None else normality(variances),
        exponential_normal=None if live is None else exponential_and_normal(live),
        gammas=None if live is None else two_gammas(live),
        components=principal,
        singular=singular,
        notes=tuple(notes),
    )


def kind_of(layer: nn.Module) -> str:
    """What a layer is, in a word."""
    if isinstance(layer, StructuredLayer):
        return "replacement"
    if isinstance(layer, nn.Linear):
        return "linear"
    depthwise = groups_of(layer) == widths_of(layer)[0] > 1
    return "depthwise" if depthwise else "convolution"
