"""The batches of a run as HTML: strips of images, or lists of texts or keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raysal.pool import Pool
from raysal.report.markup import Html, join, tag
from raysal.report.records import Answers, Arm
from raysal.report.sections import swatch
from raysal.report.thumbnails import Gallery, Shown, read_gallery

SHOWN_PER_BATCH = 100
"""Items shown of a batch: the first ones in pick order."""
SHOWN_PER_RUN = 2_000
"""Items shown of a run. With very many rounds, each round shows fewer."""
MAX_OPEN_ROUNDS = 10
"""Up to so many rounds are unfolded in the page. In a longer run the reader unfolds each round."""


@dataclass(frozen=True, kw_only=True)
class Pick:
    """One row of a batch."""

    id: int | None
    """in the pool of now; None if it does not have the item"""
    key: str
    rank: int
    score: float | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Batches:
    """The picks of every round, in pick order."""

    rounds: tuple[tuple[Pick, ...], ...]

    @classmethod
    def read(cls, arm: Arm, answers: Answers) -> Batches:
        """Read the batches of a run.

        Args:
            arm: the run's records.
            answers: its labels, which know the items of earlier pools by key.

        Returns:
            The picks of its rounds.

        Raises:
            Damaged: a batch is missing or unreadable.
        """
        return cls(
            rounds=tuple(
                _picks(arm.batch(round).to_pylist(), answers, record["pool"]) for round, record in enumerate(arm.rounds)
            )
        )

    def ids_by_round(self) -> dict[int, int]:
        """The round that picked each item; the first one where an item was released and picked again."""
        found: dict[int, int] = {}
        for round, picks in enumerate(self.rounds):
            for pick in picks:
                if pick.id is not None:
                    found.setdefault(pick.id, round)
        return found

    def shown(self) -> tuple[tuple[Pick, ...], ...]:
        """The picks of every round that a report shows."""
        most = max(min(SHOWN_PER_BATCH, SHOWN_PER_RUN // max(len(self.rounds), 1)), 1)
        return tuple(picks[:most] for picks in self.rounds)


def _picks(rows: Sequence[Mapping[str, Any]], answers: Answers, pool: str) -> tuple[Pick, ...]:
    names = ("key", "rank", "score", "reason")
    return tuple(
        Pick(id=answers.id_of(row["key"], row["id"], pool), **{name: row[name] for name in names}) for row in rows
    )


def batches_section(
    arm: Arm, batches: Batches, answers: Answers, pool: Pool | None, colours: Mapping[str, str]
) -> Html:
    """Show the batches, one strip per round. Reads the items from the pool's source.

    Args:
        arm: the run's records.
        batches: its picks.
        answers: its labels.
        pool: None where it cannot be opened.
        colours: of the classes, by name.

    Returns:
        The strips. Where the source cannot be read, they show keys, under a warning.
    """
    visible = batches.shown()
    wanted = {pick.id: pick.key for picks in visible for pick in picks if pick.id is not None}
    found = Gallery(modality="vector", shown={}) if pool is None else read_gallery(pool, wanted)
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
        parts.append(tag("details", summary, body, more, open=len(arm.rounds) <= MAX_OPEN_ROUNDS))
    return join(parts)


def _strip(picks: Sequence[Pick], found: Gallery, answers: Answers, colours: Mapping[str, str]) -> Html:
    if found.modality == "text":
        return _list(picks, answers, colours, found)
    return tag("div", [_figure(pick, found, answers, colours) for pick in picks], class_="strip")


def _figure(pick: Pick, found: Gallery, answers: Answers, colours: Mapping[str, str]) -> Html:
    shown = Shown(problem="not in the pool any more")
    if pick.id is not None:
        shown = found.shown.get(pick.id, Shown(problem="not in the source any more"))
    label = answers.classes.get(pick.key)
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
        label = answers.classes.get(pick.key)
        shown = None if found is None or pick.id is None else found.shown.get(pick.id)
        head = join(swatch(colours.get(label or "")), tag("em", f"{label} · " if label else "", pick.key))
        if shown is None:
            lines.append(tag("li", head, title=pick.reason, value=pick.rank))
        else:
            content = shown.text if shown.text is not None else f"({shown.problem})"
            lines.append(tag("li", content, tag("br"), head, title=pick.reason, value=pick.rank))
    return tag("ol", lines, class_="items" if found is None else "items texts")
