"""Tells which parameters a network's own code has frozen."""

from __future__ import annotations

from torch import nn

from seclcompress.observer import Observer
from seclcompress.substitutions import structured_layers

_NAMED = 3


def tell_frozen(network: nn.Module, observer: Observer) -> None:
    """Reports the parameters that stay as they are in training, and that rewritten layers do not.

    A network's builder may freeze a part of it, as for transfer learning. Rewriting replaces a frozen
    layer by one with new values, which must be trained; nothing else changes.

    Args:
        network: The network, rewritten or not.
        observer: Receives one line if something is frozen.
    """
    frozen = [name for name, p in network.named_parameters() if not p.requires_grad]
    if not frozen:
        return
    whole = sum(p.numel() for p in network.parameters())
    count = sum(p.numel() for p in network.parameters() if not p.requires_grad)
    more = f" and {len(frozen) - _NAMED} more" if len(frozen) > _NAMED else ""
    new = structured_layers(network)
    trained = f" The {len(new)} rewritten layers are new and are trained." if new else ""
    observer.message(
        f"The network itself has frozen {count:,} of its {whole:,} parameters "
        f"({', '.join(frozen[:_NAMED])}{more}); they stay as they are.{trained}"
    )
