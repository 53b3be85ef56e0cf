"""Tables of a report of a curation: sizes of groups, and what lay where before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raysal.report.curation_balance import Balance
from raysal.report.markup import Html, join, tag
from raysal.report.table import format_percent

MAX_VALUES = 30
"""Lines of a table of values: the most common ones."""


def size_words(sizes: Mapping[int, int]) -> str:
    """Groups {size: how many} in a sentence."""
    groups, items = sum(sizes.values()), sum(size * count for size, count in sizes.items())
    words = f"{groups:,} group{'s' * (groups != 1)} of {items:,} items: a kept item, and what was dropped for it."
    return f"{words} The largest has {max(sizes):,}."


def size_table(sizes: Mapping[int, int]) -> Html:
    """Groups {size: how many}, in ranges that double."""
    bins: dict[str, int] = {}
    for size, count in sorted(sizes.items()):
        low = 1 << ((size - 1).bit_length() - 1) if size > 2 else size
        name = f"{size}" if size <= 2 else f"{low + 1:,} to {2 * low:,}"
        bins[name] = bins.get(name, 0) + count
    most = max(bins.values())
    lines = [
        tag("tr", tag("td", name, class_="left"), tag("td", f"{count:,}"), _bar(count / most))
        for name, count in bins.items()
    ]
    return table(["items", "groups", ""], lines)


def balance_words(balance: Balance) -> str:
    """How even a balance is, before and after."""
    before, after = balance.effective
    words = f"By {balance.of}: {len(balance.before):,} values. As even as {before:.1f} equally common ones before, "
    return words + f"{after:.1f} after (exponential of the entropy)."


def balance_table(balance: Balance) -> Html:
    """The most common values, before and after."""
    names = sorted(balance.before, key=lambda name: (-balance.before[name], name))
    most = max(balance.before.values(), default=1) or 1
    lines = []
    for name in names[:MAX_VALUES]:
        before, after = balance.before[name], balance.after.get(name, 0)
        bars = [tag("i", style=f"width:{100 * after / most:.2f}%"), tag("i", style=f"width:{100 * before / most:.2f}%")]
        share = format_percent(after / before) if before else ""
        cells = [tag("td", name, class_="left"), tag("td", f"{before:,}"), tag("td", f"{after:,}", class_="strong")]
        lines.append(tag("tr", cells, tag("td", share), tag("td", bars, class_="bar")))
    made = table(["value", "before", "after", "kept", "after (thin: before)"], lines)
    rest = len(names) - MAX_VALUES
    return join(made, tag("p", f"and {rest:,} values that are less common", class_="note") if rest > 0 else None)


def _bar(share: float) -> Html:
    return tag("td", tag("i", style=f"width:{100 * share:.2f}%"), class_="bar")


def table(heads: Sequence[str], lines: Sequence[Html]) -> Html:
    """A table whose first column is of names."""
    names = [tag("th", name, class_="left" if not place else None) for place, name in enumerate(heads)]
    return tag("div", tag("table", tag("thead", tag("tr", names)), tag("tbody", lines)), class_="scroll")
