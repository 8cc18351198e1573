"""One layer's entry in a plan, with its figures, whether it is kept or rewritten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from seclcompress import substitutions
from seclcompress.cost import LayerCost
from seclcompress.plan.model import ORIGINAL, Calls, LayerPlan, is_slower
from seclcompress.settings.planning import TORCH
from seclcompress.substitutions import Site, Substitution, SubstitutionConfig
from seclcompress.substitutions.site import LINEAR_KINDS
from seclcompress.trace import Trace
from seclcompress.wording import milliseconds


@dataclass(frozen=True)
class Choice:
    """How a rewritten layer is to be executed.

    Attributes:
        execution: One of the family's executions; `original` to keep the layer, which only the clock of
            the whole network chooses.
        seconds: Measured seconds by execution, and as `original` those of the layer as it is where that
            was timed; None if nothing was measured.
        noise: The difference in seconds that chance may make between the execution and the original.
        runtime: The runtime in which they were measured.
        alone: What the layer's own clock chose, an execution or `original`, where the clock of the whole
            network undid that; otherwise None.
    """

    execution: str
    seconds: dict[str, float] | None = None
    noise: float = 0.0
    runtime: str = TORCH
    alone: str | None = None

    @property
    def against_its_own(self) -> str:
        """That the clock of the whole network chose, in words."""
        return f"{self.execution} by the clock of the whole network, {self.alone} by its own"

    @property
    def slower(self) -> str | None:
        """That the execution takes longer than the layer as it is, in words; None if it does not."""
        if self.seconds is None or not is_slower(self.seconds, self.execution, self.noise):
            return None
        mine, original = self.seconds[self.execution], self.seconds[ORIGINAL]
        return (
            f"slower in {self.runtime}: {self.execution} takes {milliseconds(mine)} ms, the original "
            f"{milliseconds(original)}"
        )


#: Chooses a layer's execution, given its site, the family and the family's options.
Chooser = Callable[[Site, Substitution, SubstitutionConfig], Choice]


def fewest_mult_adds(site: Site, substitution: Substitution, config: SubstitutionConfig) -> Choice:
    """The paper's cost model: the execution with fewest Mult-Adds, the family's first if equal."""
    return Choice(substitution.cost(site, config).cheapest)


@dataclass(frozen=True)
class Layer:
    """A layer with an entry in the plan, and what is known about it before anything is decided.

    Attributes:
        site: Where it stands, and how often it runs on which sizes.
        original: The cost of the layer as it is.
        bound: The reason to keep it if another module uses its weights, see `bound_layers`; otherwise
            None.
    """

    site: Site
    original: LayerCost
    bound: str | None = None

    @property
    def runs(self) -> bool:
        """Whether the layer runs in eval mode."""
        return bool(self.site.calls)


def known_layer(name: str, module: nn.Module, trace: Trace, bound: str | None) -> Layer:
    """Makes the `Layer` of a module from its network's trace.

    Args:
        name: The module's name in the network.
        module: The layer.
        trace: The network's trace.
        bound: As in `Layer`.
    """
    original = LayerCost(_parameters(module), {"dense": trace.mult_adds[name]})
    return Layer(Site(module, trace.sizes(name), name), original, bound)


def kept(
    layer: Layer, reason: str, *, on_demand: bool = False, choice: Choice | None = None
) -> LayerPlan:
    """The entry of a layer that is kept.

    Args:
        layer: The layer.
        reason: Why it is kept.
        on_demand: Whether it is kept because of an option or an edit.
        choice: What was measured of it and its replacement, if that was.
    """
    return LayerPlan(
        action="keep",
        reason=reason,
        on_demand=on_demand,
        separable=_separable_cost(layer, on_demand=on_demand),
        cost=layer.original,
        **_measured(choice),
        **_common(layer),
    )


def rewritten(
    layer: Layer,
    substitution: Substitution,
    config: SubstitutionConfig,
    cost: LayerCost,
    choice: Choice,
) -> LayerPlan:
    """The entry of a layer that is rewritten.

    Args:
        layer: The layer.
        substitution: The family.
        config: The family's options.
        cost: What the replacement costs.
        choice: The execution.
    """
    return LayerPlan(
        action="rewrite",
        reason=_reason_to_rewrite(layer.original, cost, choice),
        substitution=substitution.name,
        config=config.model_dump(mode="json"),
        execution=choice.execution,  # type: ignore[arg-type]
        separable=_separable_cost(layer),
        cost=cost,
        **_measured(choice),
        **_common(layer),
    )


def describe(module: nn.Module) -> str:
    """A layer's type and geometry as torch prints them."""
    return f"{type(module).__name__}({module.extra_repr()})"


def _measured(choice: Choice | None) -> dict[str, Any]:
    if choice is None:
        return {}
    return {"seconds": choice.seconds, "noise": choice.noise, "alone": choice.alone}


def _common(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.site.name,
        "layer": describe(layer.site.layer),
        "calls": [
            Calls(input_size=size.input, output_size=size.output, times=times)
            for size, times in layer.site.calls.items()
        ],
        "original": layer.original,
    }


def _parameters(layer: nn.Module) -> int:
    """Number of a layer's parameters, without those of inner layers, which have their own entries."""
    inside = [
        part for part in layer.modules() if part is not layer and isinstance(part, LINEAR_KINDS)
    ]
    theirs = {id(parameter) for part in inside for parameter in part.parameters()}
    return sum(p.numel() for p in layer.parameters() if id(p) not in theirs)


def _separable_cost(layer: Layer, *, on_demand: bool = False) -> LayerCost:
    """A layer's cost in the separable network, which also keeps every layer that it cannot shrink."""
    baseline = substitutions.get("separable")
    config = baseline.config({})
    if on_demand or layer.bound or not layer.runs or baseline.refuse(layer.site, config):
        return layer.original
    cost = baseline.cost(layer.site, config)
    return cost if cost.parameters < layer.original.parameters else layer.original


def _reason_to_rewrite(original: LayerCost, cost: LayerCost, choice: Choice) -> str:
    saved = 100 * (1 - cost.parameters / original.parameters)
    words = f"saves {saved:.1f} % of its parameters"
    if saved < 0:
        words = f"asked for, though it adds {-saved:.1f} % to its parameters"
    if cost.note:
        words += f"; {cost.note}"
    if choice.execution != cost.cheapest:
        words += f"; {choice.execution}, though {cost.cheapest} has fewer Mult-Adds"
    if choice.alone is not None:
        words += f"; {choice.against_its_own}"
    if choice.slower is not None and choice.alone != ORIGINAL:
        words += f"; {choice.slower}"
    return words
