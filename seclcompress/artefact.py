"""The saved folder, with `config.json` and `model.safetensors`. It is written whole, read without trust.

It lies on this machine, or in a repository of the Hugging Face Hub (`hf://OWNER/NAME`).

Nothing in a folder can make this program run or import code. The weights are safetensors, and the
configuration is validated JSON. A factory that it names is called only if the person named it too.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)
from torch import Tensor, nn

from seclcompress import hub, networks
from seclcompress.errors import ArtefactError, WeightsError, describe_validation_error, short
from seclcompress.files import check_free, missing_folder, write_folder
from seclcompress.networks import NetworkSpec
from seclcompress.networks.weights import (
    FLOATING,
    check_finite,
    check_regular,
    dtype_name,
    put_state,
    read_safetensors,
    reading_limit,
)
from seclcompress.plan import Plan, check_plan
from seclcompress.preprocessing import Preprocessing
from seclcompress.rewrite import rewrite_network

#: The schema version that is written. Version 1, of seclcompress 0.1, is read as well.
SCHEMA_VERSION = 2
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
# The plan of the largest torchvision network takes 1 MB and 40,000 values. A malicious file could be
# made such that every step after reading takes much time and memory; these limits prevent that.
_LARGEST_CONFIG = 4 * 2**20  # bytes
_MOST_VALUES = 2**18


class ArtefactConfig(BaseModel):
    """The content of `config.json`.

    Attributes:
        schema_version: The version of this format.
        versions: The versions of this package and its libraries that wrote the folder; information only.
        network: The spec of the network before any rewrite.
        plan: The plan of the rewrite; None for a network that was not rewritten.
        input_size: (channels, *spatial).
        seed: Seed of the rewritten layers' initial values.
        classes: The names of the classes, if the data has some.
        preprocessing: The preprocessing that the network expects, if it is known.
        metrics: Figures by name, such as `accuracy` and `teacher_accuracy` in percent.
        training: The settings that the weights were trained with.
        trained_before_slimming: Whether the weights are what `slim` left of trained ones.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[2] = 2
    versions: dict[str, str] = {}
    network: NetworkSpec
    plan: Plan | None = None
    input_size: tuple[PositiveInt, ...] = Field(min_length=1, max_length=5)
    seed: int = Field(default=0, ge=0, lt=2**32)
    classes: list[str] | None = None
    preprocessing: Preprocessing | None = None
    metrics: dict[str, float] = {}
    training: dict[str, Any] = {}
    trained_before_slimming: bool = False

    @property
    def distilled(self) -> bool:
        """Whether the weights come from a run with a teacher; other runs do not save its settings."""
        return "alpha" in self.training

    @model_validator(mode="before")
    @classmethod
    def _upgraded(cls, content: Any) -> Any:
        """Renames a field of schema version 1, which called `network` `recipe`."""
        if not isinstance(content, Mapping) or content.get("schema_version") != 1:
            return content
        if "network" in content:  # a file of version 2 that claims version 1; validation refuses it
            return content
        return {("network" if k == "recipe" else k): v for k, v in content.items()} | {
            "schema_version": SCHEMA_VERSION
        }

    def to_json(self) -> str:
        """Indented JSON; equal configurations give equal bytes."""
        content = self.model_dump(mode="json")
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def library_versions() -> dict[str, str]:
    """The versions of this package and of the libraries that influence what a network computes."""
    return {
        name: importlib.metadata.version(name) for name in ("seclcompress", "torch", "torchvision")
    }


def weights_digest(path: Path) -> str:
    """A short fingerprint of a weights file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def weights_bytes(network: nn.Module, metadata: dict[str, str] | None = None) -> bytes:
    """A network's parameters and buffers as the bytes of a safetensors file, with its metadata."""
    # A tied tensor is written under each of its names; `load` ties them again.
    state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    return safetensors.torch.save(state, metadata)


