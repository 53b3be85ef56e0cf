"""DropQuery and ALFA-Mix: flag, beside the data, the items whose prediction is easily changed; cluster those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from raysal.context import RoundContext
from raysal.fleet import Fleet, Partition
from raysal.numerics import ceil_div, one_thread, padded, round_up
from raysal.rng import derive, item_uniform
from raysal.scoring.linear import Linear
from raysal.scoring.row_values import refuse_broken
from raysal.scoring.similarity import unit_rows
from raysal.scoring.top_k import BestItems, best_of, best_of_parts, lowest_hashes
from raysal.strategies.base import Picks, Selector
from raysal.strategies.engine.kmeans import k_means
from raysal.strategies.engine.representatives import nearest_to_centroids
from raysal.strategies.engine.shortlist import CANDIDATES_PER_PICK, gathered_by_hash

LANE_BITS = 16
"""Bits of a hash that decide over one feature in one pass of dropout."""
HASH_BITS = 64
"""Bits of a hash: 4 passes of dropout."""
FLAGGED_PER_PICK = 25
"""Flagged items for each pick below which fewer passes suffice for a flag."""
LEAST_NORM = 1e-300
"""What no length, and no square of one, is below where it is divided by."""


@dataclass(frozen=True, kw_only=True)
class DropQuery(Selector):
    """Items whose prediction changes under dropout, clustered (Gupte et al., TMLR 2024).

    From "Revisiting Active Learning in the Era of Vision Foundation Models". `passes` of dropout with probability
    `dropout` on the input features of the head, less the centre of its frame: a dropped feature has its mean, not 0, so
    the origin of the vectors does not matter. Flagged are candidates of which more than passes // 2 differ from the
    clean prediction; one less, down to 1, while fewer than 25 k are flagged. Then k-means with k clusters on unit
    vectors, and the item nearest to each centroid, largest cluster first. The score is the cluster's share of the
    flagged. With k flagged or fewer all are taken, the rest is a uniform sample of the others, and the reason says so.

    Every item has its own masks, as published: one mask for all would flag whole classes whose features it hides.
    They are a hash of (key, item, feature), so they depend on nothing else.

    Needs a head. The whole pool is flagged, O(n d (passes C + hash)), 1 byte a row; at most `max_candidates` flagged
    (at least 5 k) are clustered, a uniform sample where there are more. With m of them O(m k d) an iteration, O(m d)
    memory. No prefix property. Ignores which items are labelled.
    """

    FORMER: ClassVar[dict[str, str]] = {"limit": "max_candidates"}
    passes: Annotated[int, Field(ge=1, le=255)] = 3
    dropout: Annotated[float, Field(gt=0, lt=1)] = 0.75
    max_candidates: Annotated[int, Field(ge=1)] = 10_000

    @property
    def needs_head(self) -> bool:
        """Always."""
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """Flag the candidates by dropout, and pick from clusters of the flagged."""
        keys = [
            derive(context.key, "dropout", hash_number)
            for hash_number in range(ceil_div(self.passes * LANE_BITS, HASH_BITS))
        ]
        counts = np.sum(fleet.each(flag_by_dropout, context.linear(), keys, self.passes, self.dropout), axis=0)
        least = self.passes // 2 + 1
        while least > 1 and counts[least:].sum() < FLAGGED_PER_PICK * k:
            least -= 1
        why = f"flagged by {least} of {self.passes} passes"
        return picks_by_cluster(
            fleet, context.key, k, least, max(self.max_candidates, CANDIDATES_PER_PICK * k), why, "uniform"
        )


@dataclass(frozen=True, kw_only=True)
class AlfaMix(Selector):
    """Items whose prediction flips when they are moved a little, clustered (ALFA-Mix; Parvaneh et al., CVPR 2022).

    An item z is moved along the gradient g of its loss for the predicted class, by epsilon / sqrt(d) times its
    distance to an anchor, the mean of a class's labelled items: z + epsilon / sqrt(d) |z* - z| g / |g|, to which the
    published interpolation cancels. Flagged if that flips the prediction for any anchor. With a linear head the
    logits are linear in the distance moved, so that the farthest anchor decides. Classes without labels have no
    anchor. Then k-means with k clusters on unit vectors, and the item nearest to each centroid, largest cluster
    first. The score is the cluster's share of the flagged. With k flagged or fewer all are taken, and then those that
    would flip next if epsilon grew (a uniform sample without any anchor, or with one class); the reason says so.

    Needs a head and labelled items with classes. The whole pool is flagged, O(n (C + anchors) d + n C^2), 9 bytes a
    row; at most `max_candidates` flagged (at least 5 k) are clustered, a uniform sample where there are more. With m of
    them O(m k d) an iteration, O(m d) memory. No prefix property. Ignores labels but for the anchors.
    """

    FORMER: ClassVar[dict[str, str]] = {"limit": "max_candidates"}
    epsilon: Annotated[float, Field(gt=0)] = 0.2
    max_candidates: Annotated[int, Field(ge=1)] = 10_000

    @property
    def needs_head(self) -> bool:
        """Always."""
        return True

    def select(self, fleet: Fleet, context: RoundContext, k: int) -> Picks:
        """Flag the candidates by mixing, and pick from clusters of the flagged."""
        anchors = class_means(context.labelled.vectors, context.labelled.classes)
        head = context.linear()
        fleet.each(flag_by_mixing, head, anchors, self.epsilon)
        can_flip = len(anchors) and len(head.bias) > 1
        order = "next to flip" if can_flip else "uniform, no labelled class to mix with, or no other to flip to"
        return picks_by_cluster(
            fleet, context.key, k, 1, max(self.max_candidates, CANDIDATES_PER_PICK * k), "prediction flips", order
        )


def picks_by_cluster(fleet: Fleet, key: int, k: int, least: int, max_candidates: int, why: str, order: str) -> Picks:
    """The items in the middle of k clusters of the flagged; where there are at most k, all of them and then others.

    Args:
        fleet: partitions that hold `Flags`.
        key: key of `raysal.rng`.
        k: how many picks.
        least: how many times an item must be flagged.
        max_candidates: how many of the flagged are clustered at most.
        why: of the flags, for the reasons.
        order: of the others, for the reasons.

    Returns:
        The batch.
    """
    total = sum(fleet.each(count_flagged, least))
    flagged, spare = derive(key, "flagged"), derive(key, "spare")
    ids, _ = best_of_parts(fleet.each(sample_flagged, least, flagged, max_candidates), max_candidates, ties=flagged)
    origin = "" if total <= max_candidates else f", of {max_candidates:,} drawn from {total:,}"
    if len(ids) > k:
        ids, vectors = gathered_by_hash(fleet, ids, derive(key, "ties"))
        unit = unit_rows(vectors)
        clusters = k_means(unit, k, derive(key, "clusters"))
        rows = nearest_to_centroids(unit, clusters, k)
        sizes = clusters.sizes[clusters.assignment[rows]]
        reasons = tuple(f"{why}; middle of a cluster of {size}{origin}" for size in sizes)
        return Picks(ids=ids[rows], scores=sizes / len(ids), reasons=reasons)
    missing = k - len(ids)
    others, _ = best_of_parts(fleet.each(first_unflagged, least, spare, missing), missing, ties=spare)
    scores = np.concatenate([np.full(len(ids), 1 / max(len(ids), 1)), np.zeros(missing)])
    reasons = (why,) * len(ids) + (f"not flagged; {order}",) * missing
    return Picks(ids=np.concatenate([ids, others]), scores=scores, reasons=reasons)


def class_means(vectors: NDArray[np.float32], classes: Sequence[str]) -> NDArray[np.float64]:
    """Mean vector of every class that has rows.

    Args:
        vectors: float32 [n, d].
        classes: names [n].

    Returns:
        float64 [classes that have rows, d], in the order of their names.
    """
    names = np.array(classes, object)
    seen = sorted(set(classes))
    means = [vectors[names == name].mean(0, dtype=np.float64) for name in seen]
    return np.array(means).reshape(len(seen), vectors.shape[1])


# Functions of a partition.


class Flags(NamedTuple):
    """How easily the predictions of a partition's candidates change."""

    times: NDArray[np.uint8]
    """[n] how many times each is flagged"""
    closeness: NDArray[np.float64] | None
    """[n] how close an unflagged row is to a flag; None for a uniform order"""


