"""The cards that convert, train and distill leave: with the folder, whole, and never in the way."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from runs import Listening
from torch import Tensor, nn

from seclcompress import TrainingSettings, artefact, workflows
from seclcompress.errors import ArtefactError
from seclcompress.files.manifest import read_manifest
from seclcompress.settings import PlanOptions

SHORT = TrainingSettings(epochs=1, train_images=100, batch_size=50)


class NeedsTwo(nn.Module):
    """Trains on batches, and cannot be traced, because a trace runs one image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 16, 3), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) < 2:
            raise ValueError("one image is none")
        return self.fc(self.conv(x).mean((2, 3)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`teacher`, `student` and `distilled`, each as its workflow writes it."""
    place = tmp_path_factory.mktemp("made")
    small = {"data": "digits", "settings": SHORT}
    workflows.train("wrn10_1", output_dir=place / "teacher", input_size=(3, 8, 8), **small)
    workflows.convert(place / "teacher", place / "student")
    workflows.distill(
        place / "student",
        teacher=place / "teacher",
        untrained_teacher=True,
        output_dir=place / "distilled",
        **small,
    )
    return place


def test_every_folder_has_one(made: Path) -> None:
    for name in ("teacher", "student", "distilled"):
        text = (made / name / "README.md").read_text(encoding="utf-8")
        assert str(made) not in text
        assert "README.md" in (read_manifest(made / name) or ())
        figures = workflows.count(made / name).count.columns
        mine = figures["original" if name == "teacher" else "auto"]
        assert f"{mine.parameters:,} |\n" in text
        assert f"{mine.mult_adds:,} |\n" in text
        accuracy = artefact.read_config(made / name).metrics.get("accuracy")
        assert (accuracy is None) == (name == "student")
        assert accuracy is None or f"value: {accuracy}" in text
    states = {
        "teacher": "It was trained without a teacher (epochs: 1).",
        "student": "those that were kept have the weights of `teacher`.",
        "distilled": "It learnt from a teacher, by attention transfer",
    }
    for name, words in states.items():
        assert words in (made / name / "README.md").read_text(encoding="utf-8")


def test_averaged_weights_are_said(made: Path, tmp_path: Path) -> None:
    settings = SHORT.model_copy(update={"ema": 0.99})
    out = tmp_path / "out"
    workflows.train(
        "wrn10_1", output_dir=out, input_size=(3, 8, 8), data="digits", settings=settings
    )
    said = "Its weights are a moving average over the steps (decay 0.99)."
    assert said in (out / "README.md").read_text(encoding="utf-8")
    assert "moving average" not in (made / "teacher" / "README.md").read_text(encoding="utf-8")


def test_what_the_layers_start_from_is_said(tmp_path: Path) -> None:
    options = PlanOptions(config={"depth": 2}, only=("group1.*",))
    workflows.convert("wrn10_1", tmp_path / "fitted", options=options, start="original")
    text = (tmp_path / "fitted" / "README.md").read_text(encoding="utf-8")
    assert "rewritten layers start from the original's weights where their family can" in text
    assert "those that were kept have no trained weights either" in text
    assert "--start original -o again" in text


def test_equal_runs_have_equal_cards_wherever_they_lie(made: Path, tmp_path: Path) -> None:
    again = tmp_path / "teacher"
    workflows.train(
        "wrn10_1", output_dir=again, input_size=(3, 8, 8), data="digits", settings=SHORT
    )
    assert (again / "README.md").read_bytes() == (made / "teacher" / "README.md").read_bytes()


def test_a_folder_without_one_loads(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made / "distilled", tmp_path / "bare"))
    (folder / "README.md").unlink()
    assert artefact.load(folder) is not None
    workflows.count(folder)


def test_an_edited_card_is_replaced_only_with_overwrite(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    workflows.convert("wrn10_1", folder)
    written = (folder / "README.md").read_bytes()
    (folder / "README.md").write_text("# Mine")
    with pytest.raises(ArtefactError, match="is there already"):
        workflows.convert("wrn10_1", folder)
    assert (folder / "README.md").read_text() == "# Mine"
    workflows.convert("wrn10_1", folder, overwrite=True)
    assert (folder / "README.md").read_bytes() == written


def test_a_readme_of_a_persons_own_is_never_replaced(tmp_path: Path) -> None:
    old = Path(__file__).parents[1] / "written_by_0_1" / "converted"
    folders = [Path(shutil.copytree(old, tmp_path / "old")), tmp_path / "saved"]
    artefact.save(folders[1], artefact.load(old), artefact.read_config(old))
    for folder in folders:
        (folder / "README.md").write_text("# Mine")
        with pytest.raises(ArtefactError, match=r"seclcompress did not write \(README.md\)"):
            workflows.convert("wrn10_1", folder, overwrite=True)
        assert (folder / "README.md").read_text() == "# Mine"


def test_a_network_that_cannot_be_traced_keeps_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    told = Listening()
    done = workflows.train(
        "test_cards:NeedsTwo",
        data="digits",
        output_dir=tmp_path / "out",
        settings=SHORT,
        observer=told,
    )
    assert (done.folder / "model.safetensors").is_file()
    assert not (done.folder / "README.md").exists()
    assert any(
        said.startswith("No README.md, which says what the network costs: The network cannot run")
        for said in told.words
    )
