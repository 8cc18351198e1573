"""All private names of torch and torchvision that this package uses.

Each has its reason beside it. The tests in `tests/test_torch_private.py` tell which of them a new
version of torch has changed. No other module uses private names.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# The common base class of batch norms of one to three dimensions; torch has no public name for it.
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

# The common base classes of convolutions and transposed convolutions of one to three dimensions,
# likewise without public names.
from torch.nn.modules.conv import _ConvNd as ConvNd
from torch.nn.modules.conv import _ConvTransposeNd as ConvTransposeNd

# A mode that sees every operation below autograd; `trace` counts products there.
from torch.utils._python_dispatch import TorchDispatchMode

# Finds the tensors in nested containers. The public `torch.utils.pytree` came with torch 2.9.
from torch.utils._pytree import tree_leaves

__all__ = [
    "BatchNorm",
    "ConvNd",
    "ConvTransposeNd",
    "TorchDispatchMode",
    "tree_leaves",
]

_FORWARD_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_BACKWARD_HOOKS = ("_backward_hooks", "_backward_pre_hooks")


def own_parameters(module: nn.Module) -> dict[str, nn.Parameter | None]:
    """A module's own parameters by name, without those of its submodules.

    `named_parameters(recurse=False)` would leave out the second name of a shared parameter, and
    parameters that are None.
    """
    return module._parameters


def share_state(module: nn.Module, other: nn.Module) -> None:
    """Makes a module share the other's own parameters and buffers, under the same names."""
    module._parameters, module._buffers = other._parameters, other._buffers


def children_by_name(module: nn.Module) -> dict[str, nn.Module | None]:
    """A module's children by name. `named_children` would leave out the second name of a child."""
    return module._modules


def has_forward_hooks(module: nn.Module) -> bool:
    """Whether a module has hooks that run before or after its `forward`."""
    return any(getattr(module, hooks) for hooks in _FORWARD_HOOKS)


def has_hooks(module: nn.Module) -> bool:
    """Whether a module has forward or backward hooks, which would be lost if it were replaced."""
    return any(getattr(module, hooks) for hooks in (*_FORWARD_HOOKS, *_BACKWARD_HOOKS))


def computes_as(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module of a subclass runs `kind`'s own code.

    A subclass of a convolution may override `_conv_forward` alone, which is private.
    """
    return all(
        getattr(type(module), method, None) is getattr(kind, method, None)
        for method in ("forward", "_conv_forward", "__call__")
    )


def module_versions(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The modules' versions, which torch keeps beside the tensors of a state_dict; empty if missing."""
    versions = getattr(state, "_metadata", None)
    return versions if isinstance(versions, Mapping) else {}


def set_module_versions(state: Any, versions: Mapping[str, Any]) -> None:
    """Puts modules' versions beside the tensors of an ordered dictionary, where torch finds them."""
    state._metadata = versions


def scale_all(tensors: Sequence[Tensor], factor: float) -> None:
    """Multiplies many tensors in place, in one kernel launch where torch can, as its optimisers do."""
    torch._foreach_mul_(list(tensors), factor)


def operator_name(operator: Any) -> str:
    """The name of an operator that a dispatch mode sees, such as `aten::mm`."""
    return str(operator._schema.name)


def overload_packet(operator: Any) -> Any:
    """An operator without its overload, which is the key of torch's table of FLOP formulas."""
    return operator._overloadpacket


# Signs of active modes, tracers and transforms, which need the kernel's operator to go through torch's
# dispatcher (`kernel/watched.py`). The public ways to ask are too slow for every call of a small stack.
included_dispatch_keys = torch._C._dispatch_tls_local_include_set
dispatch_keys = torch._C._dispatch_keys
torch_function_modes = torch._C._len_torch_function_stack


def forward_mode_level() -> int:
    """The nesting level of this thread in forward-mode differentiation; -1 outside of it."""
    return torch.autograd.forward_ad._current_level


def inside_a_transform() -> bool:
    """Whether a transform of torch.func (grad, vmap, jvp) is running."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def is_for_classification(transforms: object) -> bool:
    """Whether the transforms of published weights are torchvision's for image classification.

    The transforms of other tasks do not have the same attributes for size, mean and standard deviation.
    """
    from torchvision.transforms._presets import ImageClassification  # loads torchvision's operators

    return isinstance(transforms, ImageClassification)


@contextlib.contextmanager
def translations_read_once() -> Iterator[None]:
    """Has torch's ONNX exporter read its table of translations once in a process.

    At every export it parses the sources of some five hundred functions for a table that is always the
    same: 0.8 s, where tracing a small function takes no longer. A torch that reads it in another way is
    left as it is.
    """
    from torch.onnx._internal.exporter import _registration

    source = getattr(_registration, "onnxscript_apis", None)
    read = getattr(source, "get_torchlib_ops", None)
    if read is None:
        yield
        return
    source.get_torchlib_ops = functools.partial(_translations, read)  # type: ignore[union-attr]
    try:
        yield
    finally:
        source.get_torchlib_ops = read  # type: ignore[union-attr]


@functools.cache
def _translations(read: Callable[[], Iterable[Any]]) -> tuple[Any, ...]:
    return tuple(read())


def twin_of(layer: nn.Module, change: Callable[[Tensor], Tensor]) -> nn.Module:
    """A copy of a layer, alone, whose parameters and buffers are others; the layer keeps its own.

    Args:
        layer: The layer.
        change: Makes the twin's tensor from the layer's.
    """
    twin = copy.copy(layer)
    twin._parameters = {
        name: None if p is None else nn.Parameter(change(p), requires_grad=False)
        for name, p in layer._parameters.items()
    }
    twin._buffers = {name: None if b is None else change(b) for name, b in layer._buffers.items()}
    return twin
