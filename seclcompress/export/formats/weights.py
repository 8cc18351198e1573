"""`--format weights`: the parameters of the plain network, to be loaded by a person's own script."""

from __future__ import annotations

import copy
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from seclcompress.artefact import weights_bytes
from seclcompress.errors import ArtefactError, UsageError
from seclcompress.export.content import Content, Written, read_content
from seclcompress.export.contract import Format, Job, Runner
from seclcompress.export.plain import runner_of


class Weights(Format):
    """A safetensors file of the plain network's `state_dict`, with batch norm as it is."""

    name = "weights"
    summary = "safetensors of the plain network, for your own script"
    suffix = ".safetensors"
    title = "safetensors"
    runtime = "none"
    runs = False
    folds = False

    def write(self, job: Job) -> Written:
        """Makes the file."""
        network = job.prepared.network
        if job.content.dtype == "float16":
            network = copy.deepcopy(network).half()
        content = weights_bytes(network, job.content.metadata())
        return Written({self.suffix: content}, job.content, tuple(job.prepared.notes))

    def load(self, path: Path, *, threads: int, fold: bool = True) -> Runner:  # noqa: ARG002
        """Refuses: weights alone cannot be run."""
        raise UsageError(
            f"{path} holds weights without a network, which cannot be run. Export it as onnx or torch."
        )

    def runner(self, path: Path, job: Job, *, threads: int) -> Runner:  # noqa: ARG002
        """Loads the file into an empty copy of the plain network."""
        network = copy.deepcopy(job.prepared.network)
        for value in network.state_dict().values():
            value.zero_()
        network.load_state_dict(safetensors.torch.load_file(path), strict=True)
        return runner_of(network)

    def content(self, path: Path) -> Content:
        """What the file's metadata say."""
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                return read_content(file.metadata() or {}, str(path))
        except (OSError, safetensors.SafetensorError) as error:
            raise ArtefactError(f"{path} is no safetensors file, or damaged: {error}.") from error

    def version(self) -> str:
        """Torch's version."""
        return f"torch {torch.__version__}"


FORMAT = Weights()
