"""The product that rules pairs out: never one that is within the limit, in float32 and in bfloat16."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from near_rows import METRICS, rows_with_neighbours

from raysal.curation.near import screen as screen_module
from raysal.curation.near.cells import Cells
from raysal.curation.near.nearest import nearest_of
from raysal.curation.near.pairs import near_pairs_of
from raysal.curation.near.screen import Screen
from raysal.curation.near.unit import Unit, compared_rows, radius_of
from raysal.types import Metric


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 300.0])
@pytest.mark.parametrize("lead", [1, 16, 24])
def test_no_pair_within_the_limit_is_ruled_out(rounded: bool, scale: float, lead: int) -> None:
    """The limit of each row is the distance to one of the others, so that bounds are as tight as they get."""
    rng = np.random.default_rng(0)
    spectrum = 0.8 ** np.arange(24)
    x, y = (torch.from_numpy((scale * spectrum * rng.standard_normal((n, 24))).astype(np.float32)) for n in (80, 300))
    x[7], y[9], y[10] = 0, 0, x[3]
    sq = ((x.double()[:, None] - y.double()) ** 2).sum(2)
    limit = sq[torch.arange(80), torch.from_numpy(rng.integers(300, size=80))].float()
    sides = [Screen.of(side, torch.linalg.vector_norm(side, dim=1) ** 2, lead, rounded=rounded) for side in (x, y)]
    rows = np.arange(80)[rng.permutation(80)]
    row, column = sides[1].hits(sides[0].left(rows, limit[rows]), np.arange(300)[::-1].copy())
    found = {(int(rows[r]), 299 - int(c)) for r, c in zip(row, column, strict=True)}
    wanted = {tuple(pair) for pair in (sq <= limit.double()[:, None]).nonzero().tolist()}
    assert wanted <= found
    if lead == 24:
        assert len(found) < 1.1 * len(wanted) + 40
    some = torch.tensor([4, 9, 10, 200])
    part = sides[1].only(some).hits(sides[0].left(np.arange(80), limit), np.arange(4))
    assert {(r, int(some[c])) for r, c in zip(*map(np.ndarray.tolist, part), strict=True)} >= {
        pair for pair in wanted if pair[1] in some.tolist()
    }


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_found_does_not_depend_on_the_type(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    x, threshold = rows_with_neighbours(7, 300, 24), {"cosine": 0.95, "l2": -10.0}[metric]
    cells = Cells.of(compared_rows(x, metric), 20, 1)
    found = []
    for rounded in (False, True):
        monkeypatch.setattr(screen_module, "in_bfloat16", lambda rounded=rounded: rounded)
        units = [Unit.of(np.arange(300)[own], x[own], metric, cells, radius_of(threshold, metric)) for own in HALVES]
        assert units[0].screen.right.dtype == (torch.bfloat16 if rounded else torch.float32)
        found.append([*near_pairs_of(*units, threshold, metric), *nearest_of(*units, threshold, metric)])
    assert len(found[0][0]) > 20
    assert all(np.array_equal(one, other) for one, other in zip(*found, strict=True))


HALVES = (slice(0, 150), slice(150, 300))
