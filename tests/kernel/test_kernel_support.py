"""What the fused kernel refuses and supports, what runs without it, and how that is said."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from compiled_kernel import RUNS_KERNEL
from dense_reference import (
    error,
    random_stack,
    reference,
)
from torch import Tensor

from seclcompress import kernel
from seclcompress.kernel import by_fft, by_native

pytestmark = RUNS_KERNEL


SMALL = (torch.randn(2, 6, 4), torch.randn(3, 8), torch.randn(3, 8), 8)


@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        (0, torch.randn(2, 9, 4), r"x has shape \(2, 9, 4\).*N = 8"),
        (0, torch.randn(2, 0, 4), "1 to N = 8 channels"),
        (0, torch.randn(8), r"\(batch, channels, \*spatial\)"),
        (0, torch.randn(2, 6, 4).half(), "x is torch.float16"),
        (0, torch.randint(0, 9, (2, 6, 4)), "x is torch.int64"),
        (0, torch.randn(2, 6, 4).double(), r"a is torch.float32 and x is torch.float64"),
        (1, torch.randn(3, 9), r"a has shape \(3, 9\) and d \(3, 8\)"),
        (1, torch.randn(8), r"must be \(layers, N\)"),
        (2, torch.randn(3, 8).double(), "d is torch.float64"),
        (3, 9, "out_channels is 9: it must be 1 to N = 8"),
        (3, 0, "out_channels is 0"),
        (3, -1, "out_channels is -1"),
        (4, torch.randn(7), r"bias has shape \(7,\)"),
        (4, torch.randn(8, 1), r"bias has shape \(8, 1\)"),
        (4, torch.randn(8).double(), "bias is torch.float64"),
        (5, torch.randn(9), r"scale has shape \(9,\)"),
        (5, torch.randn(8).double(), "scale is torch.float64"),
    ],
)
def test_refusals(index: int, value: object, message: str) -> None:
    """Each error names the operand and its value."""
    arguments: list[object] = [*SMALL, None, None]
    arguments[index] = value
    with pytest.raises(ValueError, match=message):
        kernel.acdc_stack(*arguments[:5], scale=arguments[5])  # type: ignore[arg-type]


def test_refuses_no_layers() -> None:
    """A stack without layers does not reach the compiled code."""
    with pytest.raises(ValueError, match="at least one layer"):
        kernel.acdc_stack(torch.randn(1, 8, 2), torch.empty(0, 8), torch.empty(0, 8), 8)


@pytest.mark.parametrize("n", [11, 22, 26, 97])
def test_lengths_without_an_fft_plan(n: int) -> None:
    """torch.fft runs stacks of lengths for which the compiled kernel has no FFT plan."""
    assert not kernel.supports(n, torch.float64, "cpu")
    a, d = random_stack(n, 3, torch.float64)
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64)
    assert error(kernel.acdc_stack(x, a, d, 9), reference(x, a, d, 9)) < 1e-13


@pytest.mark.parametrize("scratch", [1, 2**9, 2**11, 2**14, 2**28])
@pytest.mark.parametrize(
    "shape", [(1, 6, 1), (3, 6, 5, 7), (7, 6), (2, 6, 2, 2, 3), (0, 6, 3), (3, 6, 0)]
)
def test_parts_of_any_size(scratch: int, shape: tuple[int, ...], monkeypatch) -> None:
    """All vectors are computed once, however few torch.fft gets at a time."""
    monkeypatch.setattr(by_native, "has_fft_plan", lambda n: False)
    monkeypatch.setattr(by_fft, "SCRATCH_BYTES", scratch)
    a, d = (factor.requires_grad_() for factor in random_stack(12, 2, torch.float64))
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    y = kernel.acdc_stack(x, a, d, 5)
    expected = reference(x, a, d, 5)
    assert error(y, expected) < 1e-13
    outer = torch.randn(y.shape, dtype=torch.float64)
    got = torch.autograd.grad(y, (x, a, d), outer)
    want = torch.autograd.grad(expected, (x, a, d), outer)
    assert all(error(g, w) < 1e-12 for g, w in zip(got, want, strict=True))


def test_memory_by_fft_does_not_grow_with_the_depth(monkeypatch) -> None:
    """Neither the tensors that autograd keeps nor the peak of the backward pass grow with depth."""
    monkeypatch.setattr(by_native, "has_fft_plan", lambda n: False)
    monkeypatch.setattr(by_fft, "SCRATCH_BYTES", 2**20)
    largest: dict[int, int] = {}
    for depth in (2, 24):
        a, d = (factor.requires_grad_() for factor in random_stack(64, depth, torch.float32))
        x = torch.randn(4, 64, 32, 32, requires_grad=True)
        kept: list[int] = []

        def keep(tensor: Tensor, kept: list[int] = kept) -> Tensor:
            kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            y = kernel.acdc_stack(x, a, d, 64)
        assert sum(kept) <= x.numel() + a.numel() + d.numel()
        with torch.profiler.profile(profile_memory=True) as profile:
            y.sum().backward()
        now = top = 0
        for event in profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                now += event.nbytes()
                top = max(top, now)
        largest[depth] = top
    assert largest[24] < 1.5 * largest[2]


def test_backward_checks_its_sizes() -> None:
    """The backward operator can be called directly, so it checks its operands."""
    x, a, d, _ = SMALL
    with pytest.raises(ValueError, match="differ in the channels only"):
        torch.ops.seclcompress.acdc_stack_backward(torch.randn(2, 8, 3), x, a, d, True)
    with pytest.raises(ValueError, match="out_channels is 9"):
        torch.ops.seclcompress.acdc_stack_backward(torch.randn(2, 9, 4), x, a, d, True)


def test_supports(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel supports exactly the lengths without a prime factor above 7."""
    cpu = torch.device("cpu")
    smooth = [n for n in range(1, 400) if kernel.supports(n, torch.float32, cpu)]
    expected = []
    for n in range(1, 400):
        rest = n
        for p in (2, 3, 5, 7):
            while rest % p == 0:
                rest //= p
        if rest == 1:
            expected.append(n)
    assert smooth == expected
    assert not kernel.supports(0, torch.float32, cpu)
    assert not kernel.supports(-4, torch.float32, cpu)
    assert not kernel.supports(2**40, torch.float32, cpu)
    assert not kernel.supports(64, torch.float16, cpu)
    assert not kernel.supports(64, torch.float32, "cuda")
    assert kernel.worthwhile(64, torch.float32, "cuda")
    assert kernel.worthwhile(22, torch.bfloat16, "cuda:1"), "by torch.fft, which knows any length"
    assert not kernel.worthwhile(64, torch.float16, "cuda")
    beyond: list[bool] = []
    torch.func.grad(lambda x: beyond.append(kernel.worthwhile(64, x.dtype, "cuda")) or x.sum())(
        torch.ones(3)
    )
    assert beyond == [False]
    monkeypatch.setattr(by_native, "UNWANTED", True)
    assert not kernel.worthwhile(64, torch.float32, "cuda")
    assert not kernel.worthwhile(22, torch.float32, "cpu")
    assert not kernel.supports(64, torch.float32, "meta")