def save(
    folder: Path,
    network: nn.Module,
    config: ArtefactConfig,
    *,
    extra: Mapping[str, bytes] | None = None,
    overwrite: bool = False,
) -> None:
    """Writes a network to a folder, which appears either complete or not at all.

    Args:
        folder: The folder to write; missing parents are created.
        network: The network whose weights are written.
        config: Everything else that is needed to build the network again.
        extra: Contents of further files by name.
        overwrite: Whether an earlier folder of this program may be replaced.

    Raises:
        ArtefactError: If the folder exists and may not be replaced, or cannot be written.
    """
    check_free(folder, overwrite)  # before the weights are copied
    written = config.model_copy(update={"versions": library_versions()})
    files = {CONFIG: written.to_json().encode(), WEIGHTS: weights_bytes(network), **(extra or {})}
    write_folder(folder, files, overwrite)


def place(folder: str | Path, *, download: bool = False) -> Path:
    """Where a folder lies on this machine; of a repository of the Hub, its commit in the Hub's cache.

    Of a repository, only the files of a network are downloaded (`config.json`, `model.safetensors`,
    `README.md`), and the weights only if the configuration is one of ours.

    Args:
        folder: A folder, or `hf://OWNER/NAME[@REVISION]`.
        download: Whether a repository may be downloaded that is not in the cache, or has changed.

    Raises:
        UsageError: If a repository is spelled wrong, or huggingface_hub is not installed.
        HubError: If a repository is not in the cache and may not be, or cannot be, downloaded.
        ArtefactError: If the repository has another program's configuration.
    """
    if not hub.is_reference(folder):
        return Path(folder)
    reference = hub.parse(str(folder))
    if download:
        first = hub.fetch(
            reference, [CONFIG], [CARD], largest={CONFIG: _LARGEST_CONFIG}, download=True
        )
        read_config(first)
        reference = reference.at(first.name)  # the weights must be of the same commit
    return hub.fetch(reference, [CONFIG, WEIGHTS], [CARD], download=download)


def is_artefact(folder: Path) -> bool:
    """Whether a folder looks like one that this program wrote."""
    return (folder / CONFIG).is_file()


def read_config(folder: Path) -> ArtefactConfig:
    """Reads and checks a folder's `config.json`.

    Raises:
        ArtefactError: If there is none, or it is not valid.
    """
    path = folder / CONFIG
    try:
        missing = missing_folder(folder)
        if missing is not None:
            raise ArtefactError(missing)
        if not path.is_file():
            raise ArtefactError(f"{folder} has no {CONFIG}, so it is not a folder of seclcompress.")
        check_inside(path, folder)
        size = path.stat().st_size
        if size > _LARGEST_CONFIG:
            raise ArtefactError(
                f"{path} has {size:,} bytes; a configuration has at most {_LARGEST_CONFIG:,}."
            )
        text = path.read_text(encoding="utf-8")
        values = sum(text.count(mark) for mark in ",[{")
        if values > _MOST_VALUES:
            raise ArtefactError(
                f"{path} holds some {values:,} values; a configuration at most {_MOST_VALUES:,}."
            )
        _check_schema_version(path, text)
        return ArtefactConfig.model_validate_json(text)
    except OSError as error:
        raise ArtefactError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ArtefactError(f"{path} is damaged: it is not UTF-8 text.") from error
    except ValidationError as error:
        raise ArtefactError(
            f"{path} is damaged or was not written by seclcompress: "
            f"{describe_validation_error(error)}."
        ) from error


def check_inside(path: Path, folder: Path) -> None:
    """Refuses a link that leads out of the folder.

    Such a link in a stranger's folder could make this program read any file of this machine. In the
    cache of the Hub, files are links to the folder that it keeps for their content.

    Args:
        path: A file in the folder.
        folder: The folder.

    Raises:
        ArtefactError: If the file is such a link.
    """
    try:
        target = path.resolve()
    except (OSError, RuntimeError) as error:
        raise ArtefactError(f"{path} is a link that leads in a circle.") from error
    rooms = [folder.resolve(), *hub.content_of(folder)]
    if not any(target.is_relative_to(room) for room in rooms):
        raise ArtefactError(
            f"{path} is a link to {target}, outside the folder: refused. Where you trust it, put a "
            "copy of the file in its place."
        )


