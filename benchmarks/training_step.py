"""Compares a SECL training step with one of the plain separable network, and with chains of products.

    python benchmarks/training_step.py [--threads 2] [--rounds 9] [--processes 5]

Steps alternate in one process, because a virtual machine has slow minutes; several processes do the
same, because the place of a process's memory affects its times. Memory is the peak above the start of
a step, measured in a process of its own for each network. `chain` makes every W by its definition, as
a product of L layers of N×N matrices.
"""

from __future__ import annotations

import argparse
import json
import resource
import threading
from collections.abc import Callable
from pathlib import Path

import torch
from own_process import in_process, median_and_range
from torch import Tensor, nn
from torch.nn import functional as F

import seclcompress
from seclcompress import kernel
from seclcompress.substitutions.acdc import AcdcPointwise
from seclcompress.timing import alternate, describe_machine
from seclcompress.transforms import dct, riffle

CASES = {"wrn16_2": ((3, 32, 32), 128), "resnet50": ((3, 128, 128), 16)}
#: Chains of 2048×2048 products take minutes a step in resnet50.
KINDS = {"wrn16_2": ("separable", "acdc", "chain"), "resnet50": ("separable", "acdc")}


def build(name: str, size: tuple[int, ...], kind: str) -> nn.Module:
    """A network of `CASES`, rewritten as one of `KINDS`, ready to train."""
    source = seclcompress.locate(name, num_classes=10, input_size=size)
    network, _ = source.load()
    options = seclcompress.PlanOptions(substitution="separable" if kind == "separable" else "acdc")
    planned = seclcompress.workflows.plan_network(source, options=options)
    seclcompress.rewrite_network(network, planned.plan, seed=0)
    if kind == "chain":
        for module in network.modules():
            if isinstance(module, AcdcPointwise):
                use_chain(module)
    return network.train().to(memory_format=torch.channels_last)


def use_chain(pointwise: AcdcPointwise) -> None:
    """Makes a layer compute W = Π A C D Cᵀ P with N×N matrices, folded to the layer's channels."""
    length = pointwise.a.shape[1]
    matrix = dct(torch.eye(length))
    shuffled = riffle(torch.arange(length))

    def make_weight() -> Tensor:
        w = torch.eye(length)
        for a, d in zip(pointwise.a, pointwise.d, strict=True):
            w = ((w * a) @ matrix * d) @ matrix.mT
            w = w[:, shuffled]
        rows = torch.arange(length) % pointwise.in_channels
        w = torch.zeros(pointwise.in_channels, length).index_add(0, rows, w)
        columns = torch.arange(length) % pointwise.out_channels
        return torch.zeros(pointwise.out_channels, pointwise.in_channels).index_add(
            0, columns, w.mT
        )

    pointwise.make_weight = make_weight  # type: ignore[method-assign]
    pointwise.quickest_in_training = lambda _positions: "dense"  # type: ignore[method-assign]


def step(network: nn.Module, images: Tensor, targets: Tensor) -> Callable[[], object]:
    """A function that does one step of SGD."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, foreach=True)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(images), targets).backward()
        optimizer.step()

    return run


def inputs(size: tuple[int, ...], batch: int) -> tuple[Tensor, Tensor]:
    images = torch.randn(batch, *size).contiguous(memory_format=torch.channels_last)
    return images, torch.arange(batch) % 10


def peak_memory(name: str, kind: str, threads: int) -> float:
    """The peak of this process's memory in four steps, in MiB above that before the first step."""
    torch.set_num_threads(threads)
    size, batch = CASES[name]
    run = step(build(name, size, kind), *inputs(size, batch))
    before, peak, done = resident(), [0], threading.Event()

    def watch() -> None:  # the system's own high-water mark would start at the parent's
        while not done.wait(0.001):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(4):
        run()
    done.set()
    watcher.join()
    return (peak[0] - before) / 2**20


def resident() -> int:
    """The bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def step_times(name: str, threads: int, rounds: int) -> dict[str, float]:
    """The median seconds of a step of each kind; the kinds alternate in this process."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    size, batch = CASES[name]
    runs = {kind: step(build(name, size, kind), *inputs(size, batch)) for kind in KINDS[name]}
    return {kind: time.median for kind, time in alternate(runs, rounds=rounds).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=list(KINDS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--memory-of", nargs=2, metavar=("NETWORK", "KIND"), help="in this process")
    parser.add_argument("--times-of", metavar="NETWORK", help="in this process")
    chosen = parser.parse_args()
    if chosen.memory_of:
        print(json.dumps(peak_memory(*chosen.memory_of, chosen.threads)))
        return
    if chosen.times_of:
        print(json.dumps(step_times(chosen.times_of, chosen.threads, chosen.rounds)))
        return
    print(describe_machine(), f"; fused kernel: {kernel.available()}")
    print(f"Medians of {chosen.processes} processes, from the least to the most.")
    print("| network, batch | layers | step ÷ separable | memory ÷ separable |")
    print("|---|---|---|---|")
    common = ["--threads", str(chosen.threads), "--rounds", str(chosen.rounds)]
    for name, (_, batch) in CASES.items():
        if chosen.only not in (None, name):
            continue
        times, memory = [], []
        for _ in range(chosen.processes):
            times.append(in_process(__file__, *common, "--times-of", name))
            memory.append(
                {k: in_process(__file__, *common, "--memory-of", name, k) for k in KINDS[name]}
            )
        for kind in KINDS[name][1:]:
            print(f"| {name}, {batch} | {kind} | {ratio(times, kind)} | {ratio(memory, kind)} |")


def ratio(measured: list[dict[str, float]], kind: str) -> str:
    return median_and_range(one[kind] / one["separable"] for one in measured)


if __name__ == "__main__":
    main()