def test_without_the_compiled_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the compiled kernel torch.fft runs the operator; imports and shapes still work."""
    expected = kernel.acdc_stack(*SMALL)
    monkeypatch.setattr(by_native, "_native", None)
    assert not kernel.available()
    assert not kernel.supports(64, torch.float32, "cpu")
    assert not kernel.worthwhile(64, torch.float32, "cpu")
    torch.testing.assert_close(kernel.acdc_stack(*SMALL), expected)
    assert kernel.acdc_stack(SMALL[0].to("meta"), *(t.to("meta") for t in SMALL[1:3]), 5).shape == (
        2,
        5,
        4,
    )


class TestSayingWhichKernelRuns:
    def test_in_words(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(by_native, "UNWANTED", False)
        for sets, words in (
            (["avx2", "baseline"], "fused kernel for avx2"),
            ([], "no fused kernel (built without a compiler)"),
        ):
            monkeypatch.setattr(by_native, "instruction_sets", lambda sets=sets: sets)
            assert kernel.description() == words
        monkeypatch.setattr(by_native, "UNWANTED", True)
        assert kernel.description() == "fused kernel switched off (SECLCOMPRESS_KERNEL=0)"

    @pytest.mark.skipif(sys.platform == "win32", reason="there is no kernel for Windows")
    @pytest.mark.parametrize(("required", "code"), [("0", 0), ("1", 1)])
    def test_a_build_can_be_told_to_fail_without_it(
        self, required: str, code: int, tmp_path: Path
    ) -> None:
        pytest.importorskip("setuptools")
        root = Path(__file__).parents[2]
        for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(root / name, tmp_path)
        sources = tmp_path / "seclcompress" / "kernel"
        sources.mkdir(parents=True)
        shutil.copy(root / "seclcompress" / "__init__.py", sources.parent)  # it has the version
        shutil.copytree(root / "seclcompress" / "kernel" / "csrc", sources / "csrc")
        environment = {**os.environ, "CC": "false", "CXX": "false"}
        done = subprocess.run(
            [sys.executable, "setup.py", "build_ext", "--build-lib", "out"],
            cwd=tmp_path,
            env={**environment, "SECLCOMPRESS_REQUIRE_KERNEL": required},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert not list((tmp_path / "out").rglob("*.so"))
