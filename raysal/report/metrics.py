"""The numbers of a run, from its records alone: learning curves, labels saved, seconds per stage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from raysal.models.measures import MEASURES, main_measure
from raysal.report.records import Arm, read_arm, read_control
from raysal.rounds.directory import Record
from raysal.rounds.stages import ROUND

STAGES = ("embed", *(stage.name for stage in ROUND))
"""The stages in the order they run. Other stages come after them, sorted by name."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The main measure on the held-out items against the number of labels the head saw, in the order of the rounds."""

    labels: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    metric: str = "accuracy"
    """of `raysal.rounds.evaluation.MEASURES`"""

    @property
    def higher(self) -> bool:
        """Whether higher is better."""
        return MEASURES[self.metric].higher

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, labels: int) -> float | None:
        """Read the curve at a number of labels.

        Args:
            labels: how many.

        Returns:
            The value, linear between points; None outside the curve.
        """
        points = sorted(zip(self.labels, self.values, strict=True), key=lambda point: point[0])
        newest = next((value for count, value in reversed(points) if count == labels), None)
        if newest is not None:
            return newest
        for low, high in pairwise(points):
            if low[0] < labels < high[0]:
                return low[1] + (high[1] - low[1]) * (labels - low[0]) / (high[0] - low[0])
        return None

    def until(self, labels: int) -> Curve:
        """Cut the curve at a number of labels.

        Args:
            labels: how many.

        Returns:
            The points up to there, and an interpolated last point.
        """
        points = [point for point in zip(self.labels, self.values, strict=True) if point[0] <= labels]
        end = self.at(labels)
        if end is not None and (not points or points[-1][0] < labels):
            points.append((labels, end))
        return Curve(labels=tuple(p[0] for p in points), values=tuple(p[1] for p in points), metric=self.metric)

    def first_reaching(self, value: float) -> float | None:
        """Find where the curve first reaches a value.

        Args:
            value: of the main measure.

        Returns:
            The number of labels, linear between points; the first point's where the curve begins better; None where it
            never reaches the value.
        """
        for index, (labels, reached) in enumerate(zip(self.labels, self.values, strict=True)):
            if reached >= value if self.higher else reached <= value:
                if index == 0:
                    return float(labels)
                before, worse = self.labels[index - 1], self.values[index - 1]
                # The product can be rounded up beyond the point that reached the value.
                return min(float(labels), before + (labels - before) * (value - worse) / (reached - worse))
        return None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a run's table: a round, or the close of the run."""

    labels: int
    """labels the round's head was fitted on"""
    value: float | None
    """the main measure; None before the first label, and where no item is held out"""
    control: float | None
    """the control arm's value at as many labels; None without a control arm"""
    saved: int | None
    """see `labels_saved`, for a control arm that ends here"""
    metric: str = "accuracy"
    """of `raysal.rounds.evaluation.MEASURES`"""
    calibration_error: float | None = None
    """None where the probabilities were not evaluated"""
    seconds: dict[str, float] = field(default_factory=dict)
    """by stage, in the order of the stages"""


def curve_of(arm: Arm) -> Curve:
    """The learning curve of an arm by its last main measure. A round without it, or not evaluated, gives no point."""
    # Where classes are looked for, AUPRC is not defined before some of them are known.
    points = [(r["labels"], *main_measure(r["evaluation"])) for r in arm.records if r["evaluation"]]
    metric = points[-1][1] if points else "accuracy"
    points = [point for point in points if point[1] == metric]
    return Curve(labels=tuple(p[0] for p in points), values=tuple(p[2] for p in points), metric=metric)


def learning_curve(run: Path) -> Curve:
    """Read the learning curve of a run.

    Args:
        run: the run directory; `run / "control"` is that of its control arm.

    Returns:
        The curve; empty before the first evaluation.

    Raises:
        RunError: no run is there.
        Damaged: a record is missing or was altered.
    """
    return curve_of(read_arm(run))


def labels_saved(curve: Curve, control: Curve) -> int | None:
    """Compute how many labels a run saved: those of the control at its end, less those of the run at that value.

    Args:
        curve: of the run.
        control: of its control arm.

    Returns:
        Whole labels, linear between points; negative where the run needed more. None where the run never reached the
        control's last value (a curve is not extended beyond its end), or where a curve is empty.
    """
    if not curve.labels or not control.labels:
        return None
    reached = curve.first_reaching(control.values[-1])
    return None if reached is None else round(control.labels[-1] - reached)


def in_stage_order(seconds: Iterable[str]) -> list[str]:
    """The names of stages in the order they run."""
    names = set(seconds)
    return [name for name in STAGES if name in names] + sorted(names - set(STAGES))


def record_seconds(record: Record) -> dict[str, float]:
    """The seconds of one record by stage, in the order of the stages."""
    seconds = record.get("seconds", {})
    return {stage: float(seconds[stage]) for stage in in_stage_order(seconds)}


def total_seconds(records: Sequence[Record]) -> dict[str, float]:
    """The seconds of all records by stage, in the order of the stages."""
    stages = in_stage_order(stage for record in records for stage in record.get("seconds", {}))
    return {stage: sum(record_seconds(record).get(stage, 0.0) for record in records) for stage in stages}


def stage_seconds(run: Path) -> dict[str, float]:
    """Sum the seconds of a run by stage, without its control arm.

    Args:
        run: the run directory.

    Returns:
        Seconds by stage, in the order of the stages.

    Raises:
        RunError: no run is there.
        Damaged: a record is missing or was altered.
    """
    return total_seconds(read_arm(run).records)


def rows_of(arm: Arm, control: Arm | None) -> list[Row]:
    """The table of an arm: one row for each round, and one for its close."""
    curve, other = curve_of(arm), Curve() if control is None else curve_of(control)
    rows = []
    for record in arm.records:
        labels, evaluation = record["labels"], record["evaluation"]
        rows.append(
            Row(
                labels=labels,
                value=None if evaluation is None else _value(evaluation, curve.metric),
                control=other.at(labels),
                saved=labels_saved(curve, other.until(labels)) if other.at(labels) is not None else None,
                metric=curve.metric,
                calibration_error=(evaluation or {}).get("measures", {}).get("expected_calibration_error"),
                seconds=record_seconds(record),
            )
        )
    return rows


def _value(evaluation: Record, metric: str) -> float | None:
    """The main measure of a record, if it is this one."""
    name, value = main_measure(evaluation)
    return value if name == metric else None


def summary(run: Path) -> list[Row]:
    """Read the table of a run; `rich_table` shows it.

    Args:
        run: the run directory.

    Returns:
        One row for each round, and one for its close.

    Raises:
        RunError: no run is there.
        Damaged: a record is missing or was altered.
    """
    return rows_of(read_arm(run), read_control(run))
