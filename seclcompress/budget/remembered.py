"""Losses of fits that took long, kept in a file: another budget for the same weights waits for none."""

from __future__ import annotations

import hashlib
import json
import time
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from seclcompress.budget.candidates import Sensitivity
from seclcompress.files import Cache
from seclcompress.measure import default_cache
from seclcompress.substitutions import Site, Substitution, SubstitutionConfig

#: A fit that takes less is not worth a line in the file. (Closed forms take some milliseconds.)
_LONG = 0.1  # seconds


def default_fits() -> Path:
    """The path `fits.json` beside the timings of `measure.default_cache`."""
    return default_cache().with_name("fits.json")


class Remembered:
    """A sensitivity that looks into a file first, by a hash of the weights and of all else that counts.

    Args:
        sensitivity: Says what a replacement loses; a function of the layer's weights.
        cache: The file.

    Attributes:
        found: Number of losses that were computed and not found in the file.
    """

    def __init__(self, sensitivity: Sensitivity, cache: Path) -> None:
        self.found = 0
        self._sensitivity = sensitivity
        self._cache: Cache[float] = Cache(cache, _sound, "Fits")

    def __call__(self, site: Site, family: Substitution, config: SubstitutionConfig) -> float:
        """What the replacement loses; see `candidates.Sensitivity`."""
        key, known = _key(site, family, config), self._cache.known
        if key not in known:
            before = time.perf_counter()
            known[key] = self._sensitivity(site, family, config)
            self.found += 1
            if time.perf_counter() - before > _LONG:
                self._cache.keep(key)
        return known[key]


def _sound(value: object) -> bool:
    return isinstance(value, float) and 0 <= value <= 1


def _key(site: Site, family: Substitution, config: SubstitutionConfig) -> str:
    """A hash of everything that influences a fit."""
    weight = site.convolution.weight
    assert isinstance(weight, Tensor)
    about = {
        "torch": torch.__version__,
        "seclcompress": metadata.version("seclcompress"),
        "layer": f"{type(site.layer).__name__} {site.convolution.extra_repr()} {weight.dtype}",
        "substitution": family.name,
        "config": config.model_dump(mode="json"),
    }
    values = weight.detach().double().cpu().contiguous().numpy().tobytes()
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode() + values).hexdigest()
