"""The report of a pool that was curated: one HTML file that needs no other file and no network, and its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raysal import __version__
from raysal.curation.curated import Curated, StepDone
from raysal.pool.place import name_of
from raysal.report.curation_balance import Balance, balance_by, balance_in
from raysal.report.curation_examples import Examples, Group, Member, examples_of, group_sizes
from raysal.report.curation_map import draw_curation_map, map_of, step_colour
from raysal.report.markup import MARK, Html, join, tag
from raysal.report.sections import swatch
from raysal.report.style import CSS
from raysal.report.table import format_percent, format_seconds
from raysal.report.thumbnails import Gallery, Shown, read_gallery

LABELS = "label"
"""The column whose values are counted before and after, where the pool carries it."""
MAX_VALUES = 30
"""Lines of a table of values: the most common ones."""
NAMED = 20
"""Names of steps and of what they say that a page has room for."""
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
    ids = examples.ids()
    keys = _keys(found, ids)
    gallery = read_gallery(found.pool, keys)
    balance = balance_by(found, LABELS)
    page = _page(found, _body(found, examples, keys, gallery, balance))
    return CurationReport(html=page, data=_data(found, examples, keys, balance))


def _keys(found: Curated, ids: Sequence[int]) -> dict[int, str]:
    import numpy as np

    return dict(sorted(found.pool.keys_of(np.array(ids, np.int64)).items()))


def _body(
    found: Curated, examples: Examples, keys: Mapping[int, str], gallery: Gallery, balance: Balance | None
) -> Iterable[Html | None]:
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
    if gallery.problem is not None:
        note = f"The items themselves cannot be shown, only their keys. {gallery.problem}"
        yield tag("p", note, class_="warning")
    if balance is not None:
        yield _section("Balance", _balance_words(balance), _balance_table(balance))
    for at, step in enumerate(found.steps):
        yield _step_section(step, examples.groups[at], keys, gallery)
    if examples.kept:
        shown = [Member(id=id, value=None, reason="") for id in examples.kept]
        strip = tag("div", _items(shown, keys, gallery), class_=None if _as_texts(gallery) else "strip")
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
    heads = ["step", "given", "dropped", "left", "of the pool", "s"]
    lines = []
    for at, step in enumerate(found.steps):
        left, total = step.left - step.dropped, max(len(found), 1)
        flow = [
            tag("i", style=f"width:{100 * left / total:.2f}%;background:var(--blue)"),
            tag("i", style=f"width:{100 * step.dropped / total:.2f}%;background:{step_colour(at)}"),
        ]
        reasons = [tag("li", f"{count:,} {reason}") for reason, count in step.reasons.items()]
        name = join(swatch(step_colour(at)), step.label, tag("ul", reasons, class_="texts") if reasons else None)
        cells = [tag("td", name, class_="left"), tag("td", f"{step.left:,}"), tag("td", f"{step.dropped:,}")]
        cells += [tag("td", f"{left:,}", class_="strong"), tag("td", flow, class_="flow left")]
        lines.append(tag("tr", cells, tag("td", format_seconds(step.seconds), class_="dim")))
    return _table(heads, lines)


def _legend(found: Curated) -> Html:
    own = [tag("li", swatch(step_colour(at)), f"dropped by {step.label}") for at, step in enumerate(found.steps)]
    return tag("ul", own, class_="legend")


def _step_section(step: StepDone, groups: Sequence[Group], keys: Mapping[int, str], gallery: Gallery) -> Html | None:
    facts = step.result.facts
    notes = [str(note) for note in facts.get("notes", ())]
    fields = ", ".join(f"{name} {value}" for name, value in step.fields.items() if value is not None)
    words = f"{step.dropped:,} of {step.left:,} items dropped{f' ({fields})' if fields else ''}. {' '.join(notes)}"
    parts: list[Html | None] = []
    sizes = {int(size): count for size, count in (facts.get("group_sizes") or group_sizes(step)).items()}
    if sizes:
        parts += [tag("h3", "Sizes of groups"), tag("p", _size_words(sizes), class_="note"), _size_table(sizes)]
    if (balance := balance_in(facts)) is not None:
        parts += [tag("h3", "Balance"), tag("p", _balance_words(balance), class_="note"), _balance_table(balance)]
    for kind in dict.fromkeys(group.kind for group in groups):
        own = [_group(group, keys, gallery) for group in groups if group.kind == kind]
        parts += [tag("h3", f"{kind[0].upper()}{kind[1:]}"), tag("div", own, class_="groups")]
    if not step.dropped and not parts:
        return None
    return _section(f"{step.label}", words.strip(), *parts)


def _group(group: Group, keys: Mapping[int, str], gallery: Gallery) -> Html:
    more = tag("span", f"and {group.more:,} more", class_="more") if group.more else None
    if group.kept is None:
        reason = tag("p", group.dropped[0].reason, class_="note")
        return tag("div", reason, tag("div", _items(group.dropped, keys, gallery), more, class_="group alone"))
    if _as_texts(gallery):
        return tag("div", _texts(group, group.dropped, keys, gallery), more, class_="group")
    caption = _caption(group)
    kind = "kept" if group.later is None else "later"
    first = _figure(Member(id=group.kept, value=None, reason=caption), keys, gallery, kind, caption)
    return tag("div", first, _items(group.dropped, keys, gallery), more, class_="group")


def _caption(group: Group) -> str:
    """What became of the item that a group was dropped for."""
    return "kept" if group.later is None else f"kept, until {group.later}"


def _items(members: Sequence[Member], keys: Mapping[int, str], gallery: Gallery) -> Html:
    if _as_texts(gallery):
        return _texts(None, members, keys, gallery)
    return join([_figure(member, keys, gallery) for member in members])


def _as_texts(gallery: Gallery) -> bool:
    """Whether items are shown as lines: texts, and keys where nothing can be shown."""
    return gallery.modality == "text" or not gallery.shown


def _figure(
    member: Member, keys: Mapping[int, str], gallery: Gallery, kind: str | None = None, caption: str | None = None
) -> Html:
    key = keys.get(member.id, str(member.id))
    shown = gallery.shown.get(member.id, Shown(problem="not in the source any more"))
    if shown.image is None:
        picture = tag("div", shown.problem, class_="none")
    else:
        picture = tag("img", src=shown.image, alt=key, class_="small" if shown.small else None)
    words = caption or (f"{member.value:.4g}" if member.value is not None else key)
    about = " · ".join(filter(None, [key, member.reason, _value(member)]))
    return tag("figure", picture, tag("figcaption", words), title=about, class_=kind)


def _texts(group: Group | None, members: Sequence[Member], keys: Mapping[int, str], gallery: Gallery) -> Html:
    lines = []
    if group is not None and group.kept is not None:
        lines.append(tag("li", _line(group.kept, _caption(group), keys, gallery), class_="kept"))
    lines += [tag("li", _line(one.id, _value(one), keys, gallery)) for one in members]
    return tag("ul", lines, class_="texts")


def _line(id: int, about: str, keys: Mapping[int, str], gallery: Gallery) -> Html:
    shown, key = gallery.shown.get(id), keys.get(id, str(id))
    if shown is None or shown.text is None:
        return join(key, tag("em", f" {about}") if about else None)
    return join(shown.text, tag("br"), tag("em", " · ".join(filter(None, [key, about]))))


def _value(member: Member) -> str:
    return "" if member.value is None else f"{member.value:.4g}"


def _size_words(sizes: Mapping[int, int]) -> str:
    groups, items = sum(sizes.values()), sum(size * count for size, count in sizes.items())
    words = f"{groups:,} groups of {items:,} items: a kept item, and what was dropped for it."
    return f"{words} The largest has {max(sizes):,}."


def _size_table(sizes: Mapping[int, int]) -> Html:
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
    return _table(["items", "groups", ""], lines)


def _balance_words(balance: Balance) -> str:
    before, after = balance.effective
    words = f"By {balance.of}: {len(balance.before):,} values. As even as {before:.1f} equally common ones before, "
    return words + f"{after:.1f} after (exponential of the entropy)."


def _balance_table(balance: Balance) -> Html:
    names = sorted(balance.before, key=lambda name: (-balance.before[name], name))
    most = max(balance.before.values(), default=1) or 1
    lines = []
    for name in names[:MAX_VALUES]:
        before, after = balance.before[name], balance.after.get(name, 0)
        bars = [tag("i", style=f"width:{100 * after / most:.2f}%"), tag("i", style=f"width:{100 * before / most:.2f}%")]
        share = format_percent(after / before) if before else ""
        cells = [tag("td", name, class_="left"), tag("td", f"{before:,}"), tag("td", f"{after:,}", class_="strong")]
        lines.append(tag("tr", cells, tag("td", share), tag("td", bars, class_="bar")))
    table = _table(["value", "before", "after", "kept", "after (thin: before)"], lines)
    rest = len(names) - MAX_VALUES
    return join(table, tag("p", f"and {rest:,} values that are less common", class_="note") if rest > 0 else None)


def _bar(share: float) -> Html:
    return tag("td", tag("i", style=f"width:{100 * share:.2f}%"), class_="bar")


def _table(heads: Sequence[str], lines: Sequence[Html]) -> Html:
    names = [tag("th", name, class_="left" if not place else None) for place, name in enumerate(heads)]
    return tag("div", tag("table", tag("thead", tag("tr", names)), tag("tbody", lines)), class_="scroll")


def _section(title: str, words: str, *content: Html | None) -> Html:
    return tag("section", tag("h2", title), tag("p", words) if words else None, *content)


def _provenance(found: Curated) -> Html:
    import json

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
        return {"kept": keys.get(-1 if group.kept is None else group.kept), "dropped": dropped, "more": group.more}

    steps = [
        {
            "step": step.label, "name": step.name, "fields": dict(step.fields), "items": step.left,
            "dropped_items": step.dropped, "left": step.left - step.dropped, "reasons": step.reasons,
            "seconds": step.seconds, "group_sizes": group_sizes(step), "facts": dict(step.result.facts),
            "examples": [shown(group) for group in groups],
        }
        for step, groups in zip(found.steps, examples.groups, strict=True)
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
