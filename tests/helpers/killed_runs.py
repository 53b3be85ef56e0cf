"""Runs that are killed with SIGKILL at a chosen point, and what of a run must not depend on that."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from warm import ended

from raysal.config import parse_config
from raysal.models.head import Head
from raysal.pool import Pool
from raysal.rounds.loop import run
from raysal.rounds.session import Session

FIELDS: dict[str, Any] = {
    "select": {"name": "badge"},
    "narrow": {"name": "anchoral", "subpool": 120, "anchors": 4, "neighbours": 20},
    "oracle": {"name": "simulated"},
    "rounds": {"count": 3, "k": 12, "holdout": 0.2},
    "update": {"mode": "laplace", "retrain_every": 2},
    "fleet": {"backend": "local"},
    "seed": 3,
}
"""The config of a run of three rounds, without its pool."""


def truth_of(pool: Pool) -> dict[str, str]:
    """Return the label of every key, from the pool's column `label`."""
    tables = list(pool.items(["key", "label"]))
    return {k: v for t in tables for k, v in zip(t["key"].to_pylist(), t["label"].to_pylist(), strict=True)}


def trace(out: Path) -> dict[str, Any]:
    """Return everything of a run that must not depend on interruptions: each batch, each head, and the labels."""
    with Session(out) as session:
        batches = [session.batch(r).table.to_pydict() for r in range(session.rounds)]
        heads = {p.parent.name: Head.load(p).digest() for p in sorted(out.rglob("head.safetensors"))}
        labels = [(item.id, item.label, item.weight, item.seq) for item in session.ledger.labels()]
        return {"batches": batches, "heads": heads, "labels": labels, "final": session.final() is not None}


def kill_run(point: str, config: dict[str, Any], out: Path, *, rebind: bool = False) -> None:
    """Run a config in a child process that is killed at a point: "rename:3" is before the third rename, "tell:1" before
    the first `Ledger.tell`."""
    assert ended(_run_until, point, config, out, rebind) == -signal.SIGKILL, f"{point} was not reached"


def _run_until(point: str, config: dict[str, Any], out: Path, rebind: bool) -> None:
    kind, count = point.split(":")
    left = int(count)

    def die_at() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if kind == "rename":
        sys.addaudithook(lambda event, args: die_at() if event == "os.rename" and str(out) in str(args) else None)
    else:
        import raysal.labels.ledger as ledger

        original = getattr(ledger.Ledger, kind)

        def dying(self: Any, *args: Any, **kwargs: Any) -> Any:
            die_at()
            return original(self, *args, **kwargs)

        setattr(ledger.Ledger, kind, dying)
    run(parse_config(config), out, rebind=rebind)
    os._exit(17)  # the point was never reached
