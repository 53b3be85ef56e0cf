"""From candidates, or the whole pool, to a batch of k in pick order.

`base` says what a strategy is, `registry` lists them. `coverage`, `uncertainty` and `information` are what they are
after, `wrappers` go around another one, `engine` is what they share.
"""

from raysal.strategies.registry import SELECTORS

__all__ = ["SELECTORS"]
