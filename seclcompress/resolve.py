"""Finding and loading the network that a person typed: a name, a folder, `package.module:factory`.

A folder may lie in a repository of the Hugging Face Hub: `hf://OWNER/NAME`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from seclcompress import artefact, hub, networks
from seclcompress.artefact import ArtefactConfig
from seclcompress.errors import ArtefactError, NetworkError, UsageError, WeightsError
from seclcompress.files import missing_folder, set_aside
from seclcompress.networks import NetworkSpec, PublishedWeights, Source, sources
from seclcompress.networks.secl_checkpoints import looks_like_secl
from seclcompress.networks.weights import (
    Loaded,
    check_regular,
    load_weights,
    read_weights,
    reading_limit,
)
from seclcompress.preprocessing import Preprocessing

#: Endings that say that a file is meant, even if it is not there.
_WEIGHTS_ENDINGS = (".safetensors", ".pth", ".pt", ".th", ".tar", ".bin", ".ckpt", ".pkl")


@dataclass(frozen=True)
class Located:
    """The network that a person means, found but not built yet.

    Attributes:
        label: What the person typed.
        network: The spec of the original network.
        input_size: (channels, *spatial).
        folder: The saved folder, if the network comes from one; that of a repository is in a cache.
        config: That folder's configuration.
        factory_name: The factory that the person named in this call.
        weights: `--weights` as typed: a file, or the name of published weights.
        download: Whether published weights may be downloaded.
        repository: The repository and the commit that the folder is of, if it is of one.
        preprocessing: The preprocessing that the weights were trained with, if it is known.
        weights_key: The place of the weights in a checkpoint; None to find it.
        weights_option: The option that `weights` was given with, for messages.
        key_option: That of `weights_key`.
        new_head: Whether the person chose a number of classes, which weights may then differ from.
        size_is_assumed: Whether neither the person nor the network's source knows the input size.
    """

    label: str
    network: NetworkSpec
    input_size: tuple[int, ...]
    folder: Path | None = None
    config: ArtefactConfig | None = None
    factory_name: str | None = None
    weights: str | None = None
    download: bool = False
    preprocessing: Preprocessing | None = None
    weights_key: str | None = None
    weights_option: str = "--weights"
    key_option: str = "--weights-key"
    new_head: bool = False
    size_is_assumed: bool = False
    repository: hub.Reference | None = None

    @property
    def classes(self) -> list[str] | None:
        """The names of the classes that a saved folder holds; None where there are none."""
        return None if self.config is None else self.config.classes

    @property
    def folder_name(self) -> str | None:
        """The folder's name without its place; of one on the Hub, the repository and the commit."""
        return None if self.folder is None else str(self.repository or self.folder.resolve().name)

    def skeleton(self) -> nn.Module:
        """Builds the original network, before any rewrite, without values, to be traced and counted."""
        return networks.build(self.network, factory_name=self.factory_name, skeleton=True)

    def load(self, *, seed: int = 0) -> tuple[nn.Module, Loaded]:
        """Builds the network with its weights, in eval mode; that of a folder as it was saved.

        Args:
            seed: Seed of untrained weights.

        Returns:
            The network, and what was decided about its weights.

        Raises:
            SeclcompressError: If the network cannot be built or the weights do not fit.
        """
        if self.folder is not None:
            network = artefact.load(self.folder, config=self.config, factory_name=self.factory_name)
            if self.weights is None:
                return network, Loaded()
        else:
            network = networks.build_untrained(
                self.network, factory_name=self.factory_name, seed=seed
            )
        return network.eval(), self._load_weights(network)

    def _load_weights(self, network: nn.Module) -> Loaded:
        if self.weights is None:
            return Loaded()
        if is_weights_file(self.weights):
            content = read_weights(Path(self.weights), limit=reading_limit(network))
            try:
                return load_weights(
                    network,
                    content,
                    self.weights,
                    key=self.weights_key,
                    new_head=self.new_head,
                    option=self.key_option,
                )
            except WeightsError as error:
                if looks_like_secl(content):
                    raise WeightsError(
                        f"{error} It is a file of the SECL authors' programs: take it over with "
                        f"convert --from-secl {self.weights}."
                    ) from error
                raise
        source = sources.get(self.network.source)
        if not source.publishes_weights:
            able = " and ".join(one.name for one in sources.registered() if one.publishes_weights)
            raise UsageError(
                f"{self.weights_option} {self.weights}: there is no such file, and only {able}'s "
                f"networks have weights with names; {self.label} is none of them."
            )
        published = source.published_weights(self.network.name, self.weights)
        state = published.fetch(self.download)
        return load_weights(network, state, published.label, new_head=True)


