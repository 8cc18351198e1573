"""Measures what was hoped to tell the right widths of a network's layers."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from seclcompress import extras
from seclcompress.errors import NetworkError, UsageError
from seclcompress.networks import check_image_classification
from seclcompress.observer import Logging, Observer, after_checks
from seclcompress.plan.layers import matches
from seclcompress.processes import check_device
from seclcompress.report.widths_picture import MOST_LAYERS, widths_png
from seclcompress.resolve import Located
from seclcompress.settings.training import TrainingSettings
from seclcompress.trace import floating_dtype
from seclcompress.train.pictures import Pictures
from seclcompress.widths.measure import gather, measured
from seclcompress.widths.result import Widths
from seclcompress.widths.sites import Site, find_sites
from seclcompress.workflows.held_out import share_of, with_share
from seclcompress.workflows.locating import (
    Network,
    find,
    tell_input_size,
    tell_random,
    tell_weights,
)
from seclcompress.workflows.opening import open_data, tell_left_out
from seclcompress.workflows.output_files import check_file, write_one
from seclcompress.workflows.pictures import draw_pictures
from seclcompress.workflows.sizing import choose_input_size


def widths(
    network: Network,
    *,
    data: str,
    images: int = 1000,
    layers: Sequence[str] = (),
    picture: str | Path | None = None,
    settings: TrainingSettings | None = None,
    weights: str | None = None,
    weights_key: str | None = None,
    num_classes: int | None = None,
    input_size: tuple[int, ...] | None = None,
    data_dir: Path | None = None,
    factory: str | None = None,
    download: bool = False,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> Widths:
    """Measures statistics of a network's hidden layers that were hoped to tell their right widths.

    They do not tell it: docs/widths.md says what was found about each. One pass over some training
    images gathers them; no label is used and no activation is kept.

    Args:
        network: A network as on the command line, a saved folder, or a located network. Converted
            and narrowed ones are welcome.
        data: The name of a data set. Its training images are shown, never its test images.
        images: How many of them, drawn by the seed.
        layers: Patterns of layers, or of modules around them; empty for all hidden layers.
        picture: A PNG file to write; None for none.
        settings: Of the training settings, `settings.training.EVALUATION` and the seed are used.
        weights: A weights file, or torchvision's name of published weights.
        weights_key: Where in the file the weights stand, such as `model_ema`; None to look for them.
        num_classes: The number of outputs of the classifier.
        input_size: (channels, *spatial); by default the folder's, or the network's usual size.
        data_dir: The folder of torchvision's data sets.
        factory: The factory to trust if a saved folder was built by it: its code will run.
        download: Whether published weights, data, or a repository of the Hub may be downloaded.
        overwrite: Whether an existing picture may be replaced.
        observer: Receives reports of what happens.

    Returns:
        The statistics of each layer, in running order. What cannot be computed is None.

    Raises:
        UsageError: If a package is missing, a pattern matches no layer, a picture would have too many
            layers, or an option is out of range.
        NetworkError: If the network has no hidden layers, or cannot run on such images.
        SeclcompressError: If anything else goes wrong; nothing is written.
    """
    settings, observer = settings or TrainingSettings(), observer or Logging()
    extras.need("widths", "widths", "scipy")
    if images < 2:
        raise UsageError(f"--images {images}: it takes 2 or more, as one image has no variance.")
    path = None if picture is None else Path(picture)
    if path is not None:
        if path.suffix.lower() != ".png":
            raise UsageError(f"--picture {path}: the file ends in .png.")
        extras.need("widths --picture", "pictures", "matplotlib")
        check_file(path, overwrite, replaces=lambda _: False)
    check_device(settings.device)
    with after_checks(observer) as checked:
        input_size = choose_input_size(
            network,
            data,
            input_size,
            weights=weights,
            validation=settings.validation,
            train=False,
            observer=checked,
        )
        located = find(
            network,
            weights=weights,
            weights_key=weights_key,
            num_classes=num_classes,
            input_size=input_size,
            factory=factory,
            download=download,
        )
        settings = with_share(settings, located.label, share_of(located.config), data, checked)
        check_image_classification(located.network, "widths")
        tell_input_size(located, checked)
        shown = open_data(
            data,
            _Unlabelled(located),
            settings.model_copy(update={"classes_by_order": True}),
            trained=True,
            data_dir=data_dir,
            download=download,
            observer=checked,
        )
        built, loaded = located.load(seed=settings.seed)
        tell_weights(loaded, checked)
        tell_random(located, checked)
        order, presentation = draw_pictures(shown, images, "--images", settings, checked)
        built.to(settings.device).eval()
        dtype = floating_dtype(built)
        image = next(Pictures(shown.train, [order[:1]], presentation).read(dtype))
        sites = _chosen(find_sites(built, image), layers, located.label)
        if path is not None and len(sites) > MOST_LAYERS:
            raise UsageError(
                f"--picture {path}: {located.label} has {len(sites)} hidden layers, and a picture has "
                f"room for {MOST_LAYERS}. Choose some with --layers."
            )
    with observer.counting(f"Looking at {data}", len(order)) as tell:
        pictures = Pictures(shown.train, order.split(settings.batch_size), presentation)
        gathered = gather(built, sites, _counted(pictures.read(dtype), len(order), tell))
    families = _families(located)
    done = []
    with observer.counting("Computing statistics", len(sites)) as tell:
        for number, site in enumerate(sites, 1):
            one = measured(site, gathered[site.name])
            done.append(replace(one, kind=families.get(site.name, one.kind)))
            tell(number, len(sites))
    found = Widths(located.label, data, len(order), tuple(done))
    if path is not None:
        write_one(path, widths_png(found))
        observer.message(f"Wrote {path}.")
        found = replace(found, picture=path)
    tell_left_out(shown)
    return found


def _families(located: Located) -> dict[str, str]:
    """The family of each layer that was rewritten, by the layer's name."""
    plan = None if located.config is None else located.config.plan
    rewritten = [] if plan is None else plan.rewritten
    return {layer.name: layer.substitution for layer in rewritten if layer.substitution is not None}


class _Unlabelled:
    """A network that sees images whose classes do not matter, because no label is used."""

    def __init__(self, located: Located) -> None:
        self.label, self.input_size = located.label, located.input_size
        self.folder, self.preprocessing = located.folder, located.preprocessing
        self.classes: list[str] | None = None


def _counted(
    batches: Iterable[Tensor], total: int, tell: Callable[[int, int], object]
) -> Iterator[Tensor]:
    """Yields batches, and tells how many of all images were shown."""
    seen = 0
    for batch in batches:
        yield batch
        seen += len(batch)
        tell(seen, total)


def _chosen(sites: Sequence[Site], patterns: Sequence[str], label: str) -> list[Site]:
    """The layers that patterns name, all without any.

    Raises:
        NetworkError: If there are no hidden layers.
        UsageError: If a pattern matches none.
    """
    if not sites:
        raise NetworkError(
            f"{label} has no hidden layer: no convolution or Linear whose output is not the network's."
        )
    names = [site.name for site in sites]
    for pattern in patterns:
        if not any(matches(pattern, name) for name in names):
            near = difflib.get_close_matches(pattern, names, cutoff=0.5) or names[:3]
            raise UsageError(
                f"--layers {pattern!r} matches none of the {len(names)} hidden layers of {label}. There "
                f"are, for instance: {', '.join(near)}."
            )
    if not patterns:
        return list(sites)
    return [site for site in sites if any(matches(pattern, site.name) for pattern in patterns)]
