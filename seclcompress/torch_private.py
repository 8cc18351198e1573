"""What torch calls private and this package needs, gathered in one place.

Each has its reason beside it, and a test in `tests/test_torch_private.py` that says which of them a new
torch has changed. Nothing else in this package may use a name of torch that begins with an underscore.
"""

from __future__ import annotations

from torch import nn

# What convolutions of one to three dimensions have in common; torch has no public name for it.
from torch.nn.modules.conv import _ConvNd as ConvNd
from torch.nn.modules.conv import _ConvTransposeNd as ConvTransposeNd

# The tensors in nested containers. The public `torch.utils.pytree` came with torch 2.9.
from torch.utils._pytree import tree_leaves

__all__ = ["ConvNd", "ConvTransposeNd", "tree_leaves"]

_FORWARD_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_BACKWARD_HOOKS = ("_backward_hooks", "_backward_pre_hooks")


def own_parameters(module: nn.Module) -> dict[str, nn.Parameter | None]:
    """A module's own parameters by name, without those of the modules in it.

    `named_parameters(recurse=False)` leaves out a second name of a shared one, and those that are None.
    """
    return module._parameters


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
