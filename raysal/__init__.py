"""Choose, from millions of unlabeled items, the few that are worth a label.

    pool = raysal.embed("photos", "efficientnet_lite0", out="pool")
    batch = raysal.select(pool, k=100, labels={"a.jpg": "cat", "b.jpg": "dog"})

A name is imported when it is first used: `import raysal` loads neither torch nor ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raysal.registry import names_on_use

if TYPE_CHECKING:
    from raysal.api.balance import balance
    from raysal.api.check import check
    from raysal.api.core import core
    from raysal.api.curate import curate
    from raysal.api.dedup import dedup
    from raysal.api.embed import embed
    from raysal.api.export import export
    from raysal.api.filter import filter
    from raysal.api.find import find
    from raysal.api.finetune import finetune
    from raysal.api.labels import export_labels, import_labels
    from raysal.api.predict import predict
    from raysal.api.rank import rank
    from raysal.api.search import search
    from raysal.api.select import select
    from raysal.errors import RaysalError
    from raysal.pool import Pool, open_pool
    from raysal.rounds.session import Session
    from raysal.types import Label
    from raysal.web.server import serve

__version__ = "0.1.0"
__all__ = [
    "Label",
    "Pool",
    "RaysalError",
    "Session",
    "balance",
    "check",
    "core",
    "curate",
    "dedup",
    "embed",
    "export",
    "export_labels",
    "filter",
    "find",
    "finetune",
    "import_labels",
    "open_pool",
    "predict",
    "rank",
    "search",
    "select",
    "serve",
]

_HOMES = {
    "Label": "raysal.types",
    "Pool": "raysal.pool",
    "RaysalError": "raysal.errors",
    "Session": "raysal.rounds.session",
    "balance": "raysal.api.balance",
    "core": "raysal.api.core",
    "curate": "raysal.api.curate",
    "check": "raysal.api.check",
    "dedup": "raysal.api.dedup",
    "embed": "raysal.api.embed",
    "export": "raysal.api.export",
    "export_labels": "raysal.api.labels",
    "filter": "raysal.api.filter",
    "find": "raysal.api.find",
    "finetune": "raysal.api.finetune",
    "import_labels": "raysal.api.labels",
    "open_pool": "raysal.pool",
    "predict": "raysal.api.predict",
    "rank": "raysal.api.rank",
    "search": "raysal.api.search",
    "select": "raysal.api.select",
    "serve": "raysal.web.server",
}


__getattr__ = names_on_use(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
