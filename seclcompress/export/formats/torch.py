"""`--format torch`: a program of torch.export, run by torch without any Python code of the network."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import torch

from seclcompress.errors import ArtefactError, ExportError
from seclcompress.export.content import KEY, Content, Written, read_content
from seclcompress.export.contract import Array, Format, Job, Runner
from seclcompress.export.plain import InHalves, example
from seclcompress.torch_private import tree_leaves


class Torch(Format):
    """A `.pt2` file."""

    name = "torch"
    summary = "a program of torch.export (.pt2) for torch alone"
    suffix = ".pt2"
    runtime = "torch"

    def write(self, job: Job) -> Written:
        """Makes the file."""
        content, network = job.content, job.prepared.network
        if content.dtype == "float16":
            network = InHalves(network)
        job.tell("Tracing the network …")
        notes = list(job.prepared.notes)
        try:
            program = torch.export.export(
                network,
                (example(network, content.input_size, 2),),
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
        except Exception:  # sizes that the network's Python code decides by
            content = content.model_copy(update={"batch": 1})
            try:
                images = (example(network, content.input_size, 1),)
                program = torch.export.export(network, images)
            except Exception as error:
                raise ExportError(f"torch.export cannot trace this network: {error}") from error
            notes.append(
                "The file takes one image at a time: the network's code decides by the batch."
            )
        file = io.BytesIO()
        torch.export.save(program, file, extra_files=content.metadata())
        return Written({self.suffix: file.getvalue()}, content, tuple(notes))

    def load(self, path: Path, *, threads: int, fold: bool = True) -> Runner:  # noqa: ARG002
        """Loads a file into torch, which has its number of threads for all that it runs."""
        module = torch.export.load(path).module()

        def run(images: Array) -> list[Array]:
            with torch.inference_mode():
                return [one.numpy() for one in tree_leaves(module(torch.from_numpy(images)))]

        return run

    def content(self, path: Path) -> Content:
        """What the extra files in the archive say."""
        extra = {KEY: ""}
        try:
            with zipfile.ZipFile(path) as archive:  # without running what is in it
                name = next(n for n in archive.namelist() if n.endswith(f"extra/{KEY}"))
                extra[KEY] = archive.read(name).decode()
        except (OSError, zipfile.BadZipFile, StopIteration, UnicodeDecodeError) as error:
            raise ArtefactError(f"{path} is no .pt2 file that seclcompress has written.") from error
        return read_content(extra, str(path))

    def version(self) -> str:
        """Torch's version."""
        return f"torch {torch.__version__}"


FORMAT = Torch()
