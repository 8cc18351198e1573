"""Checks of a .pt2 file before torch reads it, so that no code of the file is run.

`torch.export.load` is not made for a stranger's file. It unpickles what `weights_only` refuses, loads
compiled libraries, evaluates the text of sizes and guards, calls any function below the module `torch`
that a graph names, and puts the names of inputs into Python code. So a file must have the records
that `formats.torch` writes, of the few kinds of text that belong there; anything else is refused.
"""

from __future__ import annotations

import json
import re
import struct
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from seclcompress.errors import ArtefactError, WeightsError, short
from seclcompress.networks.weights.archive import check_archive, records_of

_NUMBERS = r"data/(weights/weight|constants/tensor)_\d+"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_GRAPH, _INPUTS = "models/model.json", "data/sample_inputs/model.pt"
_ALLOWED = re.compile(
    rf"{_NUMBERS}|{'|'.join(map(re.escape, (*_CONFIGS, _GRAPH, _INPUTS)))}"
    r"|extra/[a-z]+|archive_format|archive_version|byteorder|\.data/(version|serialization_id)"
)
_MOST_TEXT = 2**28  # bytes of a graph
_MOST_EXTRA = 2**24  # bytes of what a file says of itself

#: What a graph may call: torch's operations on tensors, and arithmetic of sizes.
_CALLED = re.compile(
    r"torch\.ops\.aten\.(?!__|(?:save|load|from_file|_print|warn|format|eval)\b)\w+\.(?!_)\w+"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|math\.(ceil|floor|trunc|sqrt)|torch\.(sym_(int|float|max|min|not|ite)|_sym_sqrt)"
)
#: An expression of sizes is evaluated: calls of these names, numbers, names of sizes, nothing else.
_SIZES = re.compile(
    r"(?:\b(?:Symbol|Integer|Rational|Add|Mul|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv"
    r"|ModularIndexing|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not|positive|nonnegative|nonzero|integer|evaluate"
    r"|True|False)\b|'[su]\d+'|\b[su]\d+\b|\b\d{1,19}\b|[(),=<>+\-/ ]|(?<!\*)\*(?!\*))*"
)
_NAME = re.compile(r"[A-Za-z_]\w*")
_WORDS = re.compile(r"[\w.+\-]*")
_STRING = re.compile(r"[\w.,>\- ]*")  # modes of operations, and equations of einsum
_CONTAINERS = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
_REFUSED_KEYS = {"as_operator", "as_custom_obj", "as_graph", "as_graphs"}


def read_extra(path: Path, name: str) -> str | None:
    """A text that was saved beside a program; None if there is none of that name.

    Raises:
        ArtefactError: If the file is damaged, or has other records than `formats.torch` writes.
    """
    found = _records(path).get(f"extra/{name}")
    if found is None:
        return None
    return _read(path, found, _MOST_EXTRA)


def check_program(path: Path) -> None:
    """Checks that torch can load a program without running code of the file.

    Raises:
        ArtefactError: If the file is damaged, or holds anything that `formats.torch` does not write.
    """
    records = _records(path)
    for name in (*_CONFIGS, _GRAPH, _INPUTS):
        if name not in records:
            raise ArtefactError(f"{path} is damaged: it has no {name}.")
    for name in _CONFIGS:
        _check_config(path, name, _json(path, records[name]))
    graph = _json(path, records[_GRAPH])
    _check_text(path, graph, "")
    _check_inputs(path, records[_INPUTS])


def _records(path: Path) -> dict[str, zipfile.ZipInfo]:
    """The records by name, without the folder that they all lie in."""
    try:
        records = records_of(path)
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError) as error:
        raise ArtefactError(
            f"{path} is no .pt2 file that seclcompress has written, or is damaged: {error}."
        ) from error
    found: dict[str, zipfile.ZipInfo] = {}
    for record in records:
        folder, _, name = record.filename.partition("/")
        if folder != "archive" or not _ALLOWED.fullmatch(name):
            raise _refused(path, f"its record {short(record.filename, 100)}")
        if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1:
            raise _refused(path, f"its record {record.filename}, which is compressed,")
        found[name] = record
    return found


