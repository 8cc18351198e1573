"""What replacements have in common, by shape. A family picks one and fills in what is its own.

- `full`: one convolution with the original's kernel, whose weight is made from parameters;
- `split`: a part for space, a part for channels, each replaceable (`depthwise`, `pointwise`);
- `block`: several of torch's layers, nonlinear;
- `factored`: a tensor from factors, kept while it is true; `full` and the parts of `split` use it.
"""

from seclcompress.substitutions.shapes.block import BlockConv
from seclcompress.substitutions.shapes.depthwise import FactoredDepthwise
from seclcompress.substitutions.shapes.factored import Factored
from seclcompress.substitutions.shapes.full import FullConv, full_cost
from seclcompress.substitutions.shapes.initial import white_gain
from seclcompress.substitutions.shapes.pointwise import FactoredPointwise, Pointwise
from seclcompress.substitutions.shapes.split import SplitConv, split_cost

__all__ = [
    "BlockConv",
    "Factored",
    "FactoredDepthwise",
    "FactoredPointwise",
    "FullConv",
    "Pointwise",
    "SplitConv",
    "full_cost",
    "split_cost",
    "white_gain",
]
