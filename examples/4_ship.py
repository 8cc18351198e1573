# %% [markdown]
# # Ship it
#
# One student as three files, and a program that runs the smallest of them with NumPy and ONNX
# Runtime alone.

# %%
import json
from pathlib import Path

import numpy as np
import onnxruntime
import shapes
from PIL import Image

from seclcompress import PlanOptions, TrainingSettings, workflows

NETWORK = "shapes:network"  # module:function
work = Path("example-run/ship")
pictures = shapes.write_pictures(work / "pictures")

# %%
short = {"batch_size": 32, "lr": 0.05, "flip": True}
trained, student, distilled = (work / name for name in ("teacher", "student", "distilled"))
workflows.train(
    NETWORK,
    data=pictures,
    output_dir=trained,
    settings=TrainingSettings(epochs=10, **short),
    overwrite=True,
)
options = PlanOptions(substitution="monarch", config={"ratio": 0.25})
workflows.convert(trained, student, options=options, factory=NETWORK, overwrite=True)
workflows.distill(
    student,
    teacher=trained,
    data=pictures,
    output_dir=distilled,
    settings=TrainingSettings(epochs=16, **short),
    factory=NETWORK,
    overwrite=True,
)

# %% [markdown]
# Multiplied out, the file is as large as any separable network's. As factors it keeps what was
# saved.

# %%
for weights, dtype in (("dense", "float32"), ("dense", "int8"), ("factors", "int8")):
    found = workflows.export(
        distilled,
        work / f"{weights}-{dtype}.onnx",
        weights=weights,
        dtype=dtype,
        data=pictures,
        factory=NETWORK,
        overwrite=True,
    )
    print(f"{weights} {dtype}: {found.bytes:,} bytes, {found.after.accuracy:.1f} %")

# %% [markdown]
# **In your program.** The file says how pictures become inputs and what the scores mean.

# %%
session = onnxruntime.InferenceSession(work / "factors-int8.onnx")
about = session.get_modelmeta().custom_metadata_map
classes, seen = json.loads(about["classes"]), json.loads(about["preprocessing"])
picture = Image.open(work / "pictures/test/cross/0000.png").convert("RGB")
pixels = (np.asarray(picture, dtype=np.float32) / 255 - seen["mean"]) / seen["std"]
images = pixels.astype(np.float32).transpose(2, 0, 1)[None]
[scores] = session.run(["scores"], {"images": images})
print(f"a picture of a cross: {classes[scores[0].argmax()]}")
