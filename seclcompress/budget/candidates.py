"""What each layer of a network may become: itself, or a family's replacement at one of its sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

from seclcompress import substitutions
from seclcompress.budget.sensitivity import Penalty, multiplied
from seclcompress.budget.times import Times
from seclcompress.plan import LayerPlan
from seclcompress.plan.entries import Choice, Layer, kept, rewritten
from seclcompress.settings.budget import Quantity
from seclcompress.substitutions import Site, Substitution, SubstitutionConfig

#: What a replacement loses: 0 is nothing, 1 all that the layer knew. Given the site, the family and its
#: options.
Sensitivity = Callable[[Site, Substitution, SubstitutionConfig], float]
_PAID = "the budget pays for it as it is"


@dataclass(frozen=True)
class Candidate:
    """One thing that a layer may become.

    Attributes:
        entry: Its entry in the plan.
        loss: What it loses, see `Sensitivity`.
        nanoseconds: What it takes for an image; 0 where nothing was timed.
        dense: The same with the execution `dense` where the layer's clock chose another.
        penalises: What the loss adds to the sum that is kept least.
    """

    entry: LayerPlan
    loss: float
    nanoseconds: int = 0
    dense: Candidate | None = None
    penalises: Penalty = multiplied

    @property
    def penalty(self) -> float:
        """What it adds to the sum that is kept least."""
        return self.penalises(self.loss)

    def amount(self, quantity: Quantity) -> int:
        """How much of a quantity it has, per image where it matters."""
        if quantity == "nanoseconds":
            return self.nanoseconds
        return self.entry.cost.parameters if quantity == "parameters" else self.entry.mult_adds


def candidates(
    layer: Layer,
    families: Sequence[str],
    sensitivity: Sensitivity,
    of: str = "",
    times: Times | None = None,
    penalises: Penalty = multiplied,
) -> list[Candidate]:
    """Lists what a layer may become, itself first.

    A replacement that is not smaller is none, and of those that cost the same only the first counts, by
    the order of the families.

    Args:
        layer: A layer that no option keeps.
        families: Names of families.
        sensitivity: Says what a replacement loses.
        of: What is lost in words, for the reasons in the plan, such as "its weights' energy"; may be
            empty.
        times: What candidates take; None where nothing was timed. It chooses their executions, too.
        penalises: What a loss adds to the sum that is kept least.
    """
    if layer.bound:
        return [Candidate(kept(layer, layer.bound), 0.0)]
    found: list[Candidate] = []
    refused: list[str] = []
    seen: set[tuple[object, ...]] = set()
    for name in families:
        family = substitutions.get(name)
        for options in family.Config.ladder():
            config = family.config(options)
            reason = family.refuse(layer.site, config)
            if reason is not None:
                refused.append(reason)
                continue
            cost = family.cost(layer.site, config)
            figures = (name, cost.parameters, *sorted(cost.mult_adds.items()))
            if cost.parameters >= layer.original.parameters or figures in seen:
                continue
            seen.add(figures)
            loss = sensitivity(layer.site, family, config)
            ways = [(Choice(cost.cheapest), 0)]
            if times is not None:
                ways = times.rewritten(layer.site, family, config)
            made = None
            for choice, takes in reversed(ways):
                entry = rewritten(layer, family, config, cost, choice)
                reason = f"{entry.reason}; for the budget"
                if of:
                    reason += f", missing {100 * loss:.1f} % of {of}"
                entry = entry.model_copy(update={"reason": reason})
                made = Candidate(entry, loss, takes, made, penalises)
            assert made is not None
            found.append(made)
    if not found:
        reason = refused[0] if refused else "none of the families would make it smaller"
        return [Candidate(kept(layer, reason), 0.0)]
    takes = 0 if times is None else times.kept(layer.site.name)
    return [Candidate(kept(layer, _PAID, on_demand=True), 0.0, takes), *found]


def worthwhile(every: Sequence[Candidate], quantities: Sequence[Quantity]) -> list[Candidate]:
    """The candidates that no other one beats: in no quantity more, and in penalty no worse.

    Args:
        every: A layer's candidates. Of equal ones that with fewer of what is not limited counts, then
            the first.
        quantities: The quantities that are limited.
    """
    best: list[Candidate] = []
    order = dict.fromkeys((*quantities, *get_args(Quantity)))
    for one in sorted(every, key=lambda c: (c.penalty, *map(c.amount, order))):
        if not any(all(b.amount(q) <= one.amount(q) for q in quantities) for b in best):
            best.append(one)
    return best
