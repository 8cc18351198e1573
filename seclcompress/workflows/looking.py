"""Looking at a network on a data set, once, or before and after something is done to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from seclcompress.data import Data, Images, has_test_images
from seclcompress.networks import check_image_classification
from seclcompress.observer import Observer
from seclcompress.processes import check_device
from seclcompress.resolve import Located
from seclcompress.settings.training import TrainingSettings
from seclcompress.train import Evaluation
from seclcompress.train import evaluate as run_evaluation
from seclcompress.train.evaluation import estimate_from_training_images
from seclcompress.train.outputs import OutputReader, read_outputs
from seclcompress.train.pictures import Pictures
from seclcompress.train.spectra import Spectra
from seclcompress.workflows.held_out import share_of, with_share
from seclcompress.workflows.opening import open_data
from seclcompress.workflows.pictures import draw_pictures


def evaluated(
    network: nn.Module,
    data: Data,
    read: OutputReader,
    settings: TrainingSettings,
    whose: str,
    observer: Observer,
    *,
    images: Images | None = None,
    by_class: bool = False,
) -> Evaluation:
    """Accuracy and loss on a data set's test images, in torch or in a file's runtime.

    Args:
        network: The network, on the device of the settings.
        data: The data set.
        read: Finds class scores in the network's outputs.
        settings: Batch size, device and workers are used.
        whose: What is evaluated, for the progress: "the teacher", "on digits".
        observer: Receives the progress.
        images: Others of its images, such as held-out ones; None for the test images.
        by_class: Whether to record which class was answered for images of which class.
    """
    shown = data.test if images is None else images
    with observer.counting(f"Evaluating {whose}", len(shown)) as on_batch:
        return run_evaluation(
            network,
            data,
            images=images,
            read=read,
            batch_size=settings.batch_size,
            device=settings.device,
            workers=settings.workers,
            by_class=by_class,
            on_batch=on_batch,
        )


@dataclass(frozen=True)
class Looking:
    """Images to look at a network with.

    Attributes:
        name: The data set's name.
        images: The images.
        read: Finds class scores in the network's outputs.
        settings: Those in `settings.training.EVALUATION` are used.
        observer: Receives the progress.
    """

    name: str
    images: Data
    read: OutputReader
    settings: TrainingSettings
    observer: Observer

    def accuracy(self, network: nn.Module) -> float:
        """A network's accuracy in percent of the test images."""
        network.to(self.settings.device)
        whose = f"on {self.name}"
        return evaluated(
            network, self.images, self.read, self.settings, whose, self.observer
        ).accuracy

    def spectra(self, number: int) -> Spectra:
        """What looks at a network with some training images, for `slim --method svd`.

        Args:
            number: How many images.
        """
        settings, images = self.settings, self.images
        order, presentation = draw_pictures(images, number, "--pictures", settings, self.observer)
        pictures = Pictures(images.train, order.split(settings.batch_size), presentation)
        shown = images.train.subset(order)

        def accuracy(network: nn.Module) -> float:
            return run_evaluation(
                network,
                images,
                images=shown,
                read=self.read,
                batch_size=settings.batch_size,
                device=settings.device,
                workers=settings.workers,
            ).accuracy

        return Spectra(pictures, accuracy)

    def estimate_batch_norm(self, network: nn.Module) -> None:
        """Estimates batch norm's statistics anew from training images; the network is changed."""
        with self.observer.working("Estimating batch norm's statistics anew …"):
            estimate_from_training_images(
                network,
                self.images,
                self.settings.batch_size,
                device=self.settings.device,
                workers=self.settings.workers,
            )


def look(
    located: Located,
    network: nn.Module,
    data: str,
    settings: TrainingSettings,
    *,
    draws: bool = False,
    data_dir: Path | None,
    download: bool,
    observer: Observer,
) -> Looking:
    """Opens the images of a data set for a network that has its weights.

    Args:
        located: Where the network comes from.
        network: The network.
        data: The data set's name.
        settings: Those about images are used.
        draws: As in `open_to_look`.
        data_dir: The folder of torchvision's data sets.
        download: Whether missing data may be downloaded.
        observer: Receives reports.

    Raises:
        SeclcompressError: If the data cannot be opened, or the network is no image classifier.
    """
    images, settings = open_to_look(
        located,
        data,
        settings,
        "slim --data",
        draws=draws,
        data_dir=data_dir,
        download=download,
        observer=observer,
    )
    read = read_outputs(network, images, located.label, observer)
    return Looking(data, images, read, settings, observer)


def open_to_look(
    located: Located,
    data: str,
    settings: TrainingSettings,
    command: str,
    *,
    draws: bool = False,
    data_dir: Path | None,
    download: bool,
    observer: Observer,
) -> tuple[Data, TrainingSettings]:
    """Opens the images of a data set for a network with trained weights, to look and not to train.

    Args:
        located: Where the network comes from.
        data: The data set's name.
        settings: Those about images are used.
        command: What looks at images, for the message to a network of another kind.
        draws: Whether training images decide something, so that a share of them can be held out of that.
        data_dir: The folder of torchvision's data sets.
        download: Whether missing data may be downloaded.
        observer: Receives reports.

    Returns:
        The images, and the settings with the share that is their test.

    Raises:
        SeclcompressError: If the data cannot be opened, or the network is no image classifier.
    """
    check_device(settings.device)
    if not (draws and has_test_images(data)):
        settings = with_share(settings, located.label, share_of(located.config), data, observer)
    check_image_classification(located.network, command)
    images = open_data(
        data,
        located,
        settings,
        trained=True,
        data_dir=data_dir,
        download=download,
        observer=observer,
    )
    return images, settings
