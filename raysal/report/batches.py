"""The batches of a run as strips of images, or lists of texts or keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raysal.pool import Pool
from raysal.report.markup import Html, join, tag
from raysal.report.records import Answers, Arm
from raysal.report.sections import swatch
from raysal.report.thumbnails import Gallery, Shown, gallery

PER_BATCH = 100
"""Items shown of a batch: the first in pick order."""
IN_ALL = 2_000
"""Items shown of a run; with very many rounds each shows fewer."""
OPEN = 10
"""A run of up to so many rounds shows them all; in a longer one each is unfolded by hand."""


@dataclass(frozen=True, kw_only=True)
class Pick:
    """A pick as in its batch."""

    id: int
    key: str
    rank: int
    score: float | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Batches:
    """The picks of every round, in pick order."""

    rounds: tuple[tuple[Pick, ...], ...]

    @classmethod
    def read(cls, arm: Arm) -> Batches:
        """Raises: Damaged: a batch is missing or unreadable."""
        return cls(rounds=tuple(_picks(arm.batch(round).to_pylist()) for round in range(len(arm.rounds))))

    def ids_by_round(self) -> dict[int, int]:
        """The round that picked each item; the first, where a released item was picked again."""
        found: dict[int, int] = {}
        for round, picks in enumerate(self.rounds):
            for pick in picks:
                found.setdefault(pick.id, round)
        return found

    def shown(self) -> tuple[tuple[Pick, ...], ...]:
        """Of every round the picks a report shows."""
        most = max(min(PER_BATCH, IN_ALL // max(len(self.rounds), 1)), 1)
        return tuple(picks[:most] for picks in self.rounds)


def _picks(rows: Sequence[Mapping[str, Any]]) -> tuple[Pick, ...]:
    names = ("id", "key", "rank", "score", "reason")
    return tuple(Pick(**{name: row[name] for name in names}) for row in rows)


def batches_section(
    arm: Arm, batches: Batches, answers: Answers, pool: Pool | None, colours: Mapping[str, str]
) -> Html:
    """A strip per round. Reads the shown items from the pool's source; says so where it cannot."""
    visible = batches.shown()
    wanted = {pick.id: pick.key for picks in visible for pick in picks}
    found = Gallery(modality="vector", shown={}) if pool is None else gallery(pool, wanted)
    parts: list[Html] = []
    if found.problem is not None:
        note = f"The items themselves cannot be shown, only their keys. {found.problem}"
        parts.append(tag("p", note, class_="warning"))
    for record, picks, all_picks in zip(arm.rounds, visible, batches.rounds, strict=True):
        body = _strip(picks, found, answers, colours) if found.shown else _list(picks, answers, colours)
        left = len(all_picks) - len(picks)
        more = tag("p", f"and {left:,} more", class_="note") if left else None
        facts = [
            f"{len(all_picks):,} picks by {record['strategy']}",
            f"from {record['narrow']}",
            record["decision"],
        ]
        summary = tag("summary", f"Round {record['round']}", tag("span", " · ".join(facts)))
        parts.append(tag("details", summary, body, more, open=len(arm.rounds) <= OPEN))
    return join(parts)


def _strip(picks: Sequence[Pick], found: Gallery, answers: Answers, colours: Mapping[str, str]) -> Html:
    if found.modality == "text":
        return _list(picks, answers, colours, found)
    return tag("div", [_figure(pick, found, answers, colours) for pick in picks], class_="strip")


def _figure(pick: Pick, found: Gallery, answers: Answers, colours: Mapping[str, str]) -> Html:
    shown = found.shown.get(pick.id, Shown(problem="not in the source any more"))
    label = answers.classes.get(pick.id)
    facts = [f"{pick.rank}. {pick.key}", label or "no label"]
    facts += [f"score {pick.score:.4g}"] if pick.score is not None else []
    facts += [pick.reason] if pick.reason else []
    if shown.image is None:
        picture = tag("div", shown.problem, class_="none")
    else:
        picture = tag("img", src=shown.image, alt=pick.key, class_="small" if shown.small else None)
    caption = tag("figcaption", swatch(colours.get(label or "")), label or "–")
    return tag("figure", picture, caption, title=" · ".join(facts))


def _list(picks: Sequence[Pick], answers: Answers, colours: Mapping[str, str], found: Gallery | None = None) -> Html:
    lines = []
    for pick in picks:
        label = answers.classes.get(pick.id)
        shown = None if found is None else found.shown.get(pick.id)
        head = join(swatch(colours.get(label or "")), tag("em", f"{label} · " if label else "", pick.key))
        if shown is None:
            lines.append(tag("li", head, title=pick.reason, value=pick.rank))
        else:
            content = shown.text if shown.text is not None else f"({shown.problem})"
            lines.append(tag("li", content, tag("br"), head, title=pick.reason, value=pick.rank))
    return tag("ol", lines, class_="items" if found is None else "items texts")
