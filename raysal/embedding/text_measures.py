"""Measures of a text: its length, and what tells a text that repeats itself, or that is none.

The rules of Rae et al., "Scaling Language Models: Methods, Analysis & Insights from Training Gopher", arXiv 2112.11446,
table A1, are made of such shares. Words are what white space separates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from raysal.embedding.measures import Values

RUN = 5
"""Words of a run that `repetition` looks for."""


def measure_text(text: str, measures: Sequence[str]) -> Values:
    """Measure a text.

    Args:
        text: the text.
        measures: names of measures of texts.

    Returns:
        {measure: value}.
    """
    return {name: TEXT_MEASURES[name](text) for name in measures}


def duplicate_lines(text: str) -> float:
    """The share of lines that repeat an earlier one. White space at their ends, and empty lines, do not count."""
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    return 1 - len(set(lines)) / len(lines) if lines else 0.0


def repetition(text: str) -> float:
    """The share of the characters of words that lie in a run of 5 words which the text has more than once.

    Each character counts once, whichever runs it lies in.

    Args:
        text: the text.

    Returns:
        From 0 to 1; 0 for a text of fewer words.
    """
    words = text.split()
    runs = list(zip(*(words[start:] for start in range(RUN)), strict=False))
    counts = Counter(runs)
    if len(counts) == len(runs):
        return 0.0
    repeats, end = 0, 0
    for start, run in enumerate(runs):
        if counts[run] > 1:
            repeats += sum(map(len, words[max(start, end) : start + RUN]))
            end = start + RUN
    return repeats / sum(map(len, words))


def symbols(text: str) -> float:
    """The share of characters that are neither letter, digit nor white space."""
    usual = sum(map(str.isalnum, text)) + sum(map(str.isspace, text))
    return 1 - usual / len(text) if text else 0.0


TEXT_MEASURES: Mapping[str, Callable[[str], float | int]] = {
    "characters": len,
    "words": lambda text: len(text.split()),
    "duplicate_lines": duplicate_lines,
    "repetition": repetition,
    "symbols": symbols,
}
