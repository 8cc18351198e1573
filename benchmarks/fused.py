"""Times a rewritten network fused and unfused, and ONNX Runtime's dense one, side by side.

    python benchmarks/fused.py [resnet18] [--depth 4] [--rounds 15] [--threads 1 2] [--size 224]

Every round times all candidates in turn, there and back. Printed are medians and interquartile ranges.
Networks with torch run channels last. Values of weights do not matter and are random.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import tempfile
from pathlib import Path

import torch

from seclcompress import export, kernel, networks
from seclcompress.export.race import as_file
from seclcompress.inference import for_inference, to_memory_format
from seclcompress.plan import PlanOptions, make_plan
from seclcompress.rewrite import rewrite_network
from seclcompress.timing import REST, alternate, describe_machine
from seclcompress.trace import trace_network


def main() -> None:
    """Runs the measurement and prints one line for each candidate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", nargs="?", default="resnet18")
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--size", type=int, default=224)
    given = parser.parse_args()
    size = (3, given.size, given.size)
    torch.manual_seed(0)
    original = networks.build(networks.named_spec(given.network, 1000)).eval()
    student = networks.build(networks.named_spec(given.network, 1000)).eval()
    options = PlanOptions(config={"depth": given.depth})
    rewrite_network(student, make_plan(student, trace_network(student, size), options))
    ready = {
        "original": for_inference(original, size),
        "dense": for_inference(student, size, "dense", fuse=False),
        "dense fused": for_inference(student, size, "dense"),
        "chosen": for_inference(student, size, fuse=False),
        "chosen fused": for_inference(student, size),
    }
    exported = for_inference(student, size, "dense", fuse=False)  # not channels last, as files are
    x = torch.randn(1, *size)
    images = x.contiguous(memory_format=torch.channels_last)
    calls = {
        name: functools.partial(to_memory_format(network, torch.channels_last), images)
        for name, network in ready.items()
    }
    print(f"{given.network}, depth {given.depth}, {describe_machine()}, {kernel.description()}")
    for threads in given.threads:
        torch.set_num_threads(threads)
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            if importlib.util.find_spec("onnxruntime") is not None:
                run = as_file(export.get("onnx"), exported, Path(folder) / "dense.onnx", size)
                calls["onnxruntime dense"] = functools.partial(run, x.numpy())
            times = alternate(calls, rounds=given.rounds, warm_ups=2, rest=REST)
        print(f"{threads} thread{'s' * (threads > 1)}")
        for name, time in times.items():
            print(
                f"{name:18} {1e3 * time.median:8.2f} ms  ± {1e3 * time.spread:6.2f}  "
                f"original ÷ this {times['original'].median / time.median:5.2f}"
            )


if __name__ == "__main__":
    main()
