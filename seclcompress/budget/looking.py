"""Shows images to a network, and gathers of each layer what says how its replacements would do.

All layers of a call are looked at in one pass over the images. Nothing is changed but that the network
ends in eval mode.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seclcompress.budget.fisher import Gradients
from seclcompress.budget.outputs import Inputs
from seclcompress.data import Images, Presentation
from seclcompress.data.images import Batch
from seclcompress.errors import NetworkError
from seclcompress.recover.solve import distance, solve
from seclcompress.settings.recovery import RecoverySettings
from seclcompress.substitutions import Site, StructuredLayer
from seclcompress.substitutions.site import Convolution
from seclcompress.trace import floating_dtype
from seclcompress.train.outputs import OutputReader

#: Images at once; their order decides which positions are drawn.
BATCH = 25
#: Positions at most that a layer's outputs are compared at in each image.
POSITIONS = 256
#: L-BFGS iterations by which a replacement is recovered: as many as `recover` makes.
ITERATIONS = RecoverySettings().iterations

Tell = Callable[[int, int], object]


class Shown(Protocol):
    """What a layer was shown."""

    def missed(self, far: Tensor) -> float:
        """What is lost if the layer's weights are off by `far`, of shape (out, in, *kernel)."""


@dataclass(frozen=True)
class Calibration:
    """A network with trained weights, and the images that it is looked at with.

    Attributes:
        network: The network, on the device of the presentation.
        read: Finds class scores in its outputs.
        images: The images.
        order: The indices of those that are shown.
        presentation: How they are shown.
        label: What the images are called.
        seed: Draws the positions.
    """

    network: nn.Module
    read: OutputReader
    images: Images
    order: Tensor
    presentation: Presentation
    label: str
    seed: int

    def batches(self, size: int) -> Iterator[Batch]:
        """Yields the images, so many at a time, in the network's dtype."""
        dtype = floating_dtype(self.network)
        for batch in self.images.read(self.order.split(size), self.presentation):
            yield batch._replace(images=batch.images.to(dtype))


class Looker(Protocol):
    """A way to look at layers."""

    def held(self, site: Site) -> int:
        """Bytes that what is gathered of a layer takes."""

    def look(self, sites: Sequence[Site], tell: Tell) -> Mapping[str, Shown]:
        """Shows the images once.

        Args:
            sites: The layers, with their weights.
            tell: Is told how many images were shown, and how many there are.

        Returns:
            What was gathered, by the layer's name.
        """

    def improve(self, site: Site, shown: Any, new: StructuredLayer) -> None:
        """Changes a replacement that is fitted to a layer's weights, before it is measured.

        Args:
            site: The layer.
            shown: What was gathered of it.
            new: The replacement, changed in place.
        """


@dataclass(frozen=True)
class _Looking:
    """What the ways to look have in common."""

    calibration: Calibration

    def improve(self, site: Site, shown: Any, new: StructuredLayer) -> None:
        """Leaves a replacement as it was fitted; see `Looker`."""


@dataclass(frozen=True)
class LookingAtOutputs(_Looking):
    """Gathers the inputs of layers, see `Inputs`."""

    centred: ClassVar[bool] = False

    def held(self, site: Site) -> int:
        """Bytes that the inputs of a layer take; see `Looker`."""
        return Inputs.held(plain(site))

    def look(self, sites: Sequence[Site], tell: Tell) -> Mapping[str, Inputs]:
        """Shows the images once; see `Looker`."""
        about = self.calibration
        found = {site.name: Inputs(plain(site), POSITIONS, centred=self.centred) for site in sites}
        generator = torch.Generator().manual_seed(about.seed)
        done = 0
        for batch in about.batches(BATCH):

            def keep(name: str, x: Tensor, _output: Tensor, shown: int = len(batch.images)) -> None:
                found[name].add(x, shown, generator)

            with torch.no_grad(), _watched(about.network, sites, keep):
                about.network(batch.images)
            done += len(batch.images)
            tell(done, len(about.order))
        return found


