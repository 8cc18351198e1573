"""Whole networks under the clock of a runtime: variants of one are timed in turn, and remembered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from seclcompress import artefact, networks
from seclcompress.errors import ExportError
from seclcompress.export.plain import example
from seclcompress.files import Cache
from seclcompress.inference import for_inference
from seclcompress.measure import METHOD, Clock, are_timings, default_cache
from seclcompress.networks.tasks import task_of
from seclcompress.plan import Plan
from seclcompress.resolve import Located
from seclcompress.rewrite import rewrite_network
from seclcompress.settings.planning import TORCH
from seclcompress.timing import Timing, processor
from seclcompress.trace import whole_copy


def what_times_depend_on(located: Located, clock: Clock) -> dict[str, Any]:
    """What influences a network's seconds, as JSON values: the key of times that are remembered."""
    return {
        "network": located.network.model_dump(mode="json"),
        "input": located.input_size,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        **clock.about(),
        **artefact.library_versions(),
    }


def may_be_remembered(located: Located) -> bool:
    """Whether a network is the same the next time; a person's own code may have changed."""
    return not networks.sources.get(located.network.source).runs_foreign_code


def ready_to_time(located: Located, clock: Clock, plan: Plan | None = None) -> nn.Module:
    """A network with random weights as it will run in a clock's runtime.

    Args:
        located: The network.
        clock: The clock. torch's gets rewritten networks fused; other runtimes fuse by themselves.
        plan: What becomes of its layers; None for the network as it is.
    """
    # A copy: a person's factory may return the same network again, which is not ours to change.
    network = whole_copy(
        networks.build_untrained(located.network, factory_name=located.factory_name, seed=0)
    )
    if plan is not None and plan.rewritten:
        network = rewrite_network(network, plan)
    fuse = clock.runtime == TORCH
    return for_inference(network.eval(), located.input_size, fuse=fuse)


def why_not(error: ExportError) -> str:
    """Why a whole network cannot be timed: the cause, without what is said there of single layers."""
    return str(error.__cause__ or error).splitlines()[0][:300]


@dataclass
class Races:
    """Times variants of a network in turn, and remembers the results.

    So a second plan measures nothing, and one that was interrupted goes on where it was.

    Attributes:
        unsteady: Number of races that varied so much that they are not remembered.
    """

    clock: Clock
    located: Located
    batch: int
    unsteady: int = 0
    _kept: Cache[dict[str, list[float]]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        path = default_cache().with_name("network_races.json")
        remembered = path if may_be_remembered(self.located) else None
        self._kept = Cache(remembered, are_timings, "Timings")

    def run(self, plans: Mapping[str, Plan | None]) -> dict[str, Timing]:
        """Times plans, and as None the network as it is. Equal plans run once, and have equal times.

        Raises:
            ExportError: If the network cannot be timed in the runtime.
        """
        digests = {name: _digest(plan) for name, plan in plans.items()}
        different = {digests[name]: plan for name, plan in plans.items()}
        key = self._key(sorted(different))
        if self._kept.known.get(key, {}).keys() != different.keys():
            self._kept.known[key] = self._measured(different)
            if any(Timing(*pair).is_unsteady for pair in self._kept.known[key].values()):
                self.unsteady += 1
            else:
                self._kept.keep(key)
        known = self._kept.known[key]
        return {name: Timing(*known[digest]) for name, digest in digests.items()}

    def _measured(self, plans: Mapping[str, Plan | None]) -> dict[str, list[float]]:
        ready = {
            name: ready_to_time(self.located, self.clock, plan) for name, plan in plans.items()
        }
        one = next(iter(ready.values()))
        if task_of(one).networks:
            raise ExportError("it takes other arguments than one tensor of images.")
        images = example(one, self.located.input_size, self.batch)
        times = self.clock.time(ready, images)
        return {name: [timing.median, timing.spread] for name, timing in times.items()}

    def _key(self, digests: Sequence[str]) -> str:
        """All that influences the seconds."""
        about = {
            **what_times_depend_on(self.located, self.clock),
            "batch": self.batch,
            "plans": digests,
            **METHOD,
        }
        return json.dumps(about, sort_keys=True)


def _digest(plan: Plan | None) -> str:
    """Of what becomes of the layers; the same for plans that make the same network."""
    said = [
        [one.name, one.substitution, one.config, one.execution]
        for one in (plan.rewritten if plan is not None else [])
    ]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
