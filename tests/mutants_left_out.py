"""Mutants of what mutmut leaves out, by its own rules: decorated functions, tables, defaults.

mutmut puts a switch in front of each function, so it cannot change what runs at import. Here every
mutant is a module of its own, imported by a process forked for it. Prints what survives.

    python tests/mutants_left_out.py [part of a file's name]
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

import hypothesis  # noqa: F401 (what is imported here is imported once)
import libcst as cst
import pytest
import scipy.fft  # noqa: F401
import torch
import torchvision  # noqa: F401
from mutmut.configuration import config
from mutmut.mutation.mutators import mutation_operators
from mutmut.utils.file_utils import walk_mutatable_files

#: A function without a decorator that runs at import all the same.
_AT_IMPORT = {"_cached_table"}
_ARGUMENTS = (
    "-x -q -p no:xdist -p no:cacheprovider --hypothesis-profile=mutants --timeout=120".split()
)


def left_out(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """The nodes that mutmut does not change, but may."""
    if isinstance(node, cst.Annotation | cst.Decorator | cst.Import | cst.ImportFrom):
        return
    if isinstance(node, cst.FunctionDef):
        if not node.decorators and node.name.value not in _AT_IMPORT:
            return
        yield from everything(node.body)
        return
    if isinstance(node, cst.Assign) and cst.Module([]).code_for_node(node).startswith("__all__"):
        return
    yield node
    for child in node.children:
        yield from left_out(child)


def everything(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    if isinstance(node, cst.Annotation | cst.Decorator):
        return
    yield node
    for child in node.children:
        yield from everything(child)


def mutants(path: Path) -> Iterator[tuple[Path, str, str]]:
    """The file, what is changed in words, and the changed source."""
    module = cst.parse_module(path.read_text(encoding="utf-8"))
    for node in left_out(module):
        for kind, change in mutation_operators:
            for changed in change(node) if isinstance(node, kind) else ():
                before, after = (module.code_for_node(n).strip() for n in (node, changed))
                source = module.deep_replace(node, changed).code
                line = next(
                    number
                    for number, (old, new) in enumerate(
                        zip(module.code.splitlines(), source.splitlines(), strict=False), 1
                    )
                    if old != new
                )
                yield path, f"{path}:{line}: {before}  ->  {after}", source


def survives(mutant: tuple[Path, str, str]) -> tuple[str, bool]:
    """Runs the tests in this process, which is forked for it, with one module's source changed."""
    path, words, source = mutant
    name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")

    class Loader(importlib.machinery.SourceFileLoader):
        def get_code(self, fullname: str) -> CodeType:
            return compile(source, self.path, "exec", dont_inherit=True)

    def find_spec(wanted: str, *about: Any) -> Any:
        if wanted != name:
            return None
        return importlib.util.spec_from_file_location(name, path, loader=Loader(name, str(path)))

    sys.meta_path.insert(0, SimpleNamespace(find_spec=find_spec))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    arguments = [*config().pytest_add_cli_args, "-x", "-q", "--timeout=120"]
    tests = config().pytest_add_cli_args_test_selection
    # The file of its own name first: most die there.
    stems = [Path(part).stem.rstrip("s") for part in path.parts[1:]]
    own = [test for test in tests if any(stem in test for stem in stems)]
    others = [test for test in tests if test not in own]
    return words, all(pytest.main([*arguments, *some]) == 0 for some in (own, others) if some)


def main(part: str = "") -> None:
    torch.set_num_threads(1)
    assert not any(name.startswith("seclcompress") for name in sys.modules)
    files = [path for path in sorted(walk_mutatable_files()) if part in str(path)]
    counts: Counter[str] = Counter()
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        found = [mutant for path in files for mutant in mutants(path)]
        for words, survived in pool.imap(survives, found, chunksize=1):
            module = words.split(":")[0]
            counts[module] += 1
            counts[f"{module}, survived"] += survived
            if survived:
                print(words, flush=True)
    for module, number in counts.items():
        print(f"{number:5} {module}")


if __name__ == "__main__":
    main(*sys.argv[1:])
