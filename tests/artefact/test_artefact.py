from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from seclcompress import artefact, networks, resolve
from seclcompress.artefact import ArtefactConfig
from seclcompress.errors import ArtefactError, SeclcompressError
from seclcompress.plan import PlanOptions, make_plan
from seclcompress.rewrite import rewrite_network
from seclcompress.trace import trace_network


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, nn.Module]:
    source = resolve.locate("wrn10_1")
    network, _ = source.load()
    plan = make_plan(
        network, trace_network(network, source.input_size), PlanOptions(config={"depth": 2})
    )
    rewrite_network(network, plan, seed=1)
    config = ArtefactConfig(network=source.network, plan=plan, input_size=source.input_size, seed=1)
    artefact.save(tmp_path / "net", network, config)
    return tmp_path / "net", network


def test_loaded_it_computes_the_same(saved: tuple[Path, nn.Module]) -> None:
    folder, network = saved
    loaded = artefact.load(folder)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(x), network.eval()(x))
    assert not any(t.is_meta for t in loaded.state_dict().values())
    assert all(p.requires_grad for p in loaded.parameters())
    assert [m.planned_execution for m in loaded.modules() if hasattr(m, "planned_execution")] == [
        m.planned_execution for m in network.modules() if hasattr(m, "planned_execution")
    ]


def test_saved_again_it_is_the_same_bytes(saved: tuple[Path, nn.Module], tmp_path: Path) -> None:
    folder, _ = saved
    artefact.save(tmp_path / "again", artefact.load(folder), artefact.read_config(folder))
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_derived_matrices_are_not_saved(saved: tuple[Path, nn.Module]) -> None:
    folder, network = saved
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    assert sum(t.numel() for t in tensors.values()) == sum(
        t.numel() for t in (*network.parameters(), *network.buffers())
    )


def test_a_half_precision_network(saved: tuple[Path, nn.Module], tmp_path: Path) -> None:
    folder, network = saved
    artefact.save(tmp_path / "half", network.half(), artefact.read_config(folder))
    loaded = artefact.load(tmp_path / "half")
    assert {p.dtype for p in loaded.parameters()} == {torch.float16}


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 3)
        self.one, self.two = nn.Linear(64, 64), nn.Linear(64, 64)
        self.two.weight = self.one.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(self.one(self.conv(x).mean((2, 3))))


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3).bfloat16()
        self.fc = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(x.bfloat16()).mean((2, 3)).float())


@pytest.mark.parametrize("factory", ["Tied", "Mixed"])
def test_tied_and_mixed_weights_come_back_as_they_were(
    factory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    source = resolve.locate(f"test_artefact:{factory}", input_size=(3, 8, 8))
    network, _ = source.load(seed=1)
    config = ArtefactConfig(network=source.network, input_size=source.input_size)
    artefact.save(tmp_path / "net", network, config)
    loaded = artefact.load(tmp_path / "net", factory_name=source.factory_name)
    assert [p.dtype for p in loaded.parameters()] == [p.dtype for p in network.parameters()]
    assert len(list(loaded.parameters())) == len(list(network.parameters()))
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in loaded.state_dict().items())


def test_values_that_are_not_finite(saved: tuple[Path, nn.Module], tmp_path: Path) -> None:
    folder, network = saved
    with torch.no_grad():
        network.fc.bias[0] = float("nan")
    artefact.save(tmp_path / "nan", network, artefact.read_config(folder))
    with pytest.raises(ArtefactError, match=r"NaN or infinite: fc.bias \(1 of 10\)"):
        artefact.load(tmp_path / "nan")


