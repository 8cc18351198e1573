"""`slim`: the budget is held, what is left computes what it did, and a folder is a network."""

from __future__ import annotations

import copy
from pathlib import Path

import listening
import pytest
import torch
from runs import Listening, Silent

from seclcompress import artefact, workflows
from seclcompress.errors import ArtefactError, NetworkError, PlanError, UsageError
from seclcompress.graph import channel_groups, kept_by_layer, narrow_network
from seclcompress.networks import build_untrained, named_spec
from seclcompress.settings import PlanOptions, TrainingSettings
from seclcompress.settings.slimming import SlimOptions

SMALL = {"input_size": (3, 16, 16), "num_classes": 10}


@pytest.mark.parametrize(
    ("network", "budget", "spread"),
    [
        ("wrn10_2", "parameters=100k", "global"),
        ("wrn10_2", "parameters=100k", "uniform"),
        ("mobilenet_v3_small", "mult-adds=100k,parameters=900k", "global"),
        pytest.param("resnext50_32x4d", "bytes=40MB", "uniform", marks=pytest.mark.slow),
        pytest.param("densenet121", "parameters=3M", "global", marks=pytest.mark.exhaustive),
    ],
)
def test_a_folder_holds_the_budget(network: str, budget: str, spread: str, tmp_path: Path) -> None:
    options = SlimOptions(spread=spread)  # type: ignore[arg-type]
    size = (3, 32, 32)
    done = workflows.slim(
        network, budget, tmp_path / "out", options=options, num_classes=10, input_size=size
    )
    for held in done.budget.held(done.after.parameters, done.after.mult_adds):
        assert held.has <= held.most
    assert all(one.before >= one.after >= max(1, round(0.1 * one.before)) for one in done.groups)
    made = artefact.load(tmp_path / "out")
    assert sum(p.numel() for p in made.parameters()) == done.after.parameters
    counted = workflows.count(tmp_path / "out").count.columns["original"]
    assert (counted.parameters, counted.mult_adds) == (done.after.parameters, done.after.mult_adds)
    with torch.no_grad():
        assert made(torch.rand(2, *size)).shape == (2, 10)


def test_what_is_left_keeps_its_weights(tmp_path: Path) -> None:
    """Channels of zeros are lost first, and losing them changes no output."""
    spec = named_spec("wrn10_1", 10)
    network = build_untrained(spec)
    channels = channel_groups(network, (3, 16, 16))
    lost = {group.name: [*range(0, len(group.atoms), 2)] for group in channels.groups}
    with torch.no_grad():
        for group in channels.groups:
            for member, *_ in zip(group.members, strict=True):
                layer = network.get_submodule(member.layer)
                positions = [
                    place
                    for number in lost[group.name]
                    for place in group.atoms[number][group.members.index(member)]
                ]
                if layer.weight.dim() == 1:
                    layer.weight[positions] = layer.bias[positions] = 0
                elif member.side == "outputs":
                    layer.weight[positions] = 0
                else:
                    layer.weight[:, positions] = 0
    config = artefact.ArtefactConfig(network=spec, input_size=(3, 16, 16))
    artefact.save(tmp_path / "whole", network, config)
    expected = copy.deepcopy(network)
    narrow_network(expected, kept_by_layer(network, channels.groups, lost))
    size = sum(p.numel() for p in expected.parameters())
    done = workflows.slim(
        tmp_path / "whole",
        f"parameters={size}",
        tmp_path / "out",
        options=SlimOptions(spread="uniform"),
    )
    assert done.after.parameters == size
    images = torch.rand(2, 3, 16, 16)
    made = artefact.load(tmp_path / "out")
    with torch.no_grad():
        assert torch.allclose(made(images), network.eval()(images), atol=1e-6)


def test_twice_is_as_far_as_once(tmp_path: Path) -> None:
    workflows.slim("wrn10_2", "parameters=200k", tmp_path / "a", **SMALL)
    workflows.slim(tmp_path / "a", "parameters=50k", tmp_path / "b")
    made = artefact.load(tmp_path / "b")
    assert sum(p.numel() for p in made.parameters()) <= 50_000
    assert artefact.read_config(tmp_path / "b").network.name == "wrn10_2"


