"""What each layer of a network may become, and what that loses: what plans are chosen from."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from seclcompress import budget as budgets
from seclcompress import substitutions
from seclcompress.budget import Candidate, Range, Source, Uniform
from seclcompress.budget.candidates import Sensitivity
from seclcompress.budget.measured import Job
from seclcompress.budget.remembered import Remembered, default_fits
from seclcompress.budget.sensitivity import Penalty, added, mean_loss, multiplied
from seclcompress.budget.times import Times
from seclcompress.budget.uniform import described
from seclcompress.count import Count, count_network
from seclcompress.networks.weights import check_finite
from seclcompress.observer import Observer
from seclcompress.plan import Plan
from seclcompress.plan.decide import known_layers
from seclcompress.plan.entries import Layer, kept
from seclcompress.resolve import Located
from seclcompress.settings.budget import WORDS, Quantity
from seclcompress.settings.planning import PlanOptions
from seclcompress.settings.sensitivity import OnImages
from seclcompress.substitutions import Site, Substitution, SubstitutionConfig
from seclcompress.trace import Trace, trace_network
from seclcompress.workflows.by_time import measure_times
from seclcompress.workflows.calibrating import Measuring
from seclcompress.workflows.locating import tell_weights

#: What a layer misses in words, for the reasons in a plan.
OF: dict[OnImages, str] = {
    "output": "its outputs' energy",
    "recovered": "its outputs' variance once recovered",
    "fisher": "the mean layer's Fisher information",
}


def penalty_of(source: Source) -> Penalty:
    """How losses that are known from something make one: shares multiply, Fisher information adds up."""
    return added if source == "fisher" else multiplied


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
        data: The data set on which they were measured; None if they were not.
        images: How many of its images.
        times: What the network and the candidates take; None where nothing was timed.
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
    data: str | None = None
    images: int | None = None
    times: Times | None = None

    @property
    def penalises(self) -> Penalty:
        """What a layer's loss adds to the sum that is kept least."""
        return penalty_of(self.source)

    @property
    def reachable(self) -> dict[Quantity, Range]:
        """By quantity that is known, the least and the most that a plan from these candidates has."""
        return {
            quantity: Range(
                *(self.beside[quantity] + end for end in budgets.ends(self.layers, quantity))
            )
            for quantity in self.beside
        }

    def timed(self, runtime: str | None, observer: Observer) -> Listed:
        """The same with what each candidate takes, and with the executions that the clock prefers.

        Args:
            runtime: The runtime's name; None for torch.
            observer: Receives the progress.

        Raises:
            UsageError: If the runtime is unknown, or its packages are not installed.
            ExportError: If the network or a layer cannot be timed in the runtime.
        """
        times = measure_times(self.located, self._jobs(self.known), runtime, observer)
        return replace(
            self,
            times=times,
            as_it_is=self.as_it_is.model_copy(
                update={"cost_model": "measured", "runtime": runtime}
            ),
            beside={**self.beside, "nanoseconds": times.beside},
            layers=_listed(self.known, self.families, budgets.by_dimensions, times=times),
        )

    @property
    def movable(self) -> int:
        """How many layers may change."""
        return sum(len(one) > 1 for one in self.layers)

    def loss(self, chosen: Sequence[Candidate]) -> float:
        """What each layer that may change loses, on average (`sensitivity.mean_loss`)."""
        pairs = zip(chosen, self.layers, strict=True)
        return mean_loss((one.loss for one, every in pairs if len(every) > 1), self.penalises)

    def plan_of(self, chosen: Sequence[Candidate]) -> Plan:
        """The plan of a choice of one candidate a layer."""
        return self.as_it_is.model_copy(update={"layers": [one.entry for one in chosen]})

    def choose(self, limits: Mapping[Quantity, int]) -> list[Candidate]:
        """The candidates that lose least within limits on the whole network.

        Raises:
            NotReachableError: If no choice meets all limits.
        """
        return budgets.choose(self.layers, limits, self.beside)

    def uniform(self, limits: Mapping[Quantity, int]) -> Uniform | None:
        """The best choice within limits that gives all layers the same; None where there is none."""
        chosen = budgets.uniform(self.layers, limits, self.beside)
        return None if chosen is None else described(chosen, self.loss(chosen))

    def fastest(self, limits: Mapping[Quantity, int]) -> list[Candidate]:
        """The candidates that are predicted to take least within limits of other quantities.

        Raises:
            NotReachableError: If no choice meets all limits.
        """
        most = budgets.ends(self.layers, "nanoseconds")[1]
        every = [
            [replace(one, loss=one.nanoseconds / max(most, 1), penalises=added) for one in layer]
            for layer in self.layers
        ]
        own = {id(one.entry): one for layer in self.layers for one in layer}
        return [own[id(one.entry)] for one in budgets.choose(every, limits, self.beside)]

    def amounts(self, chosen: Sequence[Candidate]) -> dict[Quantity, int]:
        """By quantity that is known, what the whole network has with a choice of candidates."""
        return {q: own + sum(one.amount(q) for one in chosen) for q, own in self.beside.items()}

    def fitted(self, observer: Observer, measuring: Measuring | None = None) -> Listed:
        """The same with losses from the network's trained weights, if it has any.

        Args:
            observer: Receives reports of the work.
            measuring: Images that say what layers lose; None for the weights alone.

        Raises:
            WeightsError: If the weights cannot be read, do not fit, or are not finite.
            SeclcompressError: If the images cannot be read, or say nothing.
        """
        if self.located.folder is None and self.located.weights is None:
            return self
        trained, loaded = self.located.load()
        check_finite(trained.state_dict(), self.located.label)
        tell_weights(loaded, observer)
        here = [(_with_weights(layer, trained), why) for layer, why in self.known]
        if measuring is None:
            number = sum(len(replacements) for _, replacements in self._jobs(here))
            layers = _fitted(here, self.families, number, observer, self.times)
            return replace(self, layers=layers, source="weights")
        found = measuring.run(self.located, trained, self._jobs(here), observer)
        of = f"{OF[measuring.measure]} on {measuring.images:,} images"
        penalises = penalty_of(measuring.measure)
        layers = _listed(here, self.families, found, of, self.times, penalises)
        return replace(
            self,
            layers=layers,
            source=measuring.measure,
            data=measuring.data.name,
            images=measuring.images,
        )

    def _jobs(self, known: Sequence[tuple[Layer, str | None]]) -> list[Job]:
        """The layers that may become something else, and what; of the skeleton or with weights."""
        jobs: list[Job] = []
        for (layer, _), listed in zip(known, self.layers, strict=True):
            replacements = [
                substitutions.configured(one.entry.substitution, one.entry.config)
                for one in listed
                if one.entry.substitution is not None
            ]
            if replacements:
                jobs.append((layer.site, replacements))
        return jobs


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
    times: Times | None = None,
    penalises: Penalty = multiplied,
) -> list[list[Candidate]]:
    return [
        budgets.candidates(layer, families, sensitivity, of, times, penalises)
        if reason is None
        else [Candidate(kept(layer, reason, on_demand=True), 0.0)]
        for layer, reason in known
    ]


def _with_weights(layer: Layer, trained: nn.Module) -> Layer:
    """A layer of the skeleton with its trained weights."""
    return replace(layer, site=replace(layer.site, layer=trained.get_submodule(layer.site.name)))


def _fitted(
    known: Sequence[tuple[Layer, str | None]],
    families: Sequence[str],
    number: int,
    observer: Observer,
    times: Times | None,
) -> list[list[Candidate]]:
    """The candidates, of that number, with the losses of their fits to the trained weights."""
    remembered = Remembered(budgets.by_weights, default_fits())
    with observer.counting("Fitting candidates", number) as tell:
        done = itertools.count(1)

        def fit(site: Site, family: Substitution, config: SubstitutionConfig) -> float:
            loss = remembered(site, family, config)
            tell(next(done), number)
            return loss

        found = _listed(known, families, fit, "its weights' energy", times)
    observer.message(
        f"Fitted {remembered.found} of {number} candidates to the weights; the others were known "
        f"({default_fits()})."
    )
    return found
