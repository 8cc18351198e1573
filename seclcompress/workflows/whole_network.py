"""A whole network under the clock of a runtime: what is timed, and on what its times depend."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from seclcompress import artefact, networks
from seclcompress.inference import for_inference
from seclcompress.measure import Clock
from seclcompress.plan import Plan
from seclcompress.resolve import Located
from seclcompress.rewrite import rewrite_network
from seclcompress.settings.planning import TORCH
from seclcompress.timing import processor
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
