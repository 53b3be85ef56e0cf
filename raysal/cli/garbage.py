"""Garbage of a process that runs one command: it is looked for while the command computes, not before and not after.

While modules are imported there is none, and looking for it takes a tenth of the time of `raysal status` and a fifth of
that of `raysal select`. As the interpreter ends, one more look at all that torch holds takes 0.3 s.
"""

from __future__ import annotations

import gc


def look_later() -> None:
    """At the start of the process."""
    gc.disable()


def look_now() -> None:
    """Before a command computes, when its modules are imported: these are not looked at again.

    It does nothing where a command runs in a process of others.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def look_no_more() -> None:
    """At the end of the process."""
    gc.disable()
    gc.freeze()
