"""Make HTML from elements. Text is escaped unless it is `Html` already."""

from __future__ import annotations

import html
from collections.abc import Iterable

MARK = " · raysal"
"""The end of the title of every report."""


class Html(str):
    """A piece of finished HTML. Only this module makes it, and literals that hold no user data."""

    __slots__ = ()


Child = str | int | Iterable["Child"] | None


def join(*children: Child) -> Html:
    """Join children in their order.

    Args:
        children: HTML, text or numbers, also nested; None is left out.

    Returns:
        HTML, in which text is escaped.
    """
    parts: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Html):
            parts.append(child)
        elif isinstance(child, str | int):
            parts.append(html.escape(str(child)))
        else:
            parts.append(join(*child))
    return Html("".join(parts))


def tag(name: str, /, *children: Child, **attributes: str | int | bool | None) -> Html:
    """Make an element.

    Args:
        name: as `p`.
        children: as for `join`.
        attributes: by name; `class_` is `class`. True gives an attribute without a value; None and False leave it out.

    Returns:
        The element.
    """
    pairs = []
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            pairs.append(f" {key}")
        elif value is not None and value is not False:
            pairs.append(f' {key}="{html.escape(str(value))}"')
    opening = f"<{name}{''.join(pairs)}>"
    if name in ("img", "meta", "br"):
        return Html(opening)
    return Html(f"{opening}{join(*children)}</{name}>")
