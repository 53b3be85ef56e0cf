"""The report of a run: one HTML file that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from raysal.errors import LabelError, UserError
from raysal.models.likelihood import Likelihood
from raysal.models.measures import MEASURES
from raysal.pool import Pool
from raysal.pool.place import name_of
from raysal.prediction.sampling import sample_vectors, thin_picks, vectors_by_id
from raysal.report.batches import Batches, batches_section
from raysal.report.map_layout import MAX_PICKS, SAMPLE_ITEMS, lay_out
from raysal.report.map_plot import OTHER_COLOUR, PoolMap, class_colours, draw_map
from raysal.report.markup import MARK, Html, join, tag
from raysal.report.metrics import Curve, curve_of, rows_of
from raysal.report.plots import learning_curves, stage_times
from raysal.report.records import Answers, Arm, pool_of, read_answers, read_arm, read_control
from raysal.report.sections import cards, class_table, provenance, rounds_table, swatch
from raysal.report.style import CSS
from raysal.report.table import headline_of
from raysal.report.target import target_section
from raysal.rounds.draws import DRAWS

MIN_MAP_ITEMS = 3
"""A sample of fewer items gives no map."""


def report_html(run: Path) -> Html:
    """Make the page of a run's report; see `raysal.report.writing.write_report`."""
    arm, control = read_arm(run), read_control(run)
    pool, problem = _open_pool(arm)
    answers = read_answers(arm)
    batches = Batches.read(arm, answers)
    curve, other = curve_of(arm), Curve() if control is None else curve_of(control)
    rows = rows_of(arm, control)
    first, second = headline_of(arm, control)
    pool_map, note = (None, "") if pool is None else map_of(arm, pool, batches)
    if pool_map is not None and pool_map.classes is not None:
        colours = class_colours(pool_map.classes)
    else:
        colours = class_colours(list(answers.classes.values())) if arm.likelihood.discrete else {}
    body: list[Html | None] = [
        tag(
            "header",
            tag("p", f"{_name(arm)} · {arm.strategy} over {_name_of_pool(arm, pool)}", class_="kind"),
            tag("h1", first),
            tag("p", second, class_="lead") if second else None,
            tag("p", problem, class_="warning") if problem else None,
            _unfinished(arm, answers),
            cards(arm, control, curve, other, rows, 0 if pool is None else len(pool)),
        )
    ]
    if len(curve):
        held = arm.records[-1]["evaluation"] or {}
        items = f"{held['items']:,} items that are never offered" if held else "items that are never offered"
        if held.get("known_by") == DRAWS:
            items = f"{held['items']:,} held-out items by their weights, which never train"
        body.append(
            _section(
                "Learning curve", f"{_measure_name(curve)} is measured on {items}.", _curves(arm, control, curve, other)
            )
        )
    if rows:
        words = "A line is a round: the labels its head was fitted on, how it did, and the time to choose the "
        words += "next batch."
        if control is not None:
            words += " Labels saved: how much earlier this arm first did as well as the control."
        if any(row.calibration_error is not None for row in rows):
            words += " Calibration error: how far off its probabilities are, on average (expected calibration error)."
        body.append(_section("Rounds", words, rounds_table(arm, control, rows)))
    if (found := target_section(arm)) is not None:
        body.append(_section("What is looked for", *found))
    if pool_map is not None:
        body.append(_section("Map of the pool", note, draw_map(pool_map), _legend(pool_map, colours)))
    # Where an item has several labels, a colour stands for a set of labels; a single label has none.
    classes = class_table(arm, control, answers, colours if arm.likelihood.exclusive else {})
    if classes is not None:
        body.append(_section("Classes", "", classes))
    if batches.rounds:
        strips = batches_section(arm, batches, answers, pool, colours)
        body.append(_section("Batches", "In pick order; point at an item for its key and why it was picked.", strips))
        body.append(_section("Stage times", "Seconds of this arm, round by round.", stage_times(arm.records)))
    body.append(_section("Configuration and provenance", "", provenance(arm, pool)))
    return _page(first, join(body))


