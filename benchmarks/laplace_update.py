"""Is a closed-form update as good as retraining, and how much faster?

    python -m benchmarks.laplace update --features VECTORS.npz --texts TEXTS.npz [--out FOLDER] [--quick]

VECTORS.npz is what `benchmarks.features` makes of Fashion-MNIST, TEXTS.npz what `benchmarks.laplace_text` makes of
Debian's descriptions; either may be left out. A head is fitted on some labels, drawn uniformly, and then takes in some
more: by the new labels alone, with a few steps over everything seen, by a new fit of `Logistic`, or by the retraining
of the paper (200 epochs of RAdam), which on the same draws is slow and so is run for fewer of them. One process of one
thread; a draw is the same for every rule. A record per cell lies in --out, and what is there already is not done again.

**Kept** is the share of the gain of the new fit that a rule keeps: (mean of the rule - mean without update) / (mean of
the new fit - mean without update), in accuracy and in negative log likelihood, with a 95 % interval by resampling the
draws. Where the new fit's own gain is not more than two standard errors, it says `unclear`.

After that, `Session.tell` of one label at 1,000 labels on pools of random vectors of two sizes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.jobs import record_of, run_all
from benchmarks.laplace_cells import NONE, PASSES, PUBLISHED, REFIT, STEPS, Cell, alone, run, seen
from benchmarks.laplace_tell import tells
from benchmarks.machine import describe

INITIAL, NEW = (10, 100, 1000), (1, 10, 50, 100)
RESAMPLED = 10_000
FEW = 0.1
"""New labels, as a share of the old ones, up to which the aim of 85 % holds."""

Numbers = Mapping[str, Mapping[str, Sequence[float]]]
"""rule -> seconds, accuracy, nll -> one for each draw"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--features", type=Path, help="image vectors; left out unless given")
    parser.add_argument("--texts", type=Path, help="text vectors; left out unless given")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--published", type=int, default=3, help="draws of which the paper's retraining is run")
    parser.add_argument("--tells", type=int, nargs="*", default=[10_000, 1_000_000], metavar="ROWS")
    parser.add_argument("--pools", type=Path, help="where pools for `tell` are kept; default: nowhere")
    parser.add_argument("--out", type=Path, help="folder of the records; default: nowhere")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes: two draws, small pools")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.published, args.tells = min(args.seeds, 2), min(args.published, 1), args.tells and [5_000]
    print(describe(), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.out or Path(temporary)
        cells = [
            *cells_of("images", args.features, 10_000, folder, args),
            *cells_of("texts", args.texts, 2_000, folder, args),
        ]
        failed = run_all(cells, run, 1)
        for data in dict.fromkeys(cell.data for cell in cells):
            done = [(cell, record["rules"]) for cell in cells if cell.data == data and (record := record_of(cell))]
            tables = [*speed(data, done), *(line for passes in PASSES for line in worth(data, done, passes))]
            print("\n".join([*tables, *by_step(data, done)]), flush=True)
        told = list(tells(args.tells, 5 if args.quick else 50, args.pools))
        print("\n".join(tell_table(told)))
        if args.out and told:
            (folder / "tell.json").write_text(json.dumps({"machine": describe(), "tells": told}, indent=1))
    raise SystemExit(bool(failed))


def cells_of(data: str, file: Path | None, test: int, out: Path, args: argparse.Namespace) -> Iterator[Cell]:
    if file is None:
        return
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    for initial in INITIAL:
        for new in NEW if not args.quick else NEW[1:3]:
            yield Cell(
                data=data,
                file=str(file.absolute()),
                content=digest,
                initial=initial,
                new=new,
                seeds=args.seeds,
                published=args.published,
                test=test,
                out=out,
            )


def speed(data: str, done: Sequence[tuple[Cell, Numbers]]) -> Iterator[str]:
    """Markdown: median milliseconds, and how many times as long a new fit takes."""
    quick = {f"alone, step {STEPS[1]:g}": alone(STEPS[1]), **{seen(passes): seen(passes) for passes in PASSES}}
    yield f"\n**{data}: time**, median milliseconds; in brackets how many times as long refit and retraining take\n"
    yield f"| old + new | {' | '.join(quick)} | refit | paper's retraining |"
    yield "|---|" + "---|" * (len(quick) + 2)
    for cell, rules in done:
        times = {rule: statistics.median(found["seconds"]) for rule, found in rules.items()}
        fit, paper = times[REFIT], times.get(PUBLISHED, float("nan"))
        row = [
            f"{1e3 * times[rule]:.3g} ({fit / times[rule]:.3g} x, {paper / times[rule]:.3g} x)"
            for rule in quick.values()
        ]
        yield f"| {cell.initial} + {cell.new} | {' | '.join(row)} | {1e3 * fit:.3g} | {1e3 * paper:.3g} |"


def worth(data: str, done: Sequence[tuple[Cell, Numbers]], passes: int) -> Iterator[str]:
    """Markdown: what steps over everything seen keep of a new fit's gain, and how often they lose."""
    rule = seen(passes)
    yield f"\n**{data}: what {rule}, are worth**, means over draws; in bold where new <= {FEW:.0%} of old\n"
    yield (
        "| old + new | accuracy before, updated, refit (paper's) | kept | NLL before, updated, refit (paper's) | kept "
        "| draws below no update: accuracy, NLL |"
    )
    yield "|---|---|---|---|---|---|"
    for cell, rules in done:
        row = []
        for name, form in (("accuracy", "{:.2%}"), ("nll", "{:.4f}")):
            means = [form.format(np.mean(rules[which][name])) for which in (NONE, rule, REFIT)]
            paper = f" ({form.format(np.mean(rules[PUBLISHED][name]))})" if PUBLISHED in rules else ""
            share = kept(rules, rule, name)
            row += [", ".join(means) + paper, f"**{share}**" if cell.new <= FEW * cell.initial else share]
        yield f"| {cell.initial} + {cell.new} | {' | '.join(row)} | {below(rules, rule)} |"


def by_step(data: str, done: Sequence[tuple[Cell, Numbers]]) -> Iterator[str]:
    """Markdown: the rules that see nothing but the new labels."""
    yield f"\n**{data}: by the new labels alone**, kept in accuracy / in NLL; draws below no update in accuracy, NLL\n"
    yield "| old + new | " + " | ".join(f"step {step:g}" for step in STEPS) + " |"
    yield "|---|" + "---|" * len(STEPS)
    for cell, rules in done:
        shares = []
        for rule in map(alone, STEPS):
            accuracy, nll = (kept(rules, rule, name).split(" [")[0] for name in ("accuracy", "nll"))
            shares.append(f"{accuracy} / {nll}; {below(rules, rule)}")
        yield f"| {cell.initial} + {cell.new} | {' | '.join(shares)} |"


def tell_table(told: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """Markdown."""
    if not told:
        return
    yield "\n**`Session.tell` of one label after 1,000**, 256 dimensions, 10 classes, median milliseconds\n"
    names = ("whole tell", "of it, the head's part", "of that, the step", "retrain", "of it, the fit")
    ratios = ("retrain / head's part", "fit / step", "retrain / tell")
    yield f"| rows | {' | '.join((*names, *ratios))} |"
    yield "|---" * 9 + "|"
    for row in told:
        tell, part, step, retrain, fit = (row[f"{name}_s"] for name in ("tell", "follow", "update", "retrain", "fit"))
        times = " | ".join(f"{1e3 * seconds:.3g}" for seconds in (tell, part, step, retrain, fit))
        yield f"| {row['rows']:,} | {times} | {retrain / part:.0f} x | {fit / step:.0f} x | {retrain / tell:.0f} x |"


def kept(rules: Numbers, rule: str, name: str) -> str:
    """The share of the mean gain of a new fit that a rule keeps and its 95 % interval; draws are resampled together, so
    that what they have in common counts once. `unclear` where the new fit's own gain is not more than two standard
    errors: a share of that says nothing."""
    before, after, fit = (np.array(rules[which][name]) for which in (NONE, rule, REFIT))
    gain = (fit - before) * (1 if name == "accuracy" else -1)
    if len(gain) < 2 or gain.mean() <= 2 * gain.std(ddof=1) / np.sqrt(len(gain)):
        return "unclear"
    picks = np.random.default_rng(0).integers(len(before), size=(RESAMPLED, len(before)))
    low, high = np.quantile(ratio(before[picks], after[picks], fit[picks]), [0.025, 0.975])
    return f"{ratio(before, after, fit):.2f} [{low:.2f}, {high:.2f}]"


def ratio(before: NDArray[Any], after: NDArray[Any], fit: NDArray[Any]) -> NDArray[Any]:
    """Gain of `after` over that of `fit`, both means over the last axis; not a number where the fit gains nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((after - before).mean(-1) / (fit - before).mean(-1))


def below(rules: Numbers, rule: str) -> str:
    """In how many draws a rule did worse than no update; `on average` where its mean did."""
    found = []
    for name, sign in (("accuracy", 1), ("nll", -1)):
        gain = sign * (np.array(rules[rule][name]) - np.array(rules[NONE][name]))
        found.append(f"{int((gain < 0).sum())}" + (" (on average)" if gain.mean() < 0 else ""))
    return f"{', '.join(found)} of {len(rules[rule]['nll'])}"


if __name__ == "__main__":
    main()
