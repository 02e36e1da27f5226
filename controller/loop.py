"""Ticks and wake-ups, a bounded pool of workers, and stopping. One launch's failure stays its own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Protocol

from controller.clock import Clock
from controller.core.series import Reading, Subject
from controller.core.world import LaunchKey
from controller.ports import Background, Cluster, T
from controller.reconcile import Reconciler, Round

STOP_SECONDS = 3.0
"""How long writes in flight may take once the daemon was told to stop."""
FOLLOWER_SECONDS = 0.5
LONGEST_GATHER = 9.0
SHORTEST_GATHER = 2.0
AGAIN_SECONDS = 0.05
SOON_SECONDS = 1.0
READ_AGAIN_SECONDS = 3.0
"""How long a new leader tries to read everything afresh before it goes by what the watches have brought."""
"""Rounds that somebody asked for begin this far apart, however often they ask."""
STUCK_TICKS = 3
STUCK_SECONDS = 30.0


class LoopRecorder(Protocol):
    """Who is told how the loop does."""

    def failed(self, key: LaunchKey | None, doing: str, error: BaseException) -> None:
        """Something went wrong that nobody foresaw."""

    def round_done(self, seconds: float, gather_seconds: float) -> None:
        """A tick was finished."""

    def round_missed(self) -> None:
        """A tick found the one before still asking."""


class Leadership(Protocol):
    """Whether this process is the one of several that decides."""

    def leading(self) -> bool:
        """Whether it is, now."""

    def follows(self) -> str:
        """Who is, where that is another and known."""

    def problem(self) -> str:
        """Why it is not known who is; empty where it is, or where time will tell."""


class Workers:
    """So many threads that take the most urgent work first."""

    URGENT, NORMAL, LATER = range(3)

    def __init__(self, number: int, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed
        self._work: queue.PriorityQueue[tuple[int, int, Callable[[], None] | None]] = queue.PriorityQueue()
        self._order = count()
        self._threads = [
            threading.Thread(target=self._run, name=f"worker-{index}", daemon=True) for index in range(number)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[[], None], urgency: int) -> None:
        """Do this when a thread is free."""
        self._work.put((urgency, next(self._order), work))

    def beside(self, work: Callable[[], T]) -> Future[T]:
        """Do this at the same time as what the caller goes on with."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
                raise

        self.submit(run, Workers.NORMAL)
        return future

    def later(self, work: Callable[[], None]) -> None:
        """Do this when nothing more urgent is left to do."""
        self.submit(work, Workers.LATER)

    def stop(self, seconds: float) -> bool:
        """Let what has begun end, drop the rest; whether all ended in time."""
        for _ in self._threads:
            self._work.put((-1, next(self._order), None))
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while True:
            _, _, work = self._work.get()
            if work is None:
                return
            try:
                work()
            except Exception as error:  # noqa: BLE001 - a bug in one launch's round must not end the worker
                self._failed(error)


@dataclass(frozen=True, slots=True)
class _Soon:
    """These launches should be looked at with evidence before their tick."""

    keys: frozenset[LaunchKey]


@dataclass(frozen=True, slots=True)
class _Afresh:
    """What is known of the cluster is up to date, or nothing more can be done for that: rounds may begin."""


@dataclass(slots=True, eq=False)
class _Asked:
    """A round whose questions are under way.

    ``open`` are the Prometheuses that have not answered yet, ``waiting`` the launches that need one of them. ``left`` is
    how many launches wait for their decision.
    """

    looked: Round
    started: float
    whole: bool
    open: set[str]
    waiting: dict[LaunchKey, frozenset[str]]
    readings: Mapping[Subject, Reading] = field(default_factory=dict)
    seconds: float = 0.0
    left: int = 0
    begun: bool = False
    failed: bool = False


@dataclass(frozen=True, slots=True)
class _Answered:
    """What one Prometheus has answered in a round; None: asking it failed."""

    asked: _Asked
    backend: str
    readings: Mapping[Subject, Reading] | None
    seconds: float


_Event = LaunchKey | _Answered | _Soon | _Afresh | None


