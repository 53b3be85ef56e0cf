"""Recovery of one call on every partition: what to send next, as a pure state machine.

`Recovery` decides and does nothing itself. It knows numbers (partitions, calls, deaths, times), has no clock, and
imports no Ray. The fleet (`raysal.fleet.ray_fleet`) turns Ray's replies and errors into events, passes each event to
`Recovery.handle` together with the time, and carries out the instructions that come back. Tests do the same with
simulated processes, in milliseconds.

A process that died restarts with no calls made. It refuses a later call and says how many calls it has made
(`raysal.fleet.replay`); the missing ones are replayed. A death of partition 1 in the third call of a program:

    Recovery                         fleet                                  process of partition 1
       | <------------------- Called |                                        |
       | Send(1), Wait ------------> | call 2 ------------------------------> | is killed in call 2
       | <------------------ Died(1) | <------- Ray: the process died         x
       | Replay(1, 0), Wait -------> | calls 0, 1, 2 -----------------------> x no process yet
       | <------------ NotReached(1) | <------- Ray: the process restarts     x (no further death)
       | Wait ---------------------> | waits RETRY_PAUSE                      x
       | <--------------- TimePassed |                                        | the next process starts
       | Replay(1, 0), Wait -------> | calls 0, 1, 2 -----------------------> | makes all three, in order
       | <-------------- Answered(1) | <--------------------------- a result  |
       | Return -------------------> | returns the results                    |

| event | instructions for its partition | time it has from then on |
|---|---|---|
| `Called` | `Send` to every partition | `timeout` |
| `Answered`, `Raised` | after the last partition `Return`, or `GiveUp` with the error of the first one that raised | |
| `IsBehind` | `Replay` of the missing calls | `timeout` for each missing call |
| `Died` | `Replay` of all calls; at death number ATTEMPTS `GiveUp` | `timeout` for each call + CREATION_TIMEOUT |
| `NotReached` | after RETRY_PAUSE `Replay` of all calls; if its time is over by then, a death | as before |
| `TimePassed`, time over | `Kill` and a death; in a shared process first `Ask` | as after `Died` |
| `WasQuiet`, less than `timeout` | none: the process makes a call of another session | `timeout` less that |
| `WasQuiet`, longer | `Kill` and a death | as after `Died` |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_never

from raysal.errors import FleetError

ATTEMPTS = 5
"""Deaths that one call may cost a partition. A call that kills its process each time is a bug, or too large for the
machine; Ray's own retries after memory pressure would never end."""
CREATION_TIMEOUT = 300.0
"""Seconds that a process may take to be placed on the cluster, at first or again. Ray waits for ever without a word."""
RETRY_PAUSE = 0.1
"""Seconds between a message that reached no process and the next one."""


@dataclass(frozen=True)
class Called:
    """The caller made the newest call of the program. This is the first event."""


@dataclass(frozen=True)
class Answered:
    """A process made the newest call, with this result."""

    partition: int
    result: Any


@dataclass(frozen=True)
class Raised:
    """The call itself raised an error. To repeat it would raise the error again."""

    partition: int
    error: BaseException


@dataclass(frozen=True)
class IsBehind:
    """A process refused the calls that were sent: it has made only the first `made` calls of the program."""

    partition: int
    made: int


@dataclass(frozen=True)
class Died:
    """A process died before its answer arrived, or the node that kept its answer did."""

    partition: int
    problem: str


@dataclass(frozen=True)
class NotReached:
    """No process received the message: the last one is dead, the next one has not started."""

    partition: int
    problem: str


@dataclass(frozen=True)
class WasQuiet:
    """The reply to `Ask`: seconds since the process began or ended any session's call; infinite without a reply."""

    partition: int
    seconds: float


@dataclass(frozen=True)
class TimePassed:
    """The caller has waited. Pass it after all events that are at hand."""


Event = Called | Answered | Raised | IsBehind | Died | NotReached | WasQuiet | TimePassed


@dataclass(frozen=True)
class Send:
    """Send the newest call."""

    partition: int


@dataclass(frozen=True)
class Replay:
    """Send the calls of the program again, from number `first` to the newest."""

    partition: int
    first: int


@dataclass(frozen=True)
class Kill:
    """Kill the process, so that another one starts, and expect no answer to what was sent before."""

    partition: int


@dataclass(frozen=True)
class Ask:
    """Ask the process how long it has been quiet, and pass the reply on as `WasQuiet`."""

    partition: int


@dataclass(frozen=True)
class Wait:
    """Wait for an answer of any partition, at most until this time; then pass on `TimePassed`."""

    until: float


@dataclass(frozen=True)
class Return:
    """The call is done: return these results, in partition order."""

    results: tuple[Any, ...]


@dataclass(frozen=True)
class GiveUp:
    """The call has failed: raise `error`, which came from this partition."""

    partition: int
    error: BaseException


