"""A converted network takes over its teacher's layers, one after another, from few pictures."""

from seclcompress.recover.pairs import Pair, pairs_of
from seclcompress.recover.result import LayerRecovery
from seclcompress.recover.run import left_out, recover_layers

__all__ = ["LayerRecovery", "Pair", "left_out", "pairs_of", "recover_layers"]