def locate(
    typed: str | Path,
    *,
    weights: str | None = None,
    weights_key: str | None = None,
    num_classes: int | None = None,
    input_size: tuple[int, ...] | None = None,
    factory_name: str | None = None,
    download: bool = False,
) -> Located:
    """Finds the network that a person means, without building it.

    Args:
        typed: A network's name, a folder that this program wrote, a repository of the Hub with such a
            folder (`hf://OWNER/NAME[@REVISION]`), or `package.module:factory`. A `Path` is always a
            folder.
        weights: A weights file, or the name of weights that the network's source publishes.
        weights_key: The place of the weights in a checkpoint, its keys joined by dots; None to find it.
        num_classes: Outputs of the classifier.
        input_size: (channels, *spatial); by default that of the folder, or the network's usual one.
        factory_name: The factory to trust if a folder asks for it.
        download: Whether published weights, or a repository of the Hub, may be downloaded.

    Raises:
        UsageError: If the options contradict each other.
        NetworkError: If no network has that name.
        HubError: If a repository is not on this machine and may not be, or cannot be, downloaded.
        ArtefactError: If it is a folder that this program did not write.
        WeightsError: If there is no such weights file, or the source publishes no such weights.
    """
    _check_weights(weights, weights_key)
    if is_folder(typed):
        folder = artefact.place(typed, download=download)
        missing = missing_folder(folder)
        if missing is not None:
            raise ArtefactError(missing)
        if num_classes is not None:
            raise UsageError(f"{typed} has its number of classes already; drop --num-classes.")
        config = artefact.read_config(folder)
        return Located(
            str(typed),
            config.network,
            input_size or config.input_size,
            folder,
            config,
            factory_name,
            weights,
            download,
            config.preprocessing,
            weights_key=weights_key,
            repository=_repository(typed, folder),
        )
    name = str(typed)
    if _is_file(Path(name)) and sources.that_knows(name) is None:
        raise NetworkError(_no_file(name))
    network = _named(name, num_classes)
    source = sources.get(network.source)
    size, preprocessing = source.input_size(network), None
    if weights is not None and source.publishes_weights and not is_weights_file(weights):
        published = _published(source, name, weights)
        network = networks.named_spec(name, num_classes, published.options)
        size, preprocessing = published.input_size, published.preprocessing
    return Located(
        name,
        network,
        input_size or size,
        factory_name=name if source.runs_foreign_code else factory_name,
        weights=weights,
        download=download,
        preprocessing=preprocessing,
        weights_key=weights_key,
        new_head=num_classes is not None,
        size_is_assumed=input_size is None and not source.knows_input_size,
    )


def _named(name: str, num_classes: int | None) -> NetworkSpec:
    """The spec of a network by its name; where no source knows it, a folder may have been meant."""
    try:
        return networks.named_spec(name, num_classes)
    except NetworkError as error:
        missing = missing_folder(Path(name))
        said = [one for one in sources.registered() if one.refusal(name)]
        if missing is None or said or sources.that_knows(name) is not None:
            raise
        raise NetworkError(f"{error} {missing}") from error


def _repository(typed: str | Path, folder: Path) -> hub.Reference | None:
    """The repository that a person named, at the commit that its folder in the cache is of."""
    return hub.parse(str(typed)).at(folder.name) if hub.is_reference(typed) else None


def is_folder(typed: str | Path) -> bool:
    """Whether a network is given as a folder, and not by its name or as a factory.

    Raises:
        UsageError: If it is the name of a network and also of a saved folder in the current directory.
    """
    if isinstance(typed, Path) or hub.is_reference(typed):
        return True
    source, folder = sources.that_knows(typed), Path(typed)
    if "/" in typed and source is None:  # a factory's arguments may have one
        refused = any(one.refusal(typed) for one in sources.registered())
        return not refused or _is_dir(folder)
    if source is None:
        return _is_dir(folder) or set_aside(folder) is not None
    if not source.runs_foreign_code and artefact.is_artefact(folder):
        raise UsageError(f"'{typed}' is a network and a folder here. Say ./{typed} for the folder.")
    return False


def is_name(typed: str | Path) -> bool:
    """Whether a network is given by its name, and not as a folder or a factory."""
    if is_folder(typed):
        return False
    source = sources.that_knows(str(typed))
    return source is None or not source.runs_foreign_code


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # the parent is not readable, or the name is too long
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def is_weights_file(weights: str) -> bool:
    """Whether `--weights` means a file, and not published weights by their name."""
    path = Path(weights)
    try:
        there = path.exists()
    except (OSError, ValueError):  # not readable, or a name that no file can have
        there = False
    return there or path.suffix in _WEIGHTS_ENDINGS or "/" in weights


def _check_weights(weights: str | None, key: str | None) -> None:
    """Checks early, before anything is built or downloaded, that a weights file is there.

    Raises:
        UsageError: If a place in a file is given without a file.
        WeightsError: If there is no such file.
    """
    if weights is not None and is_weights_file(weights):
        check_regular(Path(weights))
    elif key is not None:
        raise UsageError(
            f"--weights-key {key} names a place in a checkpoint, so it needs a file with --weights."
        )


def _published(source: Source, name: str, weights: str) -> PublishedWeights:
    try:
        return source.published_weights(name, weights)
    except WeightsError as error:
        raise WeightsError(f"There is no file {weights}, and {error}") from error


def _no_file(name: str) -> str:
    """What to type instead of the name of a file."""
    if name.endswith(".py"):
        module = name.removesuffix(".py").replace("/", ".")
        return f"{name} is a file. A network in it is named by its function: {module}:FUNCTION."
    return (
        f"{name} is a file, and no network. Give a network's name or a saved folder; weights in a file "
        "are given with --weights, beside the name of their network."
    )