def flag_by_dropout(
    partition: Partition, head: Linear, keys: list[int], passes: int, dropout: float
) -> NDArray[np.int64]:
    """Count the passes of dropout in which each candidate's prediction changes.

    Args:
        partition: where they live; keeps them in `state["flags"]`.
        head: what predicts.
        keys: keys of `raysal.rng`, one for each hash of `HASH_BITS` bits.
        passes: how many.
        dropout: probability of a feature to be hidden.

    Returns:
        int64 [passes + 1], how many candidates have each count.

    Raises:
        PoolError: a vector is not finite; it names the item.
    """
    rows = partition.candidates()
    flags = np.zeros(len(rows), np.uint8)
    weight, centre = partition.aligned(head.weight), head.centre(partition.width, partition.device)
    bias = torch.from_numpy(head.about_centre().bias.astype(np.float32)).to(partition.device)
    hidden_below = round(dropout * 2**LANE_BITS)
    start = 0
    for block in partition.blocks(rows):
        ids = partition.ids[block.rows]
        features = block.features - centre
        clean = weight.products(features)[: block.n] + bias
        refuse_broken(ids, torch.isfinite(clean).all(1).cpu().numpy())
        predicted = clean.argmax(1)
        thinned = torch.zeros_like(features)
        for number in range(passes):
            lane = number * LANE_BITS % HASH_BITS
            if lane == 0:
                key = keys[number * LANE_BITS // HASH_BITS]
                bits = feature_bits(key, ids, features.shape[1], partition.device)
            kept = ((bits >> lane) & (2**LANE_BITS - 1)) >= hidden_below
            thinned[: block.n] = features[: block.n] * kept
            logits = weight.products(thinned)[: block.n] / (1 - dropout) + bias
            flags[start : start + block.n] += (logits.argmax(1) != predicted).byte().cpu().numpy()
        start += block.n
    partition.state["flags"] = Flags(flags, None)
    return np.bincount(flags, minlength=passes + 1)


def feature_bits(key: int, ids: NDArray[np.int64], width: int, device: torch.device) -> torch.Tensor:
    """64 random bits for each feature of each item: SplitMix64 seeded by a hash of (key, item) and counting features.

    Integers alone, so the same on any device.

    Args:
        key: key of `raysal.rng`.
        ids: int64 [n].
        width: how many features.
        device: of the result.

    Returns:
        int64 [n, width].
    """
    seeds = (item_uniform(key, ids) * 2.0**52).astype(np.int64)
    steps = np.arange(1, width + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = torch.from_numpy(seeds).to(device)[:, None] + torch.from_numpy(steps.view(np.int64)).to(device)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ ((x >> shift) & (2 ** (64 - shift) - 1))) * (factor - 2**64)  # the mask: >> copies the sign
    return x ^ ((x >> 31) & (2**33 - 1))


def flag_by_mixing(partition: Partition, head: Linear, anchors: NDArray[np.float64], epsilon: float) -> None:
    """Flag the candidates whose prediction flips within epsilon / sqrt(d) of the distance to the farthest anchor.

    Args:
        partition: where they live; keeps them in `state["flags"]`.
        head: what predicts.
        anchors: float64 [a, d].
        epsilon: as of `AlfaMix`.

    Raises:
        PoolError: a vector is not finite; it names the item.
    """
    rows = partition.candidates()
    classes = len(head.bias)
    if len(anchors) == 0 or classes == 1:
        partition.state["flags"] = Flags(np.zeros(len(rows), np.uint8), None)
        return
    stacked = partition.aligned(np.concatenate([head.weight, anchors]))
    bias = torch.tensor(head.bias, device=partition.device)
    sq_anchors = torch.from_numpy((anchors**2).sum(1)).to(partition.device)
    wide = round_up(classes)
    gram = np.einsum("id,jd->ij", head.weight, head.weight)
    wide_gram = padded(gram, wide, torch.float64, partition.device, rows=wide)
    closeness = np.empty(len(rows))
    start = 0
    for block in partition.blocks(rows):
        product = stacked.products(block.features).double()
        logits = product[:, :classes] + bias
        sq_norms = (block.features.double() ** 2).sum(1)[:, None]
        gaps = sq_norms + sq_anchors - 2 * product[:, classes:]
        moved = epsilon / partition.dim**0.5 * gaps.amax(1).clamp_min(0).sqrt()
        refuse_broken(partition.ids[block.rows], torch.isfinite(moved)[: block.n].cpu().numpy())
        ratio = moved / distance_to_flip(logits, wide_gram).clamp_min(LEAST_NORM)
        closeness[start : start + block.n] = ratio[: block.n].cpu().numpy()
        start += block.n
    partition.state["flags"] = Flags((closeness > 1).astype(np.uint8), closeness)


def distance_to_flip(logits: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """How far along g / |g| the prediction flips.

    g = W^T (p - e_y) for the predicted class y is taken up to its length, as W^T (q - e_y) with q the probabilities of
    the other classes among themselves: so it has a direction also where p has rounded to 1. The logits after t are
    logits + t W g / |g|, and class c overtakes y at (l_y - l_c) / (s_c - s_y), s = W g / |g|, where that is positive.

    Args:
        logits: float64 [n, C], C >= 2.
        gram: float64 [C', C'] holds W W^T, zero beyond C.

    Returns:
        float64 [n]; inf where it never flips.
    """
    classes = logits.shape[1]
    top, predicted = logits.max(1, keepdim=True)
    with one_thread():
        others = torch.softmax(logits.scatter(1, predicted, -torch.inf), 1)
        residual = torch.zeros(len(logits), len(gram), dtype=torch.float64, device=logits.device)
        residual[:, :classes] = others.scatter(1, predicted, -1.0)
    slope = residual @ gram
    with one_thread():
        sq_length = (residual * slope).sum(1, keepdim=True)
        speed = (slope[:, :classes] - slope.gather(1, predicted)) / sq_length.clamp_min(LEAST_NORM).sqrt()
    speed.scatter_(1, predicted, 0.0)
    return torch.where(speed > 0, (top - logits) / speed, torch.inf).amin(1)


def count_flagged(partition: Partition, least: int) -> int:
    """How many candidates are flagged at least `least` times."""
    flags: Flags = partition.state["flags"]
    return int((flags.times >= least).sum())


def sample_flagged(partition: Partition, least: int, key: int, count: int) -> BestItems:
    """Of the candidates flagged at least `least` times the `count` of lowest hash."""
    flags: Flags = partition.state["flags"]
    return lowest_hashes(partition.ids[partition.candidates()][flags.times >= least], key, count)


def first_unflagged(partition: Partition, least: int, key: int, count: int) -> BestItems:
    """Of the other candidates the `count` that are closest to a flag, or of lowest hash."""
    flags: Flags = partition.state["flags"]
    others = flags.times < least
    ids = partition.ids[partition.candidates()][others]
    if flags.closeness is None:
        return lowest_hashes(ids, key, count)
    return best_of(ids, flags.closeness[others], count, ties=key)
