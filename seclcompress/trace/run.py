"""The forward pass of a trace, with hooks on all modules."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from seclcompress.errors import NetworkError
from seclcompress.networks.tasks import task_of
from seclcompress.torch_private import ConvNd, own_parameters
from seclcompress.trace.copies import copied_network
from seclcompress.trace.kinds import advice_on, reason_not_to_trace
from seclcompress.trace.model import ModuleCall, Trace
from seclcompress.trace.operations import Counting, makers_of

#: Serialises traces, because a trace replaces torch's `Module.__getattr__`, which all threads use.
_WATCHING = threading.RLock()


def trace_network(network: nn.Module, input_size: tuple[int, ...]) -> Trace:
    """Runs one image (clip, pair of images) of zeros through a copy of a network in eval mode.

    Args:
        network: Any module that takes one tensor, or a network for a task of `networks.tasks`. It stays
            as it is, with all its attributes: the copy shares its weights or has none.
        input_size: (channels, *spatial).

    Raises:
        NetworkError: If the network cannot run at this size, or is of a kind that cannot be traced.
    """
    refusal = reason_not_to_trace(network)
    if refusal is not None:
        raise NetworkError(refusal)
    tensors = [*network.parameters(), *network.buffers()]
    devices = [torch.device("meta")]
    if not any(tensor.is_meta for tensor in tensors):
        # Some networks look at values, so the meta device is not enough for them.
        devices.append(tensors[0].device if tensors else torch.device("cpu"))
    failure: Exception | None = None
    for device in devices:
        try:
            return _run(copied_network(network, device), input_size, device)
        except Exception as error:
            failure = error
    lines = str(failure).strip().splitlines() or [type(failure).__name__]
    raise NetworkError(
        f"The network cannot run at an input of {'×'.join(map(str, input_size))}: "
        f"{lines[0].rstrip('.')}. "
        f"{advice_on(network, input_size)}"
    ) from failure


def _run(network: nn.Module, input_size: tuple[int, ...], device: torch.device) -> Trace:
    result = Trace(tuple(input_size))
    image = torch.zeros(1, *input_size, dtype=floating_dtype(network), device=device)
    task = task_of(network)
    shortened: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if device.type == "meta":
        shortened = task.without_values(network)
    running = [""]
    network.eval()
    with (
        _WATCHING,
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        shortened,
        products_in_sight(),
        _watch(network, running, result),
        torch.no_grad(),
    ):
        with _readers(network, running, result), Counting(running, result):
            network(*task.arguments(image))
    return result


@contextlib.contextmanager
def products_in_sight() -> Iterator[None]:
    """Switches off fused operations that hide their products: attention's fast path, and RNNs'."""
    fused_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with contextlib.ExitStack() as stack:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns of a setting that these leave alone
                stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused_attention)


def floating_dtype(network: nn.Module) -> torch.dtype:
    """The dtype that a network's images must have: that of its first floating-point parameter."""
    return next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)


@contextlib.contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Puts a network into eval mode; on exit every module gets its former mode back."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextlib.contextmanager
def _watch(network: nn.Module, running: list[str], result: Trace) -> Iterator[None]:
    """Keeps `running` up to date, innermost module last, and adds each finished call to `result`."""

    def enter(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            del module, args
            running.append(name)

        return hook

    def leave(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            running.pop()
            if name == "":
                whole = vars(output) if dataclasses.is_dataclass(output) else output
                result.makers |= makers_of(whole)
            if isinstance(output, Tensor):
                given = next(iter((*args, *kwargs.values())), None)
                result.calls.append(
                    ModuleCall(
                        name,
                        _with_batch(module, output),
                        _with_batch(module, given) if isinstance(given, Tensor) else None,
                        channels_last=isinstance(module, nn.Linear),
                    )
                )

        return hook

    handles = []
    for name, module in network.named_modules():
        # This hook runs before the module's other hooks, so their reads count as the module's own.
        handles.append(module.register_forward_pre_hook(enter(name), prepend=True))
        handles.append(module.register_forward_hook(leave(name), with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _with_batch(module: nn.Module, x: Tensor) -> tuple[int, ...]:
    """A tensor's shape, with a batch of 1 where a layer was given a single image without a batch."""
    alone = 1 if isinstance(module, nn.Linear) else -1
    if isinstance(module, ConvNd):
        alone = 1 + len(module.kernel_size)
    return (1, *x.shape) if x.dim() == alone else tuple(x.shape)


@contextlib.contextmanager
def _readers(network: nn.Module, running: list[str], result: Trace) -> Iterator[None]:
    """Records the modules whose parameters another module reads.

    A layer whose weights another module reads cannot be replaced. (Swin's attention multiplies by
    `self.qkv.weight` itself.) torch returns every parameter by `nn.Module.__getattr__`, so this context
    replaces that method by one that compares the parameter's module with the module that is running.
    """
    names = {id(module): name for name, module in network.named_modules()}
    for name, module in network.named_modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            # Its fast path reads these weights. The hooks of a trace switch that path off.
            path = f"{name}." if name else ""
            result.readers |= {f"{path}linear1": name, f"{path}linear2": name}
    hand_out = nn.Module.__getattr__

    def noting(module: nn.Module, attribute: str) -> Any:
        value = hand_out(module, attribute)
        # While `running` has one name, the network has not started.
        if isinstance(value, Tensor) and len(running) > 1 and attribute in own_parameters(module):
            name = names.get(id(module))
            if name is not None and running[-1] != name:
                result.readers.setdefault(name, running[-1])
        return value

    nn.Module.__getattr__ = noting  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.__getattr__ = hand_out  # type: ignore[method-assign]
