"""One writer at a time: who holds the Lease leads, and nobody else decides or writes.

What is safe here rests on two clocks that only go forward and count suspended time, and on no wall clock:

- Who leads may write until ``deadline`` seconds after it *sent* its last renewal that went well, and not a moment longer.
- Who follows takes the Lease over no sooner than ``lease`` seconds after it *saw* its last change, by compare-and-swap on
  the very version that it saw. The Lease's own ``renewTime`` is for people.

The renewal was sent before its result could be seen, and ``deadline`` is shorter than ``lease``, so the first has stopped
when the second begins. A Lease without a holder is free at once where its holder gave it back; where it was emptied or
removed by hand, its holder may not know yet, and the time is waited out as well.

:class:`Elector` holds these rules and does nothing by itself: it says what to ask, and is told the answers. :class:`Leader`
asks, in a thread of its own, and ends the process when the lead was lost: there is nothing to clean up that could not
hang, and what is still on its way is refused by the epochs of the launches.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from math import inf
from typing import Protocol, TypeAlias

from controller.errors import AdapterError, ConflictError, NotFoundError, UnansweredError
from controller.ports import Lease, LeasePort

EXIT_LOST = 5
"""The process' exit code when it lost the lead."""
SAY_SECONDS = 0.2
"""How long the last words may take: who reads the log may hang."""
WATCH_SECONDS = 0.25
"""How often the deadline is looked at, at least: waits do not count suspended time."""
STOP_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Times:
    """All in seconds: how long a Lease counts after its last change was seen, how long its holder may write after it sent
    a renewal that went well, how long one request may take, and the pause between two tries.

    Raises:
        ValueError: a second writer could begin before the first has stopped.
    """

    lease: float = 10.0
    deadline: float = 5.0
    request: float = 1.5
    retry: float = 1.0

    def __post_init__(self) -> None:
        if self.lease < self.deadline + self.request + self.retry:
            raise ValueError(
                f"a lease of {self.lease:g}s is too short; write {self.deadline + self.request + self.retry:g}s or more "
                "(deadline, one request and one pause)"
            )


FOR_GOOD = Times(lease=inf, deadline=inf)
"""Where the system itself frees what a dead process held, nothing runs out."""


@dataclass(frozen=True, slots=True)
class Read:
    """Ask for the Lease as it is; the answer is None where there is none."""


@dataclass(frozen=True, slots=True)
class Create:
    """Make the Lease, nobody's. Whoever makes it has not got it: that it was missing may be news to its holder."""


@dataclass(frozen=True, slots=True)
class Write:
    """Put this holder into the Lease if it is still the version that is known; an empty one gives it back."""

    known: Lease
    holder: str
    transitions: int


Request: TypeAlias = Read | Create | Write
Answer: TypeAlias = Lease | AdapterError | None
Turn: TypeAlias = Generator[Request, Answer, None]


