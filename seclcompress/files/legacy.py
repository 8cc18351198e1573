"""The names of the files that seclcompress 0.1 wrote; its folders have no manifest.

These lists must not grow: a module that writes a new kind of file notes its name in the folder's
manifest.
"""

from __future__ import annotations

from pathlib import Path

#: The files of a run in progress (`<output>.partial`) of 0.1.
LEGACY_RUN = frozenset(
    "best.safetensors metrics.jsonl checkpoint.safetensors checkpoint.previous.safetensors "
    "events.out.tfevents.*".split()
)
#: The files of any folder of 0.1, finished or in progress, as entries of a manifest.
LEGACY = LEGACY_RUN | {"config.json", "model.safetensors", "curves.png"}


def weights_of_another_program(folder: Path) -> bool:
    """Whether a folder without a manifest holds a network that 0.1 did not write.

    0.1 wrote `model.safetensors` only beside a `config.json`; other programs write it alone.
    """
    names = {file.name for file in folder.iterdir()}
    return "model.safetensors" in names and "config.json" not in names
