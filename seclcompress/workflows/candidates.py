"""What each layer of a network may become, and what that loses: what plans are chosen from."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from seclcompress import budget as budgets
from seclcompress.budget import Candidate, Range, Source
from seclcompress.budget.candidates import Sensitivity
from seclcompress.budget.remembered import Remembered, default_fits
from seclcompress.count import Count, count_network
from seclcompress.networks.weights import check_finite
from seclcompress.observer import Observer
from seclcompress.plan import Plan
from seclcompress.plan.decide import known_layers
from seclcompress.plan.entries import Layer, kept
from seclcompress.resolve import Located
from seclcompress.settings.budget import WORDS, Quantity
from seclcompress.settings.planning import PlanOptions
from seclcompress.substitutions import Site, Substitution, SubstitutionConfig
from seclcompress.trace import Trace, trace_network
from seclcompress.workflows.locating import tell_weights


@dataclass(frozen=True)
class Listed:
    """What the layers of a network may become.

    Attributes:
        located: The network.
        families: The families that were asked for.
        skeleton: It, without its large weights.
        trace: Its trace.
        known: Its layers, with the reason why one stays as it is.
        as_it_is: The plan that keeps all of them.
        beside: What the network has outside these layers.
        layers: The candidates of each layer, with their losses.
        source: What the losses are known from.
    """

    located: Located
    families: tuple[str, ...]
    skeleton: nn.Module
    trace: Trace
    known: tuple[tuple[Layer, str | None], ...]
    as_it_is: Plan
    beside: dict[Quantity, int]
    layers: list[list[Candidate]]
    source: Source = "shapes"

    @property
    def reachable(self) -> dict[Quantity, Range]:
        """By quantity, the least and the most that a plan from these candidates has."""
        return {
            quantity: Range(
                *(self.beside[quantity] + end for end in budgets.ends(self.layers, quantity))
            )
            for quantity in WORDS
        }

    def fitted(self, observer: Observer) -> Listed:
        """The same with losses from the network's trained weights, if it has any."""
        if self.located.folder is None and self.located.weights is None:
            return self
        number = sum(one.entry.action == "rewrite" for layer in self.layers for one in layer)
        layers = _fitted(self.located, self.known, self.families, number, observer)
        return replace(self, layers=layers, source="weights")


def list_candidates(located: Located, families: Sequence[str], options: PlanOptions) -> Listed:
    """Lists what the layers of a network may become, from shapes alone.

    Args:
        located: The network.
        families: The families; a layer may also stay as it is.
        options: Which layers are left alone.

    Raises:
        NetworkError: If the network cannot run at this input size.
        PlanError: If a pattern of the options matches no layer.
    """
    skeleton = located.skeleton()
    trace = trace_network(skeleton, located.input_size)
    known = tuple(known_layers(skeleton, trace, options))
    as_it_is = Plan(
        input_size=trace.input_size,
        linear=options.linear,
        layers=[kept(layer, "") for layer, _ in known],
    )
    beside = _beside(as_it_is, count_network(skeleton, trace, as_it_is))
    layers = _listed(known, families, budgets.by_dimensions)
    return Listed(located, tuple(families), skeleton, trace, known, as_it_is, beside, layers)


def _beside(as_it_is: Plan, counted: Count) -> dict[Quantity, int]:
    """What a network has outside the layers of its plan.

    It may be negative: layers that share weights count them at each use, the network once.
    """
    whole = counted.columns["original"]
    planned = [Candidate(entry, 0.0) for entry in as_it_is.layers]
    return {
        quantity: getattr(whole, quantity) - sum(one.amount(quantity) for one in planned)
        for quantity in WORDS
    }


def _listed(
    known: Sequence[tuple[Layer, str | None]],
    families: Sequence[str],
    sensitivity: Sensitivity,
    of: str = "",
) -> list[list[Candidate]]:
    return [
        budgets.candidates(layer, families, sensitivity, of)
        if reason is None
        else [Candidate(kept(layer, reason, on_demand=True), 0.0)]
        for layer, reason in known
    ]


def _fitted(
    located: Located,
    known: Sequence[tuple[Layer, str | None]],
    families: Sequence[str],
    number: int,
    observer: Observer,
) -> list[list[Candidate]]:
    """The candidates, of that number, with the losses of their fits to the trained weights."""
    trained, loaded = located.load()
    check_finite(trained.state_dict(), located.label)
    tell_weights(loaded, observer)
    here = [
        (
            replace(layer, site=replace(layer.site, layer=trained.get_submodule(layer.site.name))),
            why,
        )
        for layer, why in known
    ]
    remembered = Remembered(budgets.by_weights, default_fits())
    with observer.counting("Fitting candidates", number) as tell:
        done = itertools.count(1)

        def fit(site: Site, family: Substitution, config: SubstitutionConfig) -> float:
            loss = remembered(site, family, config)
            tell(next(done), number)
            return loss

        found = _listed(here, families, fit, "its weights' energy")
    observer.message(
        f"Fitted {remembered.found} of {number} candidates to the weights; the others were known "
        f"({default_fits()})."
    )
    return found
