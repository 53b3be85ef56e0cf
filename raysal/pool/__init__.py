"""Vectors at rest: chunk files, commit records, a manifest. Written once per encoder, read by memory map."""

from raysal.pool.layout import Manifest, StagedChunk
from raysal.pool.pool import Pool, PoolInfo, open_pool
from raysal.pool.writer import ChunkStage, PoolWriter

__all__ = ["ChunkStage", "Manifest", "Pool", "PoolInfo", "PoolWriter", "StagedChunk", "open_pool"]