def test_weights_from_a_file_are_known_to_be_trained(tmp_path: Path) -> None:
    """Without data nothing is measured, and the weights that are kept are worth as much."""
    settings = TrainingSettings(epochs=1, train_images=64, batch_size=32, workers=0)
    torch.save(build_untrained(named_spec("wrn10_1", 10)).state_dict(), tmp_path / "mine.pth")
    rates = []
    for weights in (None, str(tmp_path / "mine.pth")):
        folder = tmp_path / f"slim-{weights is None}"
        workflows.slim("wrn10_1", "parameters=40k", folder, weights=weights, **SMALL)
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert "its accuracy was not measured" in card
        workflows.train(
            folder,
            output_dir=tmp_path / f"trained-{weights is None}",
            data="digits",
            settings=settings,
        )
        trained = artefact.read_config(tmp_path / f"trained-{weights is None}")
        rates.append(trained.training["lr"])
        assert not trained.trained_before_slimming
    assert rates == [0.1, 0.01]


def test_with_data_a_card_says_what_is_left_and_svd_is_named(tmp_path: Path) -> None:
    settings = TrainingSettings(train_images=64, batch_size=32, workers=0)
    heard = Listening()
    workflows.slim(
        "wrn10_1",
        "parameters=40k",
        tmp_path / "slim",
        data="digits",
        settings=settings,
        observer=heard,
        **SMALL,
    )
    assert "of the test images" in (tmp_path / "slim" / "README.md").read_text(encoding="utf-8")
    assert sum("--method svd" in words for words in heard.words) == 1
    looks = SlimOptions(method="svd", pictures=64)
    heard = Listening()
    workflows.slim(
        "wrn10_1",
        "parameters=40k",
        data="digits",
        options=looks,
        settings=settings,
        observer=heard,
        **SMALL,
    )
    assert not any("--method svd" in words for words in heard.words)


def test_then_it_is_converted_distilled_and_exported(tmp_path: Path) -> None:
    settings = TrainingSettings(epochs=1, train_images=64, batch_size=32, workers=0)
    data = {"data": "digits", "settings": settings, "observer": Silent()}
    workflows.train("wrn10_1", output_dir=tmp_path / "whole", **data)
    workflows.slim(tmp_path / "whole", "parameters=40k", tmp_path / "slim")
    options = PlanOptions(substitution="separable", min_channels=8)
    converted = workflows.convert(tmp_path / "slim", tmp_path / "both", options=options)
    before = converted.count.columns["original"].parameters
    assert before <= 40_000
    for student in ("slim", "both"):
        workflows.distill(
            tmp_path / student,
            teacher=tmp_path / "whole",
            output_dir=tmp_path / f"{student}-distilled",
            untrained_teacher=True,
            **data,
        )
    # Inherited weights are not trained at the rate of new ones.
    rates = [
        artefact.read_config(tmp_path / f"{name}-distilled").training["lr"]
        for name in ("slim", "both")
    ]
    assert rates == [0.01, 0.1]
    learnt = artefact.load(tmp_path / "both-distilled")
    assert sum(p.numel() for p in learnt.parameters()) == converted.count.columns["auto"].parameters
    assert artefact.read_config(tmp_path / "slim-distilled").network.widths
    pytest.importorskip("onnxruntime")
    workflows.export(tmp_path / "slim-distilled", tmp_path / "slim.onnx")


def test_the_folder_says_what_it_is(tmp_path: Path) -> None:
    said = Listening()
    workflows.slim("wrn10_1", "parameters=40k", tmp_path / "out", observer=said, **SMALL)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "lost whole channels" in card
    assert "77,850 parameters" in card
    assert any("random weights" in words for words in said.words)
    assert any("before it is used or converted" in words for words in said.words)


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    done = workflows.slim("wrn10_1", "parameters=40k", **SMALL)
    assert done.output_dir is None
    assert done.after.parameters <= 40_000 < done.before.parameters


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("parameters=10M", "meets the budget as it is"),
        ("parameters=100", "cannot meet the budget by losing channels: with a share of 0.1"),
        ("mult-adds=10", "Mult-Adds"),
    ],
)
def test_budgets_that_cannot_be(budget: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=words):
        workflows.slim("wrn10_1", budget, tmp_path / "out", **SMALL)
    assert not (tmp_path / "out").exists()


def test_a_converted_network_is_refused(converted: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Slim the network it was made from"):
        workflows.slim(converted, "parameters=1k", tmp_path / "out")


def test_a_taken_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    with pytest.raises(ArtefactError, match="out"):
        workflows.slim("wrn10_1", "parameters=1", tmp_path / "out")


def test_a_network_without_channels_to_lose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alone.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(48, 10))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        NetworkError, match=r"No channel of alone:make can be lost: it is an output"
    ):
        workflows.slim("alone:make", "parameters=10", input_size=(3, 4, 4))


