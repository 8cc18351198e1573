"""Checks the choices of the measured cost model with a second, independent measurement.

    python benchmarks/regret.py [--threads 1] [--depth 4] [--channels-last] [--networks resnet50 …]

For each network the measured cost model chooses dense or fast for every rewritten layer; then both
executions are measured again. Regret is the time of the choices ÷ the time of the better executions,
on the sum over all layers. The regret of the paper's choices is printed beside it.
"""

from __future__ import annotations

import argparse

import torch

from seclcompress import resolve
from seclcompress.measure import Stopwatch, TorchClock
from seclcompress.plan import PlanOptions, convolutions, make_plan
from seclcompress.substitutions import Site, get
from seclcompress.timing import describe_machine
from seclcompress.trace import trace_network

NETWORKS = (
    "resnet50 wide_resnet50_2 efficientnet_b3 convnext_tiny densenet161 regnet_y_16gf".split()
)


def regret(name: str, depth: int, channels_last: bool) -> str:
    """The line of a network."""
    source = resolve.locate(name)
    network = source.skeleton()
    trace = trace_network(network, source.input_size)
    options = PlanOptions(config={"depth": depth}, cost_model="measured")
    plan = make_plan(
        network,
        trace,
        options,
        Stopwatch(clock=TorchClock(channels_last)).choose,
        may_be_empty=True,
    )
    found, again = convolutions(network), Stopwatch(clock=TorchClock(channels_last))
    chosen = best = paper = 0.0
    fast = 0
    for layer in plan.rewritten:
        substitution = get(layer.substitution or "")
        config = substitution.config(layer.config)
        seconds = again.choose(
            Site(found[layer.name], trace.sizes(layer.name)), substitution, config
        ).seconds
        assert seconds is not None
        chosen += seconds[layer.execution]
        paper += seconds[layer.cost.cheapest]
        best += min(seconds.values())
        fast += layer.execution == "fast"
    if not best:
        return f"{name:18s} nothing to rewrite"
    return (
        f"{name:18s} {len(plan.rewritten):4d} layers {fast:4d} fast   measured {chosen / best:6.3f}"
        f"   paper {paper / best:6.3f}   sum of the better {best * 1e3:8.2f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--depth", type=int, default=12)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    layout = "NHWC" if arguments.channels_last else "NCHW"
    print(f"{describe_machine()}, depth {arguments.depth}, batch 1, {layout}", flush=True)
    for name in arguments.networks:
        print(regret(name, arguments.depth, arguments.channels_last), flush=True)


if __name__ == "__main__":
    main()
