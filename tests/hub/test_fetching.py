"""Folders in repositories of the Hub: what is asked of it, what is kept, and what is said."""

from __future__ import annotations

from pathlib import Path

import torch

from seclcompress import artefact

FILES = ["README.md", "config.json", "model.safetensors"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_x(hub, converted) -> None:
    hub.add("ann/small", contents(converted))
    net = artefact.load("hf://ann/small", download=True)
    print(hub.requests)
