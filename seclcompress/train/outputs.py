"""Which of a network's outputs are class scores.

A network may return more than one tensor, and others in training than in eval mode: scores and auxiliary
scores (Inception), scores and an embedding, a dictionary, a dataclass. `read_outputs` looks at both
modes once; the `OutputReader` that it returns picks the scores out of every later output.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from seclcompress.data import Data
from seclcompress.errors import DataError, NetworkError
from seclcompress.observer import Observer
from seclcompress.trace import copied_network, floating_dtype, trace_network

#: Names under which networks return class scores, the usual ones first.
_SCORES = ("logits", "scores", "out", "output", "pred", "prediction")
#: Auxiliary scores have such a name: torchvision's `aux`, `aux_logits`, `aux_logits1`.
_AUXILIARY = "aux"
_IMAGES = 2


class Scores(NamedTuple):
    """The class scores of a batch.

    Attributes:
        classes: Shape (batch, classes).
        auxiliary: Those of auxiliary heads, of the same shape; most networks have none.
    """

    classes: Tensor
    auxiliary: list[Tensor]


@dataclasses.dataclass(frozen=True)
class OutputReader:
    """Picks the class scores out of what a network returns.

    Attributes:
        classes: The number of classes.
        probabilities: Whether the network ends in a softmax. Its logarithm is then taken, which equals
            the scores before the softmax up to a constant per image.
    """

    classes: int
    probabilities: bool = False

    def __call__(self, output: Any) -> Scores:
        """The class scores in an output of the network.

        A tensor alone is the scores. Of several tensors, one that is named as scores is, then the
        first of shape (batch, classes). Other tensors of that shape are auxiliary scores if they have
        no name, or one that begins with `aux`; everything else is left out.

        Args:
            output: A tensor, or a sequence, mapping, dataclass or named tuple with tensors in it.

        Raises:
            DataError: If none of its tensors has shape (batch, classes).
        """
        fitting, seen = [], []
        for name, tensor in _tensors(output):
            seen.append(f"{name or 'a tensor'} of shape {_shape(tensor)}")
            if tensor.dim() == 2 and tensor.shape[1] == self.classes:
                fitting.append((name, tensor))
        if not fitting:
            raise DataError(
                f"None of the network's outputs has one score for each of {self.classes} classes. It "
                f"returns {', '.join(seen[:5]) or f'a {type(output).__name__} without tensors'}."
            )
        names = [name for name, _ in fitting]
        chosen = next((names.index(name) for name in _SCORES if name in names), 0)
        auxiliary = [
            tensor
            for place, (name, tensor) in enumerate(fitting)
            if place != chosen and (not name or name.startswith(_AUXILIARY))
        ]
        return Scores(self._scores(fitting[chosen][1]), [self._scores(one) for one in auxiliary])

    def _scores(self, tensor: Tensor) -> Tensor:
        if not self.probabilities:
            return tensor
        # The smallest normal number keeps the logarithm of a probability of 0 finite.
        return tensor.clamp(min=torch.finfo(tensor.dtype).tiny).log()


def _tensors(output: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors in an output, one level deep, with their names; a plain sequence has no names."""
    if isinstance(output, Tensor):
        yield "", output
    elif isinstance(output, Mapping):
        yield from ((str(k), v) for k, v in output.items() if isinstance(v, Tensor))
    elif dataclasses.is_dataclass(output):
        for field in dataclasses.fields(output):
            value = getattr(output, field.name)
            if isinstance(value, Tensor):
                yield field.name, value
    elif isinstance(output, tuple) and (names := getattr(output, "_fields", None)):  # a named tuple
        yield from ((k, v) for k, v in zip(names, output, strict=True) if isinstance(v, Tensor))
    elif isinstance(output, list | tuple):
        yield from (("", value) for value in output if isinstance(value, Tensor))


