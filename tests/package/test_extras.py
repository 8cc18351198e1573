"""What works without the packages that only some tasks need, and what is said about the others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import paint

from seclcompress import extras
from seclcompress.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:  # import-linter brings it on 3.10
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
OPTIONAL = (
    *("sklearn", "matplotlib", "fvcore", "tensorly", "tensorboard", "optuna", "scipy"),
    *("onnx", "onnxscript", "onnxruntime", "huggingface_hub"),
)
SCRIPT = f"""
import sys

class Without:
    # A finder that does not find the optional packages.

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *more):
        return None if name.partition(".")[0] in {OPTIONAL!r} else self.finder.find_spec(name, *more)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(f) if hasattr(f, "find_spec") else f for f in sys.meta_path]
from seclcompress.__main__ import main
for line in sys.argv[1:]:
    sys.argv = ["seclcompress", *line.split()]
    try:
        main()
    except SystemExit as end:
        print("exit code", end.code or 0, flush=True)
"""


def run(folder: Path, *commands: str) -> str:
    """Runs commands in a Python that has none of the optional packages; returns what they say."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *commands],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return " ".join(done.stdout.split())


def test_count_convert_and_distill_need_none_of_them(tmp_path: Path) -> None:
    data = paint(tmp_path / "data", {"red": "red", "blue": "blue"}, parts={"train": 8, "val": 4})
    quick = f"--data {data} --epochs 1 --batch-size 8"
    said = run(
        tmp_path,
        "count resnet50",
        f"train wrn10_1 {quick} -o teacher",
        "convert teacher -o student",
        f"distill student --teacher teacher --untrained-teacher {quick} -o distilled",
        "report distilled -o page.html",
    )
    assert "25,557,032" in said
    assert re.findall(r"exit code (\d)", said) == ["0", "0", "0", "0", "2"], said
    words = "No curves.png, which matplotlib draws: pip install 'seclcompress[pictures]'."
    assert said.count(words) == 2
    assert (tmp_path / "distilled" / "model.safetensors").exists()
    assert not (tmp_path / "distilled" / "curves.png").exists()
    words = "report needs matplotlib, which is not installed: pip install 'seclcompress[pictures]'"
    assert words in said
    assert not (tmp_path / "page.html").exists()


def test_what_is_missing_is_one_clear_error(tmp_path: Path) -> None:
    wrong = {
        "train wrn10_1 --data digits -o out": ("--data digits", "scikit-learn", "digits"),
        "count wrn10_1 --verify": ("--verify", "fvcore", "verify"),
        "convert wrn10_1 --substitution tucker --start original -o out": (
            *("--start original with this substitution", "tensorly", "decompose"),
        ),
        "tune wrn10_1 --data digits --search lr=0.1,0.2 -o out": (
            *("tune", "matplotlib, optuna, scikit-learn", "tune"),
        ),
        "plan wrn10_1 --budget parameters=9k -o plan.json": ("plan --budget", "scipy", "budget"),
        "widths wrn10_1 --data digits": ("widths", "scipy", "widths"),
        "count hf://ann/small --download": ("hf://ann/small", "huggingface-hub", "hub"),
        "export wrn10_1 -o out.onnx": (*("export", "onnx, onnxruntime, onnxscript", "export"),),
    }
    said = run(tmp_path, *wrong)
    for task, packages, extra in wrong.values():
        verb = "are" if "," in packages else "is"
        install = f"pip install 'seclcompress[{extra}]'"
        words = f"Error: {task} needs {packages}, which {verb} not installed: {install}"
        assert f"{words} exit code 2" in said, said
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_there_is_not_missing() -> None:
    assert extras.missing("torch", "sklearn", "no_such_package") == ["no-such-package"]
    extras.need("This", "digits", "torch")
    with pytest.raises(UsageError, match=r"^This needs no-such-package, which is not installed"):
        extras.need("This", "digits", "torch", "no_such_package")


def test_every_extra_that_is_named_exists_and_all_has_them() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    offered = project["optional-dependencies"]
    [everything] = offered["all"]
    for path in (*(ROOT / "seclcompress").rglob("*.py"), ROOT / "docs" / "installing.md"):
        text = path.read_text(encoding="utf-8")
        for names in text.split("seclcompress[")[1:]:
            name = names.partition("]")[0]
            assert not name.isidentifier() or name in offered, f"{path.name}: {name}"
    always = " ".join(project["dependencies"]).replace("scikit-learn", "sklearn")
    assert not [name for name in OPTIONAL if f"{name}>=" in always]
    table = (ROOT / "docs" / "installing.md").read_text(encoding="utf-8")
    for name in offered:
        assert f"`{name}`" in table, name
    names = everything.removeprefix("seclcompress[").removesuffix("]").split(",")
    assert set(offered) - set(names) == {
        *("all", "openvino", "executorch", "litert", "mlflow", "wandb"),
    }
