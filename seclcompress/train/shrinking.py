"""A network that loses channels while it is trained: by gates, or in rounds by norms or singular values.

Before each step the run asks whether channels are due (`due`), narrows its network if some are
(`lose`), and after the step the price presses on the gates (`press`). What is due depends on the
weights, the step and the state alone, which checkpoints hold; so a resumed run loses the same channels
at the same steps, and so does each of several processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seclcompress.graph import Group, kept_by_layer, narrowed_widths, renumbered
from seclcompress.narrowing import Widths
from seclcompress.observer import Observer
from seclcompress.settings.budget import Budget
from seclcompress.settings.slimming import SlimOptions
from seclcompress.slim import (
    EdgeGates,
    Figures,
    Gates,
    Lost,
    OpenGates,
    attach,
    detach,
    excess,
    fewest_lost,
    losses,
    lost_by_energy,
    may_lose,
    norms,
    readers,
)
from seclcompress.slim.pressure import Times, first_price, goal, next_price, prices
from seclcompress.train.narrowing import narrow_trained, replace, taken
from seclcompress.train.spectra import Spectra


class Shrinking:
    """Which channels a network in training loses, and when.

    Args:
        network: The network; it gets gates, if the method has some.
        groups: Its groups of channels.
        figures: What it has without some atoms of them, in their numbers (`slim.figures_without`).
        options: How channels are chosen.
        budget: The budget; None to lose what the price closes.
        lr: The highest learning rate of the run.
        spectra: What looks at the network with pictures, for singular values; else None.
    """

    def __init__(
        self,
        network: nn.Module,
        groups: Sequence[Group],
        figures: Callable[[Lost], Figures],
        options: SlimOptions,
        budget: Budget | None,
        lr: float,
        spectra: Spectra | None = None,
    ) -> None:
        self.options, self.budget = options, budget
        self._lr, self._spectra = lr, spectra
        if options.needs_readers:
            groups = [group for group in groups if readers(network, group)]
        self.groups = list(groups)
        self._network = network
        self._all = tuple(groups)
        self._numbers = [list(range(len(group.atoms))) for group in groups]
        self._figures = figures
        self.before = figures({})
        self.figures = self.before
        self._prices: list[Tensor] = []
        self._price: float | None = options.price
        self._done = False
        self._looked_at = -1
        self._gates: Gates | None = None
        if options.gated:
            self._prices = prices(groups, figures, options.price_by)
            weights = [norms(network, group) for group in groups]
            opens = options.method == "gates"
            self._gates = (OpenGates if opens else EdgeGates)(self.groups, options.least, weights)
            attach(network, groups, self._gates, divide=opens)

    def due(self, step: int, steps: int, observer: Observer) -> Lost:
        """What is lost before a step, by the group's name, in numbers of the groups as they are.

        Args:
            step: The step of the whole run, from 0.
            steps: Steps of the whole run.
            observer: Is told when the network has reached the size that it keeps.
        """
        if self._done or step == self._looked_at:
            return {}
        self._looked_at = step
        times = Times(steps, self.options.until)
        gates = self._gates
        if gates is None:
            return self._least_in_round(times, step, observer)
        ends = step >= times.losing
        if not ends and step % times.every:
            return {}
        lost: Lost = {
            group.name: closed
            for group, closed in zip(self.groups, gates.closed(), strict=True)
            if closed
        }
        if self.budget is None:
            if ends:
                self._end(step, lost, observer)
            return lost
        has = excess(self._without(lost), self.budget)
        may = goal(excess(self.before, self.budget), times.share(step))
        if ends or has < may:  # channels that closed too early stay until it is time
            lost = self._least(gates.standing(), may)
        if ends:
            self._end(step, lost, observer)
            return lost
        price = self._price or first_price(self._lr, times.losing)
        self._price = next_price(price, has, may)
        return lost

    def _least_in_round(self, times: Times, step: int, observer: Observer) -> Lost:
        rounds = self.options.rounds or 1
        number = times.starts_round(step, rounds)
        if number is None:
            return {}
        weights = self._weights()
        lost: Lost
        if self.budget is None:
            assert self.options.energy is not None
            lost = _named(
                lost_by_energy(
                    list(zip(self.groups, weights, strict=True)),
                    self.options.energy,
                    self.options,
                    self._originally(),
                )
            )
        else:
            start = excess(self.before, self.budget)
            lost = self._least(weights, goal(start, number / rounds))
        if number == rounds:
            self._end(step, lost, observer)
        return lost

    def _weights(self) -> list[Tensor]:
        """How much each atom of each group weighs now."""
        if self._spectra is None:
            return [norms(self._network, group) for group in self.groups]
        return self._spectra.shares(self._network, self.groups)

    def _originally(self) -> dict[str, int]:
        return {group.name: len(group.atoms) for group in self._all}

    def _least(self, weights: Sequence[Tensor], times: float) -> Lost:
        """The least atoms, so that the network is so many times too large for the budget."""
        weighed = list(zip(self.groups, [each.double().cpu() for each in weights], strict=True))
        count, after = losses(weighed, self.options, self._originally())
        assert self.budget is not None
        lost, _ = fewest_lost(count, after, self._without, self.budget, times)
        return _named(lost)

    def _end(self, step: int, lost: Lost, observer: Observer) -> None:
        self._done = True
        if self._gates is not None:
            self._gates.reopen()
        has = self._without(lost)
        observer.message(
            f"From step {step} on the network keeps its size: {has.parameters:,} parameters, "
            f"{has.mult_adds:,} Mult-Adds."
        )

    def press(self, lr: float, epoch: int) -> None:
        """Presses on the gates, after a step.

        Args:
            lr: The learning rate.
            epoch: The epoch, from 1.
        """
        if self._gates is not None and not self._done and self._price is not None:
            decayed = self._price * self.options.price_decay ** (epoch - 1)
            self._gates.press(lr * decayed, self._prices)

    def lose(
        self,
        lost: Lost,
        optimizers: Sequence[torch.optim.Optimizer],
        averages: dict[str, Tensor],
        observer: Observer,
    ) -> None:
        """Narrows the network.

        Args:
            lost: Numbers of the lost atoms by the group's name, in the groups as they are.
            optimizers: The network's optimizers.
            averages: Moving averages by the names of parameters and buffers; narrowed in place.
            observer: Is told how many pictures are right before and after, where some are looked at.
        """
        spectra, accuracy = self._spectra, None
        if spectra is not None and spectra.looked:
            accuracy = spectra.accuracy(self._network)
            spectra.mend(self._network, self.groups, lost, averages)
        self.figures = self._without(lost)
        gated = {p: name for name, p in self._network.named_parameters()}
        gates = self._gates
        if gates is not None:
            detach(self._network, fold=False)
        # Gates give the weights that they multiply other names, which the averages go by.
        own = {name: gated[p] for name, p in self._network.named_parameters()}
        mine = {name: averages.pop(own.get(name, name)) for name in self._averaged(own, averages)}
        kept = kept_by_layer(self._network, self.groups, lost)
        narrow_trained(self._network, kept, optimizers, mine)
        averages |= {own.get(name, name): value for name, value in mine.items()}
        self.groups, stays = renumbered(self.groups, lost)
        self._prices = [
            price if there is None else price[there]
            for price, there in zip(self._prices, stays, strict=False)
        ]
        self._numbers = [
            numbers if there is None else [numbers[place] for place in there.tolist()]
            for numbers, there in zip(self._numbers, stays, strict=True)
        ]
        if gates is not None:
            old = dict(gates.named_parameters())
            places = gates.lose(stays)
            new = dict(gates.named_parameters())
            for name, there in places.items():
                replace(optimizers, old[name], new[name], there)
                if gated[old[name]] in averages:
                    averages[gated[old[name]]] = taken(averages[gated[old[name]]], there)
            attach(self._network, self.groups, gates)
        if spectra is not None and accuracy is not None:
            spectra.settle(self._network, averages)
            observer.message(
                f"{self.figures.parameters:,} parameters are left. Of {spectra.pictures.count:,} "
                f"pictures {accuracy:.2f} % were right before, {spectra.accuracy(self._network):.2f} % "
                "are now."
            )

    def _averaged(self, own: dict[str, str], averages: dict[str, Tensor]) -> list[str]:
        """The names of averages of the network's own tensors, as they are without gates."""
        buffers = [name for name, _ in self._network.named_buffers()]
        return [name for name in (*own, *buffers) if own.get(name, name) in averages]

    def _lost(self) -> dict[str, list[int]]:
        """What is lost so far, in the numbers of the whole network's groups."""
        return {
            group.name: sorted(set(range(len(group.atoms))) - set(numbers))
            for group, numbers in zip(self._all, self._numbers, strict=True)
            if len(numbers) < len(group.atoms)
        }

    def _without(self, lost: Lost) -> Figures:
        """The network's figures when it loses some more atoms, in numbers of the groups as they are."""
        if not any(lost.values()):
            return self.figures
        numbers = dict(zip((group.name for group in self._all), self._numbers, strict=True))
        whole = self._lost()
        for name, gone in lost.items():
            whole[name] = sorted({*whole.get(name, ()), *(numbers[name][place] for place in gone)})
        return self._figures(whole)

    def identity(self) -> dict[str, Any]:
        """What decides which channels are lost, beside the training settings, for a checkpoint."""
        budget = None if self.budget is None else self.budget.model_dump()
        return {"slimming": {**self.options.model_dump(), "budget": budget}}

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"lost": self._lost(), "price": self._price, "done": self._done}

    def restore(
        self,
        state: dict[str, Any],
        optimizers: Sequence[torch.optim.Optimizer],
        averages: dict[str, Tensor],
    ) -> None:
        """Narrows the network as it was when a checkpoint was written; the weights come after it.

        Args:
            state: What `state` returned then.
            optimizers: The network's optimizers.
            averages: Moving averages by the names of parameters and buffers; narrowed in place.
        """
        if state.get("lost"):
            self.lose(state["lost"], optimizers, averages, Observer())
        self._price, self._done = state.get("price", self._price), state.get("done", False)

    def finish(self) -> dict[str, Widths]:
        """Folds the gates into the weights.

        Returns:
            The widths of the layers that were narrowed, by their names.
        """
        if self._gates is not None:
            detach(self._network, fold=True)
        lost = self._lost()
        layers = {
            member.layer: None
            for group in self._all
            if group.name in lost
            for member in group.members
        }
        return narrowed_widths(self._network, layers)

    def at_their_least(self) -> list[str]:
        """The groups that have as few channels as they may."""
        return [
            group.name
            for group, numbers in zip(self._all, self._numbers, strict=True)
            if len(numbers) <= len(group.atoms) - may_lose(group, self.options.least)
        ]

    def kept(self) -> dict[str, int]:
        """How many atoms each group has now, by its name."""
        return {
            group.name: len(numbers)
            for group, numbers in zip(self._all, self._numbers, strict=True)
        }


def _named(lost: Lost) -> dict[str, list[int]]:
    """Only the groups that lose something, with the atoms in order."""
    return {name: sorted(numbers) for name, numbers in lost.items() if numbers}