class Elector:
    """The rules, as a machine without threads: ``turn`` yields requests and is sent their answers, errors among them.

    ``identity`` is of this very process and of no other, ever. ``clock`` gives seconds, never goes back and counts
    suspended time. ``may_write`` and ``leading`` may be asked from any thread.
    """

    def __init__(self, identity: str, clock: Callable[[], float], times: Times | None = None) -> None:
        self.identity, self.times = identity, times or Times()
        self.lost = ""
        """Why this process, which led, must not go on."""
        self.problem = "the Lease was not read yet"
        """Why the last turn did not get through; empty when it did."""
        self._clock = clock
        self._known: Lease | None = None
        self._seen_at = 0.0
        self._leading = False
        self._until = -inf
        self._over = False

    # What others may ask

    @property
    def leading(self) -> bool:
        """Whether this process leads now."""
        return self._leading and not self.lost and self._clock() <= self._until

    @property
    def follows(self) -> str:
        """Who was last seen to hold the Lease, if that is another."""
        known = self._known
        return known.holder if known is not None and known.holder != self.identity else ""

    @property
    def until(self) -> float:
        """The instant (of the clock) after which nothing may be written; in the past where this process does not lead."""
        return self._until if self._leading else -inf

    def may_write(self) -> bool:
        """Whether a request that is sent now can be answered before the deadline."""
        return self._leading and not self.lost and self._clock() + self.times.request <= self._until

    def check(self) -> str:
        """Why the lead is lost, the deadline looked at; empty when it is not."""
        if self._leading and not self.lost and self._clock() > self._until:
            self.lost = f"no renewal of the Lease went well for {self.times.deadline:g}s"
        return self.lost

    # What is done

    def turn(self) -> Turn:
        """One try to keep the Lease, or to get it."""
        if self._over or self.check():
            return
        if self._leading:
            yield from self._renew()
        else:
            yield from self._look()

    def release(self) -> Turn:
        """Write nothing any more, and give the Lease back, if it is held."""
        held = self._leading and not self.check()
        self._over, self._leading = True, False
        if not held or self._known is None:
            return
        answer = yield Write(self._known, "", self._known.transitions)
        if isinstance(answer, ConflictError):
            # A renewal may have been stored whose answer was lost.
            now = yield Read()
            if isinstance(now, Lease) and now.holder == self.identity:
                yield Write(now, "", now.transitions)

    def _renew(self) -> Turn:
        assert self._known is not None
        if not (yield from self._take(self._known)):
            return
        answer = yield Read()
        if answer is None:
            answer = yield Create()
        now = self._heard(answer)
        if now is not None and not self.check():
            yield from self._take(now)

    def _look(self) -> Turn:
        answer = yield Read()
        if answer is None:
            answer = yield Create()
        now = self._heard(answer)
        if now is not None and self._free(now):
            yield from self._take(now)

    def _take(self, known: Lease) -> Generator[Request, Answer, bool]:
        """Have the Lease, if it is still the one that is known; whether somebody else was quicker."""
        sent = self._clock()
        transitions = known.transitions + (known.holder != self.identity)
        answer = yield Write(known, self.identity, transitions)
        if isinstance(answer, Lease):
            self._known, self._seen_at, self.problem = answer, self._clock(), ""
            self._got(sent)
            return False
        self.problem = str(answer)
        return isinstance(answer, ConflictError | NotFoundError)

    def _got(self, sent: float) -> None:
        """A write that was sent then went well. An answer that comes after its own deadline is none."""
        if self._over or self.check() or self._clock() > sent + self.times.deadline:
            return
        self._until = sent + self.times.deadline
        self._leading = True

    def _heard(self, answer: Answer) -> Lease | None:
        """Keep what was read, if anything was."""
        if not isinstance(answer, Lease):
            self.problem = str(answer)
            return None
        self.problem = ""
        if self._known is None or self._known.version != answer.version:
            self._seen_at = self._clock()
        self._known = answer
        if self._leading and answer.holder not in ("", self.identity) and not self.lost:
            self.lost = f"the Lease is held by {answer.holder}"
        return answer

    def _free(self, lease: Lease) -> bool:
        """Whether the Lease may be taken by a process that does not lead.

        Also where it names this very process: its own write, whose answer was lost, cannot be told from a person's.
        """
        return lease.released or self._clock() - self._seen_at >= self.times.lease


class LeaderRecorder(Protocol):
    """Who is told how the election goes; from threads of its own."""

    def note(self, event: str, **fields: object) -> None:
        """Something is as it is now."""

    def failed(self, key: None, doing: str, error: BaseException) -> None:
        """Something did not work; it will be tried again."""


