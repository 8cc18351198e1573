"""Losses of fits that took long, kept in a file: another budget for the same weights waits for none."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from seclcompress.budget.candidates import Sensitivity
from seclcompress.errors import ArtefactError, SeclcompressWarning
from seclcompress.files import write_file
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
        self._cache: Path | None = cache
        self._known = _read(cache)

    def __call__(self, site: Site, family: Substitution, config: SubstitutionConfig) -> float:
        """What the replacement loses; see `candidates.Sensitivity`."""
        key = _key(site, family, config)
        if key not in self._known:
            before = time.perf_counter()
            self._known[key] = self._sensitivity(site, family, config)
            self.found += 1
            if time.perf_counter() - before > _LONG:
                self._write(key)
        return self._known[key]

    def _write(self, key: str) -> None:
        if self._cache is None:
            return
        # Another process may have written meanwhile.
        known = {**_read(self._cache), key: self._known[key]}
        try:
            write_file(self._cache, json.dumps(known, indent=0, sort_keys=True).encode())
        except ArtefactError as error:  # the program works without it
            warnings.warn(f"Fits are not remembered: {error}", SeclcompressWarning, 2)
            self._cache = None


def _read(path: Path) -> dict[str, float]:
    """Reads what is known. A damaged file counts as empty."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {key: v for key, v in content.items() if isinstance(v, float) and 0 <= v <= 1}


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
