# %% [markdown]
# # The smallest network within two points
#
# Students from small to large are distilled until one has at most two points less than the original.
# What decides are **held-out** pictures, which neither network learns from; the test pictures are
# looked at once, at the end.

# %%
from pathlib import Path

import shapes

from seclcompress import PlanOptions, TrainingSettings, workflows

NETWORK = "shapes:network"  # module:function
POINTS = 2.0
work = Path("example-run/within_two_points")
pictures = shapes.write_pictures(work / "pictures", train=240)

# %%
short = {"batch_size": 32, "lr": 0.05, "flip": True, "validation": 0.4}
trained = workflows.train(
    NETWORK,
    data=pictures,
    output_dir=work / "teacher",
    settings=TrainingSettings(epochs=12, **short),
    overwrite=True,
)
wanted = trained.history[-1]["validation_accuracy"] - POINTS
print(f"at least {wanted:.2f} % of the held-out pictures")

# %% [markdown]
# `hashed` has a size for every `ratio`: the share of each matrix's numbers that is kept. Twice as
# many each time.

# %%
for ratio in (0.01, 0.04, 0.16, 0.64):
    student = work / f"student-{ratio}"
    converted = workflows.convert(
        work / "teacher",
        student,
        options=PlanOptions(substitution="hashed", config={"ratio": ratio}),
        factory=NETWORK,
        overwrite=True,
    )
    found = workflows.distill(
        student,
        teacher=work / "teacher",
        data=pictures,
        output_dir=work / f"distilled-{ratio}",
        settings=TrainingSettings(epochs=20, **short),
        factory=NETWORK,
        overwrite=True,
    )
    held_out = found.history[-1]["validation_accuracy"]
    parameters = converted.count.columns["auto"].parameters
    print(f"{parameters:,} parameters: {held_out:.2f} %")
    if held_out >= wanted:
        break
else:
    raise SystemExit("None is within two points: train for longer, or --keep some layers.")

# %%
print(
    f"{parameters:,} parameters instead of {converted.count.columns['original'].parameters:,}; "
    f"on the test pictures {found.metrics['accuracy']:.2f} % "
    f"instead of {trained.metrics['accuracy']:.2f} %"
)
