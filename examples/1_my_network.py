# %% [markdown]
# # My network and my pictures
#
# From a trained network of your own to a small one that does the same on your pictures. Put
# your function in the place of `shapes:network`, and a folder with `train/CLASS/` and `test/CLASS/`
# in the place of `pictures`.

# %%
from pathlib import Path

import shapes
import torch

import seclcompress
from seclcompress import TrainingSettings, workflows

NETWORK = "shapes:network"  # module:function
work = Path("example-run/my_network")
pictures = shapes.write_pictures(work / "pictures")

# %% [markdown]
# **The original.** Yours is trained already: leave this out, and give its file to `convert` as
# `weights=` (and to `distill` as `teacher_weights=`).

# %%
short = {"batch_size": 32, "lr": 0.05, "flip": True}
trained = workflows.train(
    NETWORK,
    data=pictures,
    output_dir=work / "teacher",
    settings=TrainingSettings(epochs=12, **short),
    overwrite=True,
)
print(f"original: {trained.metrics['accuracy']:.1f} % of the test pictures")

# %% [markdown]
# **The small one.** The folder does not name code that it would run: say which function you trust
# wherever it is loaded.

# %%
converted = workflows.convert(work / "teacher", work / "student", factory=NETWORK, overwrite=True)
before, after = (converted.count.columns[name].parameters for name in ("original", "auto"))
print(f"{before:,} parameters became {after:,}")

# %% [markdown]
# **It learns from the original**, on the same pictures.

# %%
distilled = workflows.distill(
    work / "student",
    teacher=work / "teacher",
    data=pictures,
    output_dir=work / "distilled",
    settings=TrainingSettings(epochs=25, **short),
    factory=NETWORK,
    overwrite=True,
)
print(f"small one: {distilled.metrics['accuracy']:.1f} % of the test pictures")

# %% [markdown]
# **Use it** as any module of torch.

# %%
student = seclcompress.load(work / "distilled", factory_name=NETWORK)
with torch.inference_mode():
    scores = student(torch.zeros(1, 3, 24, 24))
print("scores of a black picture:", [round(score, 2) for score in scores[0].tolist()])