@dataclass(frozen=True)
class LookingAtRecovered(LookingAtOutputs):
    """Gathers the same about their means; each replacement learns to give the layer's outputs."""

    centred = True

    def held(self, site: Site) -> int:
        """Bytes that the inputs of a layer take, as they are and about their mean; see `Looker`."""
        return 2 * super().held(site)

    def improve(self, site: Site, shown: Inputs, new: StructuredLayer) -> None:
        """Recovers a replacement, as `recover` does on the teacher's inputs; see `Looker`."""
        old = plain(site)
        if shown.moments is not None and distance(new, old) is not None:
            solve(new, old, shown.moments, ITERATIONS)


@dataclass(frozen=True)
class LookingAtFisher(_Looking):
    """Gathers how the loss of each image depends on the outputs of layers, see `Gradients`."""

    def held(self, site: Site) -> int:
        """Bytes that the gradients of a layer take; see `Looker`."""
        return len(self.calibration.order) * Gradients.held(site, plain(site))

    def look(self, sites: Sequence[Site], tell: Tell) -> Mapping[str, Gradients]:
        """Shows the images once, each on its own; see `Looker`."""
        about = self.calibration
        found = {site.name: Gradients(site, plain(site)) for site in sites}
        for number, batch in enumerate(about.batches(1), 1):
            for name, calls in self._calls(sites, batch).items():
                found[name].add(calls)
            tell(number, len(about.order))
        return found

    def _calls(self, sites: Sequence[Site], batch: Batch) -> dict[str, list[tuple[Tensor, Tensor]]]:
        """For each layer its inputs and the gradients by its outputs, for one image."""
        about = self.calibration
        seen: list[tuple[str, Tensor, Tensor]] = []

        def keep(name: str, x: Tensor, output: Tensor) -> None:
            seen.append((name, x.clone(), output))  # a layer behind may work in place

        with torch.enable_grad(), _watched(about.network, sites, keep):
            # Gradients flow through frozen parameters as well, and no leaf is changed in place.
            shown = batch.images.detach().requires_grad_().clone()
            scores = about.read(about.network(shown)).classes
            loss = F.cross_entropy(scores, batch.targets.to(scores.device))
        if not bool(torch.isfinite(loss)):
            raise NetworkError(
                f"The loss on an image of {about.label} is {loss.item()}, so there is no Fisher "
                "information. Look at the weights and at --preprocessing, or take --sensitivity output."
            )
        reached = [output for _, _, output in seen if output.requires_grad]
        slopes: dict[int, Tensor | None] = {}
        if loss.requires_grad and reached:
            found = torch.autograd.grad(loss, reached, allow_unused=True)
            slopes = {id(output): g for output, g in zip(reached, found, strict=True)}
        calls: dict[str, list[tuple[Tensor, Tensor]]] = {site.name: [] for site in sites}
        for name, x, output in seen:
            g = slopes.get(id(output))
            if g is not None:  # else the loss does not depend on it
                calls[name].append((x, g))
        return calls


def plain(site: Site) -> Convolution | nn.Linear:
    """The Linear, or the plain convolution that computes what the layer does."""
    return site.layer if isinstance(site.layer, nn.Linear) else site.convolution


@contextlib.contextmanager
def _watched(
    network: nn.Module, sites: Sequence[Site], keep: Callable[[str, Tensor, Tensor], None]
) -> Iterator[None]:
    """Hands each call of some layers to a function: the layer's name, its inputs and its outputs."""
    network.eval()
    hooks = []
    for site in sites:

        def look(
            _module: nn.Module, given: Any, named: Any, output: Tensor, name: str = site.name
        ) -> Tensor:
            keep(name, (given[0] if given else named["input"]).detach(), output)
            # What follows may change its input in place, and the gradient is one by the outputs.
            return output.clone() if output.requires_grad else output

        hooks.append(network.get_submodule(site.name).register_forward_hook(look, with_kwargs=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
