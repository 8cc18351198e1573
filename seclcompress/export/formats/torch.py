"""`--format torch`: a program of torch.export, run by torch without any Python code of the network."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from seclcompress.errors import ArtefactError, ExportError, short
from seclcompress.export.content import KEY, Content, Written, read_content
from seclcompress.export.contract import Array, Format, Job, Runner
from seclcompress.export.plain import InHalves, example
from seclcompress.export.programs import check_program, read_extra
from seclcompress.torch_private import tree_leaves


class Torch(Format):
    """A `.pt2` file."""

    name = "torch"
    summary = "a program of torch.export (.pt2) for torch alone"
    suffix = ".pt2"
    title = "torch.export"
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
        _forget_where(program)
        file = io.BytesIO()
        torch.export.save(program, file, extra_files=content.metadata())
        return Written({self.suffix: file.getvalue()}, content, tuple(notes))

    def load(self, path: Path, *, threads: int, fold: bool = True) -> Runner:  # noqa: ARG002
        """Loads a file into torch, which has its number of threads for all that it runs.

        Raises:
            ArtefactError: If the file is damaged, or loading it could run code.
        """
        check_program(path)
        try:
            module = torch.export.load(path).module()
        except Exception as error:  # a damaged file ends in many kinds of exception
            reason = short((str(error).strip().splitlines() or [""])[0], 200)
            raise ArtefactError(
                f"torch cannot load {path}; it is damaged, or of another version of torch "
                f"({type(error).__name__}: {reason})."
            ) from error

        def run(images: Array) -> list[Array]:
            with torch.inference_mode():
                return [one.numpy() for one in tree_leaves(module(torch.from_numpy(images)))]

        return run

    def content(self, path: Path) -> Content:
        """What the extra files in the archive say."""
        found = read_extra(path, KEY)
        return read_content({} if found is None else {KEY: found}, str(path))

    def version(self) -> str:
        """Torch's version."""
        return f"torch {torch.__version__}"


def _forget_where(program: torch.export.ExportedProgram) -> None:
    """Drops what torch notes for debugging: lines and paths of files, and guards as code."""
    for node in program.graph.nodes:
        for name in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node"):
            node.meta.pop(name, None)
    program.__dict__["_guards_code"] = []


FORMAT = Torch()
