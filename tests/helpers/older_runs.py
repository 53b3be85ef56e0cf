"""Runs and ledgers as raysal made them before ledgers were bound to a pool (version 1 of their schema)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from raysal.labels import Ledger, events


@contextmanager
def as_before_binding() -> Iterator[None]:
    """Inside, new ledgers have the schema of version 1, and no ledger is bound to a pool: its file then has what the
    older raysal wrote, to the byte."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "VERSION", 1)
        patch.setattr(Ledger, "bind", Ledger.expect)
        yield
