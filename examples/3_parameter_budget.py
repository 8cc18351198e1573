# %% [markdown]
# # At most 100,000 parameters
#
# Counting needs no training: the largest student within the budget is found in seconds, and trained
# once.

# %%
from pathlib import Path

import shapes

from seclcompress import PlanOptions, TrainingSettings, workflows

NETWORK = "shapes:network(width=64)"  # module:function, with arguments
BUDGET = 100_000
work = Path("example-run/parameter_budget")
pictures = shapes.write_pictures(work / "pictures", train=100)


# %% [markdown]
# The more of its numbers `hashed` keeps, the larger the network; so halving finds the share that
# just fits.


# %%
def options(ratio: float) -> PlanOptions:
    return PlanOptions(substitution="hashed", config={"ratio": ratio})


def parameters(ratio: float) -> int:
    counted = workflows.count(NETWORK, options=options(ratio), input_size=(3, 24, 24))
    return counted.count.columns["auto"].parameters


low, high = 0.001, 1.0
assert parameters(low) <= BUDGET, "too few: let convert rewrite the stem, or build it narrower"
for _ in range(12):
    middle = (low + high) / 2
    low, high = (middle, high) if parameters(middle) <= BUDGET else (low, middle)
print(f"ratio={low:.4f}: {parameters(low):,} parameters")

# %%
short = {"batch_size": 32, "lr": 0.05, "flip": True}
trained = workflows.train(
    NETWORK,
    data=pictures,
    output_dir=work / "teacher",
    settings=TrainingSettings(epochs=10, **short),
    overwrite=True,
)
converted = workflows.convert(
    work / "teacher", work / "student", options=options(low), factory=NETWORK, overwrite=True
)
found = workflows.distill(
    work / "student",
    teacher=work / "teacher",
    data=pictures,
    output_dir=work / "distilled",
    settings=TrainingSettings(epochs=20, **short),
    factory=NETWORK,
    overwrite=True,
)

# %%
figures = converted.count.columns
assert figures["auto"].parameters <= BUDGET
print(
    f"{figures['original'].parameters:,} parameters: {trained.metrics['accuracy']:.1f} %\n"
    f"{figures['auto'].parameters:,} parameters: {found.metrics['accuracy']:.1f} %"
)
