"""Loading weights from a file into a network, without running pickled code or ignoring a mismatch."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from seclcompress.errors import WeightsError
from seclcompress.torch_private import module_versions, set_module_versions

_LARGEST_HEADER = 2 * 2**20  # bytes; the largest torchvision network has a header of 0.1 MB
_PICKLED = (".pth", ".pt", ".t7")
#: The keys under which training scripts put the weights in a checkpoint.
_WRAPPERS = ("state_dict", "model", "model_state_dict", "model_ema", "net")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads a file of weights.

    Args:
        path: A `.safetensors` file, or a `.pth`/`.pt` file with tensors and plain containers only. A
            checkpoint with the weights under a key such as `state_dict` or `model` is unwrapped.

    Returns:
        Tensors by parameter name, on the CPU.

    Raises:
        WeightsError: If the file is missing, damaged, of another kind, or holds pickled code.
    """
    try:
        there = path.is_file()
    except OSError:  # the parent is not readable, or the name is too long
        there = False
    if not there:
        raise WeightsError(f"There is no weights file {path}.")
    if path.suffix == ".safetensors":
        try:
            _check_header(path)
            return safetensors.torch.load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise WeightsError(f"{path} is not a readable safetensors file: {error}.") from error
    if path.suffix not in _PICKLED:
        raise WeightsError(
            f"{path}: cannot tell what kind of file it is. Known are .safetensors, .pth and .pt."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message advises to load the file unsafely, so it is not shown.
        raise WeightsError(
            f"{path} is damaged, or holds more than tensors, and unpickling it could run code: "
            "refused. Where you trust it, load it in Python yourself and save its state_dict."
        ) from error
    except Exception as error:  # a damaged archive ends in many kinds of exception
        raise WeightsError(
            f"{path} is damaged or no file of torch.save ({type(error).__name__})."
        ) from error
    return _tensors(content, path)


def _check_header(path: Path) -> None:
    """Refuses a file with a header, the list of its tensors, that would take gigabytes to parse."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > _LARGEST_HEADER:
        raise ValueError(f"its header has {length:,} bytes, more than {_LARGEST_HEADER:,}")


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path} holds a {type(content).__name__}, not weights by name.")
    strange = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if strange:
        raise WeightsError(f"{path} holds no tensor under {strange[0]!r} and is not a state_dict.")
    state = {str(key): value for key, value in content.items()}
    versions = {
        module: {"version": about["version"]}
        for module, about in module_versions(content).items()
        if isinstance(about, Mapping) and type(about.get("version")) is int
    }
    return _with_versions(state, versions)


def _with_versions(
    state: Mapping[str, Tensor], versions: Mapping[str, Any]
) -> OrderedDict[str, Tensor]:
    """An ordered dictionary of the tensors, with the modules' versions beside them, as torch has it."""
    versioned = OrderedDict(state)
    if versions:
        set_module_versions(versioned, versions)
    return versioned


def _unwrapped(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Removes the prefixes of DataParallel and torch.compile as long as no name fits the network."""
    while state and not own.keys() & state.keys():
        for prefix in ("module.", "_orig_mod."):
            if all(key.startswith(prefix) for key in state):
                versions = {
                    f"{module}.".removeprefix(prefix).removesuffix("."): version
                    for module, version in module_versions(state).items()
                    if f"{module}.".startswith(prefix)
                }
                plain = {key.removeprefix(prefix): value for key, value in state.items()}
                state = _with_versions(plain, versions)
                break
        else:
            return state
    return state


def load_weights(
    network: nn.Module, state: Mapping[str, Tensor], source: str, *, new_head: bool = False
) -> list[str]:
    """Loads weights into a network, either all of them or none.

    Args:
        network: The network; it keeps its dtype.
        state: Tensors by parameter name. If no name fits, the prefixes that DataParallel and
            torch.compile put before every name are removed.
        source: Where the weights come from, for error messages.
        new_head: Allows the network's head to have another number of classes; its tensors then stay
            untrained.

    Returns:
        The names of the tensors that stay untrained.

    Raises:
        WeightsError: If names or shapes differ (the message lists the first few), or a value is not
            finite.
    """
    own = network.state_dict()
    state = _unwrapped(state, own)
    odd = [key for key in own if key in state and own[key].shape != state[key].shape]
    untrained = odd if new_head and _differ_in_classes(own, state, odd) else []
    complaints = [f"missing {key}" for key in own if key not in state]
    complaints += [f"unexpected {key}" for key in state if key not in own]
    complaints += [
        f"{key} has shape {_shape(state[key])} instead of {_shape(own[key])}"
        for key in odd
        if key not in untrained
    ]
    if complaints:
        listed = "; ".join(complaints[:4])
        more = f"; and {len(complaints) - 4} more" if len(complaints) > 4 else ""
        hint = ""
        if odd and len(complaints) == len(odd) and _differ_in_classes(own, state, odd):
            hint = " If only the number of classes differs, say it with --num-classes."
        raise WeightsError(f"{source} does not fit the network: {listed}{more}.{hint}")
    check_finite(state, source)
    kept = {key: own[key] for key in untrained}
    put_state(network, _with_versions({**state, **kept}, module_versions(state)))
    return untrained


def put_state(network: nn.Module, state: Mapping[str, Tensor], *, assign: bool = False) -> None:
    """Calls `load_state_dict`, also for tensors without the versions of their modules.

    A module may refuse tensors of an unknown version, as MNASNet does. A `.pth` file has versions, which
    are passed on. A safetensors file has none; the network's own are used instead, which is correct
    because the callers have compared names and shapes with the network's.

    Args:
        network: The network.
        state: Tensors by name.
        assign: Makes these tensors the network's own instead of copying their values.

    Raises:
        RuntimeError: If names or shapes differ.
    """
    versions = module_versions(state) or module_versions(network.state_dict())
    network.load_state_dict(_with_versions(state, versions), assign=assign)


def _differ_in_classes(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], odd: list[str]
) -> bool:
    """Whether the tensors of other shapes are heads that differ only in their number of classes.

    The network's last matrix must be among them.

    Args:
        own: The network's tensors.
        state: The file's tensors.
        odd: The names of the tensors of other shapes.
    """
    if not odd:
        return True
    matrices = [key for key, value in own.items() if value.dim() > 1]
    if not matrices:
        return False
    last = matrices[-1]
    numbers = {(own[key].shape[0], state[key].shape[0]) for key in odd if own[key].dim() > 0}
    rest_fits = all(own[key].shape[1:] == state[key].shape[1:] for key in odd)
    return last in odd and len(numbers) == 1 and rest_fits


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Refuses weights with NaN or infinite values.

    Raises:
        WeightsError: If there are some; the message names the first few tensors.
    """
    bad = []
    for key, value in state.items():
        if value.is_floating_point() and not value.is_meta:
            # isfinite does not support 8-bit floats; float32 represents them exactly.
            wide = value.float() if value.element_size() == 1 else value
            count = int((~torch.isfinite(wide)).sum())
            if count:
                bad.append(f"{key} ({count} of {value.numel()})")
    if bad:
        more = f" and {len(bad) - 3} more tensors" if len(bad) > 3 else ""
        raise WeightsError(
            f"{source} has values that are NaN or infinite: {', '.join(bad[:3])}{more}."
        )


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"
