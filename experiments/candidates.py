"""Which structured maps are compared: every registered affine family, over the options that size it.

No family is named here. A sweep belongs to each family that has all of its options.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, get_args

from torch import nn

from seclcompress import substitutions
from seclcompress.errors import UsageError
from seclcompress.substitutions import Site, Substitution, SubstitutionConfig

_DEPTHS = (1, 2, 4, 8, 16, 32)
_RATIOS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
#: A map may have so many times the numbers of a dense matrix: the research log has such stacks.
_LARGEST = 4


class Every:
    """Stands for all values of an option that names one of a few."""


@dataclass(frozen=True)
class Sweep:
    """Values of some options, in all combinations.

    Attributes:
        curve: The name of what the points lie on, with options in braces; behind the family's name.
        options: The values of each option.
    """

    curve: str
    options: Mapping[str, tuple[Any, ...] | type[Every]]


SWEEPS = (
    Sweep("{permutation}", {"depth": _DEPTHS, "permutation": Every}),
    Sweep("blocks, depth {depth}", {"depth": (1, 2), "block": (2, 4, 8, 16)}),
    Sweep("{layers} layers", {"layers": (1, 2), "groups": (2, 4, 8, 16)}),
    Sweep("", {"form": Every}),
    Sweep("", {"ratio": _RATIOS}),
)


@dataclass(frozen=True)
class Candidate:
    """One structured map.

    Attributes:
        curve: The curve that it is a point of.
        family: The family's name.
        options: Its options, as on the command line.
        parameters: How many numbers it has, without a bias.
    """

    curve: str
    family: str
    options: Mapping[str, Any] = field(default_factory=dict)
    parameters: int = 0

    @property
    def label(self) -> str:
        """The family and its options."""
        return " ".join([self.family, *(f"{name}={value}" for name, value in self.options.items())])


def affine_families() -> list[Substitution]:
    """The registered families whose replacements are linear maps, by name."""
    families = [substitutions.get(name) for name in substitutions.names()]
    return [family for family in families if family.affine and "linear" in family.kinds]


def candidates(size: int) -> list[Candidate]:
    """All maps that are compared for matrices of one size.

    Args:
        size: The matrix's side N.

    Returns:
        Each map once. What a family refuses is left out.
    """
    site = Site(nn.Linear(size, size, bias=False, device="meta"))
    found: dict[tuple[Any, ...], Candidate] = {}
    for family in affine_families():
        for sweep, options in _swept(family):
            config = _accepted(family, options, site)
            if config is None:
                continue
            parameters = family.cost(site, config).parameters
            curve = " ".join([family.name, *sweep.curve.format(**options).split()])
            # Different ratios may allow the same size; other options differ in more than that.
            same = parameters if "ratio" in options else str(config)
            if parameters <= _LARGEST * size**2:
                one = Candidate(curve, family.name, options, parameters)
                found.setdefault((curve, same), one)
    return list(found.values())


def _swept(family: Substitution) -> Iterator[tuple[Sweep, dict[str, Any]]]:
    """The sweeps that a family has the options for, or its defaults."""
    known = family.Config.model_fields
    fitting = [sweep for sweep in SWEEPS if sweep.options.keys() <= known.keys()]
    for sweep in fitting or [Sweep("", {})]:
        values = [
            get_args(known[name].annotation) if given is Every else given
            for name, given in sweep.options.items()
        ]
        for chosen in product(*values):  # type: ignore[arg-type]
            yield sweep, dict(zip(sweep.options, chosen, strict=True))


def _accepted(
    family: Substitution, options: Mapping[str, Any], site: Site
) -> SubstitutionConfig | None:
    try:
        config = family.config(options)
    except UsageError:  # options that exclude each other
        return None
    return config if family.refuse(site, config) is None else None
