from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from seclcompress import networks, resolve
from seclcompress.errors import ArtefactError, NetworkError


class TestFactories:
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("", r"has no attribute 'make'"),
            ("def make(): raise ValueError('no')", "it raised ValueError: no"),
            ("def make(): return 3", "it returned a int, not an nn.Module"),
            ("import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
        ],
    )
    def test_that_fail(
        self, content: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        name = f"mine_{abs(hash(content))}"
        Path(f"{name}.py").write_text(content)
        with pytest.raises(NetworkError, match=words):
            resolve.locate(f"{name}:make").load()

    def test_of_the_current_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("my_nets.py").write_text(
            "import torch\nclass A:\n  make = lambda: torch.nn.Conv2d(1, 1, 1)\n"
        )
        assert isinstance(resolve.locate("my_nets:A.make").load()[0], nn.Conv2d)

    def test_only_named_ones_are_imported(self) -> None:
        spec = networks.NetworkSpec(source="factory", name="antigravity:geohash")
        for trusted in (None, "other:factory"):
            with pytest.raises(ArtefactError, match="--factory antigravity:geohash"):
                networks.build(spec, factory_name=trusted)