def _check_schema_version(path: Path, text: str) -> None:
    """Refuses a later schema version with a better message than a list of unknown fields."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return  # validation will report what is wrong
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ArtefactError(
            f"{path} has schema version {version}; this seclcompress reads up to {SCHEMA_VERSION}. "
            "Install a later one."
        )


def load(
    folder: str | Path,
    *,
    config: ArtefactConfig | None = None,
    factory_name: str | None = None,
    download: bool = False,
) -> nn.Module:
    """Loads a saved network with its weights, in eval mode, on the CPU.

    Args:
        folder: A folder that `save` wrote, or `hf://OWNER/NAME[@REVISION]`.
        config: The folder's configuration, if it has been read already.
        factory_name: The factory that the person trusts in this call.
        download: Whether a repository of the Hub may be downloaded.

    Raises:
        HubError: If a repository is not on this machine and may not be, or cannot be, downloaded.
        ArtefactError: If this program did not write the folder, it is damaged, or its files do not fit
            together.
        NetworkError: If the network cannot be built.
    """
    folder = place(folder, download=download)
    config = config or read_config(folder)
    try:
        check_inside(folder / WEIGHTS, folder)
        check_regular(folder / WEIGHTS)
    except WeightsError as error:
        raise ArtefactError(str(error)) from error
    network = networks.build(config.network, factory_name=factory_name, skeleton=True)
    if config.plan is not None:
        check_plan(config.plan, network, f"The plan in {folder / CONFIG}")
        rewrite_network(network, config.plan, seed=config.seed)
    try:
        state = read_safetensors(folder / WEIGHTS, limit=reading_limit(network))
        _check_state(network.state_dict(), state, folder)
        check_finite(state, str(folder / WEIGHTS))
    except WeightsError as error:
        raise ArtefactError(str(error)) from error
    tied = _tied_parameters(network)
    put_state(network, state, assign=True)
    for first, *others in tied:  # put_state has given each name a separate tensor
        for name in others:
            parent, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(parent), attribute, network.get_parameter(first))
    return network.eval()


def _tied_parameters(network: nn.Module) -> list[list[str]]:
    """Groups of names that share one parameter."""
    names: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def _check_state(own: Mapping[str, Tensor], state: Mapping[str, Tensor], folder: Path) -> None:
    """Checks that a state holds exactly the network's tensors.

    Their dtypes must be the network's, or all floating-point tensors must have the same other one, of
    those that a network can compute with.
    """
    complaints = [f"it lacks {name}" for name in own if name not in state]
    complaints += [f"it has a strange {name}" for name in state if name not in own]
    floating = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
    converted = len(floating) == 1 and floating <= FLOATING.keys()
    if len(floating) > 1 and any(own[k].dtype != state[k].dtype for k in own.keys() & state.keys()):
        complaints.append(f"it mixes {', '.join(sorted(map(dtype_name, floating)))}")
    for name in own.keys() & state.keys():
        mine, read = own[name], state[name]
        if mine.shape != read.shape:
            complaints.append(f"{name} has shape {tuple(read.shape)}, not {tuple(mine.shape)}")
        elif mine.dtype != read.dtype and not (
            converted and mine.is_floating_point() and read.is_floating_point()
        ):
            complaints.append(
                f"{name} holds {dtype_name(read.dtype)}, not {dtype_name(mine.dtype)}"
            )
    if complaints:
        complaints.sort()
        more = f"; and {len(complaints) - 3} more" if len(complaints) > 3 else ""
        raise ArtefactError(
            f"{folder / WEIGHTS} does not belong to {folder / CONFIG}: "
            f"{short('; '.join(complaints[:3]), 1000)}{more}."
        )
