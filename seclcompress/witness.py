"""A second count of Mult-Adds, by fvcore, for comparison with this package's own."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from seclcompress import extras
from seclcompress.count import Count
from seclcompress.errors import NetworkError
from seclcompress.networks.tasks import task_of
from seclcompress.plan import Plan
from seclcompress.rewrite import rewrite_network, to_dense
from seclcompress.trace import eval_mode, floating_dtype


def need_fvcore() -> None:
    """Checks that fvcore is installed.

    Raises:
        UsageError: If it is not.
    """
    extras.need("--verify", "verify", "fvcore")


def fvcore_mult_adds(network: nn.Module, input_size: tuple[int, ...]) -> tuple[int, dict[str, int]]:
    """Counts Mult-Adds by fvcore's FlopCountAnalysis, under this package's convention.

    By default fvcore also counts normalisation and pooling, and it cannot count attention. The handles
    in this module make it count contractions only. The network runs once, with values, in eval mode.

    Args:
        network: A network of plain layers; `to_dense` converts a rewritten network to them.
        input_size: (channels, *spatial).

    Returns:
        Mult-Adds per image, and the number of runs of each operation that fvcore does not know.

    Raises:
        NetworkError: If the number of operations depends on the image's values.
        UsageError: If fvcore is not installed.
    """
    need_fvcore()
    from fvcore.nn import FlopCountAnalysis

    device = next(network.parameters()).device
    image = torch.zeros(1, *input_size, device=device, dtype=floating_dtype(network))
    task = task_of(network)
    if task.depends_on_values:
        raise NetworkError(
            f"What a network for {task.name} runs depends on the image: we count as much as it runs at "
            "most, fvcore what one image takes. The two cannot be compared; leave --verify out."
        )
    fused_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it hides products in one operation
    try:
        with eval_mode(network), torch.no_grad():
            analysis = FlopCountAnalysis(network, task.arguments(image))
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            analysis.tracer_warnings("none")
            analysis.set_op_handle(**_FVCORE_HANDLES)
            total = int(analysis.total())
            unknown = analysis.unsupported_ops()
    except (AssertionError, IndexError, NotImplementedError, RuntimeError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise NetworkError(f"fvcore cannot count this network: {reason}") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fused_attention)
    return total, dict(unknown)


def verify(network: nn.Module, plan: Plan, counted: Count) -> dict[str, int]:
    """Rewrites a network and counts it again: parameters by torch, Mult-Adds by fvcore.

    Args:
        network: The original network, with values. It is rewritten.
        plan: The plan that was counted.
        counted: The figures to verify.

    Returns:
        The verified Mult-Adds of the columns `original` and `dense`.

    Raises:
        NetworkError: If a figure differs (the message contains both), or an operation that may multiply
            is not counted: then nothing can be said to agree.
    """
    if counted.unknown:
        raise NetworkError(
            f"Nothing can be verified: {', '.join(sorted(counted.unknown))} may multiply, and nobody "
            "here knows how often. torch.utils.flop_counter.register_flop_formula takes a formula for "
            "an operation."
        )
    agreed = {}
    for column in ("original", "dense"):
        if column == "dense":
            network = rewrite_network(network, plan).eval()
        mult_adds, unknown = fvcore_mult_adds(to_dense(network), counted.input_size)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        promised = counted.columns[column]
        if (parameters, mult_adds) != (promised.parameters, promised.mult_adds):
            raise NetworkError(
                f"'{column}': torch counts {parameters:,} parameters and fvcore {mult_adds:,} "
                f"Mult-Adds, we count {promised.parameters:,} and {promised.mult_adds:,}. Operations "
                f"that fvcore does not know: {', '.join(unknown) or 'none'}."
            )
        agreed[column] = mult_adds
    return agreed


def _shape(value: Any) -> list[int]:
    return list(value.type().sizes())


def _attention(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Scaled dot-product attention: the products of queries and keys, and of scores and values."""
    del outputs
    *batch, queries, width = _shape(inputs[0])
    keys, out_width = _shape(inputs[2])[-2:]
    scores = math.prod(batch) * queries * keys
    return Counter({"attention": scores * (width + out_width)})


def _einsum(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """An einsum of two operands: the product of all index sizes.

    fvcore's own handle parses them from numpy's report, in which they are rounded.
    """
    del outputs
    equation = inputs[0].toIValue().replace(" ", "")
    terms = equation.split("->")[0].split(",")
    operands = list(inputs[1].node().inputs())
    if len(terms) != 2 or "." in equation:
        raise NotImplementedError(f"Cannot count einsum {equation!r}.")
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operands, strict=True):
        sizes.update(zip(term, _shape(operand), strict=True))
    return Counter({"einsum": math.prod(sizes.values())})


def _same_convolution(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """A convolution with padding 'same' or 'valid': filter size times number of outputs."""
    filter_size = math.prod(_shape(inputs[1])[1:])
    return Counter({"conv": math.prod(_shape(outputs[0])) * filter_size})


def _recurrent(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """An LSTM, GRU or plain RNN: each weight matrix is used once for each step of each sequence."""
    del outputs
    steps = math.prod(_shape(inputs[0])[:2])
    weights = [_shape(weight) for weight in inputs[2].node().inputs()]
    matrices = sum(math.prod(shape) for shape in weights if len(shape) == 2)
    return Counter({"recurrent": steps * matrices})


def _bilinear(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """`x · W · y` for each output: every element of W once for each position."""
    del outputs
    positions = math.prod(_shape(inputs[0])[:-1])
    return Counter({"bilinear": positions * math.prod(_shape(inputs[2]))})


def _product(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """A product of matrices or vectors: as many Mult-Adds for each output as the first has columns.

    fvcore's own handle knows no vectors.
    """
    return Counter({"product": math.prod(_shape(outputs[0])) * _shape(inputs[0])[-1]})


def _distances(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Distances of all pairs of vectors: one Mult-Add for each pair and coordinate."""
    return Counter({"distances": math.prod(_shape(outputs[0])) * _shape(inputs[0])[-1]})


def _nothing(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Zero, for operations that are no contractions. With None, fvcore would use its own handle."""
    del inputs, outputs
    return Counter()


_FVCORE_HANDLES: Mapping[str, Callable[..., Counter[str]]] = {
    "aten::scaled_dot_product_attention": _attention,
    "aten::einsum": _einsum,
    "aten::_convolution_mode": _same_convolution,
    "torchvision::deform_conv2d": _same_convolution,
    **dict.fromkeys(["aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu"], _recurrent),
    "aten::bilinear": _bilinear,
    **dict.fromkeys(["aten::matmul", "aten::mv", "aten::dot"], _product),
    "aten::cdist": _distances,
    **dict.fromkeys(
        [
            "aten::adaptive_avg_pool1d",
            "aten::adaptive_avg_pool2d",
            "aten::adaptive_avg_pool3d",
            "aten::batch_norm",
            "aten::grid_sampler",
            "aten::group_norm",
            "aten::instance_norm",
            "aten::layer_norm",
            "aten::upsample_bilinear2d",
            "aten::upsample_nearest2d",
        ],
        _nothing,
    ),
}
