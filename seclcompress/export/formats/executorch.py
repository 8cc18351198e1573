"""`--format executorch`: a program for phones and other small machines, for their CPU (XNNPACK)."""

from __future__ import annotations

from pathlib import Path

import torch

from seclcompress.errors import ArtefactError, ExportError
from seclcompress.export.content import KEY, Content, Written, read_content
from seclcompress.export.contract import Array, Format, Job, Runner
from seclcompress.export.plain import example

#: The description lies in the file as a method of this name that returns its bytes.
_METHOD = f"{KEY}_content"


class ExecuTorch(Format):
    """A `.pte` file that takes one image."""

    name = "executorch"
    summary = "a .pte file for phones and small machines (XNNPACK)"
    suffix = ".pte"
    title = "ExecuTorch"
    runtime = "executorch"
    packages = ("executorch",)
    extra = "executorch"
    offers = {"dense": ("float32",)}  # noqa: RUF012

    def write(self, job: Job) -> Written:
        """Lowers the network to XNNPACK where that has the operation."""
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        content = job.content.model_copy(update={"batch": 1})
        network = job.prepared.network
        job.tell("Lowering the network to XNNPACK …")
        described = {_METHOD: content.model_dump_json()}
        try:
            program = torch.export.export(network, (example(network, content.input_size, 1),))
            edge = to_edge_transform_and_lower(
                program, partitioner=[XnnpackPartitioner()], constant_methods=described
            )
            found = bytes(edge.to_executorch().buffer)
        except Exception as error:
            raise ExportError(f"ExecuTorch cannot lower this network: {error}") from error
        return Written({self.suffix: found}, content, tuple(job.prepared.notes))

    def load(self, path: Path, *, threads: int, fold: bool = True) -> Runner:  # noqa: ARG002
        """Loads a file into ExecuTorch's runtime, which chooses its threads itself."""
        from executorch.runtime import Runtime

        try:
            program = Runtime.get().load_program(path)
            method = program.load_method("forward")
        except RuntimeError as error:
            raise ArtefactError(f"ExecuTorch cannot load {path}: {error}") from error

        def run(images: Array) -> list[Array]:
            return [one.numpy().copy() for one in method.execute((torch.from_numpy(images),))]

        return run

    def content(self, path: Path) -> Content:
        """What its constant method says."""
        from executorch.runtime import Runtime

        try:
            program = Runtime.get().load_program(path)
            names = program.method_names
            found = {KEY: program.load_method(_METHOD).execute(())[0]} if _METHOD in names else {}
        except RuntimeError as error:
            raise ArtefactError(f"{path} is no ExecuTorch file, or damaged: {error}") from error
        return read_content(found, str(path))


FORMAT = ExecuTorch()
