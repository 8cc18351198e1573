"""`--format onnx`, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from seclcompress.errors import ArtefactError
from seclcompress.export.content import Content, Written, read_content
from seclcompress.export.contract import Array, Format, Job, Runner


class Onnx(Format):
    """An ONNX file: weights dense, or made from factors when the file is loaded."""

    name = "onnx"
    summary = "an ONNX file for ONNX Runtime and many others"
    suffix = ".onnx"
    title = "ONNX"
    runtime = "onnxruntime"
    packages = ("onnx", "onnxscript", "onnxruntime")
    extra = "export"
    offers: ClassVar = {
        "dense": ("float32", "float16", "int8"),
        "factors": ("float32", "float16", "int8"),
    }

    def write(self, job: Job) -> Written:
        """Makes the file; int8 quantises the activations of dense layers too, which needs images."""
        from seclcompress.export.graph.model import to_onnx
        from seclcompress.export.graph.quantise import quantise

        content = job.content
        if self.needs_images(content.weights, content.dtype):
            return quantise(job)
        return to_onnx(job.prepared, content, tell=job.tell)

    def needs_images(self, weights: str, dtype: str) -> bool:
        """Whether activations are quantised."""
        return (weights, dtype) == ("dense", "int8")

    def load(self, path: Path, *, threads: int, fold: bool = True) -> Runner:
        """Loads a file into ONNX Runtime, on the CPU."""
        session = _session(path, threads, fold)
        name = session.get_inputs()[0].name

        def run(images: Array) -> list[Array]:
            return list(session.run(None, {name: images}))

        return run

    def content(self, path: Path) -> Content:
        """What the file's metadata say."""
        import onnx

        try:
            model = onnx.load(path, load_external_data=False)
        except Exception as error:
            raise ArtefactError(f"{path} is no ONNX file, or damaged: {error}.") from error
        found = {entry.key: entry.value for entry in model.metadata_props}
        return read_content(found, str(path))


def _session(path: Path, threads: int, fold: bool) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if fold else level.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ArtefactError(f"ONNX Runtime cannot load {path}: {error}.") from error


FORMAT = Onnx()
