"""Times stacks on a GPU, by every way that torch has, and training steps of whole networks there.

    python benchmarks/gpu.py                          # stacks and their matrices
    python benchmarks/gpu.py --steps wrn16_2 --families acdc separable

All candidates of a line run in turn, warmed up; medians of CUDA events in milliseconds. `dense` is
torch's Conv2d(N, N, 1). `operator` is `kernel.acdc_stack` (by_fft: recomputes, needs no memory a layer),
`fft` the same transforms under torch's autograd, `products` those with the DCT matrix. W is the stack's
matrix: made and, with gradients, differentiated; `layer` is what a layer does in training. torch's
defaults hold: TF32 in convolutions, not in products. Memory is the peak beside the operands, in MiB.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn

from seclcompress import kernel, stack, substitutions
from seclcompress.substitutions.shapes import SplitConv
from seclcompress.transforms import dct_matrix, expand, fold, riffle

ROUNDS = 15


def in_turns(candidates: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median milliseconds of each candidate; they run in turn, there and back."""
    for run in candidates.values():
        for _ in range(3):
            run()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name in (*candidates, *reversed(candidates)):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda.synchronize()
            start.record()
            candidates[name]()
            end.record()
            torch.cuda.synchronize()
            times[name].append(start.elapsed_time(end))
    return {name: statistics.median(found) for name, found in times.items()}


def peak(run: Callable[[], object]) -> float:
    """The memory that a call allocates at most beside what was there, in MiB."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def by_products(x: Tensor, a: Tensor, d: Tensor, out_channels: int) -> Tensor:
    """The stack on vectors by products with the DCT matrix, whatever the length."""
    c = dct_matrix(a.shape[-1], a.dtype, a.device)
    y = expand(x, a.shape[-1])
    for a_l, d_l in zip(a, d, strict=True):
        y = riffle((((y * a_l) @ c) * d_l) @ c.mT)
    return fold(y, out_channels)


def stacks(sizes: list[int], depths: list[int], batches: list[int]) -> None:
    columns = "dense | operator | fft | products"
    print(f"| N | L | images of 28² | pass | {columns} | MiB: {columns} |")
    print("|" + 12 * "---|")
    for n in sizes:
        for depth in depths:
            for batch in batches:
                line(n, depth, batch)


def line(n: int, depth: int, batch: int) -> None:
    x = torch.randn(batch, n, 28, 28, device="cuda")
    conv = nn.Conv2d(n, n, 1, bias=False).cuda()
    a, d = (1 + 0.1 * torch.randn(2, depth, n, device="cuda")).unbind()

    def on_images(run: Callable[[Tensor, Tensor, Tensor, int], Tensor]) -> Callable[[], Tensor]:
        return lambda: run(x.movedim(1, -1), a, d, n).movedim(-1, 1)

    ways: dict[str, Callable[[], Tensor]] = {
        "dense": lambda: conv(x),
        "operator": lambda: kernel.acdc_stack(x, a, d, n),
        "fft": on_images(stack.apply_stack),
        "products": on_images(by_products),
    }
    with torch.no_grad():
        found = in_turns(ways)
        memory = {name: peak(run) for name, run in ways.items()}
    show(n, depth, batch, "forward", found, memory)
    for value in (x, a, d):
        value.requires_grad_()

    both = {name: learning(run) for name, run in ways.items()}
    try:
        show(n, depth, batch, "and backward", in_turns(both), {k: peak(v) for k, v in both.items()})
    except torch.cuda.OutOfMemoryError:
        print(f"| {n} | {depth} | {batch} | and backward | out of memory |")
        torch.cuda.empty_cache()


def show(
    n: int, depth: int, batch: int, what: str, times: dict[str, float], memory: dict[str, float]
) -> None:
    cells = [f"{times[name]:.3f}" for name in times] + [f"{memory[name]:.0f}" for name in memory]
    print(f"| {n} | {depth} | {batch} | {what} | " + " | ".join(cells) + " |", flush=True)


def matrices(sizes: list[int], depths: list[int]) -> None:
    columns = "operator | fft | products | layer"
    print(f"\n| N | L | W: {columns} | with gradients: {columns} |")
    print("|" + 10 * "---|")
    for n in sizes:
        for depth in depths:
            matrix_line(n, depth)


def matrix_line(n: int, depth: int) -> None:
    a, d = (1 + 0.1 * torch.randn(2, depth, n, device="cuda")).unbind()
    a, d = a.clone().requires_grad_(), d.clone().requires_grad_()
    eye = torch.eye(n, device="cuda")
    acdc = substitutions.get("acdc")
    layer = acdc.build(nn.Conv2d(n, n, 1).cuda(), acdc.config({"depth": depth}))
    assert isinstance(layer, SplitConv)
    ways: dict[str, Callable[[], Tensor]] = {
        "operator": lambda: kernel.acdc_matrix(a, d, n, n),
        "fft": lambda: stack.apply_stack(eye, a, d, n),
        "products": lambda: by_products(eye, a, d, n),
        "layer": layer.pointwise.make_weight,
    }
    with torch.no_grad():
        made = in_turns(ways)
    trained = in_turns({name: learning(run) for name, run in ways.items()})
    cells = [f"{time:.3f}" for time in (*made.values(), *trained.values())]
    print(f"| {n} | {depth} | " + " | ".join(cells) + " |", flush=True)


def learning(run: Callable[[], Tensor]) -> Callable[[], object]:
    """Runs forward and backward."""
    return lambda: run().square().sum().backward()


def steps(network: str, families: list[str], batch: int) -> None:
    """Times training steps of the network as each family, launched one by one by this process."""
    from seclcompress.rewrite import rewrite_network
    from seclcompress.settings import PlanOptions
    from seclcompress.workflows.planning import plan_network

    print(
        f"\n| {network}, {batch} images of 32² | ms a step | ms a pass in eval mode |\n|---|---|---|"
    )
    x = torch.randn(batch, 3, 32, 32, device="cuda")
    for family in ("original", *families):
        options = PlanOptions(
            substitution="acdc" if family == "original" else family, keep=("*.shortcut",)
        )
        planned = plan_network(network, options=options, input_size=(3, 32, 32), num_classes=10)
        module, _ = planned.located.load(seed=0)
        if family != "original":
            rewrite_network(module, planned.plan, seed=0)
        module = module.cuda().to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(module.parameters(), 1e-4)

        def step(module: nn.Module = module, optimizer: torch.optim.SGD = optimizer) -> None:
            optimizer.zero_grad()
            module.train()(x).logsumexp(1).sum().backward()
            optimizer.step()

        def look(module: nn.Module = module) -> None:
            with torch.inference_mode():
                module(x)

        taken = in_turns({"step": step}, 7)["step"]
        module.eval()
        passed = in_turns({"pass": look}, 7)["pass"]
        print(f"| {family} | {taken:.2f} | {passed:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256, 1024, 2048, 4096])
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 12])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--steps", metavar="NETWORK", help="time training steps instead")
    parser.add_argument("--families", nargs="+", default=["separable", "acdc"])
    parser.add_argument("--batch-size", type=int, default=128)
    chosen = parser.parse_args()
    if not torch.cuda.is_available():
        parser.exit(2, "torch sees no GPU here.\n")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    if chosen.steps:
        steps(chosen.steps, chosen.families, chosen.batch_size)
        return
    stacks(chosen.sizes, chosen.layers, chosen.batches)
    matrices(chosen.sizes, chosen.layers)


if __name__ == "__main__":
    main()
