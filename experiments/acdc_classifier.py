"""Networks of ACDC layers alone, for grey pictures; experiments/mnist.py trains them."""

from __future__ import annotations

from torch import Tensor, nn

from seclcompress import substitutions


class AcdcClassifier(nn.Module):
    """A picture's pixels through ACDC layers; the first outputs are the classes, the rest is dropped.

    So the research log has it: no convolution, and no fully connected layer.

    Args:
        side: Height and width of a picture.
        layers: Number of ACDC layers. A riffle follows each, as in every ACDC stack.
        classes: Number of classes.
        extra_riffle: Whether each layer has the log's riffle between C and C⁻¹.
        relu: Whether there is a ReLU between two layers; without any, the network is one linear map.
    """

    def __init__(
        self, side: int, layers: int, classes: int, *, extra_riffle: bool, relu: bool
    ) -> None:
        super().__init__()
        pixels = side**2
        family = substitutions.get("acdc")
        # First values as in the authors' code.
        config = family.config({"depth": 1, "extra_riffle": extra_riffle, "init": "paper"})
        unit = nn.Linear(pixels, pixels, bias=False)
        # White inputs keep their variance, in outputs as in inputs.
        nn.init.normal_(unit.weight, std=pixels**-0.5)
        steps: list[nn.Module] = [nn.Flatten()]
        for place in range(layers):
            if relu and place:
                steps.append(nn.ReLU())
            steps.append(family.build(unit, config))
        self.layers = nn.Sequential(*steps)
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        """Maps grey pictures, shape (batch, 1, side, side), to scores, shape (batch, classes)."""
        y: Tensor = self.layers(x)
        return y[:, : self.classes]


def acdc(
    side: int = 28,
    layers: int = 32,
    classes: int = 10,
    extra_riffle: bool = False,
    relu: bool = True,
) -> nn.Module:
    """A network of ACDC layers alone."""
    return AcdcClassifier(side, layers, classes, extra_riffle=extra_riffle, relu=relu)


def linear(side: int = 28, classes: int = 10) -> nn.Module:
    """One fully connected layer: what a linear map can do."""
    return nn.Sequential(nn.Flatten(), nn.Linear(side**2, classes))
