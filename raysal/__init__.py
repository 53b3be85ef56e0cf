"""Choose, from millions of unlabeled items, the few that are worth a label.

    pool = raysal.embed("photos", "efficientnet_lite0", out="pool")
    batch = raysal.select(pool, k=100, labels={"a.jpg": "cat", "b.jpg": "dog"})

Nothing is imported before it is used: `import raysal` loads neither torch nor ray.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raysal.api import embed, predict, select
    from raysal.errors import RaysalError
    from raysal.pool import Pool, open_pool
    from raysal.session import Session
    from raysal.similar import search
    from raysal.types import Label

__version__ = "0.1.0"
__all__ = ["Label", "Pool", "RaysalError", "Session", "embed", "open_pool", "predict", "search", "select"]

_HOMES = {
    "Label": "raysal.types",
    "Pool": "raysal.pool",
    "RaysalError": "raysal.errors",
    "Session": "raysal.session",
    "embed": "",  # packages that can be called, see `raysal._callable`
    "open_pool": "raysal.pool",
    "predict": "",
    "search": "raysal.similar",
    "select": "raysal.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'raysal' has no attribute {name!r}")
    home = _HOMES[name]
    value = getattr(import_module(home), name) if home else import_module(f"raysal.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
