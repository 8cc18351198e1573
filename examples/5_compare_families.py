# %% [markdown]
# # Compare families at equal parameters
#
# One seed and a short run order families that differ by several points, and no others.

# %%
from pathlib import Path

import shapes

from seclcompress import PlanOptions, TrainingSettings, workflows

NETWORK = "shapes:network"  # module:function
PARAMETERS = 20_000
work = Path("example-run/compare_families")
pictures = shapes.write_pictures(work / "pictures", train=120)
RATIOS = [0.01 * step for step in range(2, 100, 2)]
FAMILIES = {
    "hashed": [{"ratio": ratio} for ratio in RATIOS],
    "low_rank": [{"ratio": ratio} for ratio in RATIOS],
    "monarch": [{"ratio": ratio} for ratio in RATIOS],
    "acdc": [{"depth": depth, "block": block} for depth in (4, 8, 12, 16) for block in (1, 2, 4)],
}


# %% [markdown]
# The options of each family that come nearest to the number.


# %%
def size(options: PlanOptions) -> int:
    counted = workflows.count(NETWORK, options=options, input_size=(3, 24, 24))
    return counted.count.columns["auto"].parameters


nearest = {}
for family, configs in FAMILIES.items():
    choices = [PlanOptions(substitution=family, config=config) for config in configs]
    nearest[family] = min(choices, key=lambda options: abs(size(options) - PARAMETERS))

# %%
short = {"batch_size": 32, "lr": 0.05, "flip": True}
trained = workflows.train(
    NETWORK,
    data=pictures,
    output_dir=work / "teacher",
    settings=TrainingSettings(epochs=10, **short),
    overwrite=True,
)
print(f"original: {trained.metrics['accuracy']:.1f} %")
for family, options in nearest.items():
    student = work / f"{family}-student"
    converted = workflows.convert(
        work / "teacher", student, options=options, factory=NETWORK, overwrite=True
    )
    found = workflows.distill(
        student,
        teacher=work / "teacher",
        data=pictures,
        output_dir=work / family,
        settings=TrainingSettings(epochs=12, **short),
        factory=NETWORK,
        overwrite=True,
    )
    figures = converted.count.columns["auto"]
    print(
        f"{family}: {figures.parameters:,} parameters, {figures.mult_adds:,} Mult-Adds, "
        f"{found.metrics['accuracy']:.1f} %"
    )

# %%
page = workflows.report(
    [work / family for family in nearest], work / "families.html", factory=NETWORK, overwrite=True
)
print(f"Wrote {page.output}.")
