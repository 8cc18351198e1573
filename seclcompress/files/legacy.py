"""What seclcompress 0.1 wrote: its folders have no manifest, so their files are known by name.

Nothing new belongs in these lists. Whoever writes a new kind of file notes it in the folder's manifest.
"""

from __future__ import annotations

from pathlib import Path

#: What a run in progress (`<output>.partial`) of 0.1 held.
LEGACY_RUN = frozenset(
    "best.safetensors metrics.jsonl checkpoint.safetensors checkpoint.previous.safetensors "
    "events.out.tfevents.*".split()
)
#: All that a folder or a run in progress of 0.1 held, as a manifest would name it.
LEGACY = LEGACY_RUN | {"config.json", "model.safetensors", "curves.png"}


def weights_of_another_program(folder: Path) -> bool:
    """Whether a folder without a manifest holds a network that 0.1 did not write.

    0.1 wrote `model.safetensors` only beside a `config.json`; other programs write it alone.
    """
    names = {file.name for file in folder.iterdir()}
    return "model.safetensors" in names and "config.json" not in names
