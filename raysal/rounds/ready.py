"""Whether the pool of a run is there, and is what the run's config says."""

from __future__ import annotations

from raysal.config import RunConfig
from raysal.embedding import ENCODERS
from raysal.embedding.changes import check_changed_pool
from raysal.embedding.limits import check_lost
from raysal.embedding.measures import as_measures
from raysal.embedding.origin import check_origin
from raysal.errors import FingerprintMismatch, PoolError, PoolIncomplete
from raysal.pool import Pool, open_pool
from raysal.pool.layout import MANIFEST
from raysal.pool.place import directory_of
from raysal.scale import as_scale, scale_words
from raysal.sources import SOURCES
from raysal.types import PassedOver, Report, no_report


def pool_is_ready(config: RunConfig, report: Report = no_report, *, keep: bool = True) -> bool:
    """Whether the pool of a config is there, whole, and what the config says.

    Args:
        config: the config of the run.
        report: as in `run`.
        keep: whether the pool may remember that its source was looked at.

    Returns:
        False if the pool is yet to be embedded.

    Raises:
        PoolError: there is no pool, and the config does not say how to make one; or it cannot be read.
        PoolIncomplete: it was not embedded to its end, and the config does not say how to go on.
        FingerprintMismatch: it was not made of the source, by the encoder, or with the metric that the config names; or
            the source has changed since.
    """
    try:
        pool = open_pool(config.pool)
    except PoolIncomplete:
        if config.source is None:
            raise
        return False
    except PoolError:
        if config.source is None or (directory_of(config.pool, synced=False) / MANIFEST).exists():
            raise
        return False
    if config.source is not None and config.encoder is not None:
        source, encoder = config.source.build("source", SOURCES), config.encoder.build("encoder", ENCODERS)
        if pool.generation:
            check_changed_pool(pool, source, encoder)
        else:
            check_origin(
                pool.path,
                pool.manifest,
                source,
                encoder,
                keep=keep,
                report=lambda done, total: report("check", done, total),
            )
        if pool.metric != config.embed.metric:
            fix = f"embed into another pool directory, or set embed.metric = {pool.metric!r}"
            raise FingerprintMismatch(pool.path, "its metric", pool.metric, config.embed.metric, fix)
        asked = as_scale(config.embed.scale)
        if asked not in (None, pool.scale):
            own = scale_words(pool.scale)
            fix = f'embed into another pool directory, or set embed.scale = "{own}"'
            raise FingerprintMismatch(pool.path, "its scale", own, scale_words(asked), fix)
        wanted = as_measures(config.embed.measures, source.modality)
        if wanted not in (None, pool.manifest.measures):
            then, now = (", ".join(some) or "none" for some in (pool.manifest.measures, wanted))
            fix = "embed into another pool directory, or leave out embed.measures"
            raise FingerprintMismatch(pool.path, "its measures", then, now, fix)
    return True


def check_pool_lost(pool: Pool, config: RunConfig) -> None:
    """Refuse a pool that the run made, if more of its source was lost than the config allows."""
    if config.source is not None:
        check_lost(
            pool.path,
            pool.info().quarantined,
            pool.manifest.items,
            pool.passed_over() or PassedOver(),
            max_quarantine=config.embed.max_quarantine,
            max_passed_over=config.embed.max_passed_over,
        )
