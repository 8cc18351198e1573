"""What a family may use to write how its weight is made into a graph of ONNX operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor


class GraphWriter(Protocol):
    """Writes a graph node by node. Values are opaque; their shapes and dtypes follow ONNX's rules."""

    def given(self, tensor: Tensor) -> Any:
        """The value of a parameter or buffer of the layer, which the file holds."""

    def op(self, kind: str, *inputs: Any, **attributes: Any) -> Any:
        """Adds a node with one output.

        Args:
            kind: An operation of ONNX's default domain, such as `MatMul`.
            inputs: Values, or an int or float for a constant of no dimensions, or a list of ints.
            attributes: The operation's attributes.
        """

    def split(self, value: Any, parts: int) -> list[Any]:
        """Splits a value into single entries of its first dimension, each of length 1."""

    def call(
        self,
        name: str,
        inputs: Sequence[Any],
        body: Callable[[GraphWriter, Sequence[Any]], Sequence[Any]],
    ) -> Sequence[Any]:
        """Calls a function, which is in the file once for all who call it by this name.

        Args:
            name: The name, which stands for everything that the body depends on.
            inputs: Values. What a function without inputs computes is computed once for the whole file.
            body: Writes the function, given its writer and its inputs; returns its outputs.

        Returns:
            The call's outputs.
        """
