"""What an export has given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from seclcompress.export.content import Content
from seclcompress.export.verify import Verified
from seclcompress.train import Evaluation


@dataclass(frozen=True)
class Exported:
    """An exported network.

    Attributes:
        path: The file that was named.
        format: Its format.
        files: The sizes of all files in bytes, by name.
        parameters: Parameters of the network before the export.
        content: What the file says of itself.
        verified: What was found when the file was run.
        before: Accuracy and loss of the network on the data's test images; None without data.
        after: Those of the file.
        notes: What a person should know of the file.
    """

    path: Path
    format: str
    files: Mapping[str, int]
    parameters: int
    content: Content
    verified: Verified
    before: Evaluation | None
    after: Evaluation | None
    notes: Sequence[str]

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(self.files.values())