class Loop:
    """Runs rounds: each tick with evidence, and at once without when a launch was changed.

    Each Prometheus has a thread of its own: a launch waits for those that it needs, and for no other. With a
    ``leadership`` only while this process leads. ``read_again`` brings what is known of the cluster up to date before
    the first round of such a process: it may have followed for long, through watches that nobody relied on.
    """

    def __init__(
        self,
        cluster: Cluster,
        make_reconciler: Callable[[Background], Reconciler],
        recorder: LoopRecorder,
        clock: Clock,
        *,
        tick: float,
        workers: int = 8,
        leadership: Leadership | None = None,
        read_again: Callable[[], None] | None = None,
    ) -> None:
        self._cluster, self._recorder, self._clock, self._tick = cluster, recorder, clock, tick
        self._workers = Workers(workers, lambda error: recorder.failed(None, "deciding", error))
        self._gatherers: dict[str, Workers] = {}
        self._reconciler = make_reconciler(self._workers)
        self._leadership, self._read_again = leadership, read_again
        self._leads = leadership is None
        self._stood_by = False
        self._reading_since: float | None = None
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._soon: set[LaunchKey] = set()
        self._soon_at = clock.steady()
        self._open: list[_Asked] = []
        self._asked_since: dict[str, float] = {}
        self._queued: set[LaunchKey] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._beat = clock.steady()
        self._rounds = 0

    @property
    def rounds(self) -> int:
        """How many ticks were finished."""
        return self._rounds

    def stuck(self) -> str:
        """Why the loop must be called stuck; empty when it is not."""
        limit = max(STUCK_SECONDS, STUCK_TICKS * self._tick)
        silent = self._clock.steady() - self._beat
        if silent > limit:
            return f"the loop has not turned for {silent:.0f}s"
        gathering = max((self._clock.steady() - since for since in list(self._asked_since.values())), default=0.0)
        return f"Prometheus has been asked for {gathering:.0f}s" if gathering > limit else ""

    def unready(self) -> str:
        """Why nothing can be said yet; empty when rounds are being made."""
        if not self._cluster.synced():
            return self._cluster.problem() or "the launches are not listed yet"
        if self._rounds or self._stood_by:
            return ""
        if self._leadership is not None and not self._leadership.leading():
            return self._leadership.problem() or "it is not known yet who leads"
        return "no round was made yet"

    def look_soon(self, keys: Iterable[LaunchKey]) -> None:
        """Ask Prometheus for these launches before their tick; callable from any thread, returns at once.

        Who follows asks for nothing: the one that leads looks at its own tick.
        """
        if (wanted := frozenset(keys)) and self._leads:
            self._events.put(_Soon(wanted))

    def stop(self) -> None:
        """End ``run`` soon; callable from a signal handler and from any thread."""
        self._stopping.set()
        self._events.put(None)

    def wake_all(self) -> None:
        """Decide upon every launch at once, without Prometheus: what holds for all of them has changed."""
        for launch in self._cluster.launches():
            self._events.put(launch.key)

    def wake(self) -> None:
        """Look at once whether this process leads now; callable from any thread."""
        self._events.put(None)

    def run(self) -> bool:
        """Turn until stopped; whether everything in flight ended in time."""
        self._cluster.subscribe(self._events.put)
        self._cluster.start()
        due = self._clock.steady()
        while not self._stopping.is_set():
            now = self._beat = self._clock.steady()
            if not self._leads:
                due = now
                self._follow()
                continue
            # A tick waits for a look at some launches that is under way, and is not missed for it.
            if now >= due and not self._some_asked():
                # Missed ticks are not made up for: the next one asks for everything that came in between.
                due += self._tick * max(1, int((now - due) / self._tick) + 1)
                self._soon.clear()
                self._start_tick(now)
                continue
            if self._soon and now >= self._soon_at and (not self._asked_since or len(self._gatherers) > 1):
                waiting = self._waiting()
                keys, self._soon = frozenset(self._soon - waiting), self._soon & waiting
                self._soon_at = now + SOON_SECONDS
                if keys:
                    self._start_tick(now, keys)
                continue
            pause = min(max(AGAIN_SECONDS, due - now), 1.0)
            if self._soon:
                pause = min(pause, max(AGAIN_SECONDS, self._soon_at - now))
            try:
                event = self._events.get(timeout=pause)
            except queue.Empty:
                continue
            self._handle(event)
        for gatherer in self._gatherers.values():
            gatherer.stop(0.1 / len(self._gatherers))
        ended = self._workers.stop(STOP_SECONDS)
        # What follows the cluster may hang in a read; the writes are over, so nobody has to wait for it.
        follower = threading.Thread(target=self._cluster.stop, name="stop", daemon=True)
        follower.start()
        follower.join(FOLLOWER_SECONDS)
        return ended

    def _follow(self) -> None:
        """Stand by, until this process leads and knows how things are."""
        assert self._leadership is not None
        synced, leading = self._cluster.synced(), self._leadership.leading()
        if synced and not leading and self._leadership.follows():
            self._stood_by = True
        now = self._clock.steady()
        if synced and leading and self._reading_since is None:
            self._reading_since = now
            threading.Thread(target=self._bring_up_to_date, name="read again", daemon=True).start()
        elif leading and self._reading_since is not None and now - self._reading_since > READ_AGAIN_SECONDS:
            self._leads = True  # a retreat must not wait for a list that nobody can read
            return
        try:
            event = self._events.get(timeout=AGAIN_SECONDS if leading else 1.0)
        except queue.Empty:
            return
        # What has changed meanwhile is seen in the first round.
        self._leads = isinstance(event, _Afresh)

    def _bring_up_to_date(self) -> None:
        while self._read_again is not None and not self._leads and not self._stopping.wait(AGAIN_SECONDS):
            try:
                self._read_again()
                break
            except Exception as error:  # noqa: BLE001 - whatever it is, rounds have to begin
                self._recorder.failed(None, "looking", error)
        self._events.put(_Afresh())

    def _start_tick(self, now: float, only: frozenset[LaunchKey] | None = None) -> None:
        """Look at all launches, or at some of them before it is their time."""
        if not self._cluster.synced():
            return
        busy = frozenset(self._asked_since)
        if busy and only is None:
            self._recorder.round_missed()
        launches = self._cluster.launches()
        self._reconciler.forget_all_but([launch.key for launch in launches])
        if only is not None:
            launches = [launch for launch in launches if launch.key in only]
        if busy:
            waiting = self._waiting()
            launches = [launch for launch in launches if launch.key not in waiting]
            if not launches:
                return
        try:
            looked = self._reconciler.look(launches)
        except Exception as error:  # noqa: BLE001 - the loop must go on, whatever one object holds
            self._recorder.failed(None, "looking", error)
            return
        parts: dict[str, dict[Subject, int]] = {}
        for subject, after in looked.wanted.items():
            parts.setdefault(subject.backend, {})[subject] = after
        everywhere = frozenset(parts)
        needs = {key: looked.backends.get(key, everywhere) for key in looked.seen}
        if busy:
            # Who needs one that has not answered yet is looked at with the tick after that.
            needs = {key: names for key, names in needs.items() if not names & busy}
            if not needs:
                return
            parts = {name: wanted for name, wanted in parts.items() if name not in busy}
        asked = _Asked(looked, now, only is None, set(parts), needs)
        self._open.append(asked)
        deadline = min(max(0.9 * self._tick, SHORTEST_GATHER), LONGEST_GATHER)
        for name, wanted in parts.items():
            self._asked_since[name] = now
            part = replace(looked, wanted=wanted)
            self._gatherer(name).submit(partial(self._gather, asked, name, part, deadline), Workers.NORMAL)
        self._settle_answered(asked)

    def _some_asked(self) -> bool:
        """Whether the one Prometheus that there is is asked for some launches before their tick."""
        return len(self._gatherers) <= 1 and any(not asked.whole for asked in self._open)

    def _waiting(self) -> set[LaunchKey]:
        """The launches for which a Prometheus is being asked."""
        return {key for asked in self._open for key in asked.waiting}

    def _gatherer(self, backend: str) -> Workers:
        if backend not in self._gatherers:
            self._gatherers[backend] = Workers(1, lambda error: self._recorder.failed(None, "gathering", error))
        return self._gatherers[backend]

    def _gather(self, asked: _Asked, backend: str, part: Round, deadline: float) -> None:
        asked_at = self._clock.steady()
        readings: Mapping[Subject, Reading] | None = None
        try:
            readings = self._reconciler.gather(part, deadline)
        finally:
            self._events.put(_Answered(asked, backend, readings, self._clock.steady() - asked_at))

    def _take(self, answered: _Answered) -> None:
        asked = answered.asked
        self._asked_since.pop(answered.backend, None)
        asked.open.discard(answered.backend)
        asked.seconds = max(asked.seconds, answered.seconds)
        if answered.readings is None:
            asked.failed = True
            asked.waiting = {key: names for key, names in asked.waiting.items() if answered.backend not in names}
        else:
            asked.readings = {**asked.readings, **answered.readings} if asked.readings else answered.readings
        self._settle_answered(asked)

    def _settle_answered(self, asked: _Asked) -> None:
        """Decide for the launches of which every Prometheus that they need has answered."""
        ready = [key for key, names in asked.waiting.items() if not names & asked.open]
        for key in ready:
            del asked.waiting[key]
        readings = asked.readings
        with self._lock:
            # A launch that still waits for its turn is in no hurry for a second one.
            keys = [key for key in ready if key not in self._queued]
            self._queued.update(keys)
            asked.left += len(keys)
            asked.begun = asked.begun or bool(keys) or not asked.looked.seen
            if not asked.open:
                self._open.remove(asked)
            done = self._is_done(asked)
        if done:
            self._round_done(asked)

        def settle(key: LaunchKey) -> None:
            with self._lock:
                self._queued.discard(key)
            try:
                self._reconciler.settle(asked.looked, key, readings, asked=True)
            except Exception as error:  # noqa: BLE001 - one launch's bug must not stop the others
                self._recorder.failed(key, "deciding", error)
            with self._lock:
                asked.left -= 1
                last = self._is_done(asked)
            if last:
                self._round_done(asked)

        for key in keys:
            self._workers.submit(partial(settle, key), Workers.NORMAL)

    def _is_done(self, asked: _Asked) -> bool:
        return asked.begun and not asked.open and not asked.left and not asked.failed

    def _round_done(self, asked: _Asked) -> None:
        if not asked.whole:
            return
        self._rounds += 1
        self._recorder.round_done(self._clock.steady() - asked.started, asked.seconds)

    def _handle(self, event: _Event) -> None:
        """Take this event and all that wait behind it: many changes at once are one look at the fleet."""
        changed: dict[LaunchKey, None] = {}
        while True:
            if isinstance(event, LaunchKey):
                changed[event] = None
            elif isinstance(event, _Answered):
                self._take(event)
            elif isinstance(event, _Soon):
                self._soon |= event.keys
            try:
                event = self._events.get_nowait()
            except queue.Empty:
                break
        if changed and self._cluster.synced():
            self._look_now(list(changed))

    def _look_now(self, keys: list[LaunchKey]) -> None:
        """Launches were changed by somebody: what people say must not wait for Prometheus."""
        launches = [launch for launch in map(self._cluster.launch, keys) if launch is not None]
        try:
            looked = self._reconciler.look(launches)
        except Exception as error:  # noqa: BLE001 - the loop must go on, whatever one object holds
            self._recorder.failed(None, "looking", error)
            return

        def settle(key: LaunchKey) -> None:
            try:
                if not self._reconciler.settle(looked, key, {}, asked=False):
                    # Another thread is at work on it and may have seen the state before: look again soon.
                    threading.Timer(AGAIN_SECONDS, self._events.put, (key,)).start()
            except Exception as error:  # noqa: BLE001 - one launch's bug must not stop the others
                self._recorder.failed(key, "deciding", error)

        for key in looked.seen:
            self._workers.submit(partial(settle, key), Workers.URGENT)