def map_of(arm: Arm, pool: Pool, batches: Batches) -> tuple[PoolMap | None, str]:
    """Make a map of a sample of the pool and of the picks.

    The classes are those of the pool's label column, where it carries one; otherwise the newest head predicts them.
    Numbers have no classes.

    Args:
        arm: the run's records.
        pool: the run's pool.
        batches: the run's picks.

    Returns:
        The map and a sentence about it; (None, "") for a pool of fewer than MIN_MAP_ITEMS items.
    """
    has_classes = arm.likelihood.discrete
    column = _label_column(arm, pool) if has_classes else None
    seed = arm.config.seed
    sample = sample_vectors(pool, seed, SAMPLE_ITEMS, column)
    if len(sample) < MIN_MAP_ITEMS:
        return None, ""
    rounds = batches.ids_by_round()
    picked = thin_picks(np.array(sorted(rounds), np.int64), seed, MAX_PICKS)
    extra = vectors_by_id(pool, np.setdiff1d(picked, sample.ids), column)
    ids = np.concatenate([sample.ids, extra.ids])
    vectors = np.concatenate([sample.vectors, extra.vectors])
    on_map = set(picked.tolist())
    head = arm.newest_head() if column is None and has_classes else None
    classes: list[str | None] | None = None
    if column is not None:
        classes = [_as_in_ledger(text, arm.likelihood) for text in (*(sample.column or ()), *(extra.column or ()))]
    elif head is not None:
        classes = list(head.likelihood.texts(head.probabilities(head.see(vectors)), head.classes))
    whose = f"classes from the pool’s column “{column}”" if column is not None else "classes as the head predicts them"
    note = f"{len(sample):,} of {len(pool):,} items, sampled uniformly, "
    note += f"and {len(picked):,} of {len(rounds):,} picks; t-SNE of the vectors"
    note += "." if classes is None else f", {whose}."
    return (
        PoolMap(
            points=lay_out(vectors),
            sampled=np.arange(len(ids)) < len(sample),
            rounds=np.array([rounds[id] if id in on_map else -1 for id in ids.tolist()], np.int64),
            classes=classes,
        ),
        note,
    )


def _as_in_ledger(text: str | None, likelihood: Likelihood) -> str | None:
    """A label of the pool in the ledger's spelling, so that both have one colour. Other text stays as it is."""
    with suppress(LabelError):
        return text if text is None else likelihood.plain(text)
    return text


def _label_column(arm: Arm, pool: Pool) -> str | None:
    """The pool's column of labels, if it carries one."""
    column = str((arm.config.oracle.model_extra or {}).get("column", "label"))
    carried = pool.columns
    return column if column in carried else None


def _open_pool(arm: Arm) -> tuple[Pool | None, str]:
    """(the run's pool, ""), or (None, why it cannot be opened)."""
    try:
        return pool_of(arm), ""
    except UserError as error:
        return None, f"The pool cannot be shown: {error}"


def _curves(arm: Arm, control: Arm | None, curve: Curve, other: Curve) -> Html:
    name = "" if control is None else f"{control.strategy} (control)"
    return learning_curves(curve, other, arm.strategy, name)


def _measure_name(curve: Curve) -> str:
    """The name of the measure as the first words of a sentence, with a note where lower is better."""
    words = MEASURES[curve.metric].words
    return f"{words[0].upper()}{words[1:]}{'' if curve.higher else ' (lower is better)'}"


def _unfinished(arm: Arm, answers: Answers) -> Html | None:
    if arm.final is not None:
        return None
    waiting = answers.counts.get("leased", 0)
    words = f"This run is not finished: {len(arm.rounds):,} of {arm.config.rounds.count:,} rounds are chosen"
    words += f", {waiting:,} items wait for a label." if waiting else "."
    return tag("p", words, class_="warning")


def _legend(pool_map: PoolMap, colours: Mapping[str, str]) -> Html | None:
    if pool_map.classes is None:
        return None
    entries = [tag("li", swatch(colour), name) for name, colour in colours.items()]
    if any(name not in colours for name in pool_map.classes):
        entries.append(tag("li", swatch(OTHER_COLOUR), "others"))
    return tag("ul", entries, class_="legend")


def _name(arm: Arm) -> str:
    return arm.path.resolve().name


def _name_of_pool(arm: Arm, pool: Pool | None) -> str:
    name = name_of(arm.config.pool)
    return name if pool is None else f"{name}, embedded by {pool.manifest.encoder['name']}"


def _section(title: str, words: str, *content: Html | None) -> Html:
    return tag("section", tag("h2", title), tag("p", words) if words else None, *content)


def _page(title: str, body: Html) -> Html:
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{title}{MARK}"),
        tag("style", CSS),
    )
    return join(Html("<!doctype html>\n"), tag("html", head, tag("body", tag("main", body)), lang="en"), Html("\n"))
