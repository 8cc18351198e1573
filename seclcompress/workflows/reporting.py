"""Writes a page on saved folders, to show to somebody else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from seclcompress import artefact, extras, hub
from seclcompress import export as formats
from seclcompress.errors import ArtefactError, UsageError, WeightsError
from seclcompress.networks.weights import stored_values
from seclcompress.observer import Logging, Observer
from seclcompress.report.page import Facts, StoredFile, Timed, headline, page_html
from seclcompress.settings.training import TrainingSettings
from seclcompress.train import read_history
from seclcompress.workflows.benching import bench as measure
from seclcompress.workflows.counting import count
from seclcompress.workflows.evaluating import evaluate
from seclcompress.workflows.output_files import check_file, write_one

_ENDINGS = (".html", ".htm")


@dataclass(frozen=True)
class Reported:
    """A page that was written.

    Attributes:
        output: The file.
        headlines: For each folder the sentence that a person would repeat.
        facts: What the page shows of each folder.
    """

    output: Path
    headlines: tuple[str, ...]
    facts: tuple[Facts, ...]


def report(
    folders: Sequence[str | Path],
    output: str | Path,
    *,
    data: str | None = None,
    settings: TrainingSettings | None = None,
    bench: bool = False,
    data_dir: Path | None = None,
    factory: str | None = None,
    download: bool = False,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> Reported:
    """Writes one self-contained HTML page on one folder, or on several side by side.

    Args:
        folders: Folders that this program wrote, or repositories of the Hub (`hf://OWNER/NAME`).
        output: The file to write, which ends in .html.
        data: The data set to evaluate each network on, for accuracies by class; None for what the
            folders have.
        settings: Of the training settings, those in `settings.training.EVALUATION` are used with data.
        bench: Whether to time each network and its variants on this machine.
        data_dir: The folder of torchvision's data sets.
        factory: The factory to trust if a saved folder was built by it: its code will run.
        download: Whether missing data, and repositories of the Hub, may be downloaded.
        overwrite: Whether an existing page may be replaced.
        observer: Receives reports of what happens.

    Raises:
        UsageError: If there is no folder, the output is not called .html, or matplotlib is not
            installed.
        ArtefactError: If a folder cannot be read or is damaged, or the output is taken.
        SeclcompressError: If an evaluation or a timing goes wrong; the message says what.
    """
    output, observer = Path(output), observer or Logging()
    if not folders:
        raise UsageError("A report needs at least one folder.")
    if output.suffix.lower() not in _ENDINGS:
        raise UsageError(f"-o {output}: the page is a file that ends in .html.")
    extras.need("report", "pictures", "matplotlib")
    _check_output(output, overwrite)
    facts = []
    for folder in (each if hub.is_reference(each) else Path(each) for each in folders):
        known = _gather(folder, factory, download)
        if data is not None:
            evaluation = evaluate(
                folder,
                data=data,
                settings=settings,
                data_dir=data_dir,
                factory=factory,
                download=download,
                by_class=True,
                observer=observer,
            )
            known = replace(known, data=data, evaluation=evaluation)
        if bench:
            known = replace(known, timed=_time(folder, factory, download, observer))
        facts.append(known)
    version = artefact.library_versions()["seclcompress"]
    with observer.working("Drawing the page …"):
        page = page_html(facts, version).encode("utf-8", "replace")
    _check_output(output, overwrite)  # a page may have come in the meantime
    write_one(output, page)
    return Reported(output, tuple(map(headline, facts)), tuple(facts))


def _gather(folder: str | Path, factory: str | None, download: bool) -> Facts:
    """Everything that a folder has, without data and without a clock."""
    counted = count(folder, factory=factory, download=download)
    config, place = counted.planned.located.config, counted.planned.located.folder
    if config is None or place is None:  # a folder always has both
        raise ArtefactError(f"{folder} has no {artefact.CONFIG}.")
    return Facts(
        str(folder),
        config,
        counted.count,
        counted.plan,
        converted=counted.planned.saved,
        history=read_history(place),
        files=_stored(place),
    )


def _stored(folder: Path) -> list[StoredFile]:
    """The files of weights in a folder, by name."""
    found = []
    try:
        for path in sorted(folder.iterdir()):
            format = formats.of_file(path)
            if format is None:
                continue
            size = 0
            for file in format.files(path):
                artefact.check_inside(file, folder)
                size += file.stat().st_size
            values = stored_values(path) if path.suffix == ".safetensors" else {}
            found.append(StoredFile(path.name, format.title, values, size))
    except WeightsError as error:
        raise ArtefactError(str(error)) from error
    except OSError as error:
        raise ArtefactError(f"Cannot read {folder}: {error.strerror or error}.") from error
    return found


def _time(folder: str | Path, factory: str | None, download: bool, observer: Observer) -> Timed:
    timed = measure(folder, factory=factory, download=download, observer=observer)
    layout = timed.measured["auto" if "auto" in timed.measured else "original"].layout
    return Timed(timed.machine, timed.plans[layout], timed.measured)


def _check_output(output: Path, overwrite: bool) -> None:
    check_file(output, overwrite, replaces=lambda path: path.suffix.lower() in _ENDINGS)
