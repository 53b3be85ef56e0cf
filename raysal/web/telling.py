"""Labels of several requests at once in one transaction of the ledger: a commit waits for the disk, for all of them.

Requests line up. The first becomes the one that tells for all who wait; those that come meanwhile are the next group.
So with many people a label waits for two commits at most, however many people there are. If a group is refused, each
of its requests is told by itself, so that a bad label refuses nobody else's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Lock

from raysal.errors import LabelError
from raysal.labels.records import TellCounts
from raysal.rounds.run_labels import RunLabels
from raysal.types import SKIP, Label


@dataclass(eq=False)
class _Request:
    labels: Sequence[Label]
    withdrawn: Sequence[tuple[str, str]]
    ids: Mapping[str, int]
    done: Future[TellCounts] = field(default_factory=Future)

    @property
    def keys(self) -> list[str]:
        return [*(label.key for label in self.labels), *(key for key, _ in self.withdrawn)]


class Teller:
    """Tells the labels of a run. Any thread may call it."""

    def __init__(self, labels: RunLabels) -> None:
        self._labels = labels
        self._waiting: list[_Request] = []
        self._line, self._turn = Lock(), Lock()
        self.told = 0
        """answers that the ledger took, and those that were taken back"""

    def tell(self, labels: Sequence[Label], withdrawn: Sequence[tuple[str, str]], ids: Mapping[str, int]) -> TellCounts:
        """Tell labels, all of them or none; returns when they are on the disk.

        Args:
            labels: of one request.
            withdrawn: (key, annotator) pairs, whose answers are taken back.
            ids: the id of each key.

        Returns:
            What became of them.

        Raises:
            LabelError, RunError, FingerprintMismatch: as `RunLabels.tell`.
        """
        own = _Request(labels, withdrawn, ids)
        with self._line:
            self._waiting.append(own)
        with self._turn:  # whoever gets it tells for all who wait by then; the others find their answer
            if not own.done.done():
                with self._line:
                    group, self._waiting = self._waiting, []
                self._tell(group)
        return own.done.result()

    def _tell(self, group: Sequence[_Request]) -> None:
        try:
            if len(group) == 1:
                group[0].done.set_result(self._one(group[0]))
            else:
                self._several(group)
        except LabelError:
            for request in group:
                try:
                    request.done.set_result(self._one(request))
                except Exception as error:
                    request.done.set_exception(error)
        except BaseException as error:
            for request in group:
                if not request.done.done():
                    request.done.set_exception(error)
        taken = [request for request in group if request.done.exception() is None]
        self.told += sum(len(request.labels) - len(request.withdrawn) for request in taken)

    def _one(self, request: _Request) -> TellCounts:
        return self._labels.tell(request.labels, withdrawn=request.withdrawn, ids=request.ids)

    def _several(self, group: Sequence[_Request]) -> None:
        """Tell a group of requests in one transaction, in their order, and count for each."""
        if any(request.withdrawn for request in group[:-1]):  # a call takes back after it tells; keep the order
            raise LabelError("labels", "some are taken back", "tell them one by one")
        ids = {key: id for request in group for key, id in request.ids.items()}
        keys = [key for request in group for key in request.keys]
        before = {key: dict(said.answers) for key, said in self._labels.ledger.said(keys).items()}
        labels = [label for request in group for label in request.labels]
        self._labels.tell(labels, withdrawn=group[-1].withdrawn, ids=ids)
        now = self._labels.ledger.said(keys)
        disputed = {key for key, said in now.items() if said.state == "disputed"}
        for request in group:
            request.done.set_result(_counts(request, before, disputed))


def _counts(request: _Request, held: dict[str, dict[str, str]], disputed: set[str]) -> TellCounts:
    """What a request did to what was held, by the rules of the ledger; `held` becomes what is held after it."""
    counts = {"new": 0, "repeated": 0, "corrected": 0, "skipped": 0}
    for label in request.labels:
        own = held.setdefault(label.key, {})
        before, own[label.annotator] = own.get(label.annotator), label.label
        if before == label.label:
            counts["repeated"] += 1
        elif label.label == SKIP:
            counts["skipped"] += 1
        else:
            counts["new" if before in (None, SKIP) else "corrected"] += 1
    withdrawn = sum(held.get(key, {}).pop(who, None) is not None for key, who in request.withdrawn)
    told = {label.key for label in request.labels}
    return TellCounts(**counts, disputed=len(told & disputed), withdrawn=withdrawn)