def test_count_says_what_it_was_before(tmp_path: Path) -> None:
    workflows.slim("wrn10_1", "parameters=40k", tmp_path / "slim", num_classes=10)
    said = Listening()
    workflows.count(tmp_path / "slim", observer=said)
    assert any("wrn10_1 itself has 77,850 parameters" in words for words in said.words)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "whole"
    workflows.train(
        "wrn10_1",
        data="digits",
        output_dir=folder,
        settings=TrainingSettings(epochs=4, batch_size=64, lr=0.05, workers=0),
        input_size=(3, 16, 16),
        observer=Silent(),
    )
    return folder


def test_with_data_the_accuracy_before_and_after_is_measured(trained: Path, tmp_path: Path) -> None:
    whole = artefact.read_config(trained).metrics["accuracy"]
    done = workflows.slim(
        trained, "parameters=60k", tmp_path / "slim", data="digits", observer=Silent()
    )
    assert done.accuracy_before == pytest.approx(whole)
    measured = workflows.evaluate(tmp_path / "slim", data="digits", observer=Silent())
    assert done.accuracy_after == pytest.approx(measured.accuracy)
    metrics = artefact.read_config(tmp_path / "slim").metrics
    assert metrics == {"accuracy": done.accuracy_after, "teacher_accuracy": done.accuracy_before}
    # Statistics are those of the narrower network, not what was left of the whole one's.
    plain = workflows.slim(trained, "parameters=60k", tmp_path / "plain")
    assert plain.accuracy_after is None
    old, new = (
        artefact.load(tmp_path / name).state_dict()["group3.0.bn2.running_mean"]
        for name in ("plain", "slim")
    )
    assert not torch.equal(old, new)


class TestBySingularValues:
    def test_more_is_left_than_by_norm(self, trained: Path, tmp_path: Path) -> None:
        """Nothing is trained: what is left of the accuracy is what was kept of the network."""
        by_method = {
            method: workflows.slim(
                trained,
                "parameters=30k",
                tmp_path / method,
                data="digits",
                options=SlimOptions(method=method, pictures=200),  # type: ignore[arg-type]
                observer=Silent(),
            )
            for method in ("norm", "svd")
        }
        assert by_method["svd"].after.parameters <= 30_000
        measured = workflows.evaluate(tmp_path / "svd", data="digits", observer=Silent())
        assert by_method["svd"].accuracy_after == pytest.approx(measured.accuracy)
        # Measured with the whole training set: 96 and 33 % of 98.6.
        assert by_method["svd"].accuracy_after > by_method["norm"].accuracy_after + 10

    def test_a_share_of_energy_decides(self, trained: Path, tmp_path: Path) -> None:
        sizes = []
        for energy in (0.5, 0.9, 0.999):
            heard = listening.Listening()
            done = workflows.slim(
                trained,
                None,
                data="digits",
                options=SlimOptions(method="svd", energy=energy, pictures=200, least=0.0),
                observer=heard,
            )
            assert done.budget is None
            channels = sum(one.before for one in done.groups)
            weighed = [words for words in heard.work if words.startswith("Weighing channels")]
            assert weighed[0] == f"Weighing channels: {channels}"
            assert weighed[-1] == f"Weighing channels: {channels} of {channels}"
            assert len(weighed) == 1 + len(done.groups)
            sizes.append(done.after.parameters)
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[1] < sizes[2] < 77_850
        with pytest.raises(PlanError, match="nothing is to be lost"):
            workflows.slim(
                trained,
                None,
                tmp_path / "out",
                data="digits",
                options=SlimOptions(method="svd", energy=0.9, least=1.0),
                observer=Silent(),
            )
        assert not (tmp_path / "out").exists()

    def test_energy_in_rounds(self, trained: Path, tmp_path: Path) -> None:
        said = Listening()
        done = workflows.slim(
            trained,
            None,
            tmp_path / "out",
            data="digits",
            options=SlimOptions(method="svd", energy=0.95, rounds=2, pictures=100),
            settings=TrainingSettings(epochs=2, train_images=100, batch_size=25, workers=0),
            observer=said,
        )
        assert done.after.parameters < done.before.parameters
        told = [words for words in said.words if "were right before" in words]
        assert len(told) == 2
        assert all("Of 100 pictures" in words for words in told)
