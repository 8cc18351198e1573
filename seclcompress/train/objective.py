"""The loss of training: classes, the teacher's scores and attention, and decay of products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from seclcompress.data import Batch
from seclcompress.errors import UsageError
from seclcompress.losses import (
    AUXILIARY_WEIGHT,
    asymmetry,
    attention_map,
    attention_transfer,
    knowledge_distillation,
    product_decay,
)
from seclcompress.settings.training import TrainingSettings
from seclcompress.substitutions import structured_layers
from seclcompress.taps import Taps
from seclcompress.train.outputs import OutputReader
from seclcompress.train.teacher import Lesson, Teacher


def mix(batch: Batch, settings: TrainingSettings, classes: int) -> Batch:
    """Applies mixup or CutMix to a batch: one of them, chosen at random, if both are on.

    Args:
        batch: Images and class indices.
        settings: The settings; `mixup` and `cutmix` are used.
        classes: The number of classes.

    Returns:
        The mixed batch, whose targets are probabilities, shape (batch, classes). Without mixup and
        CutMix, the batch itself.
    """
    chosen: list[v2.Transform] = []
    if settings.mixup > 0:
        chosen.append(v2.MixUp(alpha=settings.mixup, num_classes=classes))
    if settings.cutmix > 0:
        chosen.append(v2.CutMix(alpha=settings.cutmix, num_classes=classes))
    if not chosen:
        return batch
    images, targets = v2.RandomChoice(chosen)(batch.images, batch.targets)
    return Batch(images, targets, batch.indices)


def square_convolutions(network: nn.Module) -> list[nn.Conv1d | nn.Conv2d | nn.Conv3d]:
    """The trained convolutions that could become symmetric in their channels.

    They have as many output as input channels and no groups. Convolutions inside structured layers are
    left out: those layers have a structure already.
    """
    inside = {id(part) for layer in structured_layers(network) for part in layer.modules()}
    return [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        and id(module) not in inside
        and module.groups == 1
        and module.in_channels == module.out_channels
        and module.weight.requires_grad
    ]


class Objective:
    """The loss of a network on a batch.

    Args:
        network: The network whose modules are tapped.
        forward: The module to call: the network, or a wrapper of it (compiled, distributed).
        settings: The losses and their weights.
        read: Picks the class scores out of the network's outputs.
        teacher: The teacher; None to learn from the classes alone.

    Raises:
        UsageError: If a penalty is asked for, and the network has nothing that it applies to.
    """

    def __init__(
        self,
        network: nn.Module,
        forward: nn.Module,
        settings: TrainingSettings,
        read: OutputReader,
        teacher: Teacher | None,
    ) -> None:
        self._network, self.forward = network, forward
        self._settings, self._read = settings, read
        self._teacher = teacher
        attends = teacher is not None and settings.compares_attention
        self._taps = Taps(network, settings.taps if attends else ())
        self._structured = structured_layers(network)
        for module in self._structured:
            module.keep_product(settings.factor_decay == "product")
        self._square = square_convolutions(network) if settings.symmetry_penalty > 0 else []
        if settings.symmetry_penalty > 0 and not self._square:
            raise UsageError(
                f"--symmetry-penalty {settings.symmetry_penalty:g} has nothing to apply to: "
                "this network has no trained convolution, without groups, with as many output as "
                "input channels. Drop it."
            )

    def __enter__(self) -> Objective:
        # The taps stay for the whole run: a compiled network only runs hooks that were there when it
        # was compiled.
        self._taps.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._taps.__exit__(*error)
        for module in self._structured:
            module.keep_product(False)

    def __call__(self, batch: Batch) -> Tensor:
        """The mean loss over a batch, a scalar."""
        settings = self._settings
        batch = mix(batch, settings, self._read.classes)
        asked = self._teacher if settings.asks_teacher else None
        lesson = None if asked is None else asked.teach(batch)
        scores, auxiliary = self._read(self.forward(batch.images))
        features = self._taps.take()
        loss = self._on_classes(scores, batch.targets, lesson)
        if lesson is not None and features:
            maps = [attention_map(feature) for feature in features]
            loss = loss + attention_transfer(maps, lesson.maps, settings.beta)
        for other in auxiliary:
            loss = loss + AUXILIARY_WEIGHT * F.cross_entropy(other, batch.targets)
        return loss

    def again(self, batch: Batch) -> object:
        """Repeats the forward pass, uncompiled and in this process alone, for hooks on modules."""
        images = mix(batch, self._settings, self._read.classes).images
        output = self._network(images)
        self._taps.clear()
        return output

    def penalty(self) -> Tensor | None:
        """The sum of all penalties on weights, to be added once per step; None without one."""
        found = [
            penalty
            for penalty in (self._on_products(), self._on_asymmetry())
            if penalty is not None
        ]
        return torch.stack(found).sum() if found else None

    def _on_products(self) -> Tensor | None:
        """The decay of the structured layers' products."""
        if self._settings.factor_decay != "product" or not self._structured:
            return None
        products = [product for module in self._structured for product in module.products()]
        return product_decay(products, self._settings.weight_decay)

    def _on_asymmetry(self) -> Tensor | None:
        """The distance of square convolutions from symmetric ones."""
        rho, norm = self._settings.symmetry_penalty, self._settings.symmetry_norm
        if not self._square:
            return None
        return asymmetry([conv.weight for conv in self._square], rho, norm)

    def _on_classes(self, scores: Tensor, targets: Tensor, lesson: Lesson | None) -> Tensor:
        smoothing = self._settings.label_smoothing
        if lesson is None:
            return F.cross_entropy(scores, targets, label_smoothing=smoothing)
        return knowledge_distillation(
            scores,
            lesson.scores,
            targets,
            self._settings.alpha,
            self._settings.temperature,
            smoothing,
            decoupled=self._settings.decoupled,
            standardise=self._settings.standardize_logits,
        )
