"""int8 for dense networks: ONNX Runtime's static quantisation, with ranges from images."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from torch import Tensor

from seclcompress.export.content import Written
from seclcompress.export.contract import Array, Job
from seclcompress.export.graph.model import to_onnx
from seclcompress.export.graph.tracing import INPUT


class _Images(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Iterable[Tensor], batch: int | None) -> None:
        self._batches: Iterator[Array] = (
            part.numpy() for some in batches for part in some.float().split(batch or len(some))
        )

    def get_next(self) -> dict[str, Array] | None:  # type: ignore[override]
        """The next batch by the input's name; None after the last one."""
        images = next(self._batches, None)
        return None if images is None else {INPUT: images}


def quantise(job: Job) -> Written:
    """Writes a dense network whose layers compute in int8 (QDQ, a scale for each output channel).

    Args:
        job: What is asked for, with images to calibrate.

    Raises:
        ExportError: If torch cannot trace the network.
    """
    assert job.calibration is not None
    whole = job.content.model_copy(update={"dtype": "float32"})
    written = to_onnx(job.prepared, whole, tell=job.tell)
    content = written.content.model_copy(update={"dtype": "int8"})
    job.tell("Calibrating and quantising …")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(written.files[".onnx"])
        logging.disable(
            logging.WARNING
        )  # it advises another tool for shapes, which are in the graph
        try:
            quantize_static(
                source,
                target,
                _Images(job.calibration, content.batch),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                # Processors without VNNI add two products of bytes in 16 bits, and saturate. Weights of
                # 7 bits cannot: 2 · 255 · 64 is less than 2¹⁵. With 8, a file that was right where it
                # was made is wrong elsewhere.
                reduce_range=True,
            )
        finally:
            logging.disable(logging.NOTSET)
        model = onnx.load(target)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, content.metadata())
    return Written({".onnx": model.SerializeToString()}, content, written.notes)
