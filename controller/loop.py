"""Ticks and wake-ups, a bounded pool of workers, and stopping. One launch's failure stays its own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
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
class _Gathered:
    looked: Round
    readings: Mapping[Subject, Reading]
    started: float
    seconds: float
    whole: bool = True


class Loop:
    """Runs rounds: each tick with evidence, and at once without when a launch was changed."""

    def __init__(
        self,
        cluster: Cluster,
        make_reconciler: Callable[[Background], Reconciler],
        recorder: LoopRecorder,
        clock: Clock,
        *,
        tick: float,
        workers: int = 8,
    ) -> None:
        self._cluster, self._recorder, self._clock, self._tick = cluster, recorder, clock, tick
        self._workers = Workers(workers, lambda error: recorder.failed(None, "deciding", error))
        self._gatherer = Workers(1, self._gather_failed)
        self._reconciler = make_reconciler(self._workers)
        self._events: queue.SimpleQueue[LaunchKey | _Gathered | _Soon | None] = queue.SimpleQueue()
        self._soon: set[LaunchKey] = set()
        self._soon_at = clock.steady()
        self._some_asked = False
        self._gathering_since: float | None = None
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
        gathering = 0.0 if self._gathering_since is None else self._clock.steady() - self._gathering_since
        return f"Prometheus has been asked for {gathering:.0f}s" if gathering > limit else ""

    def unready(self) -> str:
        """Why nothing can be said yet; empty when rounds are being made."""
        if not self._cluster.synced():
            return self._cluster.problem() or "the launches are not listed yet"
        return "" if self._rounds else "no round was made yet"

    def look_soon(self, keys: Iterable[LaunchKey]) -> None:
        """Ask Prometheus for these launches before their tick; callable from any thread, returns at once."""
        if wanted := frozenset(keys):
            self._events.put(_Soon(wanted))

    def stop(self) -> None:
        """End ``run`` soon; callable from a signal handler and from any thread."""
        self._stopping.set()
        self._events.put(None)

    def run(self) -> bool:
        """Turn until stopped; whether everything in flight ended in time."""
        self._cluster.subscribe(self._events.put)
        self._cluster.start()
        due = self._clock.steady()
        while not self._stopping.is_set():
            now = self._beat = self._clock.steady()
            # A tick waits for a look at some launches that is under way, and is not missed for it.
            if now >= due and not self._some_asked:
                # Missed ticks are not made up for: the next one asks for everything that came in between.
                due += self._tick * max(1, int((now - due) / self._tick) + 1)
                self._soon.clear()
                self._start_tick(now)
                continue
            if self._soon and now >= self._soon_at and self._gathering_since is None:
                keys, self._soon = frozenset(self._soon), set()
                self._soon_at = now + SOON_SECONDS
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
        self._gatherer.stop(0.1)
        ended = self._workers.stop(STOP_SECONDS)
        # What follows the cluster may hang in a read; the writes are over, so nobody has to wait for it.
        follower = threading.Thread(target=self._cluster.stop, name="stop", daemon=True)
        follower.start()
        follower.join(FOLLOWER_SECONDS)
        return ended

    def _start_tick(self, now: float, only: frozenset[LaunchKey] | None = None) -> None:
        """Look at all launches, or at some of them before it is their time."""
        if not self._cluster.synced():
            return
        if self._gathering_since is not None:
            self._recorder.round_missed()
            return
        launches = self._cluster.launches()
        self._reconciler.forget_all_but([launch.key for launch in launches])
        if only is not None:
            launches = [launch for launch in launches if launch.key in only]
        try:
            looked = self._reconciler.look(launches)
        except Exception as error:  # noqa: BLE001 - the loop must go on, whatever one object holds
            self._recorder.failed(None, "looking", error)
            return
        if not looked.wanted:
            self._settle_all(_Gathered(looked, {}, now, 0.0, only is None))
            return
        self._gathering_since, self._some_asked = now, only is not None
        deadline = min(max(0.9 * self._tick, SHORTEST_GATHER), LONGEST_GATHER)
        self._gatherer.submit(lambda: self._gather(looked, now, deadline, whole=only is None), Workers.NORMAL)

    def _gather(self, looked: Round, started: float, deadline: float, *, whole: bool) -> None:
        asked_at = self._clock.steady()
        readings = self._reconciler.gather(looked, deadline)
        self._events.put(_Gathered(looked, readings, started, self._clock.steady() - asked_at, whole))

    def _gather_failed(self, error: BaseException) -> None:
        self._recorder.failed(None, "gathering", error)
        self._gathering_since, self._some_asked = None, False

    def _settle_all(self, gathered: _Gathered) -> None:
        self._gathering_since, self._some_asked = None, False
        with self._lock:
            # A launch that still waits for its turn is in no hurry for a second one.
            keys = [key for key in gathered.looked.seen if key not in self._queued]
            self._queued.update(keys)
        left = [len(keys)]
        if not gathered.looked.seen:
            self._round_done(gathered)

        def settle(key: LaunchKey) -> None:
            with self._lock:
                self._queued.discard(key)
            try:
                self._reconciler.settle(gathered.looked, key, gathered.readings, asked=True)
            except Exception as error:  # noqa: BLE001 - one launch's bug must not stop the others
                self._recorder.failed(key, "deciding", error)
            with self._lock:
                left[0] -= 1
                last = not left[0]
            if last:
                self._round_done(gathered)

        for key in keys:
            self._workers.submit(partial(settle, key), Workers.NORMAL)

    def _round_done(self, gathered: _Gathered) -> None:
        if not gathered.whole:
            return
        self._rounds += 1
        self._recorder.round_done(self._clock.steady() - gathered.started, gathered.seconds)

    def _handle(self, event: LaunchKey | _Gathered | _Soon | None) -> None:
        """Take this event and all that wait behind it: many changes at once are one look at the fleet."""
        changed: dict[LaunchKey, None] = {}
        while True:
            if isinstance(event, LaunchKey):
                changed[event] = None
            elif isinstance(event, _Gathered):
                self._settle_all(event)
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
