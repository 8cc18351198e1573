"""Which execution makes a training step quicker: by Mult-Adds, and by what those of factors cost.

A product with a whole matrix runs at a processor's full speed. Factors are many short products with
copies of the maps between them, and each of their Mult-Adds costs more, the fewer channels there are.
`benchmarks/training_executions.py` measures how much; docs/performance.md has the table.
"""

from __future__ import annotations

#: What a Mult-Add of factors costs beyond one of a matrix, × the number of channels, by their kind.
#: Matrices, or thin convolutions, one behind the other.
CHAIN = 140.0
#: Block-diagonal maps with permutations, trains of cores, sums of Kronecker products.
BLOCKS = 640.0
#: Butterfly factors, whose blocks are pairs.
PAIRS = 3000.0


def quickest(fast: float, dense: float, channels: int, overhead: float) -> str:
    """Names the execution that makes a training step quicker.

    Args:
        fast: Mult-Adds of a step by factors.
        dense: Mult-Adds of a step by the matrix, with those of making it.
        channels: Those of the layer's narrower side.
        overhead: One of the numbers above, or 0 where a Mult-Add costs the same.
    """
    return "fast" if fast * (1 + overhead / channels) < dense else "dense"
