"""One forward pass that tells where each layer stands: sizes, Mult-Adds, and what nobody counts.

The pass runs on the meta device where the network allows it, so it computes nothing and needs no
memory, whatever the network's size.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from seclcompress.errors import NetworkError

#: Operations without contractions: nothing is multiplied and added up over a dimension of weights,
#: or (normalisation, pooling, activations) convention counts none. Everything that is neither here
#: nor counted is reported by name.
FREE_OPERATIONS = frozenset(
    """
    _adaptive_avg_pool2d _adaptive_avg_pool3d _native_batch_norm_legit_no_training _safe_softmax
    _native_batch_norm_legit _softmax _to_copy _unsafe_view abs add add_ alias arange as_strided
    as_strided_ avg_pool2d avg_pool3d bernoulli bernoulli_ cat clamp clamp_ clamp_min clone
    constant_pad_nd contiguous copy_ cos cumsum detach div div_ dropout elu empty empty_like eq
    exp expand eye fill fill_ flip full full_like ge gelu gt hardsigmoid hardsigmoid_ hardswish
    hardswish_ hardtanh hardtanh_ index index_add index_select le leaky_relu leaky_relu_
    lift_fresh linalg_vector_norm linspace log log1p lt masked_fill max max_pool2d_with_indices
    max_pool3d_with_indices maximum mean min minimum mish mish_ mul mul_ native_batch_norm
    native_dropout native_group_norm native_layer_norm ne neg new_empty new_full new_ones
    new_zeros ones ones_like permute pixel_shuffle pow prelu rand rand_like reciprocal
    reflection_pad1d reflection_pad2d reflection_pad3d relu relu_ remainder repeat
    replication_pad1d replication_pad2d replication_pad3d resize_ roll rsqrt rsub scalar_tensor
    scatter select select_scatter sigmoid sigmoid_ sign silu silu_ sin slice slice_scatter split
    split_with_sizes sqrt squeeze stack sub sub_ sum t tanh tanh_ transpose tril triu unbind
    unfold unsqueeze unsqueeze_ upsample_bicubic2d upsample_bilinear2d upsample_nearest2d var
    var_mean view where zero_ zeros zeros_like
    """.split()
)


@dataclass(frozen=True)
class ModuleCall:
    """One module finished with an output of this shape, (batch, …)."""

    name: str
    shape: tuple[int, ...]


@dataclass
class Trace:
    """What one image of `input_size` does in a network in eval mode.

    Attributes:
        input_size: (channels, *spatial).
        calls: Modules in the order in which they finished, those with one tensor as output.
        mult_adds: Mult-Adds of contractions by the innermost module that ran them; "" is the
            network itself.
        uncounted: How often each operation ran that by convention counts nothing.
        unknown: The same for operations that nobody here knows how to count.
    """

    input_size: tuple[int, ...]
    calls: list[ModuleCall] = field(default_factory=list)
    mult_adds: Counter[str] = field(default_factory=Counter)
    uncounted: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)

    @property
    def total_mult_adds(self) -> int:
        """Mult-Adds an image of all contractions."""
        return self.mult_adds.total()

    @property
    def outputs(self) -> int:
        """Channels (classes) of the network's own output; 0 if that is not one tensor."""
        own = [call.shape for call in self.calls if call.name == ""]
        return own[-1][1] if own and len(own[-1]) > 1 else 0

    def output_sizes(self, name: str) -> list[tuple[int, ...]]:
        """The spatial size of each output image of a module, one entry an image and a call."""
        return [
            call.shape[2:] for call in self.calls if call.name == name for _ in range(call.shape[0])
        ]


def trace_network(network: nn.Module, input_size: tuple[int, ...]) -> Trace:
    """Runs one image of zeros through a network in eval mode and notes what happens.

    Args:
        network: Any module that takes one tensor; its modes, weights and buffers stay as they are.
        input_size: (channels, *spatial).

    Raises:
        NetworkError: If the network cannot run at this size.
    """
    tensors = [*network.parameters(), *network.buffers()]
    devices = [torch.device("meta")]
    if not any(tensor.is_meta for tensor in tensors):
        # Some networks look at values, and have to be run for real.
        devices.append(tensors[0].device if tensors else torch.device("cpu"))
    failure: Exception | None = None
    for device in devices:
        try:
            return _run(network, input_size, device)
        except Exception as error:
            failure = error
    lines = str(failure).strip().splitlines() or [type(failure).__name__]
    raise NetworkError(
        f"The network cannot run at an input of {'×'.join(map(str, input_size))}: {lines[0]} "
        "Give another size with --input-size; a network needs one larger than its total stride."
    ) from failure


def _run(network: nn.Module, input_size: tuple[int, ...], device: torch.device) -> Trace:
    result = Trace(tuple(input_size))
    image = torch.zeros(1, *input_size, dtype=floating_dtype(network), device=device)
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    if device.type == "meta":
        tensors = {name: tensor.detach().to("meta") for name, tensor in tensors.items()}
    running = [""]
    with eval_mode(network), _watch(network, running, result), torch.no_grad():
        with _Counter(running, result):
            torch.func.functional_call(network, tensors, (image,))
    return result


def floating_dtype(network: nn.Module) -> torch.dtype:
    """The dtype that a network's images must have: that of its first floating parameter."""
    return next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)


@contextlib.contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Eval mode for a while; afterwards every module has the mode that it had."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextlib.contextmanager
def _watch(network: nn.Module, running: list[str], result: Trace) -> Iterator[None]:
    """Keeps the names of the modules that are running, innermost last."""

    def enter(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            del module, args
            running.append(name)

        return hook

    def leave(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            del args
            running.pop()
            if isinstance(output, Tensor):
                shape = tuple(output.shape)
                dimensions = len(module.kernel_size) if isinstance(module, _ConvNd) else -1
                if len(shape) == 1 + dimensions:
                    shape = (1, *shape)  # torch's convolutions take one image without a batch, too
                result.calls.append(ModuleCall(name, shape))

        return hook

    handles = []
    for name, module in network.named_modules():
        handles.append(module.register_forward_pre_hook(enter(name)))
        handles.append(module.register_forward_hook(leave(name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Counter(TorchDispatchMode):
    """Counts the contractions that reach the dispatcher, by torch's own formulas."""

    def __init__(self, running: list[str], result: Trace) -> None:
        super().__init__()
        self.running, self.result = running, result

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:  # an operation made of others is counted by its parts
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        output = func(*args, **kwargs)
        name = func._schema.name.partition("::")[2]
        if formula is not None:
            # torch counts a multiply and an add as two.
            self.result.mult_adds[self.running[-1]] += formula(*args, **kwargs, out_val=output) // 2
        elif name in FREE_OPERATIONS:
            self.result.uncounted[name] += 1
        else:
            self.result.unknown[name] += 1
        return output
