"""The sections of a report that come from the records alone: cards, rounds, classes, provenance."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from raysal import __version__
from raysal.models.measures import MEASURES, shown
from raysal.pool import Pool
from raysal.report.markup import Html, join, tag
from raysal.report.metrics import Curve, Row, in_stage_order, total_seconds
from raysal.report.records import Answers, Arm
from raysal.report.table import ABSENT, format_measure, format_percent, format_saved, format_seconds

MAX_CLASSES = 40
"""Lines of the table of classes: the classes of lowest recall, then those of fewest labels."""

LIBRARIES = ("torch", "numpy", "pyarrow", "scikit-learn", "matplotlib", "ray")


def cards(arm: Arm, control: Arm | None, curve: Curve, other: Curve, rows: Sequence[Row], items: int) -> Html:
    """Show the numbers that a reader looks for first.

    Args:
        arm: the run's records.
        control: its control arm's records.
        curve: the run's learning curve.
        other: the control arm's.
        rows: the table of the run.
        items: how many the pool has.

    Returns:
        The cards.
    """
    found: list[tuple[str, str]] = []
    if len(curve):
        found.append((shown(curve.metric, curve.values[-1]), f"{MEASURES[curve.metric].words}, {arm.strategy}"))
    if control is not None and len(other):
        words = f"{MEASURES[other.metric].words}, {control.strategy} (control)"
        found.append((shown(other.metric, other.values[-1]), words))
        found.append((format_saved(rows[-1]), "labels saved"))
    errors = [row.calibration_error for row in rows if row.calibration_error is not None]
    if errors:
        found.append((format_percent(errors[-1]), "expected calibration error"))
    rounds = f"labels, {len(arm.rounds):,} {'round' if len(arm.rounds) == 1 else 'rounds'}"
    found.append((f"{arm.records[-1]['labels'] if arm.records else 0:,}", rounds))
    found.append((f"{items:,}", "items in the pool"))
    found.append((f"{format_seconds(sum(total_seconds(arm.records).values()))} s", "computing"))
    return tag("div", [tag("div", tag("b", value), tag("span", what)) for value, what in found], class_="cards")


def rounds_table(arm: Arm, control: Arm | None, rows: Sequence[Row]) -> Html:
    """The table of rounds: labels, measures of both arms, labels saved, calibration error, seconds per stage."""
    stages = in_stage_order(stage for row in rows for stage in row.seconds)
    judged = any(row.value is not None for row in rows)
    calibrated = any(row.calibration_error is not None for row in rows)
    measure = MEASURES[rows[-1].metric].words
    compared = control is not None and any(row.control is not None for row in rows)
    heads = ["labels", *([f"{measure}, {arm.strategy}"] if judged else [])]
    heads += [f"{measure}, {control.strategy} (control)", "labels saved"] if control is not None and compared else []
    heads += ["calibration error"] if calibrated else []
    heads += [f"{stage},\u00a0s" for stage in stages]
    lines = []
    for row in rows:
        cells = [tag("td", f"{row.labels:,}")]
        if judged:
            cells.append(tag("td", format_measure(row.metric, row.value), class_="strong"))
        if compared:
            lost = row.control is not None and (row.saved is None or row.saved < 0)
            cells += [
                tag("td", format_measure(row.metric, row.control)),
                tag("td", format_saved(row), class_="loss" if lost else None),
            ]
        cells += [tag("td", format_percent(row.calibration_error))] if calibrated else []
        cells += [tag("td", format_seconds(row.seconds.get(stage)), class_="dim") for stage in stages]
        lines.append(tag("tr", cells))
    totals = total_seconds(arm.records)
    blank = [tag("td")] * (len(heads) - len(stages) - 1)
    foot = tag("tr", tag("td", "sum"), blank, [tag("td", format_seconds(totals[stage])) for stage in stages])
    return _table(heads, lines, foot)


def class_table(arm: Arm, control: Arm | None, answers: Answers, colours: Mapping[str, str]) -> Html | None:
    """The table of classes, with their labels and recall; None where no class is known yet."""
    own = _recall(arm)
    other = {} if control is None else _recall(control)
    given = Counter(answers.given)
    every = sorted({*own, *given})
    if not every:
        return None
    hardest = sorted(every, key=lambda name: (own.get(name, 1.0), given[name]))[:MAX_CLASSES]
    names = sorted(hardest)
    lines = []
    for name in names:
        bars = [tag("i", style=f"width:{100 * own.get(name, 0.0):.1f}%")]
        bars += [tag("i", style=f"width:{100 * other[name]:.1f}%")] if name in other else []
        cells = [
            tag("td", swatch(colours.get(name)), name, class_="left"),
            tag("td", f"{given[name]:,}"),
        ]
        if own:
            cells.append(tag("td", format_percent(own.get(name)), class_="strong"))
        if other:
            cells.append(tag("td", format_percent(other.get(name))))
        if own:
            cells.append(tag("td", bars if name in own else ABSENT, class_="bar"))
        lines.append(tag("tr", cells))
    heads = ["labels", *(["recall"] if own else [])]
    heads += [f"{control.strategy} (control)"] if control is not None and other else []
    words = "Labels given"
    words += ", and the share of each class’s held-out items that is recognised" if own else ""
    words += " (thin bars: the control arm)." if own and other else "."
    words += f" The hardest {len(names):,} of {len(every):,} classes." if len(every) > len(names) else ""
    table = _table(["class", *heads, *([""] if own else [])], lines, None, first_left=True)
    return join(tag("p", words, class_="note"), table)


def provenance(arm: Arm, pool: Pool | None) -> Html:
    """What made the run: pool, encoder, strategy, seed, versions, and the whole config."""
    config = arm.config
    update = config.update
    facts: list[tuple[str, str | Html]] = [("run", arm.path.resolve().name), ("seed", str(config.seed))]
    facts += [("select", config.select.name), ("narrow", config.narrow.name), ("start", config.start.name)]
    facts += [("update", f"{update.mode}, {update.trainer.name}"), ("oracle", config.oracle.name)]
    facts.append(("fleet", f"{config.fleet.backend} (the picks do not depend on it)"))
    facts.append(("pool", str(config.pool)))
    if pool is not None:
        info, encoder, source = pool.info(), pool.manifest.encoder, pool.manifest.source
        quarantined = f", {info.quarantined:,} quarantined" if info.quarantined else ""
        facts.append(("items", f"{info.items:,} vectors of {info.dim:,} × float16{quarantined}"))
        facts.append(("pool fingerprint", tag("code", pool.fingerprint)))
        facts.append(("encoder", join(str(encoder["name"]), " ", tag("code", encoder["fingerprint"][:16]))))
        facts.append(("source", join(str(source["name"]), " ", tag("code", source["fingerprint"][:16]))))
    versions = [f"raysal {__version__}", f"Python {platform.python_version()}"]
    versions += [f"{name} {found}" for name in LIBRARIES if (found := _version(name))]
    facts.append(("report written with", ", ".join(versions)))
    listed = tag("dl", [(tag("dt", name), tag("dd", value)) for name, value in facts])
    whole = tag("pre", tag("code", config.model_dump_json(indent=2)))
    return join(listed, tag("details", tag("summary", "The whole config"), whole))


def swatch(colour: str | None) -> Html | None:
    """A small square in the colour of a class; None without a colour."""
    return None if colour is None else tag("span", class_="swatch", style=f"background:{colour}")


def _recall(arm: Arm) -> dict[str, float]:
    judged = [record["evaluation"] for record in arm.records if record["evaluation"]]
    return dict(judged[-1]["recall"]) if judged else {}


def _table(heads: Sequence[str], lines: Sequence[Html], foot: Html | None, first_left: bool = False) -> Html:
    names = [tag("th", h, class_="left" if first_left and not i else None) for i, h in enumerate(heads)]
    parts = [tag("thead", tag("tr", names)), tag("tbody", lines)]
    if foot is not None:
        parts.append(tag("tfoot", foot))
    return tag("div", tag("table", parts), class_="scroll")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
