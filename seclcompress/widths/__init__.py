"""What was hoped to tell a layer's right width, measured: of activations, and of weights.

The research journal of the project that this command comes from tried most of these statistics, and
found that they do not tell it (`findings`, which needs no torch). One file a statistic; `measure`
gathers all of them in one pass over some images, in memory that does not depend on their number.
"""
