"""A plan as data: what becomes of each convolution, why, and at what cost."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from seclcompress.cost import LayerCost
from seclcompress.settings.planning import CostModel

#: Words from a file that end up on a terminal: no control characters, no end of them.
Line = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


class LayerPlan(BaseModel):
    """One layer's fate.

    Attributes:
        name: Where it is in the network.
        layer: Its type and geometry; a plan fits a network only if this agrees.
        action: `rewrite` or `keep`. May be edited.
        reason: Why.
        substitution: The family it is rewritten as. May be edited.
        config: Options of that family, all of them. May be edited.
        execution: `dense` or `fast`: what `auto` runs in eval mode. May be edited.
        length: The transform's length N, where the family has one.
        output_sizes: The spatial sizes of its outputs for one image; of a Linear the positions.
        times: How often each of these sizes occurs: a shared head runs at several, a region's
            convolution once for each region.
        original: Cost of the layer as it is.
        separable: Cost in a plain depthwise-separable network: what the baseline makes of the layer,
            or `original` where it was kept on demand or the baseline would not make it smaller.
        on_demand: Whether it is kept because of what was asked (a pattern, the stem, its size, this
            plan), not because of what it is. Such a layer is kept in the separable network as well.
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
    length: int | None = None
    on_demand: bool = False
    output_sizes: list[tuple[int, ...]]
    times: list[int] = []
    original: LayerCost
    separable: LayerCost
    cost: LayerCost
    seconds: dict[str, float] | None = None

    @property
    def mult_adds(self) -> int:
        """Mult-Adds an image under the chosen execution."""
        return self.cost.mult_adds(self.execution)


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

    schema_version: Literal[1] = 1
    input_size: tuple[int, ...]
    cost_model: CostModel = "paper"
    linear: bool = False
    layers: list[LayerPlan]

    @property
    def rewritten(self) -> list[LayerPlan]:
        """The layers that are rewritten."""
        return [layer for layer in self.layers if layer.action == "rewrite"]

    @property
    def kind(self) -> str:
        """What the layers are, for messages."""
        return "layers" if self.linear else "convolutions"

    def to_json(self) -> str:
        """The plan as indented JSON; equal plans give equal bytes."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
