"""The items of a report of a curation: pictures beside one another, or lines of texts and keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raysal.report.curation_examples import Group, Listed, Member
from raysal.report.markup import Html, join, tag
from raysal.report.thumbnails import Gallery, Shown


@dataclass(frozen=True, kw_only=True)
class Items:
    """The items that a report shows."""

    keys: Mapping[int, str]
    gallery: Gallery

    @property
    def as_lines(self) -> bool:
        """Whether items are shown as lines: texts, and keys where nothing can be shown."""
        return self.gallery.modality == "text" or not self.gallery.shown

    def group(self, group: Group) -> Html:
        """Dropped items, beside the one that they were dropped for."""
        more = tag("span", f"and {group.more:,} more", class_="more") if group.more else None
        if group.kept is None:
            reason = tag("p", group.dropped[0].reason, class_="note")
            return tag("div", reason, tag("div", self.strip(group.dropped), more, class_="group alone"))
        caption = "kept" if group.later is None else f"kept, until {group.later}"
        if self.as_lines:
            first = tag("li", self._line(group.kept, caption), class_="kept")
            return tag("div", self._lines(group.dropped, first), more, class_="group")
        kind = "kept" if group.later is None else "later"
        picture = self._figure(Member(id=group.kept, value=None, reason=caption), caption, kind)
        return tag("div", picture, self.strip(group.dropped), more, class_="group")

    def strip(self, members: Sequence[Member]) -> Html:
        """Items without a kept one beside them."""
        if self.as_lines:
            return self._lines(members)
        return join([self._figure(member) for member in members])

    def listed(self, listed: Sequence[Listed]) -> Html:
        """Items that a step listed, and what it said of them."""
        if self.as_lines:
            return tag("ul", [tag("li", self._line(one.id, one.short)) for one in listed], class_="texts")
        about = [" · ".join(f"{name} {value}" for name, value in one.facts.items()) for one in listed]
        members = [Member(id=one.id, value=None, reason=facts) for one, facts in zip(listed, about, strict=True)]
        return join([self._figure(one, row.short) for one, row in zip(members, listed, strict=True)])

    def _figure(self, member: Member, caption: str | None = None, kind: str | None = None) -> Html:
        key = self.keys.get(member.id, str(member.id))
        shown = self.gallery.shown.get(member.id, Shown(problem="not in the source any more"))
        if shown.image is None:
            picture = tag("div", shown.problem, class_="none")
        else:
            picture = tag("img", src=shown.image, alt=key, class_="small" if shown.small else None)
        about = " · ".join(filter(None, [key, member.reason, _value(member)]))
        return tag("figure", picture, tag("figcaption", caption or _value(member) or key), title=about, class_=kind)

    def _lines(self, members: Sequence[Member], first: Html | None = None) -> Html:
        lines = [tag("li", self._line(one.id, _value(one))) for one in members]
        return tag("ul", first, lines, class_="texts")

    def _line(self, id: int, about: str) -> Html:
        shown, key = self.gallery.shown.get(id), self.keys.get(id, str(id))
        if shown is None or shown.text is None:
            return join(key, tag("em", f" {about}") if about else None)
        return join(shown.text, tag("br"), tag("em", " · ".join(filter(None, [key, about]))))


def _value(member: Member) -> str:
    return "" if member.value is None else f"{member.value:.4g}"
