"""Settings from a recipe, a TOML file and the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seclcompress import recipes
from seclcompress.cli.settings import make_settings
from seclcompress.errors import UsageError
from seclcompress.settings.training import INCIDENTAL, TrainingSettings


def test_the_recipes_that_come_along() -> None:
    assert recipes.names() == ["cifar-100k", "quick", "secl-cifar", "secl-imagenet"]
    for name in recipes.names():
        assert recipes.describe(name).endswith(".")
        assert recipes.make_settings(name, {}) == TrainingSettings(**recipes.read_recipe(name))


def test_the_papers_recipe_says_all_that_the_paper_says() -> None:
    """FACTS: SGD, momentum 0.9, lr 0.1, batch 128, 200 epochs, × 0.2 at 60/120/160, AT with β = 1000."""
    found = recipes.make_settings("secl-cifar", {})
    assert (found.optimizer, found.momentum, found.lr, found.batch_size) == ("sgd", 0.9, 0.1, 128)
    assert (found.epochs, found.lr_scheduler, found.weight_decay) == (200, "step", 5e-4)
    assert (found.alpha, found.beta, found.factor_decay) == (0, 1000, "ratio")
    assert (found.factor_lr, found.factor_optimizer) == (1, "same")
    assert (found.crop, found.flip, found.cutout) == (True, True, 0)
    given = recipes.read_recipe("secl-cifar")
    learns = set(TrainingSettings.model_fields) - INCIDENTAL
    # A change of a default must not change the paper's recipe.
    assert (
        {"factor_lr", "factor_optimizer", "factor_decay", "alpha", "beta"} <= given.keys() <= learns
    )


def test_a_file_and_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'lr = 0.3\nfactor_decay = 1e-6\ntaps = ["a", "b"]\ncrop = false\n'
        "group_decay = { norms = 0 }\n"
    )
    found = recipes.make_settings(str(path), {"lr": 0.2})
    assert (found.lr, found.factor_decay, found.taps, found.crop) == (0.2, 1e-6, ("a", "b"), False)
    assert found.group_decay == {"norms": 0}
    assert found.epochs == TrainingSettings().epochs


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("lr = ", "is no TOML"),
        ("learning_rate = 1", "unknown settings: learning_rate. There are: epochs, batch_size"),
        ("lr = -1", "lr: Input should be greater than 0"),
        ('factor_decay = "none"', "factor_decay"),
        ("epochs = 1.5", "epochs: Input should be a valid integer"),
        ("lr = nan", "lr: "),
        ("group_decay = {gains = -1}", "group_decay.gains: Input should be greater than or equal"),
        ("group_decay = {gains = nan}", "group_decay.gains: Input should be a finite number"),
        ("group_lr = {gains = 0}", "group_lr.gains: Input should be greater than 0"),
        ("group_decay = {factors = 0}", "group_decay: .* a setting of their own, --factor-decay"),
        ("group_lr = {factors = 1}", "group_lr: .* a setting of their own, --factor-lr"),
        ("x = " + "[" * 5000 + "]" * 5000, "is no TOML"),
        ("\udcff", "Cannot read the recipe"),
    ],
)
def test_a_file_that_will_not_do(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=words):
        recipes.make_settings(str(path), {})


def test_no_such_recipe(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="Unknown recipe 'secl'. There are: cifar-100k, quick, secl-cifar"
    ):
        recipes.read_recipe("secl")
    with pytest.raises(UsageError, match="Cannot read the recipe"):
        recipes.read_recipe(str(tmp_path / "none.toml"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"factor_decay": "often"}, "^--factor-decay"),
        ({"beta": -1.0}, r"^--beta: Input should be greater than or equal to 0 \(got -1.0\)"),
        ({"group_decay": "gains=x"}, r"^--group-decay.gains: Input should be a valid number"),
        ({"group_decay": "gains"}, "^--group-decay: .*it takes GROUP=NUMBER, several with commas"),
        ({"group_lr": "a=1,a=2"}, "^--group-lr: .*it names a twice"),
        ({"amp": "fp8"}, "^--amp: Input should be 'off', 'bf16' or 'fp16'"),
    ],
)
def test_errors_are_in_the_command_lines_spelling(given: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_settings(None, given)


def test_words_from_the_command_line_are_read() -> None:
    found = make_settings(None, {"factor_decay": "1e-5", "taps": "layer1, layer2"})
    assert (found.factor_decay, found.taps) == (1e-5, ("layer1", "layer2"))
    found = make_settings(None, {"group_decay": "gains=0, norms = 1e-4", "group_lr": ""})
    assert (found.group_decay, found.group_lr) == ({"gains": 0, "norms": 1e-4}, {})
    assert make_settings(None, {}).group_decay == {"gains": 0}


PARTS = st.fixed_dictionaries(
    {},
    optional={
        "epochs": st.integers(1, 1000),
        "lr": st.floats(1e-12, 1e6, allow_subnormal=False),
        "crop": st.sampled_from([True, False, None]),
        "factor_decay": st.sampled_from(["ratio", "fixed", "product", 0.0, 8.8e-6]),
        "factor_lr": st.none() | st.floats(1e-3, 10, allow_subnormal=False),
        "taps": st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1)).map(tuple),
        "mean": st.lists(st.floats(0, 1, allow_subnormal=False), max_size=3).map(tuple),
        "group_lr": st.dictionaries(
            st.sampled_from(["gains", "norms"]) | st.text("a.'\"é \n", min_size=1),
            st.floats(1e-6, 1e6, allow_subnormal=False),
        ),
        "optimizer": st.sampled_from(["sgd", "adamw"]),
    },
)


@given(PARTS, st.text(st.characters(exclude_categories=["Cs"])))
def test_a_recipe_that_was_written_is_read_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, object], description: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "written.toml"
    path.write_text(recipes.to_toml(values, description), encoding="utf-8", newline="")
    found = recipes.make_settings(str(path), {})
    assert found == TrainingSettings(**values)
    read = recipes.read_recipe(str(path))
    assert read.keys() == {name for name, value in values.items() if value is not None}


def test_a_recipe_that_could_not_be_read_is_not_written() -> None:
    assert recipes.to_toml({"lr": 0.1}, "Mine.") == 'description = "Mine."\nlr = 0.1\n'
    with pytest.raises(UsageError, match="lr: Input should be greater than 0"):
        recipes.to_toml({"lr": -1}, "")
    with pytest.raises(UsageError, match="learning_rate"):
        recipes.to_toml({"learning_rate": 1}, "")
