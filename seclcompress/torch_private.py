"""What torch and torchvision call private and this package needs, gathered in one place.

Each has its reason beside it, and a test in `tests/test_torch_private.py` that says which of them a new
torch has changed. No other module uses such a name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# What batch norms of one to three dimensions have in common; torch has no public name for it.
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

# What convolutions, and transposed ones, of one to three dimensions have in common; likewise.
from torch.nn.modules.conv import _ConvNd as ConvNd
from torch.nn.modules.conv import _ConvTransposeNd as ConvTransposeNd

# Sees every operation below autograd, which is where products are counted.
from torch.utils._python_dispatch import TorchDispatchMode

# The tensors in nested containers. The public `torch.utils.pytree` came with torch 2.9.
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
    """A module's own parameters by name, without those of the modules in it.

    `named_parameters(recurse=False)` leaves out a second name of a shared one, and those that are None.
    """
    return module._parameters


def share_state(module: nn.Module, other: nn.Module) -> None:
    """Makes the own parameters and buffers of two modules the same, under the same names."""
    module._parameters, module._buffers = other._parameters, other._buffers


def children_by_name(module: nn.Module) -> dict[str, nn.Module | None]:
    """A module's children by name; `named_children` passes over a child's second name."""
    return module._modules


def has_forward_hooks(module: nn.Module) -> bool:
    """Whether something else than its forward happens when a module runs."""
    return any(getattr(module, hooks) for hooks in _FORWARD_HOOKS)


def has_hooks(module: nn.Module) -> bool:
    """Whether a module has hooks of any kind, which would be lost with it."""
    return any(getattr(module, hooks) for hooks in (*_FORWARD_HOOKS, *_BACKWARD_HOOKS))


def computes_as(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a subclass runs `kind`'s own code: a convolution may override `_conv_forward` alone."""
    return all(
        getattr(type(module), method, None) is getattr(kind, method, None)
        for method in ("forward", "_conv_forward", "__call__")
    )


def module_versions(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The modules' versions that torch keeps beside the tensors of a state_dict; empty without any."""
    versions = getattr(state, "_metadata", None)
    return versions if isinstance(versions, Mapping) else {}


def set_module_versions(state: Any, versions: Mapping[str, Any]) -> None:
    """Puts modules' versions beside the tensors of an ordered dictionary, where torch looks for them."""
    state._metadata = versions


def scale_all(tensors: Sequence[Tensor], factor: float) -> None:
    """Multiplies many tensors in place, by one launch where torch can; optimisers do it so."""
    torch._foreach_mul_(list(tensors), factor)


def operator_name(operator: Any) -> str:
    """The name of an operator that a dispatch mode sees, such as `aten::mm`."""
    return str(operator._schema.name)


def overload_packet(operator: Any) -> Any:
    """An operator without its overload: what torch's table of FLOP formulas is keyed by."""
    return operator._overloadpacket


# Who watches a call: modes, tracers and transforms have no public sign that is cheap enough to be asked
# for at every call of a small stack (`kernel/watched.py`).
included_dispatch_keys = torch._C._dispatch_tls_local_include_set
dispatch_keys = torch._C._dispatch_keys
torch_function_modes = torch._C._len_torch_function_stack


def forward_mode_level() -> int:
    """How deep in forward-mode differentiation this thread is; -1 outside."""
    return torch.autograd.forward_ad._current_level


def inside_a_transform() -> bool:
    """Whether a transform of torch.func (grad, vmap, jvp) is running."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def is_for_classification(transforms: object) -> bool:
    """Whether published weights' transforms are of torchvision's class for image classification.

    The transforms of other tasks have no size, mean and standard deviation in the same places.
    """
    from torchvision.transforms._presets import ImageClassification  # needs torchvision's operators

    return isinstance(transforms, ImageClassification)
