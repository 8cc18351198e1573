"""A hub of the test's own, with a cache and a token of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hub_server
import pytest

from seclcompress import workflows


@pytest.fixture
def hub(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[hub_server.Hub]:
    constants = pytest.importorskip("huggingface_hub.constants")
    home = tmp_path_factory.mktemp("hub")
    with hub_server.running() as (made, address):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
        yield made


@pytest.fixture
def logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted network that no test may change."""
    folder = tmp_path_factory.mktemp("converted") / "small"
    workflows.convert("wrn10_1", folder, num_classes=10, input_size=(3, 16, 16))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
