"""A plan as data: which layers are rewritten, how, why, and at what cost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from seclcompress.cost import EXECUTIONS, LayerCost
from seclcompress.plan.older import upgraded
from seclcompress.settings.planning import TORCH, CostModel, Objective

#: Text from a file that is printed on a terminal: no control characters, and a limited length.
Line = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


#: The name of a layer as it is, among the executions that were timed.
ORIGINAL = "original"


class Calls(BaseModel):
    """How often a layer runs on inputs of one size.

    Attributes:
        input_size: Spatial size, one number per dimension; for a Linear its number of positions. None
            in a plan of seclcompress 0.1.
        output_size: Spatial size of the output, likewise.
        times: Number of runs for one image. A convolution on regions runs once for each region. (A head
            that is shared by maps of several sizes has a `Calls` for each size.)
    """

    model_config = ConfigDict(extra="forbid")

    input_size: tuple[int, ...] | None
    output_size: tuple[int, ...]
    times: int


def is_slower(seconds: Mapping[str, float] | None, execution: str, noise: float) -> bool:
    """Whether an execution takes longer than the layer as it is, by more than chance may make.

    Args:
        seconds: Seconds by execution, and as `original`; None if nothing was measured.
        execution: The execution. One that was not timed is not said to be slower.
        noise: The difference in seconds that chance may make.
    """
    if seconds is None or not seconds.keys() >= {ORIGINAL, execution}:
        return False
    return seconds[execution] > seconds[ORIGINAL] + noise


class LayerPlan(BaseModel):
    """A plan's entry for one layer.

    Attributes:
        name: The layer's name in the network.
        layer: The layer's type and geometry; a plan fits a network only if this agrees.
        action: `rewrite` or `keep`. May be edited.
        reason: The reason for the action.
        substitution: The family that the layer is rewritten as. May be edited.
        config: All options of that family. May be edited.
        execution: The family's execution that `auto` runs in eval mode. May be edited.
        on_demand: Whether an option or an edit of the plan keeps the layer (a pattern, the stem, the
            number of channels), and not the kind of layer. The separable network keeps it as well.
        calls: How often the layer runs, by size.
        original: Cost of the layer as it is.
        separable: Cost in a plain depthwise-separable network. It is `original` where the layer is kept
            on demand, or the baseline cannot replace it or make it smaller.
        cost: Cost as planned; `original` for a layer that is kept.
        seconds: Measured seconds by execution, and those of the layer as it is as `original` where that
            was timed; None if nothing was measured.
        noise: The difference in seconds that chance may make between `original` and the planned
            execution, or for a layer that is kept the execution that it would have had.
        alone: What the layer's own clock chose where the clock of the whole network undid that.
    """

    model_config = ConfigDict(extra="forbid")

    name: Line
    layer: Line
    action: Literal["rewrite", "keep"]
    reason: Line
    substitution: Line | None = None
    config: dict[str, Any] = {}
    execution: Literal["dense", "fast"] = "dense"
    on_demand: bool = False
    calls: list[Calls]
    original: LayerCost
    separable: LayerCost
    cost: LayerCost
    seconds: dict[str, float] | None = None
    noise: Annotated[float, Field(ge=0)] = 0.0
    alone: Literal["fast", "original"] | None = None

    @property
    def slower(self) -> bool:
        """Whether it is rewritten and was found to be slower than the original.

        Not where the clock of the whole network undid that the original stays.
        """
        found = is_slower(self.seconds, self.execution, self.noise)
        return self.action == "rewrite" and self.alone != ORIGINAL and found

    @property
    def way(self) -> str:
        """How the layer runs: its execution, or `original` where it is kept."""
        return self.execution if self.action == "rewrite" else ORIGINAL

    @property
    def before_and_after(self) -> tuple[float, float] | None:
        """Seconds of the layer as it is and as planned; None if either was not timed."""
        if self.seconds is None or not self.seconds.keys() >= {ORIGINAL, self.way}:
            return None
        return self.seconds[ORIGINAL], self.seconds[self.way]

    @property
    def mult_adds(self) -> int:
        """Mult-Adds per image with the planned execution."""
        return self.cost.under(self.execution)


class Plan(BaseModel):
    """What is planned for every convolution, or every layer, of a network at one input size.

    Attributes:
        schema_version: The version of this format.
        input_size: (channels, *spatial) of the trace.
        cost_model: The cost model that chose the executions.
        runtime: The runtime whose clock was asked for; None where none was named, or nothing measured.
        objective: What the plan is for.
        linear: Whether Linears have entries as well.
        layers: One entry per layer, in running order.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[2] = 2
    input_size: tuple[int, ...]
    cost_model: CostModel = "paper"
    runtime: Line | None = None
    objective: Objective = "parameters"
    linear: bool = False
    layers: list[LayerPlan]

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, content: Any) -> Any:
        return upgraded(content)

    @property
    def rewritten(self) -> list[LayerPlan]:
        """The layers that are rewritten."""
        return [layer for layer in self.layers if layer.action == "rewrite"]

    @property
    def timed_in(self) -> str:
        """The runtime in which layers were timed, if any were."""
        return self.runtime or TORCH

    @property
    def timed(self) -> list[LayerPlan]:
        """The layers that were timed as they are and as planned."""
        return [layer for layer in self.layers if layer.before_and_after is not None]

    @property
    def families(self) -> list[str]:
        """The families that layers are rewritten as; the one with most layers comes first."""
        used = Counter(layer.substitution or "" for layer in self.rewritten)
        return sorted(used, key=lambda name: (-used[name], name))

    @property
    def executions(self) -> tuple[str, ...]:
        """The executions that rewritten layers have, in the order of `cost.EXECUTIONS`."""
        there = {way for layer in self.rewritten for way in layer.cost.mult_adds}
        return tuple(way for way in EXECUTIONS if way in there)

    @property
    def kind(self) -> str:
        """A noun for the layers with an entry, for messages."""
        return "layers" if self.linear else "convolutions"

    def to_json(self) -> str:
        """The plan as indented JSON; equal plans give equal bytes."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
