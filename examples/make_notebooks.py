"""Makes the notebooks from the scripts beside them: `make notebooks`. The scripts are what is edited."""

from __future__ import annotations

from pathlib import Path

import jupytext

HERE = Path(__file__).parent
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def notebook_of(script: Path) -> str:
    """A script in jupytext's percent format as the text of a notebook, the same one every time."""
    notebook = jupytext.read(script, fmt="py:percent")
    notebook.metadata = {"kernelspec": KERNEL}
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # jupytext draws them at random
        cell["metadata"] = {}
    return str(jupytext.writes(notebook, fmt="ipynb")).rstrip() + "\n"


def main() -> None:
    for script in sorted(HERE.glob("[0-9]_*.py")):
        script.with_suffix(".ipynb").write_text(notebook_of(script), encoding="utf-8")


if __name__ == "__main__":
    main()
