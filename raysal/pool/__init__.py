"""A pool: the vectors of all items on disk, in chunks. An encoder writes it once; readers map it into memory."""

from raysal.pool.info import PoolInfo
from raysal.pool.layout import Manifest, StagedChunk
from raysal.pool.links import Change, changes_of
from raysal.pool.pool import Pool, open_pool
from raysal.pool.writer import ChunkStage, PoolWriter

__all__ = [
    "Change",
    "ChunkStage",
    "Manifest",
    "Pool",
    "PoolInfo",
    "PoolWriter",
    "StagedChunk",
    "changes_of",
    "open_pool",
]
