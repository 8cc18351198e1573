"""From a torch module to an ONNX graph, by torch's dynamo exporter."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes import common as passes
from onnxscript import optimizer
from torch import Tensor, nn

from seclcompress.errors import ExportError
from seclcompress.export.graph.chains import model_of, steps_of
from seclcompress.export.graph.operators import translations
from seclcompress.export.graph.values import OPSET
from seclcompress.export.plain import example
from seclcompress.torch_private import translations_read_once, tree_leaves

#: The name of the files' input.
INPUT = "images"
_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")


def trace_network(network: nn.Module, input_size: tuple[int, ...]) -> tuple[ir.Model, bool]:
    """Traces a network for any number of images, or for one where that is not possible.

    Args:
        network: A network that takes one tensor of images, in eval mode.
        input_size: (channels, *spatial).

    Returns:
        The model, and whether it takes any number of images.

    Raises:
        ExportError: If torch cannot trace it.
    """
    with torch.no_grad():
        output = network(example(network, input_size, 1))
    names = output_names(output)
    steps = steps_of(network)
    if steps is not None:
        return model_of(steps, INPUT, names[0], input_size, tuple(output.shape[1:])), True
    try:
        model = trace(network, (example(network, input_size, 2),), names, dynamic=True)
        if all(_is_free(value) for value in [*model.graph.inputs, *model.graph.outputs]):
            return model, True
    except Exception:  # sizes that the network's Python code decides by
        pass
    try:
        return trace(network, (example(network, input_size, 1),), names), False
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(
            f"torch cannot trace this network ({first}). torch.export says which line of its code "
            "decides by values: https://pytorch.org/docs/stable/export.html"
        ) from error


def _is_free(value: ir.Value) -> bool:
    shape = value.shape
    return shape is not None and len(shape) > 0 and not isinstance(shape[0], int)


def output_names(output: Any) -> list[str]:
    """Names for what a network returns: `scores`, the keys of a dictionary, or numbered ones."""
    if isinstance(output, Tensor):
        return ["scores"]
    if isinstance(output, Mapping):
        return [str(name) for name in output]
    return [f"output_{place}" for place in range(len(tree_leaves(output)))]


def trace(
    module: nn.Module,
    arguments: tuple[Tensor, ...] = (),
    outputs: Sequence[str] = ("output",),
    *,
    dynamic: bool = False,
) -> ir.Model:
    """Traces a module; constants are not folded.

    Args:
        module: The module, in eval mode.
        arguments: Example arguments: images, or none.
        outputs: The outputs' names.
        dynamic: Whether the arguments' first dimension may have any size.
    """
    shapes = tuple({0: torch.export.Dim("batch")} for _ in arguments) if dynamic else None
    with _quiet(), _out_of_place(module), translations_read_once():
        program = torch.onnx.export(
            module,
            arguments,
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT] if arguments else [],
            output_names=list(outputs),
            dynamic_shapes=shapes,
            optimize=False,
            verbose=False,
            custom_translation_table=translations(),
        )
    assert program is not None
    return program.model


def simplify(model: ir.Model, largest: int | None = None) -> None:
    """Folds constants and fuses operations, in place, and removes what the trace has noted.

    Those notes are stack traces with the names of this machine's files.

    Args:
        model: The model.
        largest: Constants with more numbers than this are neither folded nor made; None for the
            limits of torch's exporter.
    """
    limits: dict[str, Any] = {}
    if largest is not None:
        limits = {"input_size_limit": largest, "output_size_limit": largest}
    with _quiet():
        optimizer.optimize(model, **limits)
    passes.ClearMetadataAndDocStringPass()(model)


@contextlib.contextmanager
def _out_of_place(network: nn.Module) -> Iterator[None]:
    """Has activations make new tensors: in place on a part of one, they are traced as scattering."""
    found: list[Any] = [m for m in network.modules() if vars(m).get("inplace") is True]
    for module in found:
        module.inplace = False
    try:
        yield
    finally:
        for module in found:
            module.inplace = True


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's notes on its own progress off the terminal."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
