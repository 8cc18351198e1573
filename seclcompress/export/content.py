"""What an exported file says of itself beside the network: classes, preprocessing, sizes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from seclcompress.artefact import library_versions
from seclcompress.errors import ArtefactError, describe_validation_error
from seclcompress.preprocessing import Preprocessing

#: The name under which a file holds all of it, as JSON.
KEY = "seclcompress"
#: How a pixel becomes an input, for people who read the file's metadata.
_HOW = "(pixel / 255 - mean) / std, for each channel"
#: What a file with stacks says of what it needs.
LIBRARY = "libseclcompress_onnxruntime.so, at seclcompress.onnxruntime_library()"
_COLOURS = {1: "grey", 3: "RGB"}


class Content(BaseModel):
    """What is known of an exported network.

    Attributes:
        network: The network's name, or that of its folder.
        input_size: (channels, *spatial).
        batch: The number of images that the file takes at once; None for any number.
        parameters: Parameters of the network before the export.
        weights: `dense` or `factors`.
        dtype: `float32`, `float16` or `int8`.
        stacks: The number of layers that run in our operator for stacks. A file that has some needs the
            library of `seclcompress.onnxruntime_library()`.
        classes: The names of the classes in the order of the scores, if they are known.
        preprocessing: How images become inputs, if it is known.
        data: The data that a share was held out of in training, a folder by its own name; None if there
            was none.
        validation: That share.
        versions: The versions of the programs that wrote the file.
    """

    model_config = ConfigDict(extra="forbid")

    network: str
    input_size: tuple[PositiveInt, ...] = Field(min_length=1, max_length=5)
    batch: PositiveInt | None = None
    parameters: int = Field(ge=0)
    weights: str = "dense"
    dtype: str = "float32"
    stacks: int = Field(default=0, ge=0)
    classes: list[str] | None = None
    preprocessing: Preprocessing | None = None
    data: str | None = None
    validation: float | None = Field(default=None, gt=0, lt=1)
    versions: dict[str, str] = Field(default_factory=library_versions)

    def metadata(self) -> dict[str, str]:
        """Strings by name for a file's metadata: all as one JSON, and what people look for alone."""
        found = {KEY: self.model_dump_json(), "network": self.network}
        if self.stacks:
            found["library"] = LIBRARY
        if self.classes:
            found["classes"] = json.dumps(self.classes, ensure_ascii=False)
        shown: dict[str, Any] = {"size": self.input_size}
        if self.input_size[0] in _COLOURS:
            shown["channels"] = _COLOURS[self.input_size[0]]
        if self.preprocessing is not None:
            shown |= {"values": _HOW, **self.preprocessing.model_dump(mode="json")}
        return found | {"preprocessing": json.dumps(shown)}


def read_content(metadata: Mapping[str, str], where: str) -> Content:
    """What a file says of itself.

    Args:
        metadata: The file's metadata.
        where: The file's name, for messages.

    Raises:
        ArtefactError: If this program did not write them.
    """
    if KEY not in metadata:
        raise ArtefactError(
            f"{where} does not say what it is: its metadata have no '{KEY}', so `seclcompress export` "
            "did not write it."
        )
    try:
        return Content.model_validate_json(metadata[KEY])
    except ValidationError as error:
        raise ArtefactError(
            f"{where}: its metadata '{KEY}' are damaged: {describe_validation_error(error)}."
        ) from error


@dataclass(frozen=True)
class Written:
    """A file's bytes before they are written.

    Attributes:
        files: The bytes by the ending of the file's name. The first is the one that is named.
        content: What the file says of itself.
        notes: What the person should know.
    """

    files: Mapping[str, bytes]
    content: Content
    notes: tuple[str, ...] = ()

    def put(self, path: Path) -> None:
        """Writes the files into a folder that nobody else uses, to be run there.

        Args:
            path: The file that is named; the others lie beside it.
        """
        for ending, content in self.files.items():
            path.with_suffix(ending).write_bytes(content)