def damage_config(folder: Path, change) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("network"), "network: Field required"),
        (lambda c: c.update(schema_version=3), "schema version 3; this seclcompress reads up to 2"),
        (lambda c: c.update(schema_version=1), "schema_version: Input should be 2"),
        (lambda c: c.update(schema_version=1, recipe=c["network"]), "schema_version: Input should"),
        (lambda c: c.update(recipe=c.pop("network")), "recipe: Extra inputs are not permitted"),
        (lambda c: c.update(strange=1), "strange: Extra inputs are not permitted"),
        (
            lambda c: c["network"].update(source="torch.hub"),
            r"network.source: .*there is no such source of networks, only .*factory, .*"
            r"\(got 'torch.hub'\)",
        ),
        (lambda c: c["network"].update(name="wrn16_1"), "is not a plan for this network"),
        (lambda c: c["network"].update(name="wrn11_1"), "There is no wrn11_1"),
        (lambda c: c["network"].update(num_classes=11), r"fc.bias has shape \(10,\), not \(11,\)"),
        (lambda c: c["network"].update(source="factory", name="os:getcwd"), "--factory os:getcwd"),
        (lambda c: c["plan"]["layers"][1]["config"].update(depth=3), "does not belong to"),
        (lambda c: c["plan"]["layers"][1].update(substitution="x"), "Unknown substitution 'x'"),
        (lambda c: c.update(plan=None), "it has a strange"),
    ],
)
def test_a_config_that_does_not_fit(saved: tuple[Path, nn.Module], change, words: str) -> None:
    damage_config(saved[0], change)
    with pytest.raises(SeclcompressError, match=words):
        artefact.load(saved[0])


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_config_that_is_none(saved: tuple[Path, nn.Module], content: bytes) -> None:
    (saved[0] / "config.json").write_bytes(content)
    with pytest.raises(ArtefactError, match="damaged"):
        artefact.load(saved[0])


def test_damaged_and_missing_weights(saved: tuple[Path, nn.Module]) -> None:
    path = saved[0] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ArtefactError, match="not a readable safetensors file"):
        artefact.load(saved[0])
    path.unlink()
    with pytest.raises(ArtefactError, match="There is no weights file"):
        artefact.load(saved[0])
    (saved[0] / "config.json").unlink()
    with pytest.raises(ArtefactError, match=r"has no config.json"):
        artefact.load(saved[0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("fc.bias"), "it lacks fc.bias"),
        (lambda s: s.update(odd=torch.zeros(1)), "it has a strange odd"),
        (
            lambda s: s.update({"fc.bias": torch.zeros(10, dtype=torch.float16)}),
            "it mixes float16",
        ),
        (lambda s: s.update({"fc.bias": torch.zeros(10, dtype=torch.int32)}), "holds int32"),
        (lambda s: s.update({"fc.bias": torch.zeros(9)}), r"fc.bias has shape \(9,\), not \(10,\)"),
    ],
)
def test_weights_that_do_not_fit(saved: tuple[Path, nn.Module], change, words: str) -> None:
    path = saved[0] / "model.safetensors"
    state = safetensors.torch.load_file(path)
    change(state)
    safetensors.torch.save_file(state, path)
    with pytest.raises(ArtefactError, match=words):
        artefact.load(saved[0])


def test_a_file_that_is_written_over_later(saved: tuple[Path, nn.Module]) -> None:
    """A loaded network does not depend on its file any more, which a library may have mapped."""
    folder, network = saved
    loaded = artefact.load(folder)
    path = folder / "model.safetensors"
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
        file.flush()
        file.truncate(0)
    found = loaded.state_dict()
    assert all(torch.equal(found[name], value) for name, value in network.state_dict().items())


WRITTEN_BY_0_1 = Path(__file__).parent.parent / "written_by_0_1"


@pytest.mark.parametrize("name", ["converted", "distilled"])
class TestWrittenBy01:
    """Folders of schema version 1, as seclcompress 0.1 wrote them."""

    def test_they_compute_what_they_did(self, name: str) -> None:
        recorded = safetensors.torch.load_file(WRITTEN_BY_0_1 / "outputs.safetensors")
        located = resolve.locate(WRITTEN_BY_0_1 / name)
        assert located.network == networks.named_spec("wrn10_0.5")
        loaded, decided = located.load()
        assert decided.words() == ""
        with torch.no_grad():
            found = loaded(recorded["images"])
        torch.testing.assert_close(found, recorded[name], atol=1e-5, rtol=0)

    def test_saved_again_they_are_of_this_version(self, name: str, tmp_path: Path) -> None:
        folder = WRITTEN_BY_0_1 / name
        config = artefact.read_config(folder)
        artefact.save(tmp_path / "again", artefact.load(folder), config)
        written = json.loads((tmp_path / "again" / "config.json").read_text())
        assert json.loads((folder / "config.json").read_text())["schema_version"] == 1
        assert written["schema_version"] == 2
        assert written["network"]["name"] == "wrn10_0.5"
        assert "recipe" not in written
        again = artefact.read_config(tmp_path / "again")
        assert again == config.model_copy(update={"versions": again.versions})
        assert again.metrics != {}
        assert again.preprocessing is not None