Instruction = Send | Replay | Kill | Ask | Wait | Return | GiveUp


@dataclass
class Pending:
    """A partition that has not answered yet."""

    deadline: float
    """Time at which the partition counts as silent."""
    deaths: int = 0
    resend_at: float | None = None
    """Time of the next message, after one that reached no process; None while a message is under way."""
    problem: str = ""
    """Why the last message reached no process."""


class Recovery:
    """The state of one call on every partition.

    At most one message to a partition counts: the one of the newest `Send` or `Replay`. The caller drops what an older
    message leads to. Cost: O(partitions) an event.

    Attributes:
        pending: The partitions that have not answered yet, by number.
        results: The results that have arrived, by partition.
        errors: The errors that calls raised, by partition.
    """

    def __init__(self, partitions: int, calls: int, *, timeout: float, shared: bool = False) -> None:
        """Start before the call is made.

        Args:
            partitions: Number of partitions.
            calls: Number of calls of the program so far, the newest included.
            timeout: Seconds that one call may take.
            shared: Whether other sessions may keep the processes busy, so that a late answer alone is no hang.
        """
        self.partitions = partitions
        self.calls = calls
        self.timeout = timeout
        self.shared = shared
        self.pending: dict[int, Pending] = {}
        self.results: dict[int, Any] = {}
        self.errors: dict[int, BaseException] = {}

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Take in what happened.

        Args:
            event: What happened.
            now: The time in seconds, from any origin, never less than in the call before.

        Returns:
            What to do, in order. The last instruction, and no other, is `Wait`, `Return` or `GiveUp`.

        Raises:
            KeyError: The event's partition has answered already.
        """
        steps: list[Instruction] = []
        match event:
            case Called():
                self.pending = {i: Pending(now + self.timeout) for i in range(self.partitions)}
                steps = [Send(i) for i in self.pending]
            case Answered(i, result):
                del self.pending[i]
                self.results[i] = result
            case Raised(i, error):
                del self.pending[i]
                self.errors[i] = error
            case IsBehind(i, made):
                steps = [self._replay(i, made, now + self.timeout * (self.calls - made))]
            case Died(i, problem):
                steps = [self._count_death(i, _keeps_dying(problem), now)]
            case NotReached(i, problem):
                self.pending[i].resend_at = now + RETRY_PAUSE
                self.pending[i].problem = problem
            case WasQuiet(i, seconds) if seconds < self.timeout:
                self.pending[i].deadline = now + self.timeout - seconds
            case WasQuiet(i):
                steps = self._end_silent(i, now)
            case TimePassed():
                for i in self.pending:
                    steps += self._check_time(i, now)
                    if steps and isinstance(steps[-1], GiveUp):
                        break
            case _:
                assert_never(event)
        return steps if steps and isinstance(steps[-1], GiveUp) else [*steps, self._outlook()]

    def _check_time(self, i: int, now: float) -> list[Instruction]:
        """What is due for a partition now: a message again, the end of a silent process, or nothing."""
        pending = self.pending[i]
        if pending.resend_at is not None:
            if now < pending.resend_at:
                return []
            if now < pending.deadline:
                return [self._replay(i, 0, pending.deadline)]
            return [self._count_death(i, _keeps_dying(pending.problem), now)]
        if now < pending.deadline:
            return []
        return [Ask(i)] if self.shared else self._end_silent(i, now)

    def _end_silent(self, i: int, now: float) -> list[Instruction]:
        """Kill a process that hangs: Ray does not notice hangs."""
        return [Kill(i), self._count_death(i, f"no answer within {self.timeout:g} s a call", now)]

    def _count_death(self, i: int, problem: str, now: float) -> Instruction:
        """Replay everything in the process that replaces the dead one, or give up."""
        self.pending[i].deaths += 1
        if self.pending[i].deaths >= ATTEMPTS:
            return GiveUp(i, FleetError(i, f"{problem}; given up after {ATTEMPTS} attempts"))
        return self._replay(i, 0, now + self.timeout * self.calls + CREATION_TIMEOUT)

    def _replay(self, i: int, first: int, deadline: float) -> Replay:
        """Send the calls from number `first` again, with this deadline."""
        self.pending[i].deadline = deadline
        self.pending[i].resend_at = None
        return Replay(i, first)

    def _outlook(self) -> Instruction:
        """How the call ends if every partition has answered, else until when to wait."""
        if self.pending:
            return Wait(min(p.deadline if p.resend_at is None else p.resend_at for p in self.pending.values()))
        if self.errors:
            first = min(self.errors)
            return GiveUp(first, self.errors[first])
        return Return(tuple(self.results[i] for i in range(self.partitions)))


def _keeps_dying(problem: str) -> str:
    """The words for a process that died once too often."""
    return f"its process keeps dying ({problem})"
