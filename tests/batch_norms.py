"""Batch norms as training leaves them, so that what drops or misplaces them shows."""

from __future__ import annotations

import torch
from torch import nn


def draw_batch_norms(network: nn.Module, spread: float) -> None:
    """Draws all statistics and parameters; `spread` is the standard deviation of means and biases."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, spread)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, spread)
