from __future__ import annotations

from pathlib import Path

import pytest
from runs import Listening
from torch import nn
from typer.testing import CliRunner

from seclcompress import artefact, networks, resolve
from seclcompress.cli.app import app
from seclcompress.errors import ArtefactError, NetworkError
from seclcompress.workflows import convert


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


ARGUMENTS = """
from torch import nn

def make(width=8, depths=(1,), name="net", pretrained=True):
    assert pretrained is False and isinstance(depths, tuple)
    layers, channels = [], 3
    for depth in depths:
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))
"""


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("mynet.py:Net", "mynet:Net"),
        ("./mynet.py:Net", "mynet:Net"),
        ("nets/mynet.py:Net(width=2)", "nets.mynet:Net(width=2)"),
    ],
)
def test_a_module_named_as_a_file(name: str, meant: str) -> None:
    with pytest.raises(NetworkError) as caught:
        resolve.locate(name)
    assert f"Did you mean {meant}?" in str(caught.value)


class TestArguments:
    @pytest.fixture(autouse=True)
    def _here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("argued_net.py").write_text(ARGUMENTS)

    NAME = "argued_net:make(width=16, depths=[1, 2], name='a/b:c', pretrained=False)"

    def test_are_passed_and_recorded(self) -> None:
        located = resolve.locate(self.NAME)
        assert located.network.name == "argued_net:make"
        assert located.network.options == {
            "width": 16,
            "depths": (1, 2),
            "name": "a/b:c",
            "pretrained": False,
        }
        network, _ = located.load()
        assert [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)] == [16] * 3
        convert(self.NAME, output_dir="out", input_size=(3, 8, 8), observer=Listening())
        config = artefact.read_config(Path("out"))
        assert config.network == located.network
        for trusted in ("argued_net:make", self.NAME):
            artefact.load("out", config=config, factory_name=trusted)
        for other in (None, "argued_net:make(width=8)", "other:make", "no factory"):
            with pytest.raises(ArtefactError, match="--factory argued_net:make"):
                artefact.load("out", config=config, factory_name=other)

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("argued_net:make(16)", r"give arguments by name"),
            ("argued_net:make(width=w)", r"width=w is no literal"),
            ("argued_net:make(width=__import__('os'))", r"is no literal"),
            ("argued_net:make(**{'width': 3})", r"is no literal"),
            ("argued_net:make(width=", r"what follows the colon is no name"),
            ("argued_net:make(width=1)()", r"not of the form package.module:factory"),
            ("argued_net:make(width=10**9)", r"is no literal"),
            ("argued_net:make(width=1000000)", r"an option is null, true, false, a number up to"),
            ("argued_net:make(depths=[[[1]]])", r"an option is null"),
            ("argued_net:make(height=2)", r"unexpected keyword argument 'height'"),
        ],
    )
    def test_that_will_not_do(self, name: str, words: str) -> None:
        with pytest.raises(NetworkError, match=words):
            resolve.locate(name).load()
        said = CliRunner().invoke(app, ["count", name, "--input-size", "8"])
        assert said.exit_code == 1

    def test_a_number_of_classes_is_one(self) -> None:
        with pytest.raises(NetworkError, match=r"give that: 'argued_net:make\(num_classes=5\)'"):
            resolve.locate(self.NAME, num_classes=5)

    def test_a_network_that_is_there_is_taken_as_it_is(self) -> None:
        Path("ready_net.py").write_text("from torch import nn\nNET = nn.Conv2d(3, 4, 1)\n")
        assert isinstance(resolve.locate("ready_net:NET").load()[0], nn.Conv2d)

    def test_on_the_command_line(self) -> None:
        said = CliRunner().invoke(app, ["count", self.NAME, "--input-size", "8"])
        assert said.exit_code == 0, said.output
        wider = CliRunner().invoke(
            app, ["count", self.NAME.replace("width=16", "width=32"), "--input-size", "8"]
        )
        assert wider.exit_code == 0
        assert wider.output != said.output
