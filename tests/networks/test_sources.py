"""The promises of every source, and that a new source is one new file."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from conftest import Invoke
from pydantic import ValidationError
from source_promises import PROMISES, Promise, placed_beside

from seclcompress import artefact, networks
from seclcompress.errors import NetworkError
from seclcompress.networks import NetworkSpec, Source, sources

#: A small network for each source that lists a large one first, or none.
EXAMPLES = {
    "darts_cifar": "darts3_4_cifar",
    "diracnet": "diracnet10_1",
    "factory": "conftest:awkward",
    "torchvision": "shufflenet_v2_x0_5",
    "wide_resnet": "wrn10_1",
}


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("source", sources.registered(), ids=lambda source: source.name)
def test_promises(source: Source, promise: Promise, tmp_path: Path) -> None:
    promise(source, EXAMPLES.get(source.name) or source.names()[0], tmp_path)


def test_the_sources_that_are_there() -> None:
    assert [source.name for source in sources.registered()] == [
        "conv_pool_mnist",
        "darts_cifar",
        "diracnet",
        "factory",
        "mlp_mnist",
        "mobilenet_cifar",
        "mobilenetv2_cifar",
        "resnet18_cifar",
        "resnet_cifar",
        "resnet_no_norm",
        "tiny_convnet",
        "torchvision",
        "wide_resnet",
    ]
    with pytest.raises(
        NetworkError, match="no source of networks 'x', only conv_pool_mnist, darts"
    ):
        sources.get("x")
    with pytest.raises(ValidationError, match="no such source of networks, only conv_pool_mnist"):
        NetworkSpec(source="x", name="resnet18")


EXAMPLE = """
from torch import nn
from seclcompress.errors import NetworkError
from seclcompress.networks.sources import Source

class Tiny(Source):
    name = "tiny"
    also = "Any other tiny<channels> will do as well."

    def names(self):
        return ["tiny48"]

    def knows(self, name):
        return name.startswith("tiny") and name[4:].isdecimal() and 0 < int(name[4:]) < 1000

    def build(self, spec):
        if not self.knows(spec.name):
            raise NetworkError(f"There is no {spec.name}.")
        return net(int(spec.name[4:]), spec.num_classes or 10, **spec.options)

    def input_size(self, spec):
        return (3, 16, 16)

def net(channels, num_classes, kernel=3, slope=0.0, pooling="avg"):
    return nn.Sequential(
        nn.Conv2d(3, channels, 3),
        nn.LeakyReLU(slope),
        nn.Conv2d(channels, channels, kernel),
        {"avg": nn.AdaptiveAvgPool2d, "max": nn.AdaptiveMaxPool2d}[pooling](1),
        nn.Flatten(),
        nn.Linear(channels, num_classes),
    )

SOURCE = Tiny()
"""


class TestANewFile:
    """With one new file, every command knows the networks of its source."""

    @pytest.fixture(autouse=True)
    def tiny(self, tmp_path_factory: pytest.TempPathFactory):
        file = tmp_path_factory.mktemp("beside") / "tiny_networks.py"
        file.write_text(EXAMPLE)
        with placed_beside(file):
            yield

    @pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
    def test_keeps_the_promises(self, promise: Promise, tmp_path: Path) -> None:
        promise(sources.get("tiny"), "tiny48", tmp_path)

    def test_on_the_command_line(self, invoke: Invoke) -> None:
        listed = invoke("networks", "tiny[0-9]*")
        assert listed.stdout.split() == ["tiny48"]
        assert "Any other tiny<channels>" in listed.stderr
        assert "Did you mean tiny48" in invoke("count", "tiny_48", code=1).stderr
        counted = json.loads(invoke("count", "tiny40", "--json").stdout)
        assert counted["input_size"] == [3, 16, 16]
        invoke("convert", "tiny48", "--num-classes", 5, "--depth", 2, "-o", "small")
        spec = artefact.read_config(Path("small")).network
        assert (spec.source, spec.name, spec.num_classes) == ("tiny", "tiny48", 5)
        assert "1 of 2 convolutions rewritten" in invoke("count", "small").stdout
        assert artefact.load("small")[-1].out_features == 5

    def test_with_options_of_every_kind(self, tmp_path: Path) -> None:
        options = {"kernel": 5, "slope": 0.25, "pooling": "max"}
        spec = networks.named_spec("tiny24", options=options)
        network = networks.build_untrained(spec)
        artefact.save(
            tmp_path / "net", network, artefact.ArtefactConfig(network=spec, input_size=(3, 16, 16))
        )
        loaded = artefact.load(tmp_path / "net")
        assert (loaded[2].kernel_size, loaded[1].negative_slope) == ((5, 5), 0.25)
        assert type(loaded[3]).__name__ == "AdaptiveMaxPool2d"
        assert artefact.read_config(tmp_path / "net").network.options == options

    def test_a_folder_of_a_source_that_is_gone(self, tmp_path: Path) -> None:
        spec = networks.named_spec("tiny24")
        config = artefact.ArtefactConfig(network=spec, input_size=(3, 16, 16))
        artefact.save(tmp_path / "net", networks.build_untrained(spec), config)
        content = (tmp_path / "net" / "config.json").read_text()
        (tmp_path / "net" / "config.json").write_text(content.replace('"tiny"', '"small"'))
        with pytest.raises(
            artefact.ArtefactError, match="no such source of networks, only conv_pool_mnist"
        ):
            artefact.load(tmp_path / "net")

    def test_two_of_one_name(self, tmp_path: Path) -> None:
        (tmp_path / "tiny_again.py").write_text(EXAMPLE)
        with placed_beside(tmp_path / "tiny_again.py"):
            with pytest.raises(RuntimeError, match="define a SOURCE named 'tiny'"):
                sources.registered()


def test_afterwards_it_is_gone() -> None:
    assert sources.that_knows("tiny48") is None


@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        None,
        0,
        -(2**16),
        2**16,
        0.5,
        -1e-300,
        65536.0,
        "",
        "x" * 200,
        "é\x00",
        (),
        ((1, 2.5), ("a", None)),
    ],
)
def test_options_of_a_spec(value: object) -> None:
    spec = NetworkSpec(source="torchvision", name="resnet18", options={"a": value})
    (kept,) = NetworkSpec.model_validate_json(spec.model_dump_json()).options.values()
    assert kept == value
    assert type(kept) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        2**16 + 1,
        -(2**16) - 1,
        10**400,
        1e9,
        math.inf,
        math.nan,
        "x" * 201,
        "9" * 201,
        {},
        b"x",
        [2**16 + 1],
        [0] * 201,
        [[[]]],
    ],
)
def test_options_that_no_spec_has(value: object) -> None:
    words = (
        "an option is null, true, false, a number up to ±65536, at most 200 characters, or a list"
    )
    with pytest.raises(ValidationError, match=words):
        NetworkSpec(source="torchvision", name="resnet18", options={"a": value})


def test_how_many_options() -> None:
    options = {str(i): i for i in range(51)}
    with pytest.raises(ValidationError, match="at most 50"):
        NetworkSpec(source="torchvision", name="resnet18", options=options)
    with pytest.raises(ValidationError, match="at most 50"):
        NetworkSpec(source="torchvision", name="resnet18", options={"x" * 51: 1})
