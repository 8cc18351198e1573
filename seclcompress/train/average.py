"""The exponential moving average of a network's weights, which is what such a run tests and saves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

#: The buffers that are averaged, by their own names. Batch norms call them so, foreign ones too.
STATISTICS = ("running_mean", "running_var")


class Average:
    """An exponential moving average over the steps of a run; with decay 0 it is empty and does nothing.

    Averaged are the parameters that are trained, and batch norm's running statistics with the same
    decay: the statistics of the last weights would not be those of the averaged ones, and estimating
    them anew would take passes over training images in every epoch. All other buffers (counters, tables,
    masks, which may be infinite) are the network's own at the time.

    It decays by min(decay, (1 + t) / (10 + t)) at step t from 0, as TensorFlow's
    ExponentialMovingAverage does. So the random start has the share 9!·k! / (k + 9)! after k steps: less
    than 1e-5 after ten.

    torch's AveragedModel does not fit. It is a copy of the whole network with its hooks under other
    names, it averages all buffers or none, and it has no such warm-up. The update itself is torch's.

    Args:
        network: The network on its device, with the weights from before the first step.
        decay: The decay, from 0 to below 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network, self._decay = network, decay
        #: The averages by the names of parameters and buffers, in single precision at least: the small
        #: share of a step would be lost in half precision.
        self.values = {
            name: tensor.detach().clone().to(torch.promote_types(tensor.dtype, torch.float32))
            for name, tensor in self._averaged().items()
        }

    def update(self, step: int) -> None:
        """Takes the network's weights into the average.

        Args:
            step: The steps of the whole run before this one.
        """
        if not self.values:
            return
        decay = min(self._decay, (1 + step) / (10 + step))
        now = self._averaged()
        averages = list(self.values.values())
        mine = [now[name].detach().to(value.dtype) for name, value in self.values.items()]
        get_ema_multi_avg_fn(decay)(averages, mine, step)

    def statistics(self) -> list[Tensor]:
        """The averages of batch norm's running statistics."""
        return [value for name, value in self.values.items() if _is_statistic(name)]

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """The network has the averaged weights inside this block, and its own again after it."""
        own = {name: tensor.detach().clone() for name, tensor in self._of_network().items()}
        self.put()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in self._of_network().items():
                    tensor.copy_(own[name])

    def put(self) -> None:
        """Gives the averaged weights to the network, for good."""
        with torch.no_grad():
            for name, tensor in self._of_network().items():
                tensor.copy_(self.values[name])

    def _of_network(self) -> dict[str, Tensor]:
        return self._averaged() if self.values else {}

    def _averaged(self) -> dict[str, Tensor]:
        """What is averaged of the network, by name. Looked up anew: modules may rebind their buffers."""
        if self._decay == 0:
            return {}
        trained = {name: p for name, p in self._network.named_parameters() if p.requires_grad}
        buffers = {
            name: buffer
            for name, buffer in self._network.named_buffers()
            if _is_statistic(name) and buffer.is_floating_point()
        }
        return {**trained, **buffers}


def _is_statistic(name: str) -> bool:
    return name.rpartition(".")[2] in STATISTICS