def read_outputs(
    network: nn.Module,
    data: Data,
    label: str,
    observer: Observer | None = None,
    input_size: tuple[int, ...] | None = None,
) -> OutputReader:
    """Runs a copy of a network in eval mode and in training mode, to see what it returns.

    Args:
        network: A network for image classification, on any device. It stays as it is.
        data: The data set, which tells the size of the images and the number of classes.
        label: The network's name in messages.
        observer: Receives a line on everything in the outputs that is not plain scores.
        input_size: (channels, H, W); by default that of the data.

    Raises:
        DataError: If an output holds no scores for that many classes.
        NetworkError: If the network cannot run on images of this size.
    """
    observer = observer or Observer()
    size = (_IMAGES, *(input_size or data.input_size))
    images = torch.randn(size, generator=torch.Generator().manual_seed(0))
    copied = copied_network(network)
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    images = images.to(device, floating_dtype(network))
    read = OutputReader(len(data.classes))
    modes: tuple[Literal["eval", "training"], ...] = ("eval", "training")
    for mode in modes:
        output = _run(copied, images, training=mode == "training")
        if output is None:
            continue
        try:
            seen = reader_of(output, len(data.classes))
        except DataError as error:
            raise DataError(_misfit(output, data, label, mode, str(error))) from None
        if mode == "eval":
            read = seen
        for words in _roles(output, read, label, mode):
            observer.message(words)
    if read.probabilities:
        observer.message(
            f"{_begun(label)} ends in a softmax: its outputs are probabilities. The losses take their "
            "logarithms, which are scores again."
        )
    return read


def reader_of(output: Any, classes: int) -> OutputReader:
    """A reader for outputs like this one of a network in eval mode.

    Raises:
        DataError: If it holds no scores for that many classes.
    """
    scores = OutputReader(classes)(output).classes
    return OutputReader(classes, probabilities=_are_probabilities(scores))


def _run(network: nn.Module, images: Tensor, *, training: bool) -> Any:
    """What a network returns; None in training mode if it cannot run on so few images of noise.

    Raises:
        NetworkError: If it cannot run in eval mode.
    """
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        try:
            return network.train(training)(images)
        except Exception as error:  # a person's own code may raise anything
            if training:
                return None  # batch norm needs several values a channel; the first step reports it
            trace_network(
                network, tuple(images.shape[1:])
            )  # it raises better words, if it fails too
            raise NetworkError(f"The network cannot run on images: {error}") from error


def _misfit(output: Any, data: Data, label: str, mode: str, otherwise: str) -> str:
    if isinstance(output, Tensor) and output.dim() == 2:
        return (
            f"{data.name} has {len(data.classes)} classes, but {label} has {output.shape[1]} outputs. "
            "Give the data that it is for, or train a network with that name on these: the number of "
            "classes then comes from them, without --num-classes."
        )
    return f"{_begun(label)} does not give one score a class for each image in {mode} mode. {otherwise}"


def _are_probabilities(scores: Tensor) -> bool:
    if scores.shape[1] < 2:
        return False
    sums = scores.double().sum(dim=1)
    return bool((scores >= 0).all() and ((sums - 1).abs() < 1e-3).all())


def _roles(output: Any, read: OutputReader, label: str, mode: str) -> list[str]:
    """A sentence on what is done with each of several outputs; none for a tensor alone."""
    found = list(_tensors(output))
    if isinstance(output, Tensor) or len(found) == 1:
        return []
    scores = OutputReader(read.classes)(output)
    parts = []
    for place, (name, tensor) in enumerate(found, start=1):
        role = "left out"
        if tensor is scores.classes:
            role = "class scores"
        elif any(tensor is one for one in scores.auxiliary):
            role = "auxiliary class scores"
        parts.append(f"{name or f'output {place}'} {_shape(tensor)}: {role}")
    return [f"{_begun(label)} returns {len(found)} tensors in {mode} mode. {'; '.join(parts)}."]


def _begun(label: str) -> str:
    """A label at the beginning of a sentence; a network's name is left as it is."""
    return f"T{label[1:]}" if label.startswith("the ") else label


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"
