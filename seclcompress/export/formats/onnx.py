"""`--format onnx`, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from seclcompress.errors import ArtefactError
from seclcompress.export.content import Content, Written, read_content
from seclcompress.export.contract import Array, Format, Job, Runner
from seclcompress.kernel.library import (
    LIBRARY_MISSING,
    has_onnxruntime_library,
    onnxruntime_library,
)

#: The operator, as error messages name it.
_STACK = "AcdcStack"


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
    offers_fast: ClassVar = {"dense": ("float32",), "factors": ("float32", "int8")}

    def executions(self) -> tuple[str, ...]:
        """`fast` as well, where the library with its operator was built."""
        return ("dense", "fast") if has_onnxruntime_library() else ("dense",)

    def check(
        self, task: str, weights: str = "dense", dtype: str = "float32", execution: str = "dense"
    ) -> None:
        """Checks as every format does, and that there is a library for layers that run fast."""
        super().check(task, weights, dtype, execution)
        if execution != "dense":
            onnxruntime_library()

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
        if has_onnxruntime_library():
            options.register_custom_ops_library(onnxruntime_library())
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        if _STACK in str(error) and not has_onnxruntime_library():
            raise ArtefactError(
                f"{path} has layers that run fast, in an operator of seclcompress. {LIBRARY_MISSING}"
            ) from error
        raise ArtefactError(f"ONNX Runtime cannot load {path}: {error}.") from error


FORMAT = Onnx()
