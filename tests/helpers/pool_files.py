"""What the files of a pool hold."""

from __future__ import annotations

from pathlib import Path

from raysal.pool import open_pool


def bytes_of(pool: Path) -> dict[str, bytes]:
    """Every file of a pool, temporaries included: what a resumed job has to reproduce."""
    return {str(file.relative_to(pool)): file.read_bytes() for file in sorted(pool.rglob("*")) if file.is_file()}


def quarantined(pool: Path) -> dict[str, tuple[str, str]]:
    rows = [row for chunk in open_pool(pool).chunks for row in chunk.quarantine().to_pylist()]
    return {row["key"]: (row["stage"], row["error"]) for row in rows}
