"""Sections of a config that stand alone: where partitions live, how a pool is embedded, its index.

`raysal.config` has the rest, and every name of here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from raysal.defaults import BATCH_SIZE, DECODE_THREADS, MAX_CHUNK_ROWS, MAX_PASSED_OVER, MAX_QUARANTINE
from raysal.scale import AUTO, parse_scale
from raysal.types import Check, Metric

T = TypeVar("T")
Count = Annotated[int, Field(ge=1)]
"""A whole number from 1."""


class Section(BaseModel):
    """A table of the TOML file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def validator_of(cls: type[T]) -> TypeAdapter[T]:
    """What makes instances of a class from the fields of a config.

    It is kept: making it takes milliseconds, using it microseconds.

    Args:
        cls: a class whose constructor's arguments are the fields.

    Returns:
        The validator.
    """
    found: TypeAdapter[T] | None = _VALIDATORS.get(cls)
    if found is None:
        found = _VALIDATORS[cls] = TypeAdapter(cls)
    return found


_VALIDATORS: dict[type, TypeAdapter[Any]] = {}


class FleetConfig(Section):
    """Where the pool's partitions live. Picks never depend on it."""

    backend: Literal["local", "ray"] = "ray"
    """In this process, or in Ray actors."""
    partitions: Annotated[int, Field(ge=0)] = 0
    """Number of partitions; 0 = one for each CPU of the cluster with Ray, one without."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads per partition; 0 = share the CPUs evenly."""
    address: str | None = None
    """A Ray cluster to join (`auto`, or host:port). Without it, Ray starts on this machine."""
    device: str = "cpu"
    """The device that computes: cpu, cuda, cuda:1 ..."""
    call_timeout: Annotated[float, Field(gt=0)] = 1800.0
    """Seconds that one call may take on one partition; then the partition's process is replaced."""
    service: str | None = None
    """The name of a service that `raysal index serve` started. It has its own partitions, threads and device."""


class EmbedConfig(Section):
    """The embed job."""

    batch_size: Count = BATCH_SIZE
    """Items in one pass of the encoder."""
    chunk_rows: Annotated[int, Field(ge=0, le=MAX_CHUNK_ROWS)] = 0
    """Items in one chunk; 0 = 65536 for ready vectors, 1024 otherwise."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Ray workers; 0 = as many as fit."""
    decode_threads: Count = DECODE_THREADS
    """Threads that decode items ahead of the encoder."""
    max_quarantine: Annotated[float, Field(ge=0, le=1)] = MAX_QUARANTINE
    """Share of the items that may be quarantined before the job fails."""
    max_passed_over: Annotated[float, Field(ge=0, le=1)] = MAX_PASSED_OVER
    """Share of the files that look like items that the source may leave out before the job fails."""
    metric: Metric = "cosine"
    """The distance by which neighbours in the pool are found. It cannot change later."""
    scale: Annotated[Literal["auto"] | float, BeforeValidator(parse_scale)] = AUTO
    """The power of two (a number, or "2^N") that vectors are multiplied by before they become float16; auto = what a
    sample of ready vectors needs, 1 for a model, and that of the pool where there is one."""
    check: Check = "fast"
    """How a job that goes on finds what changed: fast by the sizes and times of files, hash by their sha256."""
    measures: tuple[str, ...] | None = None
    """Measures of quality of pictures or texts, as columns of the pool: sharpness, pixels, words ... or all. Without
    it, those of the pool where there is one."""


class PartsConfig(Section):
    """What is chosen where items of the pool are parts (boxes, tiles, frames, steps) of owners."""

    by: Literal["part", "owner"] = "part"
    """Whether parts are chosen, or their owners. Keys and labels then are those of owners."""
    labels_of: Literal["owner", "part"] = "owner"
    """By owner: whether labels are of owners, or of their parts, from whose vectors the head then learns. An owner is
    offered as long as one of its parts has no label, and a batch of a run has all its parts that have none."""
    aggregate_features: Literal["mean", "weighted_mean", "best_part"] = "mean"
    """By owner: whose vector stands for one. The mean of its parts, their mean weighted by the score, or the part of
    highest score. While there is no head it is the mean."""
    aggregate_scores: str | dict[str, Any] | None = None
    """By owner: how scores of parts become that of their owner (mean, max, sum, top_mean, quantile, custom). Without
    it, what stands for the owner is scored."""
    score: str | None = None
    """The score of parts for the two above and for `per_owner`. By default that of the strategy, or the usual one."""
    per_owner: Annotated[int, Field(ge=0)] = 0
    """By part: how many parts of one owner may be offered, those of highest score; drawn uniformly while there is no
    head. 0 = all."""

    @property
    def labels_of_owners(self) -> bool:
        """Whether labels, and what else is known by key, are of owners."""
        return self.by == "owner" and self.labels_of == "owner"

    @property
    def labels_of_parts_of_owners(self) -> bool:
        """Whether owners are chosen, and labels are of their parts."""
        return self.by == "owner" and self.labels_of == "part"


class IndexConfig(Section):
    """The pool's index, for rounds that search with it (`search = "index"`).

    The index is kept with the pool. The record of each round names the index that was searched.
    """

    build: bool = False
    """Build an index before the first round if there is none."""
    rebuild: bool = False
    """Build a new index in the background if a round finds that the index lacks rows of the pool. Until the new index
    is ready, rounds search exactly."""
    kind: Literal["auto", "flat", "hnsw", "ivf_flat", "ivf_pq", "ivf_rabitq", "ivf_sq8"] = "auto"
    """What to build. With `auto`, a rebuild keeps the kind of the old index."""
    memory: str | None = None
    """The memory that one process may use at most, as "8GB". Without it, what this machine allows."""
