"""What sources of image classifiers share: a usual number of classes, one input size, no options."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from torch import nn

from seclcompress.errors import NetworkError
from seclcompress.networks.sources import NetworkSpec, Option, Source


class ImageClassifiers(Source):
    """A source of classifiers of images of one size."""

    def usual_classes(self, name: str) -> int:
        """The number of classes where the person chose none: that of CIFAR-10 and MNIST."""
        del name
        return 10

    def spec(
        self,
        name: str,
        num_classes: int | None = None,
        options: Mapping[str, Option] | None = None,
    ) -> NetworkSpec:
        """The spec of a network, by default with `usual_classes`."""
        usual = self.usual_classes(name)
        return super().spec(name, usual if num_classes is None else num_classes, options)

    def input_size(self, spec: NetworkSpec) -> tuple[int, ...]:
        """The size of CIFAR's images."""
        del spec
        return (3, 32, 32)


class NamedClassifiers(ImageClassifiers):
    """A source of networks that are built from a name and a number of classes alone."""

    @abstractmethod
    def network(self, name: str, num_classes: int) -> nn.Module:
        """Builds the network of a name that the source knows.

        Args:
            name: The network's name.
            num_classes: Outputs of the classifier.

        Raises:
            NetworkError: If a number in the name is impossible.
        """

    def build(self, spec: NetworkSpec) -> nn.Module:
        """Builds the network that the name stands for.

        Raises:
            NetworkError: If the source does not know the name, a number in it is impossible, or an
                option is given.
        """
        if not self.knows(spec.name):
            raise NetworkError(f"There is no {spec.name} among the networks of {self.name}.")
        if spec.options:
            raise NetworkError(f"{spec.name} takes no options; got {', '.join(spec.options)}.")
        return self.network(spec.name, spec.num_classes or self.usual_classes(spec.name))
