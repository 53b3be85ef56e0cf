"""How far annotators agree beyond chance: Cohen's and Fleiss' kappa, and Krippendorff's alpha.

All take answers as {annotator: answer} for each item, and look at items that two or more people answered. They are 1
where all agree, 0 where people agree as often as chance has it, and below 0 where they agree less often. Where every
answer is the same one, chance has it that all agree; then nothing can be said, and the result is None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

Answers = Mapping[str, Any]
"""{annotator: answer} of one item"""


def cohen_kappa(pairs: Sequence[tuple[Any, Any]]) -> float | None:
    """Agreement of two people beyond chance, (observed - expected) / (1 - expected).

    Cohen, Educational and Psychological Measurement 20, 1960. Chance is by the two people's own shares of the classes.

    Args:
        pairs: both people's answers of each item.

    Returns:
        Kappa; None without items, or where both only ever gave one and the same answer.
    """
    n = len(pairs)
    if n == 0:
        return None
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    expected = sum(first[name] * second[name] for name in first) / n**2
    observed = sum(bool(a == b) for a, b in pairs) / n
    return None if expected == 1 else (observed - expected) / (1 - expected)


def fleiss_kappa(items: Sequence[Answers]) -> float | None:
    """Agreement of several people beyond chance, where each item may be answered by others of them.

    Fleiss, Psychological Bulletin 76, 1971. There every item has equally many answers. Here items may differ in that,
    and count by the number of their answers: that is Fleiss' kappa where they do not differ.

    Args:
        items: answers of each item; those with one answer do not count.

    Returns:
        Kappa; None without items that two people answered, or where there is one answer only.
    """
    shared = [Counter(answers.values()) for answers in items if len(answers) > 1]
    total = sum(item.total() for item in shared)
    if total == 0:
        return None
    observed = sum(sum(count * (count - 1) for count in item.values()) / (item.total() - 1) for item in shared) / total
    counts = sum(shared, Counter())
    expected = sum((count / total) ** 2 for count in counts.values())
    return None if expected == 1 else (observed - expected) / (1 - expected)


def nominal(one: Any, other: Any) -> float:
    """The squared difference of two classes: 0 if they are the same, else 1."""
    return float(one != other)


def interval(one: Any, other: Any) -> float:
    """The squared difference of two numbers."""
    return float((one - other) ** 2)


def krippendorff_alpha(items: Sequence[Answers], sq_difference: Callable[[Any, Any], float] = nominal) -> float | None:
    """1 - observed / expected disagreement, for any number of people, with answers missing.

    Krippendorff, Content Analysis, 2004, chapter 11: every pair of answers of an item counts by 1 / (answers - 1), and
    chance is by all pairs of all answers, without replacement.

    Args:
        items: answers of each item; those with one answer do not count.
        sq_difference: of two answers: `nominal` or `interval`, or one of yours.

    Returns:
        Alpha; None without items that two people answered, or where there is one answer only.
    """
    shared = [Counter(answers.values()) for answers in items if len(answers) > 1]
    counts = sum(shared, Counter())
    total = counts.total()
    if total == 0:
        return None
    observed = sum(_disagreement(item, sq_difference) / (item.total() - 1) for item in shared)
    expected = _disagreement(counts, sq_difference) / (total - 1)
    return None if expected == 0 else 1 - observed / expected


def _disagreement(counts: Counter[Any], sq_difference: Callable[[Any, Any], float]) -> float:
    """The sum of squared differences over all ordered pairs of answers."""
    return 2 * sum(counts[a] * counts[b] * sq_difference(a, b) for a, b in combinations(counts, 2))


def agreement_of(items: Sequence[Answers]) -> dict[str, Any] | None:
    """Every measure of agreement about classes, as a record.

    Args:
        items: answers of each item.

    Returns:
        How many items two or more people answered, and on which share of them all agree; Fleiss' kappa, Krippendorff's
        alpha, and Cohen's kappa of each two people who share items. None if nobody shares an item.
    """
    shared = [answers for answers in items if len(answers) > 1]
    if not shared:
        return None
    pairs: dict[tuple[str, str], list[tuple[Any, Any]]] = {}
    for answers in shared:
        for one, other in combinations(sorted(answers), 2):
            pairs.setdefault((one, other), []).append((answers[one], answers[other]))
    return {
        "items": len(shared),
        "all_agree": sum(len(set(answers.values())) == 1 for answers in shared) / len(shared),
        "fleiss_kappa": fleiss_kappa(shared),
        "krippendorff_alpha": krippendorff_alpha(shared),
        "cohen_kappa": [
            {"annotators": list(people), "items": len(both), "kappa": cohen_kappa(both)}
            for people, both in sorted(pairs.items())
        ],
    }
