"""The head of an open session between two rounds: it follows the labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from raysal.errors import ConfigError, LabelError
from raysal.fleet import Fleet
from raysal.labels import Ledger
from raysal.models.head import Head
from raysal.rounds.learner import apply_new_labels
from raysal.rounds.one_round import head_now
from raysal.rounds.opening import OpenRun
from raysal.rounds.prior_shift import correction_in, with_shift, without_shift
from raysal.rounds.status import final_record


class LiveHead:
    """The last head that was made, and what new labels made of it. It leaves no trace in the run."""

    def __init__(self, opened: OpenRun) -> None:
        """No head, of an open run."""
        self.head: Head | None = None
        """As the next round would have it; None where that takes a fit, or nothing was made yet."""
        self._opened = opened
        self._stale: Head | None = None
        self._correction: Mapping[str, Any] = {}

    def begin(self, head: Head | None, record: Mapping[str, Any]) -> None:
        """Start from a head that was made.

        Args:
            head: the head as it is shown.
            record: names the correction of its biases, where there is one. It is no evidence: steps start from the head
                without it, as those of rounds do, and what they make is shown with it.
        """
        self.head, self._stale, self._correction = head, None, correction_in(record)

    def follow(self, ledger: Ledger, fleet: Fleet) -> None:
        """Move the head by the labels it has not seen yet; or let it go, where the next round fits another one."""
        if self.head is not None:
            self._stale = self.head
            self.head = self._apply(self.head, ledger, fleet, fit=True)

    def moved(self, ledger: Ledger, fleet: Fleet) -> Head | None:
        """The head after all labels, in closed form even where the next round fits another one.

        A step takes some milliseconds, a fit of some hundred labels some hundred; the likeliest items are nearly those
        of the fit (`benchmarks.live_head`).

        Args:
            ledger: the run's labels.
            fleet: the pool's partitions.

        Returns:
            The head; None where none was made yet, or it has no such step.
        """
        self.follow(ledger, fleet)
        if self.head is None and self._stale is not None:
            self._stale = self._apply(self._stale, ledger, fleet, fit=False)
            return self._stale
        return self.head

    def now(self, ledger: Ledger | None, fleet: Fleet | None, start: Callable[[], Fleet], *, fit: bool) -> Head | None:
        """The head after all labels, as `Session.current_head` gives it.

        Args:
            ledger: the run's labels; None if it has none yet.
            fleet: the pool's partitions; None where nothing needed them yet.
            start: starts them.
            fit: whether a run that fits its head anew each round fits it here as well.

        Returns:
            The head; None before the first label.
        """
        if not fit and fleet is not None and ledger is not None and (moved := self.moved(ledger, fleet)) is not None:
            return moved
        if self.head is None and ledger is not None:
            if final_record(self._opened.run, ledger) is not None:
                # Not kept: there may be no fleet to move it by what is told from now on.
                return self._opened.run.head(None)
            made = head_now(self._opened, ledger, start())
            self.begin(made.head, made.correction)
        return self.head

    def _apply(self, head: Head, ledger: Ledger, fleet: Fleet, *, fit: bool) -> Head | None:
        learnt = without_shift(head, self._correction)
        try:
            moved = apply_new_labels(learnt, fleet, self._opened.pool, ledger, self._opened.config, fit=fit)
        except (ConfigError, LabelError):
            return None  # the next round meets the error again and says so
        if moved is learnt:
            return head
        return None if moved is None else with_shift(moved, self._correction)