def _refused(path: Path, what: str) -> ArtefactError:
    return ArtefactError(
        f"{path}: {what} is nothing that seclcompress writes into a .pt2 file, and loading it could run "
        "code: refused. Export the network again with this version."
    )


def _read(path: Path, record: zipfile.ZipInfo, most: int) -> str:
    if record.file_size > most:
        raise ArtefactError(
            f"{path}: its record {record.filename} has {record.file_size:,} bytes; at most {most:,} are "
            "read."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(record).decode()
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path} is damaged in {record.filename}: {error}.") from error


def _json(path: Path, record: zipfile.ZipInfo) -> Any:
    try:
        return json.loads(_read(path, record, _MOST_TEXT), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path} is damaged in {record.filename}: {error}.") from error


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses a key that is there twice: readers differ in which of its values they take."""
    pairs = list(pairs)
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _check_config(path: Path, name: str, config: Any) -> None:
    """Checks that numbers are stored as numbers, not pickled."""
    try:
        entries = list(config["config"].values())
        pickled = [one for one in entries if one["use_pickle"] is not False]
        elsewhere = [
            one
            for one in entries
            if not re.fullmatch(_NUMBERS, f"{name.rpartition('/')[0]}/{one['path_name']}")
        ]
    except (TypeError, KeyError, AttributeError) as error:
        raise ArtefactError(f"{path} is damaged in {name}: {error!r}.") from error
    if pickled or elsewhere:
        raise _refused(path, f"a pickled object in {name}")


def _check_text(path: Path, value: Any, key: str) -> None:
    """Checks every text of a graph by what torch does with it."""
    if isinstance(value, list):
        if key == "guards_code" and value:
            raise _refused(path, f"the code {short(str(value[0]), 100)!r}")
        for one in value:
            _check_text(path, one, key)
    elif isinstance(value, dict):
        if key in ("metadata", "treespec_namedtuple_fields") and value:
            raise _refused(path, f"{key} in its graph")
        for name, one in value.items():
            if name in _REFUSED_KEYS:
                raise _refused(path, f"{name} in its graph")
            if not _WORDS.fullmatch(name):
                raise _refused(path, f"the name {short(name, 100)!r}")
            _check_text(path, one, name)
    elif isinstance(value, str):
        if key in ("in_spec", "out_spec"):
            _check_containers(path, value)
            return
        by_key = {"target": _CALLED, "expr_str": _SIZES, "name": _NAME, "as_name": _WORDS}
        strings = {"as_string": _STRING, "as_strings": _STRING}
        if not (by_key | strings).get(key, _WORDS).fullmatch(value):
            raise _refused(path, f"{short(value, 100)!r} as {key}")


def _check_containers(path: Path, text: str) -> None:
    """Checks that inputs and outputs are in plain containers, whose types torch looks up by name."""
    try:
        waiting = [json.loads(text)[1]] if text else []
        while waiting:
            one = waiting.pop()
            context = None if one["context"] is None else json.loads(one["context"])
            names = context if isinstance(context, list) else [] if context is None else [context]
            plain = all(isinstance(name, str | int) for name in names)
            if one["type"] not in _CONTAINERS or not plain:
                raise _refused(
                    path, f"{short(str(one['type']), 100)!r} around its inputs or outputs"
                )
            waiting += one["children_spec"]
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise ArtefactError(f"{path} is damaged in {_GRAPH}: {error!r}.") from error


def _check_inputs(path: Path, record: zipfile.ZipInfo) -> None:
    """Checks that the example inputs, which are pickled, hold tensors and plain containers alone.

    torch tries `weights_only` first. What passes here passes there, so that torch never tries more.
    """
    with tempfile.TemporaryDirectory() as folder:
        inner = Path(folder) / "inputs"
        try:
            with zipfile.ZipFile(path) as archive:
                inner.write_bytes(archive.read(record))
            check_archive(inner)
            torch.load(inner, weights_only=True)
        except WeightsError as error:
            words = str(error).replace(str(inner), _INPUTS)
            raise ArtefactError(f"{path}: {words}") from error
        except Exception as error:  # a damaged file ends in many kinds of exception
            raise _refused(path, f"what is pickled in {_INPUTS}") from error
