"""What candidates lose on images: each is fitted to the trained weights, and what it misses is measured.

Each measurement is kept in a file at once, by a hash of all that it depends on. So an interrupted call
goes on, and another budget shows no images again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seclcompress.budget.looking import Looker, Shown
from seclcompress.budget.remembered import default_fits
from seclcompress.budget.sensitivity import distance, spelled, whole_weight
from seclcompress.errors import NetworkError, PlanError
from seclcompress.files import Cache
from seclcompress.observer import Observer
from seclcompress.settings.sensitivity import OnImages
from seclcompress.substitutions import Site, Substitution, SubstitutionConfig

#: What is gathered of several layers at a time takes no more bytes, unless one layer alone does.
HELD = 2**29
#: A layer and what it may become.
Job = tuple[Site, Sequence[tuple[Substitution, SubstitutionConfig]]]
#: The place of a result: the layer's name, and the replacement (None for none at all).
_Place = tuple[str, str | None]


def default_measurements() -> Path:
    """The path `sensitivities.json` beside `fits.json`."""
    return default_fits().with_name("sensitivities.json")


def digest_of(network: nn.Module) -> str:
    """A hash of a network's modules, parameters and buffers."""
    found = hashlib.sha256(str(network).encode())
    for name, tensor in network.state_dict().items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        values = tensor.detach().cpu().contiguous()
        found.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


@dataclass
class Measured:
    """What each candidate misses of what its layer does, in the unit of the measure.

    Attributes:
        measure: The measure.
        missed: By place, what is missed; for no replacement at all, what the layer does.
        found: How many candidates were measured, not known from the file.
    """

    measure: OnImages
    missed: dict[_Place, float] = field(default_factory=dict)
    found: int = 0

    def __call__(self, site: Site, family: Substitution, config: SubstitutionConfig) -> float:
        """What a replacement loses; see `candidates.Sensitivity`.

        By `output` and `recovered` it is the share of the layer's own outputs; by `fisher` the share of
        what a layer does on average, so that it may be more than 1. What comes no nearer than zero keeps
        nothing.
        """
        whole = self.missed[site.name, None]
        missed = min(self.missed[site.name, spelled(family, config)], whole)
        return missed / self._unit(whole) if missed else 0.0

    def _unit(self, whole: float) -> float:
        if self.measure != "fisher":
            return whole
        every = [value for (_, replacement), value in self.missed.items() if replacement is None]
        return math.fsum(every) / len(every)


def measure_candidates(
    measure: OnImages,
    jobs: Sequence[Job],
    looker: Looker,
    images: int,
    about: Mapping[str, Any],
    observer: Observer,
    cache: Path,
) -> Measured:
    """Measures what candidates miss.

    Args:
        measure: The measure, for the keys.
        jobs: The layers with their trained weights, and their candidates.
        looker: Shows images to layers.
        images: How many it shows.
        about: What the results depend on beside a layer and a candidate, as JSON values.
        observer: Receives the progress.
        cache: The file of results.

    Raises:
        NetworkError: If what a layer does on the images is not finite.
        PlanError: If nothing that any of the layers does matters on the images.
    """
    kept: Cache[float] = Cache(cache, _sound, "Measurements")
    result = Measured(measure)
    keys: dict[_Place, str] = {}
    waiting: list[Job] = []
    for site, candidates in jobs:
        places = [(site.name, None), *((site.name, spelled(*one)) for one in candidates)]
        keys.update((place, _key(about, place)) for place in places)
        known = {place: kept.known[keys[place]] for place in places if keys[place] in kept.known}
        result.missed.update(known)
        if len(known) < len(places):
            waiting.append((site, candidates))

    def put(place: _Place, value: float) -> None:
        if not math.isfinite(value):
            raise NetworkError(
                f"What {place[0]} does on these images is not finite ({value}), so nothing can be said "
                "of its replacements. Look at the weights and at --preprocessing."
            )
        result.missed[place] = kept.known[keys[place]] = value
        kept.keep(keys[place])

    total = sum(len(candidates) for _, candidates in jobs)
    parts = list(_parts(waiting, looker))
    for number, part in enumerate(parts, 1):
        which = f" ({number} of {len(parts)} times)" if len(parts) > 1 else ""
        with observer.counting(f"Showing images{which}", images) as tell:
            shown = looker.look([site for site, _ in part], tell)
        done = sum(replacement is not None for _, replacement in result.missed)
        with observer.counting("Measuring candidates", total) as tell:
            for site, candidates in part:
                gathered = shown[site.name]
                for place, value in _measured(site, candidates, gathered, looker, result.missed):
                    put(place, value)
                    if place[1] is not None:
                        result.found += 1
                        tell(done := done + 1, total)
    if jobs and not any(result.missed[site.name, None] for site, _ in jobs):
        raise PlanError(
            f"By --sensitivity {measure}, no layer that may change matters on these images, so there is "
            "nothing to choose by. Take other images or --sensitivity energy."
        )
    return result


def _parts(jobs: Sequence[Job], looker: Looker) -> Iterator[list[Job]]:
    """Splits layers into parts whose gathered numbers fit into memory together."""
    part: list[Job] = []
    held = 0
    for job in jobs:
        needs = looker.held(job[0])
        if part and held + needs > HELD:
            yield part
            part, held = [], 0
        part.append(job)
        held += needs
    if part:
        yield part


def _measured(
    site: Site,
    candidates: Sequence[tuple[Substitution, SubstitutionConfig]],
    shown: Shown,
    looker: Looker,
    known: Mapping[_Place, float],
) -> Iterator[tuple[_Place, float]]:
    """What is not known yet of a layer, one after the other."""
    whole: _Place = (site.name, None)
    if whole not in known:
        yield whole, shown.missed(whole_weight(site).double())
    for family, config in candidates:
        place = (site.name, spelled(family, config))
        if place not in known:
            far = distance(site, family, config, functools.partial(looker.improve, site, shown))
            yield place, known[whole] if far is None else shown.missed(far)


def _key(about: Mapping[str, Any], place: _Place) -> str:
    words = json.dumps({**about, "layer": place[0], "becomes": place[1]}, sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()


def _sound(value: object) -> bool:
    return isinstance(value, float) and 0 <= value < math.inf
