"""Opens the images on which it is measured what layers lose, and measures it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seclcompress import artefact
from seclcompress.budget.looking import (
    BATCH,
    ITERATIONS,
    POSITIONS,
    Calibration,
    Looker,
    LookingAtFisher,
    LookingAtOutputs,
    LookingAtRecovered,
)
from seclcompress.budget.measured import (
    Job,
    Measured,
    default_measurements,
    digest_of,
    measure_candidates,
)
from seclcompress.data import Data, Presentation
from seclcompress.errors import UsageError
from seclcompress.networks import sources
from seclcompress.observer import Observer, after_checks
from seclcompress.resolve import Located
from seclcompress.settings.sensitivity import OnImages, SensitivityOptions
from seclcompress.settings.training import TrainingSettings
from seclcompress.trace import floating_dtype, whole_copy
from seclcompress.train.outputs import read_outputs
from seclcompress.workflows.locating import Network, find_original, tell_input_size
from seclcompress.workflows.looking import open_to_look
from seclcompress.workflows.opening import tell_left_out
from seclcompress.workflows.pictures import draw_pictures
from seclcompress.workflows.sizing import choose_input_size

#: Another number makes results of earlier ways to measure unknown.
_METHOD = 1
_LOOKERS: dict[OnImages, Callable[[Calibration], Looker]] = {
    "output": LookingAtOutputs,
    "recovered": LookingAtRecovered,
    "fisher": LookingAtFisher,
}


@dataclass(frozen=True)
class Measuring:
    """Images that say what layers lose.

    Attributes:
        measure: What is measured.
        data: The data set.
        order: The indices of the training images that are shown.
        presentation: How they are shown.
        settings: Those in `settings.training.EVALUATION` and the seed are used.
    """

    measure: OnImages
    data: Data
    order: Tensor
    presentation: Presentation
    settings: TrainingSettings

    @property
    def images(self) -> int:
        """How many images are shown."""
        return len(self.order)

    def run(
        self, located: Located, network: nn.Module, jobs: Sequence[Job], observer: Observer
    ) -> Measured:
        """Measures what candidates miss.

        Args:
            located: Where the network comes from.
            network: It, with trained weights, on the CPU.
            jobs: Its layers and their candidates.
            observer: Receives the progress, and how much was known already.

        Raises:
            DataError: If an image cannot be read, or the network has no class scores.
            NetworkError: If what a layer does on the images is not finite.
            PlanError: If nothing that any of the layers does matters on the images.
        """
        settings = self.settings
        read = read_outputs(network, self.data, located.label, observer)
        on_cpu = settings.device == "cpu"
        shown = Calibration(
            network if on_cpu else whole_copy(network).to(settings.device),
            read,
            self.data.train,
            self.order,
            self.presentation,
            self.data.name,
            settings.seed,
        )
        with observer.working("Looking whether this was measured before …"):
            about = self._about(located, network, shown)
        cache = default_measurements()
        looker = _LOOKERS[self.measure](shown)
        found = measure_candidates(self.measure, jobs, looker, self.images, about, observer, cache)
        number = sum(len(candidates) for _, candidates in jobs)
        observer.message(
            f"Measured {found.found} of {number} candidates on {self.images:,} training images of "
            f"{self.data.name}; the others were known ({cache})."
        )
        tell_left_out(self.data)
        return found

    def _about(self, located: Located, network: nn.Module, shown: Calibration) -> dict[str, Any]:
        """Everything that decides what is measured, but for layer and candidate."""
        pixels = hashlib.sha256()
        for batch in shown.batches(BATCH):
            pixels.update(batch.images.float().cpu().contiguous().numpy().tobytes())
            pixels.update(batch.targets.cpu().contiguous().numpy().tobytes())
        about: dict[str, Any] = {
            "method": _METHOD,
            "measure": self.measure,
            "positions": POSITIONS,
            **({"iterations": ITERATIONS} if self.measure == "recovered" else {}),
            "seed": shown.seed,
            "network": digest_of(network),
            "spec": located.network.model_dump(mode="json"),
            "images": pixels.hexdigest(),
            **artefact.library_versions(),
        }
        if sources.get(located.network.source).runs_foreign_code:
            # A person's code may have changed, and its modules not.
            first = next(shown.batches(1)).images.cpu().to(floating_dtype(network))
            with torch.no_grad():
                scores = shown.read(network.cpu().eval()(first)).classes
            about["answers"] = scores.double().tolist()
        return about


def find_with_images(
    network: Network,
    data: str | None,
    options: SensitivityOptions,
    settings: TrainingSettings | None,
    *,
    data_dir: Path | None,
    weights: str | None,
    input_size: tuple[int, ...] | None,
    download: bool,
    observer: Observer,
    **given: Any,
) -> tuple[Located, Measuring | None]:
    """Finds a network that is to be planned, and opens the images that say what its layers lose.

    Args:
        network: The network as the caller named it.
        data: The data set's name; None for no images.
        options: What is measured, and on how many images.
        settings: Those about images are used.
        data_dir: The folder of torchvision's data sets.
        weights: As in `locating.find`.
        input_size: As in `locating.find`.
        download: Whether published weights, data, or a repository of the Hub may be downloaded.
        observer: Receives what was assumed, when everything is found.
        given: Further options of `locating.find`.

    Returns:
        The network, and the images; None where the weights or shapes alone say what is lost.

    Raises:
        UsageError: If the options contradict each other, or the network has no trained weights that
            they are about.
        SeclcompressError: If the network cannot be found or the data cannot be opened.
    """
    measure = options.on_images(data=data is not None)
    settings = settings or TrainingSettings()
    with after_checks(observer) as checked:
        if data is not None:
            input_size = choose_input_size(
                network,
                data,
                input_size,
                weights=weights,
                validation=settings.validation,
                train=False,
                observer=checked,
            )
        located = find_original(
            network, "Plan", weights=weights, input_size=input_size, download=download, **given
        )
        tell_input_size(located, checked)
        trained = located.folder is not None or located.weights is not None
        if not trained and (data is not None or options.sensitivity is not None):
            flag = "--data" if data is not None else f"--sensitivity {options.sensitivity}"
            raise UsageError(
                f"{flag} is about what trained layers do, and no trained weights of {located.label} are "
                f"given: add {located.weights_option}, or name a saved folder."
            )
        if data is None or measure is None:
            return located, None
        opened = _open(located, data, options, settings, data_dir, download, checked)
    return located, Measuring(measure, *opened)


def _open(
    located: Located,
    data: str,
    options: SensitivityOptions,
    settings: TrainingSettings,
    data_dir: Path | None,
    download: bool,
    observer: Observer,
) -> tuple[Data, Tensor, Presentation, TrainingSettings]:
    """Opens the images, and says which of them are shown, how, and by which settings."""
    opened, settings = open_to_look(
        located,
        data,
        settings,
        "plan --data",
        draws=True,
        data_dir=data_dir,
        download=download,
        observer=observer,
    )
    order, presentation = draw_pictures(opened, options.images, "--images", settings, observer)
    return opened, order, presentation, settings
