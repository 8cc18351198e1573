"""An exported file in a few lines for people, and as a record for programs."""

from __future__ import annotations

from seclcompress.export.result import Exported
from seclcompress.report.records import Accuracy, ExportRecord


def export_lines(found: Exported) -> str:
    """What was written, how large it is, how fast and how accurate."""
    content, verified = found.content, found.verified
    names = " and ".join(f"{found.path.with_name(name)}" for name in found.files)
    each = found.bytes / max(1, found.parameters)
    lines = [
        f"Wrote {names}: {found.bytes:,} bytes for {found.parameters:,} parameters, {each:.2f} a "
        f"parameter ({content.weights}, {content.dtype}).",
        f"In {verified.runtime}: loads in {verified.load_seconds:.2f} s, "
        f"{1000 * verified.image_seconds:.1f} ms an image.",
    ]
    if content.stacks:
        lines.append(
            f"Layers that run in our operator: {content.stacks}. To load the file, ONNX Runtime needs "
            "its library: SessionOptions.register_custom_ops_library("
            "seclcompress.onnxruntime_library())."
        )
    if found.before is not None and found.after is not None:
        lines.append(
            f"top-1 before {found.before.accuracy:.2f} %, after {found.after.accuracy:.2f} % "
            f"({found.after.images:,} test images)"
        )
    return "\n".join(lines)


def export_record(found: Exported) -> ExportRecord:
    """Every figure, for programs."""
    before, after = (
        None if one is None else Accuracy.model_validate(one) for one in (found.before, found.after)
    )
    return ExportRecord(
        file=str(found.path),
        format=found.format,
        files=dict(found.files),
        bytes=found.bytes,
        parameters=found.parameters,
        content=found.content,
        verified=found.verified,
        before=before,
        after=after,
        notes=list(found.notes),
    )
