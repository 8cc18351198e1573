"""A plan as data: which layers are rewritten, how, why, and at what cost."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from seclcompress.cost import EXECUTIONS, LayerCost
from seclcompress.plan.older import upgraded
from seclcompress.settings.planning import CostModel

#: Text from a file that is printed on a terminal: no control characters, and a limited length.
Line = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


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
        seconds: Measured seconds by execution; None if nothing was measured.
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
        linear: Whether Linears have entries as well.
        layers: One entry per layer, in running order.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[2] = 2
    input_size: tuple[int, ...]
    cost_model: CostModel = "paper"
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
