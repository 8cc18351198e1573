"""`--format litert`: LiteRT's (TensorFlow Lite's) flatbuffer, with XNNPACK on CPUs."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

from seclcompress.errors import ArtefactError, ExportError
from seclcompress.export.content import KEY, Content, Written, read_content
from seclcompress.export.contract import Array, Format, Job, Runner
from seclcompress.export.plain import example


class LiteRt(Format):
    """A `.tflite` file that takes one image, NCHW."""

    name = "litert"
    summary = "a .tflite file for LiteRT"
    suffix = ".tflite"
    title = "LiteRT"
    runtime = "litert"
    packages = ("litert_torch", "ai_edge_litert")
    extra = "litert"
    offers = {"dense": ("float32",)}  # noqa: RUF012

    def write(self, job: Job) -> Written:
        """Converts the network; the description is a zip archive behind the flatbuffer.

        That is how TensorFlow Lite's own metadata tool packs files with a model.
        """
        import litert_torch

        content = job.content.model_copy(update={"batch": 1})
        network = job.prepared.network
        job.tell("Converting to LiteRT …")
        try:
            converted = litert_torch.convert(network, (example(network, content.input_size, 1),))
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.tflite"
                converted.export(str(path))
                file = io.BytesIO(path.read_bytes())
        except Exception as error:
            raise ExportError(f"LiteRT cannot convert this network: {error}") from error
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(f"{KEY}.json", content.model_dump_json())
        return Written({self.suffix: file.getvalue()}, content, tuple(job.prepared.notes))

    def load(self, path: Path, *, threads: int, fold: bool = True) -> Runner:  # noqa: ARG002
        """Loads a file into LiteRT's interpreter."""
        from ai_edge_litert.interpreter import Interpreter

        try:
            interpreter = Interpreter(str(path), num_threads=threads)
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ArtefactError(f"LiteRT cannot load {path}: {error}") from error
        given = interpreter.get_input_details()[0]["index"]
        outputs = [one["index"] for one in interpreter.get_output_details()]

        def run(images: Array) -> list[Array]:
            interpreter.set_tensor(given, images)
            interpreter.invoke()
            return [interpreter.get_tensor(output) for output in outputs]

        return run

    def content(self, path: Path) -> Content:
        """What the archive behind the flatbuffer says."""
        try:
            with zipfile.ZipFile(path) as archive:
                found = {KEY: archive.read(f"{KEY}.json").decode()}
        except (OSError, KeyError, zipfile.BadZipFile, UnicodeDecodeError) as error:
            raise ArtefactError(
                f"{path} is no .tflite file that seclcompress has written."
            ) from error
        return read_content(found, str(path))

    def version(self) -> str:
        """LiteRT's version."""
        from importlib import metadata

        return f"LiteRT {metadata.version('ai-edge-litert')}"


FORMAT = LiteRt()
