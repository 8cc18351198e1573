"""Atoms: sets of channels that can only be lost together, as a union-find with reasons to stay."""

from __future__ import annotations

import torch
from torch import Tensor

#: The label of elements that belong to no channel that could be lost.
FIXED = 0


class ConflictError(Exception):
    """Channels meet that are not the same, in a network in which all is decided already."""


class Atoms:
    """Labels of channels. Channels whose labels were united are lost together, or not at all.

    Attributes:
        frozen: Whether uniting different atoms is an error: what belongs together is known already.
    """

    def __init__(self) -> None:
        self._parents: list[int] = [FIXED]
        self._reasons: dict[int, str] = {}
        self.frozen = False

    def new(self, count: int) -> Tensor:
        """Makes labels that were never used; int64, of shape (count,)."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return torch.arange(first, first + count)

    def root(self, label: int) -> int:
        """The label that stands for an atom."""
        parents = self._parents
        while parents[label] != label:
            parents[label] = parents[parents[label]]
            label = parents[label]
        return label

    def roots(self, labels: Tensor) -> list[int]:
        """The atoms of some labels, of shape (n,)."""
        return [self.root(label) for label in labels.tolist()]

    def unite(self, one: Tensor, other: Tensor, reason: str) -> None:
        """Unites the atoms at the same places of two tensors of labels, of equal shape.

        Args:
            one: Labels.
            other: Labels.
            reason: Why an atom stays that meets elements of no channel.

        Raises:
            ConflictError: If they are different and everything is decided.
        """
        for first, second in set(
            zip(one.flatten().tolist(), other.flatten().tolist(), strict=True)
        ):
            a, b = self.root(first), self.root(second)
            if a == b:
                continue
            if self.frozen:
                raise ConflictError(reason)
            low, high = min(a, b), max(a, b)
            self._parents[high] = low  # FIXED is the lowest
            reasons = [self._reasons.pop(high, None), self._reasons.get(low)]
            if low != FIXED:
                kept = next((words for words in reasons if words), None)
                if kept is not None:
                    self._reasons[low] = kept
            else:
                self._reasons[high] = reasons[0] or reason

    def fix(self, labels: Tensor, reason: str) -> None:
        """Says that atoms stay, and why. The first reason is kept."""
        for label in set(labels.flatten().tolist()):
            root = self.root(label)
            if root != FIXED and not self.frozen:
                self._reasons.setdefault(root, reason)

    def reason(self, label: int) -> str | None:
        """Why an atom stays; None if it may be lost."""
        trail = label
        while True:
            if trail in self._reasons:
                return self._reasons[trail]
            if self._parents[trail] == trail:
                break
            trail = self._parents[trail]
        return "it is bound to elements of no channel" if trail == FIXED else None
