"""Genotypes of DARTS: what the cells of a searched network look like, and reading one from a file.

A genotype is read as data, whether it is written as JSON or in the notation of DARTS and its successors,
`Genotype(normal=[('sep_conv_3x3', 0), …], normal_concat=range(2, 6), …)`. Nothing of a file is run.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from seclcompress.errors import NetworkError, describe_validation_error, short

Operation = Literal[
    "none",
    "skip_connect",
    "max_pool_3x3",
    "avg_pool_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "conv_7x1_1x7",
]
#: Limits, because a genotype may stand in a stranger's file.
_MOST_NODES = 8
_LARGEST_FILE = 20_000  # characters

Edge = tuple[Operation, Annotated[int, Field(ge=0)]]
Edges = Annotated[tuple[Edge, ...], Field(min_length=2, max_length=2 * _MOST_NODES)]
Concat = Annotated[tuple[int, ...], Field(min_length=1, max_length=_MOST_NODES)]


class Genotype(BaseModel):
    """The two kinds of cells of a network.

    A cell's states 0 and 1 are its inputs; node n, from 2 on, is the sum of the edges 2(n − 2) and
    2(n − 2) + 1. An edge is an operation and the state it is applied to.

    Attributes:
        normal: The edges of a cell that keeps the size.
        normal_concat: The nodes that such a cell puts out, one behind the other.
        reduce: The edges of a cell that halves the size.
        reduce_concat: The nodes that it puts out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    normal: Edges
    normal_concat: Concat
    reduce: Edges
    reduce_concat: Concat

    @model_validator(mode="after")
    def _is_a_graph(self) -> Self:
        for kind, edges, concat in (
            ("normal", self.normal, self.normal_concat),
            ("reduce", self.reduce, self.reduce_concat),
        ):
            if len(edges) % 2:
                raise ValueError(f"{kind} has {len(edges)} edges; every node has two")
            for place, (operation, state) in enumerate(edges):
                node = 2 + place // 2
                if state >= node:
                    raise ValueError(
                        f"{kind}: edge {place} applies {operation} to state {state}, but node {node} "
                        f"sees only the states 0 to {node - 1}"
                    )
            nodes = range(2, 2 + len(edges) // 2)
            odd = [node for node in concat if node not in nodes]
            if odd or len(set(concat)) < len(concat):
                raise ValueError(
                    f"{kind}_concat is {list(concat)}; it lists some of the nodes "
                    f"{nodes[0]} to {nodes[-1]}, each once"
                )
        return self


#: The cells that DARTS found by second order (Liu et al., ICLR 2019).
DARTS_V2 = Genotype(
    normal=(
        ("sep_conv_3x3", 0),
        ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 0),
        ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 1),
        ("skip_connect", 0),
        ("skip_connect", 0),
        ("dil_conv_3x3", 2),
    ),
    normal_concat=(2, 3, 4, 5),
    reduce=(
        ("max_pool_3x3", 0),
        ("max_pool_3x3", 1),
        ("skip_connect", 2),
        ("max_pool_3x3", 1),
        ("max_pool_3x3", 0),
        ("skip_connect", 2),
        ("skip_connect", 2),
        ("max_pool_3x3", 1),
    ),
    reduce_concat=(2, 3, 4, 5),
)


def read_genotype(path: Path) -> Genotype:
    """Reads a genotype from a file.

    Args:
        path: A file with one genotype: a JSON object of the four fields, or `Genotype(…)` with the
            fields by name, possibly assigned to a name.

    Raises:
        NetworkError: If there is no such file, or it holds no genotype.
    """
    text = _text(path)
    try:
        fields = json.loads(text) if text.lstrip().startswith("{") else _of_a_call(text)
        return checked(fields, str(path))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise NetworkError(
            f"{path} holds no genotype: {short(str(error), 300)}. It is a JSON object with normal, "
            "normal_concat, reduce and reduce_concat, or Genotype(…) with these by name."
        ) from error


def checked(fields: Any, where: str) -> Genotype:
    """Makes a genotype of values that came from outside.

    Args:
        fields: The four fields by name.
        where: Where they come from, for messages.

    Raises:
        NetworkError: If they make no genotype.
    """
    try:
        return Genotype.model_validate(fields)
    except ValidationError as error:
        raise NetworkError(f"{where}: no genotype: {describe_validation_error(error)}.") from error


def _text(path: Path) -> str:
    try:
        if not path.is_file():  # a pipe could keep us waiting, a device could be endless
            raise NetworkError(f"{path}: there is no such file with a genotype.")
        with path.open(encoding="utf-8") as file:
            text = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise NetworkError(f"{path}: cannot read the genotype: {error.strerror}.") from error
    except ValueError as error:  # no UTF-8 text, or a name that no file can have
        raise NetworkError(f"{path}: no genotype: {error}.") from error
    if len(text) > _LARGEST_FILE:
        raise NetworkError(f"{path}: no genotype: it has more than {_LARGEST_FILE:,} characters.")
    return text


def _of_a_call(text: str) -> dict[str, Any]:
    """The arguments of `Genotype(…)`, which is taken apart and not called."""
    body = ast.parse(text).body
    statement = body[0] if len(body) == 1 else None
    call = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
    if not isinstance(call, ast.Call) or ast.unparse(call.func).split(".")[-1] != "Genotype":
        raise ValueError("it is not one Genotype(…)")
    if call.args or any(keyword.arg is None for keyword in call.keywords):
        raise ValueError("the fields of Genotype(…) are given by name")
    return {str(keyword.arg): _literal(keyword.value) for keyword in call.keywords}


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "range" and not node.keywords:
        ends: Sequence[Any] = [ast.literal_eval(end) for end in node.args]
        return list(islice(range(*ends), _MOST_NODES + 1))
    return ast.literal_eval(node)
