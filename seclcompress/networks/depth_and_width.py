"""Names of networks for 32×32 images by depth and width: `wrn40_2`, `wrn16_1_bottleneck`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from seclcompress.errors import NetworkError

_NUMBERS = re.compile(r"(\d{1,4})_(\d{1,3}(?:\.\d{1,3})?)")
#: A limit, so that a name in a stranger's file cannot keep a machine busy. The deepest published
#: residual network has 1202 layers.
_DEEPEST = 1204


@dataclass(frozen=True)
class Family:
    """Networks with names of the form `<prefix><depth>_<width><suffix>`.

    Three groups have 16k, 32k and 64k channels for the width k, and the depth is 6n + 4.

    Attributes:
        prefix: What stands before the depth.
        kind: Such a network in a message, with its article.
        suffix: What stands behind the width.
    """

    prefix: str
    kind: str
    suffix: str = ""

    def knows(self, name: str) -> bool:
        """Whether a name has the family's form; the network need not exist."""
        return self._match(name) is not None

    def depth_and_width(self, name: str) -> tuple[int, float] | None:
        """Reads the depth and the width in a name.

        Returns:
            None if the name is not of the family's form.

        Raises:
            NetworkError: If the depth is not 6n + 4 with n ≥ 1 or is too large, or the width is 0.
        """
        match = self._match(name)
        if match is None:
            return None
        depth, width = int(match[1]), float(match[2])
        if depth < 10 or (depth - 4) % 6 or round(16 * width) < 1:
            lower = max(10, (depth - 4) // 6 * 6 + 4)
            raise NetworkError(
                f"There is no {name}: {self.kind} has a depth of 6n + 4 (10, 16, 22, 28, "
                f"…) and a width of at least 1/16. Did you mean "
                f"{self._name(lower, width or 1)}?"
            )
        if depth > _DEEPEST:
            raise NetworkError(
                f"There is no {name} here: the deepest is {self._name(_DEEPEST, width)}."
            )
        return depth, width

    def _name(self, depth: int, width: float) -> str:
        return f"{self.prefix}{depth}_{width:g}{self.suffix}"

    def _match(self, name: str) -> re.Match[str] | None:
        if not (name.startswith(self.prefix) and name.endswith(self.suffix)):
            return None
        return _NUMBERS.fullmatch(name, len(self.prefix), len(name) - len(self.suffix))
