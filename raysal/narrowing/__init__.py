"""From millions of items to the thousands a strategy looks at.

`base` says what a narrower is and what it shares with others, `registry` lists them.
"""

from raysal.narrowing.registry import NARROWERS

__all__ = ["NARROWERS"]
