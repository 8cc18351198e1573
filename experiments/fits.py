"""Ways to bring a structured map near a goal: Adam, L-BFGS, and the family's closed form."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from candidates import Candidate
from goals import Goal
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from seclcompress import substitutions
from seclcompress.substitutions import Site, StructuredLayer
from seclcompress.substitutions.fitting import fit_factors

_TIMED = 3  # evaluations


class TooLong(Exception):  # noqa: N818 (no error)
    """A fit would take longer than it may."""


@dataclass(frozen=True)
class Trial:
    """A new map, and what it is fitted to.

    Attributes:
        layer: The map.
        linear: The Linear that it replaces.
        goal: The goal.
        steps: Gradients that may be computed: as many steps of Adam, and fewer of L-BFGS.
        patience: A fit that would take more seconds of the processor is not made.
    """

    layer: StructuredLayer
    linear: nn.Linear
    goal: Goal
    steps: int
    patience: float

    def distance(self) -> Tensor:
        """‖found − wanted‖² ÷ ‖wanted‖², differentiable."""
        wanted = self.goal.outputs
        found: Tensor = self.layer(self.goal.inputs)
        return (found - wanted).square().sum() / wanted.square().sum()

    def check_patience(self) -> None:
        """Times the gradient.

        Raises:
            TooLong: If all its steps would take too long.
        """
        self.distance().backward()  # type: ignore[no-untyped-call]
        began = time.process_time()
        for _ in range(_TIMED):
            self.distance().backward()  # type: ignore[no-untyped-call]
        expected = (time.process_time() - began) / _TIMED * self.steps
        self.layer.zero_grad()
        if expected > self.patience:
            raise TooLong(f"it would take about {expected:.0f} s")


def run(
    candidate: Candidate, goal: Goal, method: str, *, steps: int, patience: float
) -> dict[str, Any]:
    """Fits a new map, from random first values that depend on the goal alone.

    Args:
        candidate: The map.
        goal: What it is fitted to.
        method: One of `METHODS`.
        steps: Gradients that may be computed: as many steps of Adam, and fewer of L-BFGS.
        patience: A fit that would take more seconds of the processor is not made.

    Returns:
        The number of `parameters`, the `seconds`, the `error` ‖found − wanted‖² ÷ ‖wanted‖² and the mean
        squared error `mse` of an output; or why it was `left_out`.

    Raises:
        TooLong: If it would take longer than `patience`.
    """
    began = time.process_time()
    trial = Trial(*build(candidate, goal), goal, steps, patience)
    parameters = sum(parameter.numel() for parameter in trial.layer.parameters())
    if not METHODS[method](trial):
        return {"parameters": parameters, "left_out": "no closed form"}
    error = float(trial.distance().detach())
    if not math.isfinite(error):
        return {"parameters": parameters, "left_out": "it diverged"}
    mse = error * float(goal.outputs.square().mean())
    seconds = round(time.process_time() - began, 3)
    return {"parameters": parameters, "error": error, "mse": mse, "seconds": seconds}


def build(candidate: Candidate, goal: Goal) -> tuple[StructuredLayer, nn.Linear]:
    """Builds a candidate with random values for a goal's Linear, both in float64."""
    family = substitutions.get(candidate.family)
    linear = nn.Linear(goal.size, goal.size, bias=goal.bias, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(goal.matrix)
        if goal.bias:
            linear.bias.zero_()
    with torch.random.fork_rng():
        torch.manual_seed(len(goal.name) + sum(goal.name.encode()))
        layer = family.build(Site(linear), family.config(candidate.options))
    layer.execution = "dense"  # makes the matrix once, and multiplies all inputs with it
    return layer.train(), linear


def _adam(trial: Trial) -> bool:
    """The descent of `convert --start original`, for families without a closed form."""
    trial.check_patience()
    fit_factors(
        list(trial.layer.parameters()),
        lambda: trial.layer(trial.goal.inputs),
        trial.goal.outputs,
        steps=trial.steps,
    )
    return True


def _lbfgs(trial: Trial) -> bool:
    trial.check_patience()
    optimizer = torch.optim.LBFGS(
        trial.layer.parameters(),
        max_iter=trial.steps,
        max_eval=trial.steps,
        history_size=50,
        tolerance_grad=1e-9,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def distance() -> Tensor:
        optimizer.zero_grad()
        loss = trial.distance()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(distance)  # type: ignore[arg-type]
    return True


def _closed(trial: Trial) -> bool:
    """The family's start from trained weights, if it takes no step of an optimiser."""
    if not trial.goal.is_matrix:
        return False
    try:
        with _no_descent():
            return trial.layer.fit(trial.linear) is not None
    except _Descent:
        return False


METHODS: dict[str, Callable[[Trial], bool]] = {
    "adam": _adam,
    "l-bfgs": _lbfgs,
    "closed form": _closed,
}


class _Descent(Exception):  # noqa: N818 (no error)
    """An optimiser takes a step."""


@contextmanager
def _no_descent() -> Iterator[None]:
    def refuse(*_: Any) -> None:
        raise _Descent

    handle = register_optimizer_step_pre_hook(refuse)
    try:
        yield
    finally:
        handle.remove()
