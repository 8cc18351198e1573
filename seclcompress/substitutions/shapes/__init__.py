"""Base classes of replacements, one for each shape. A family picks one and adds its own structure.

- `full`: one convolution with the original's kernel, whose weight is made from parameters.
- `split`: a depthwise part for space and a pointwise part for channels. A family can define either
  (`depthwise`, `pointwise`).
- `block`: several of torch's layers with nonlinearities between them.
- `chain`: one convolution, as `full`, that is several thin ones in a row and can run as these.
- `factored`: a tensor that is made from factors and cached. `full` and the parts of `split` use it.
- `decomposed`: such a tensor whose factors are found in the original's weight in closed form.
"""

from seclcompress.substitutions.shapes.block import BlockConv
from seclcompress.substitutions.shapes.chain import ChainConv, Step, chain_cost
from seclcompress.substitutions.shapes.decomposed import Decomposed, ProductPointwise
from seclcompress.substitutions.shapes.depthwise import FactoredDepthwise
from seclcompress.substitutions.shapes.factored import Factored, Making
from seclcompress.substitutions.shapes.full import FullConv, full_cost
from seclcompress.substitutions.shapes.initial import white_gain
from seclcompress.substitutions.shapes.pointwise import FactoredPointwise, Pointwise
from seclcompress.substitutions.shapes.split import SplitConv, split_cost

__all__ = [
    "BlockConv",
    "ChainConv",
    "Decomposed",
    "Factored",
    "FactoredDepthwise",
    "FactoredPointwise",
    "FullConv",
    "Making",
    "Pointwise",
    "ProductPointwise",
    "SplitConv",
    "Step",
    "chain_cost",
    "full_cost",
    "split_cost",
    "white_gain",
]
