"""The report of a pool that was curated: one HTML file that needs no other file and no network, and its numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysal import __version__
from raysal.curation.curated import Curated, StepDone
from raysal.curation.plan import words_of
from raysal.pool.place import name_of
from raysal.report.curation_balance import Balance, balance_by, balance_in
from raysal.report.curation_examples import Examples, Group, Listed, Member, examples_of, group_sizes
from raysal.report.curation_items import Items
from raysal.report.curation_map import draw_curation_map, map_of, step_colour
from raysal.report.curation_tables import balance_table, balance_words, size_table, size_words, table
from raysal.report.markup import MARK, Html, join, tag
from raysal.report.sections import swatch
from raysal.report.style import CSS
from raysal.report.table import format_percent, format_seconds
from raysal.report.thumbnails import read_gallery

LABELS = "label"
"""The column whose values are counted before and after, where the pool carries it."""
NAMED = 20
"""Steps that have a card."""
OWN_STYLE = Html("""
.groups { display: flex; flex-wrap: wrap; gap: .8rem .8rem; align-items: flex-start; margin: .5rem 0 }
.group { display: flex; flex-wrap: wrap; gap: .4rem; padding: .5rem; border: 1px solid var(--line); border-radius: 6px }
.group.alone { border: 0; padding: 0 }
.group figure { width: 68px }
.group figcaption { white-space: normal; overflow-wrap: anywhere }
.group figure.kept img, .group figure.kept .none { outline: 2.5px solid #009e73; outline-offset: 1px }
.group figure.later img, .group figure.later .none { outline: 2.5px dashed #9aa5b1; outline-offset: 1px }
.group .more { align-self: center; color: var(--muted); font-size: .82rem }
ul.texts { margin: .2rem 0; padding-left: 1.1rem; font-size: .9rem }
ul.texts li.kept { list-style: "✓ " }
ul.texts em { font-style: normal; color: var(--muted) }
h3 { margin: 1.6rem 0 .3rem; font-size: 1.02rem }
td.flow { width: 26% }
td.flow i { display: inline-block; height: .72rem; vertical-align: middle }
""")


@dataclass(frozen=True, kw_only=True)
class CurationReport:
    """A report in two forms."""

    html: Html
    data: Mapping[str, Any]
    """as JSON"""


def curation_report(found: Curated) -> CurationReport:
    """Make the report of a pool that was curated. The same result gives the same report.

    It takes about 10 s, most of it for the map; the shown items are read again from the pool's source.

    Args:
        found: what became of the items.

    Returns:
        The page, and its numbers.
    """
    examples = examples_of(found)
    shown = np.array(examples.ids(), np.int64)
    keys = dict(sorted(found.pool.keys_of(shown).items()))
    items = Items(keys=keys, gallery=read_gallery(found.pool, keys))
    balance = balance_by(found, LABELS)
    page = _page(found, _body(found, examples, items, balance))
    return CurationReport(html=page, data=_data(found, examples, keys, balance))


def _body(found: Curated, examples: Examples, items: Items, balance: Balance | None) -> Iterable[Html | None]:
    pool = found.pool
    name = name_of(pool.place)
    encoder = pool.manifest.encoder["name"]
    yield tag(
        "header",
        tag("p", f"curation · {name}, embedded by {encoder}", class_="kind"),
        tag("h1", _headline(found)),
        tag("p", f"Steps, in order: {', '.join(step.label for step in found.steps)}.", class_="lead"),
        tag("p", "No item is left.", class_="warning") if not found.kept else None,
        _cards(found),
    )
    words = "A line is a step: the items that it was given, and what it dropped of them for which reason."
    yield _section("Steps", words, _steps_table(found))
    if (drawn := map_of(found)) is not None:
        words = f"{int(drawn.sampled.sum()):,} of {drawn.items:,} items, sampled uniformly, and up to 200 more of what "
        words += "each step dropped; t-SNE of the vectors."
        yield _section("Map", words, draw_curation_map(drawn, [step.label for step in found.steps]), _legend(found))
    if items.gallery.problem is not None:
        note = f"The items themselves cannot be shown, only their keys. {items.gallery.problem}"
        yield tag("p", note, class_="warning")
    if balance is not None:
        yield _section("Balance", balance_words(balance), balance_table(balance))
    for at, step in enumerate(found.steps):
        yield _step_section(step, examples.groups[at], examples.listed[at], items)
    if examples.kept:
        shown = [Member(id=id, value=None, reason="") for id in examples.kept]
        strip = tag("div", items.strip(shown), class_=None if items.as_lines else "strip")
        yield _section("What is kept", f"{len(shown):,} of the {found.kept:,} kept items, drawn uniformly.", strip)
    yield _section("Provenance", "", _provenance(found))


def _headline(found: Curated) -> str:
    share = format_percent(found.kept / len(found)) if len(found) else "none"
    return f"{found.kept:,} of {len(found):,} items are kept ({share})"


def _cards(found: Curated) -> Html:
    cells = [(f"{found.kept:,}", "items kept"), (f"{found.dropped:,}", "items dropped")]
    cells += [(f"{step.dropped:,}", f"dropped by {step.label}") for step in found.steps[:NAMED]]
    cells.append((f"{format_seconds(sum(step.seconds for step in found.steps))} s", "computing"))
    return tag("div", [tag("div", tag("b", value), tag("span", what)) for value, what in cells], class_="cards")


def _steps_table(found: Curated) -> Html:
    heads = ["step", "given", "dropped", "left", "of the pool: left, dropped", "s"]
    lines = []
    for at, step in enumerate(found.steps):
        left, total = step.left - step.dropped, max(len(found), 1)
        flow = [
            tag("i", style=f"width:{100 * left / total:.2f}%;background:#c9d0d8"),
            tag("i", style=f"width:{100 * step.dropped / total:.2f}%;background:{step_colour(at)}"),
        ]
        reasons = [tag("li", f"{count:,}: {reason}") for reason, count in step.reasons.items()]
        name = join(swatch(step_colour(at)), step.label, tag("ul", reasons, class_="texts") if reasons else None)
        cells = [tag("td", name, class_="left"), tag("td", f"{step.left:,}"), tag("td", f"{step.dropped:,}")]
        cells += [tag("td", f"{left:,}", class_="strong"), tag("td", flow, class_="flow left")]
        lines.append(tag("tr", cells, tag("td", format_seconds(step.seconds), class_="dim")))
    return table(heads, lines)


def _legend(found: Curated) -> Html:
    own = [tag("li", swatch(step_colour(at)), f"dropped by {step.label}") for at, step in enumerate(found.steps)]
    return tag("ul", own, class_="legend")


def _step_section(step: StepDone, groups: Sequence[Group], listed: Sequence[Listed], items: Items) -> Html | None:
    facts = step.result.facts
    notes = [f"{note[:1].upper()}{note[1:].rstrip('.')}." for note in step.notes]
    fields = words_of(step.said)
    if step.dropped and "value" in facts and np.isfinite(step.result.value).any():
        notes.append(f"The number of an item, in the table its value, is {facts['value']}.")
    words = f"{step.dropped:,} of {step.left:,} items dropped{f' ({fields})' if fields else ''}. {' '.join(notes)}"
    parts: list[Html | None] = []
    sizes = {int(size): count for size, count in (facts.get("group_sizes") or group_sizes(step)).items() if count}
    if sizes:
        parts += [tag("h3", "Sizes of groups"), tag("p", size_words(sizes), class_="note"), size_table(sizes)]
    if (balance := balance_in(facts)) is not None:
        parts += [tag("h3", "Balance"), tag("p", balance_words(balance), class_="note"), balance_table(balance)]
    for kind in dict.fromkeys(group.kind for group in groups):
        own = [items.group(group) for group in groups if group.kind == kind]
        parts += [tag("h3", f"{kind[0].upper()}{kind[1:]}"), tag("div", own, class_="groups")]
    if listed:
        every = 0 if step.result.listed is None else step.result.listed.num_rows
        parts += [tag("h3", "Listed"), tag("p", f"The first {len(listed):,} of {every:,}.", class_="note")]
        parts.append(tag("div", tag("div", items.listed(listed), class_="group alone"), class_="groups"))
    if not step.dropped and not parts:
        return None
    return _section(f"{step.label}", words.strip(), *parts)


def _section(title: str, words: str, *content: Html | None) -> Html:
    return tag("section", tag("h2", title), tag("p", words) if words else None, *content)


def _provenance(found: Curated) -> Html:
    pool = found.pool
    steps = [{"name": step.name, **step.fields} for step in found.steps]
    facts: list[tuple[str, str | Html]] = [("pool", pool.place), ("fingerprint", tag("code", pool.fingerprint))]
    facts += [("encoder", str(pool.manifest.encoder["name"])), ("metric", pool.metric), ("seed", str(found.seed))]
    facts.append(("raysal", __version__))
    listed = tag("dl", [(tag("dt", name), tag("dd", value)) for name, value in facts])
    whole = tag("pre", tag("code", json.dumps(steps, indent=2, ensure_ascii=False)))
    return join(listed, tag("details", tag("summary", "The whole plan"), whole))


def _data(found: Curated, examples: Examples, keys: Mapping[int, str], balance: Balance | None) -> dict[str, Any]:
    pool = found.pool

    def shown(group: Group) -> dict[str, Any]:
        dropped = [{"key": keys.get(one.id), "value": one.value, "reason": one.reason} for one in group.dropped]
        kept = None if group.kept is None else keys.get(group.kept)
        return {"shown": group.kind, "kept": kept, "until": group.later, "dropped": dropped, "more": group.more}

    steps = [
        {
            "step": step.label, "name": step.name, "fields": dict(step.fields), "items": step.left,
            "dropped_items": step.dropped, "left": step.left - step.dropped, "reasons": step.reasons,
            "seconds": step.seconds, "group_sizes": group_sizes(step), "facts": dict(step.result.facts),
            "examples": [shown(group) for group in groups],
            "listed_items": 0 if step.result.listed is None else step.result.listed.num_rows,
            "listed": [{"key": keys.get(one.id), **one.facts} for one in listed],
        }
        for step, groups, listed in zip(found.steps, examples.groups, examples.listed, strict=True)
    ]  # fmt: skip
    said = None if balance is None else {"of": balance.of, "before": balance.before, "after": balance.after}
    return {
        "raysal": __version__, "pool": pool.place, "fingerprint": pool.fingerprint,
        "encoder": pool.manifest.encoder["name"], "metric": pool.metric, "seed": found.seed, "items": len(found),
        "kept_items": found.kept, "dropped_items": found.dropped, "steps": steps, "balance": said,
    }  # fmt: skip


def _page(found: Curated, body: Iterable[Html | None]) -> Html:
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{_headline(found)}{MARK}"),
        tag("style", CSS, OWN_STYLE),
    )
    content = tag("html", head, tag("body", tag("main", join(list(body)))), lang="en")
    return join(Html("<!doctype html>\n"), content, Html("\n"))