class Leader:
    """Keeps asking for the Lease. ``clock`` gives seconds as for :class:`Elector`.

    ``on_lead`` is called, from another thread, when this process begins to lead. ``end`` ends the process with that exit
    code, and does not return.
    """

    def __init__(
        self,
        port: LeasePort,
        identity: str,
        clock: Callable[[], float],
        recorder: LeaderRecorder,
        *,
        times: Times | None = None,
        on_lead: Callable[[], None] | None = None,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self.elector = Elector(identity, clock, times)
        self.on_lead = on_lead
        self._port, self._clock, self._recorder, self._end = port, clock, recorder, end
        self._wake, self._stopping, self._stopped = threading.Event(), threading.Event(), threading.Event()
        self._release = False
        self._told = ""
        self._thread = threading.Thread(target=self._run, name="elector", daemon=True)
        self._watchdog = threading.Thread(target=self._watch, name="watchdog of the lead", daemon=True)

    def leading(self) -> bool:
        """Whether this process leads now."""
        return self.elector.leading

    def follows(self) -> str:
        """Who leads, where that is another and known."""
        return self.elector.follows

    def problem(self) -> str:
        """Why it is not known who leads; empty where it is, or where time will tell."""
        return self.elector.problem

    def may_write(self) -> bool:
        """To be asked right before anything is sent that changes something."""
        return self.elector.may_write() and self._port.holds()

    def start(self) -> None:
        """Begin to ask for the Lease."""
        self._watchdog.start()
        self._thread.start()

    def stop(self, *, release: bool) -> None:
        """Ask no more, and write no more; give the Lease back where nothing of ours is on its way any more.

        Returns within two seconds.
        """
        self._release = release
        self._stopping.set()
        self._wake.set()
        self._stopped.wait(STOP_SECONDS)

    def _run(self) -> None:
        times = self.elector.times
        while not self._stopping.is_set():
            self._play(self.elector.turn())
            self._tell()
            if self.elector.lost:
                self._die()
                return
            # Those that wait for the same Lease should not all ask at the same time.
            self._wake.wait(times.retry * random.uniform(0.9, 1.0))  # noqa: S311 - jitter guards nothing
        if self._release:
            self._play(self.elector.release())
        self._stopped.set()

    def _play(self, turn: Turn) -> None:
        answer: Answer = None
        try:
            request = next(turn)
            while True:
                answer = self._ask(request)
                if isinstance(answer, AdapterError) and not isinstance(answer, ConflictError):
                    self._recorder.failed(None, "electing", answer)
                request = turn.send(answer)
        except StopIteration:
            return

    def _ask(self, request: Request) -> Answer:
        try:
            if isinstance(request, Read):
                return self._port.read()
            if isinstance(request, Create):
                return self._port.create()
            return self._port.write(request.known, request.holder, request.transitions)
        except AdapterError as error:
            return error
        except Exception as error:  # noqa: BLE001 - without this thread nobody would ever lead again
            return UnansweredError(f"the Lease: {type(error).__name__}: {error}")

    def _tell(self) -> None:
        now = self.elector.identity if self.elector.leading else self.elector.follows
        if now == self._told:
            return
        self._told = now
        if self.elector.leading:
            self._recorder.note("leading", identity=now)
            if self.on_lead is not None:
                self.on_lead()
        else:
            self._recorder.note("following", leader=now, identity=self.elector.identity)

    def _watch(self) -> None:
        while not self._stopped.is_set():
            if self.elector.check():
                self._die()
                return
            left = self.elector.until - self._clock()
            self._stopped.wait(min(WATCH_SECONDS, max(0.01, left)) if left > -inf else WATCH_SECONDS)

    def _die(self) -> None:
        """The process ends here and now; a word to the log if that takes no time."""
        said = threading.Thread(
            target=self._recorder.note, args=("lost the lead",), kwargs={"reason": self.elector.lost}, daemon=True
        )
        said.start()
        said.join(SAY_SECONDS)
        self._end(EXIT_LOST)


class Alone:
    """The only process, by its operator's word: it always leads."""

    on_lead: Callable[[], None] | None = None

    def leading(self) -> bool:
        """It does."""
        return True

    def follows(self) -> str:
        """Nobody."""
        return ""

    def problem(self) -> str:
        """None."""
        return ""

    def may_write(self) -> bool:
        """It may."""
        return True

    def start(self) -> None:
        """There is nobody to ask."""

    def stop(self, *, release: bool) -> None:
        """There is nothing to give back."""
