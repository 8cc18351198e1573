"""`--format openvino`: OpenVINO's own files, `.xml` with the graph and `.bin` with the weights."""

from __future__ import annotations

import tempfile
from pathlib import Path

from seclcompress.errors import ArtefactError
from seclcompress.export.content import KEY, Content, Written, read_content
from seclcompress.export.contract import Array, Format, Job, Runner


class OpenVino(Format):
    """An OpenVINO model. It folds constants when it converts, so its weights are dense."""

    name = "openvino"
    summary = "OpenVINO's .xml and .bin"
    suffix = ".xml"
    beside = (".bin",)
    title = "OpenVINO"
    runtime = "openvino"
    packages = ("onnx", "onnxscript", "openvino")
    extra = "openvino"

    def write(self, job: Job) -> Written:
        """Converts the ONNX form; float16 is how the weights are stored."""
        import openvino

        from seclcompress.export.graph.model import to_onnx

        whole = job.content.model_copy(update={"dtype": "float32"})
        onnx = to_onnx(job.prepared, whole, tell=job.tell)
        content = onnx.content.model_copy(update={"dtype": job.content.dtype})
        job.tell("Converting to OpenVINO …")
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "model.onnx", Path(folder) / "model.xml"
            source.write_bytes(onnx.files[".onnx"])
            model = openvino.convert_model(source)
            for name, words in content.metadata().items():
                model.set_rt_info(words, ["seclcompress", name])
            openvino.save_model(model, target, compress_to_fp16=content.dtype == "float16")
            files = {ending: target.with_suffix(ending).read_bytes() for ending in self.endings}
        return Written(files, content, onnx.notes)

    def load(self, path: Path, *, threads: int, fold: bool = True) -> Runner:  # noqa: ARG002
        """Compiles a file for the CPU, for one image after another, in float32."""
        import openvino

        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            compiled = openvino.Core().compile_model(path, "CPU", settings)
        except RuntimeError as error:
            raise ArtefactError(f"OpenVINO cannot load {path}: {error}") from error
        request = compiled.create_infer_request()

        def run(images: Array) -> list[Array]:
            return [value.copy() for value in request.infer({0: images}).values()]

        return run

    def content(self, path: Path) -> Content:
        """What the model's runtime information says."""
        import openvino

        try:
            model = openvino.Core().read_model(path)
        except RuntimeError as error:
            raise ArtefactError(f"{path} is no OpenVINO model, or damaged: {error}") from error
        place = ["seclcompress", KEY]
        found = {KEY: str(model.get_rt_info(place).value)} if model.has_rt_info(place) else {}
        return read_content(found, str(path))


FORMAT = OpenVino()
