"""This checkout against another one, side by side in one run: start-up, counting, kernel, steps.

    git worktree add ../before COMMIT && make -C ../before .venv/.installed
    python benchmarks/against.py ../before [--threads 2] [--rounds 7]

Every figure is taken in processes of their own that alternate between the two checkouts, because a
virtual machine has slow minutes. Only names that both checkouts have are used.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
_COMMANDS = {
    "start-up: count --help": ["count", "--help"],
    "count resnet50": ["count", "resnet50", "--json"],
}


def stack_pass() -> Callable[[], object]:
    """The fused kernel alone: 12 layers of N = 1024 at 784 positions."""
    import torch

    from seclcompress import kernel

    x, a, d = torch.randn(1, 1024, 28, 28), *(torch.randn(2, 12, 1024) / 1024**0.5 + 1)

    def run() -> object:
        with torch.no_grad():
            return kernel.acdc_stack(x, a, d, 1024)

    return run


def converted(name: str, size: tuple[int, ...]) -> object:
    import seclcompress

    network, _ = seclcompress.locate(name, num_classes=10, input_size=size).load()
    trace = seclcompress.trace_network(network, size)
    plan = seclcompress.make_plan(network, trace, seclcompress.PlanOptions(config={"depth": 12}))
    return seclcompress.rewrite_network(network, plan, seed=0)


def training_step() -> Callable[[], object]:
    """A step of the converted WRN-16-2 on 128 images of 32×32."""
    import torch

    network = converted("wrn16_2", (3, 32, 32)).train()  # type: ignore[attr-defined]
    network = network.to(memory_format=torch.channels_last)
    images = torch.randn(128, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    targets = torch.arange(128) % 10
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, foreach=True)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(network(images), targets).backward()
        optimizer.step()

    return run


def eval_pass() -> Callable[[], object]:
    """A pass of the converted resnet18 in eval mode on one image of 224×224, not made plain."""
    import torch

    network = converted("resnet18", (3, 224, 224)).eval()  # type: ignore[attr-defined]
    image = torch.randn(1, 3, 224, 224)

    def run() -> object:
        with torch.inference_mode():
            return network(image)

    return run


RUNS = {"kernel, N=1024, L=12": stack_pass, "training step": training_step, "eval pass": eval_pass}


def measure(case: str, threads: int) -> float:
    """Median seconds of 15 calls, warm, in this process."""
    import torch

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    run = RUNS[case]()
    run(), run()
    seconds = []
    for _ in range(15):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def in_checkout(checkout: Path, case: str, threads: int) -> float:
    """Seconds of a case by a checkout's code, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--measure", case, "--threads", str(threads)]
    if case in _COMMANDS:
        command = [sys.executable, "-m", "seclcompress", *_COMMANDS[case]]
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, check=True, cwd=checkout)
    took = time.perf_counter() - began
    return took if case in _COMMANDS else float(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "other", type=Path, nargs="?", help="another checkout, with its kernel built"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--measure", choices=list(RUNS), help="in this process")
    chosen = parser.parse_args()
    if chosen.measure:
        print(json.dumps(measure(chosen.measure, chosen.threads)))
        return
    if chosen.other is None:
        parser.error("name another checkout")
    from seclcompress.timing import describe_machine

    print(describe_machine())
    print(f"Medians of {chosen.rounds} processes each, {chosen.threads} threads.")
    print("| | other, s | this, s | this ÷ other | least to most |")
    print("|---|---|---|---|---|")
    checkouts = (chosen.other.resolve(), HERE)
    for case in (*_COMMANDS, *RUNS):
        pairs = [
            [in_checkout(checkout, case, chosen.threads) for checkout in checkouts]
            for _ in range(chosen.rounds)
        ]
        other, this = (statistics.median(times) for times in zip(*pairs, strict=True))
        ratios = sorted(mine / theirs for theirs, mine in pairs)
        print(
            f"| {case} | {other:.4f} | {this:.4f} | {statistics.median(ratios):.2f} "
            f"| {ratios[0]:.2f} to {ratios[-1]:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
