"""The demo: AnchorAL narrowing and BADGE against random picks on Fashion-MNIST, eight rounds of a hundred labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from raysal.config import Choice, FleetConfig, RoundsConfig, RunConfig
from raysal.errors import SourceError
from raysal.rounds.directory import RunDir
from raysal.rounds.loop import RunResult, run
from raysal.sources import SOURCES, check_keys
from raysal.types import Report

FASHION = Choice.model_validate({"name": "fashion_mnist", "split": "test"})
DIGITS = Choice.model_validate({"name": "digits"})


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demo made."""

    run: Path
    """the run directory"""
    report: Path
    """the HTML file"""
    source: str
    """name of the source that was used"""
    result: RunResult


def demo_config(out: Path, source: Choice) -> RunConfig:
    """The config of the demo's run: that of configs/fashion_mnist.toml, with the pool in `out`."""
    return RunConfig(
        pool=out / "pool",
        source=source,
        encoder=Choice.model_validate({"name": "efficientnet_lite0", "size": 64}),
        fleet=FleetConfig(backend="ray"),
        narrow=Choice.model_validate(
            # Half of the candidates are near the labelled items, half are uniform. On these balanced classes, anchors
            # alone end no better than random picks (benchmarks/RESULTS.md).
            {"name": "anchoral", "anchors": 20, "neighbours": 100, "subpool": 3000, "explore": 2000}
        ),
        select=Choice(name="badge"),
        oracle=Choice(name="simulated"),
        rounds=RoundsConfig(count=8, k=100, holdout=0.2, control=True),
    )


def demo(
    out: Path,
    *,
    data: Path | None = None,
    report: Report | None = None,
    say: Callable[[str], None] = print,
) -> DemoResult:
    """Run the demo in a directory, or resume the demo that was begun there, and write its report.

    Args:
        out: the run directory.
        data: the directory of Fashion-MNIST. Without it, the files of a Debian package, the cache and the data set's
            web address are tried. Where none works, the digits of scikit-learn are used.
        report: called with (stage, done, total).
        say: is called with a sentence where the digits are used.

    Returns:
        What the demo made.
    """
    config = RunDir(out).config()
    if config is None:
        config = demo_config(out, _choose_source(data, say))
    result = run(config, out, report=report)
    assert config.source is not None
    return DemoResult(run=out, report=_write_report(out), source=config.source.name, result=result)


def _choose_source(data: Path | None, say: Callable[[str], None]) -> Choice:
    """Fashion-MNIST, or the digits where it cannot be listed."""
    choice = FASHION if data is None else Choice.model_validate({**FASHION.model_dump(), "data": str(data)})
    try:
        check_keys(choice.build("source", SOURCES), 10_000)
    except SourceError as error:
        say(f"Fashion-MNIST cannot be had here ({error}); using scikit-learn's digits instead.")
        return DIGITS
    return choice


def _write_report(out: Path) -> Path:
    from raysal.report import write_report

    return write_report(out)
