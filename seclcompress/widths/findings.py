"""What the research journal found about each statistic: in the help, the table and the documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A statistic and what became of it.

    Attributes:
        title: Its name.
        found: What the journal found, in a sentence or two.
    """

    title: str
    found: str


#: The journal trained networks of one hidden layer and of many widths on MNIST and on FashionMNIST,
#: which is harder: its accuracy needs about 1,024 neurons to level off, MNIST's 256.
FINDINGS: Mapping[str, Finding] = {
    "variance": Finding(
        "Variance of activations",
        "The wider the layer, the more channels are near 0. But a harder task, which needs more of "
        "them, had no more variance: no good estimate of the width in the general case.",
    ),
    "dead": Finding(
        "Dead channels",
        "Their number grows almost linearly with the width. Any threshold would be arbitrary, and on "
        "FashionMNIST they asked for too few neurons.",
    ),
    "normality": Finding(
        "Normality (Shapiro)",
        "Highest at some width, on average above the best one. It does not say whether to narrow or "
        "to widen, and did not hold on the harder task.",
    ),
    "exponential_normal": Finding(
        "Exponential + normal",
        "Fits well, and takes too many channels for dead. It did not hold on the harder task.",
    ),
    "gammas": Finding(
        "Two gammas",
        "Fits better; but in a layer of the right width both may look like normal distributions. It "
        "did not hold on the harder task.",
    ),
    "components": Finding(
        "PCA before the activation",
        "Nothing in the explained variance explains the widths that the two tasks need. The "
        "reconstruction distance suggested 350 on MNIST, and was noise on FashionMNIST.",
    ),
    "singular": Finding(
        "Singular values of weights",
        "Named as a candidate, and not measured. The conjecture covers them: weights do not know the "
        "task.",
    ),
}

CONJECTURE = (
    "The journal's conjecture: no metric that takes information about a layer tells whether it is too "
    "wide, too narrow or right. Images that the network labels itself are answered without an error, by "
    "the very same layers."
)

INSTEAD = (
    "What tells is trying: `seclcompress slim` narrows a network to a budget, `distill` trains it, and "
    "`search` compares such students by their accuracy on held-out images."
)
