"""Figures as inline SVG: text stays text in the page's font, ids are unique, and no link leads out of the page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import Any

from raysal.report.markup import Html, tag

BLUE, SKY, ORANGE, GREEN = "#0072b2", "#56b4e9", "#e69f00", "#009e73"
VERMILION, PURPLE, YELLOW = "#d55e00", "#cc79a7", "#f0e442"
"""Colours that people with any kind of colour blindness can tell apart (Okabe & Ito, 2008)."""
INK, MUTED, FAINT, PALE = "#1f2933", "#6b7785", "#dfe4ea", "#c9d0d8"

STYLE = {
    "svg.fonttype": "none",
    "font.size": 11,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in the name of a class does not begin a formula
    "axes.edgecolor": PALE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
}


def svg(name: str, title: str, draw: Callable[[Any], None], width: float, height: float) -> Html:
    """Draw a figure as SVG. The same bytes on every call.

    Args:
        name: prefix of its ids, so that they differ from those of other figures in the page.
        title: screen readers read it.
        draw: is called with an empty matplotlib figure.
        width: in inches.
        height: in inches.

    Returns:
        The `<svg>` element.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    target = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # The browser has the glyphs. matplotlib measures with a font that may lack them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        no_clock = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(target, format="svg", dpi=190, transparent=True, metadata=no_clock)
    return _inlined(target.getvalue(), name, title)


def _inlined(text: str, name: str, title: str) -> Html:
    body = text[text.index("<svg") :]
    head, rest = body.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None
    rest = re.sub(r"<metadata>.*?</metadata>", "", rest, flags=re.DOTALL)
    rest = re.sub(r"<!--.*?-->", "", rest, flags=re.DOTALL)
    rest = rest.replace("xlink:href=", "href=").replace('href="#', f'href="#{name}-')
    rest = rest.replace("url(#", f"url(#{name}-")
    rest = re.sub(r'(<[^>]*? )id="', rf'\1id="{name}-', rest)
    label = tag("title", title)
    return Html(f'<svg {box.group()} role="img" class="figure {name}">{label}{rest}')
