"""From candidates, or the whole pool, to a batch of k in pick order.

`base` says what a strategy is, and `registry` lists the strategies. The rooms `coverage`, `uncertainty` and
`information` are named after what their strategies look for. Those in `wrappers` go around another strategy. `engine`
holds what strategies share.
"""

from raysal.strategies.registry import SELECTORS

__all__ = ["SELECTORS"]
