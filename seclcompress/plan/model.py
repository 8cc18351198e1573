"""A plan as data: what becomes of each convolution, why, and at what cost."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from seclcompress.cost import EXECUTIONS, LayerCost
from seclcompress.plan.older import upgraded
from seclcompress.settings.planning import CostModel

#: Words from a file that end up on a terminal: no control characters, no end of them.
Line = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


class Calls(BaseModel):
    """How often a layer runs on inputs of one size.

    Attributes:
        input_size: Spatial, one number a dimension; of a Linear its positions. None in a plan of 0.1.
        output_size: Likewise.
        times: How often, for one image: a shared head runs on several sizes, a region's convolution
            once for each region.
    """

    model_config = ConfigDict(extra="forbid")

    input_size: tuple[int, ...] | None
    output_size: tuple[int, ...]
    times: int


class LayerPlan(BaseModel):
    """One layer's fate.

    Attributes:
        name: Where it is in the network.
        layer: Its type and geometry; a plan fits a network only if this agrees.
        action: `rewrite` or `keep`. May be edited.
        reason: Why.
        substitution: The family it is rewritten as. May be edited.
        config: Options of that family, all of them. May be edited.
        execution: What `auto` runs in eval mode, one of the family's executions. May be edited.
        on_demand: Whether it is kept because of what was asked (a pattern, the stem, its size, this
            plan), not because of what it is. Such a layer is kept in the separable network as well.
        calls: On which sizes it runs, and how often.
        original: Cost of the layer as it is.
        separable: Cost in a plain depthwise-separable network: what the baseline makes of the layer,
            or `original` where it was kept on demand or the baseline would not make it smaller.
        cost: Cost as planned; `original` for a layer that is kept.
        seconds: What each execution took where it was measured, by execution.
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
        """Mult-Adds an image under the chosen execution."""
        return self.cost.under(self.execution)


class Plan(BaseModel):
    """The fate of every convolution, or every layer, of a network at one input size.

    Attributes:
        schema_version: Of this format.
        input_size: (channels, *spatial) of the trace.
        cost_model: What chose the executions.
        linear: Whether Linear layers have entries as well.
        layers: One entry a layer, in the order in which they run.
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
        """The families that layers are rewritten as, the one of most layers first."""
        used = Counter(layer.substitution or "" for layer in self.rewritten)
        return sorted(used, key=lambda name: (-used[name], name))

    @property
    def executions(self) -> tuple[str, ...]:
        """The executions that rewritten layers have, in the order of `cost.EXECUTIONS`."""
        there = {way for layer in self.rewritten for way in layer.cost.mult_adds}
        return tuple(way for way in EXECUTIONS if way in there)

    @property
    def kind(self) -> str:
        """What the layers are, for messages."""
        return "layers" if self.linear else "convolutions"

    def to_json(self) -> str:
        """The plan as indented JSON; equal plans give equal bytes."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
