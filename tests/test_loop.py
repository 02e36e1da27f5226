"""The loop on real threads, with a cluster, a reconciler and a clock that do what a test says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from queue import Queue
from typing import Any, NoReturn

import pytest

from controller.adapters import alertmanager
from controller.core.series import Reading, Subject
from controller.core.status import Status
from controller.core.world import Launch, LaunchKey, Route, RouteKey, RoutePatch
from controller.loop import FOLLOWER_SECONDS, STOP_SECONDS, Loop, Workers
from controller.ports import Background
from controller.reconcile import Reconciler, Round
from tests.core.builders import ERRORS, course, plan
from tests.realparts.server import wait_until

DEADLINE_S = 60.0
SUBJECT = Subject(ERRORS, "prod", "shop", "shop-canary", "v2")
A, B, NOBODY = LaunchKey("prod", "a"), LaunchKey("prod", "b"), LaunchKey("prod", "nobody")


def nothing(*_: object) -> None:
    """Take anything, do nothing."""


@dataclass
class HandClock:
    """Both clocks, moved by hand."""

    time: float = 1000.0

    def now(self) -> float:
        return self.time

    def steady(self) -> float:
        return self.time


@dataclass
class Fleet:
    """A cluster that holds launches and wakes the loop when a test says so."""

    keys: list[LaunchKey]
    is_synced: bool = True
    asked_for_sync: threading.Event = field(default_factory=threading.Event)
    trouble: str = ""
    wake: Callable[[LaunchKey], None] = nothing
    on_stop: Callable[[], object] = nothing

    def start(self) -> None:
        """Nothing is followed."""

    def stop(self) -> None:
        self.on_stop()

    def synced(self) -> bool:
        self.asked_for_sync.set()
        return self.is_synced

    def problem(self) -> str:
        return self.trouble

    def launches(self) -> list[Launch]:
        return [launch for launch in map(self.launch, list(self.keys)) if launch is not None]

    def launch(self, key: LaunchKey) -> Launch | None:
        return Launch(key, str(key), "1", 1, 0.0, plan(), Status(), {}) if key in self.keys else None

    def subscribe(self, callback: Callable[[LaunchKey], None]) -> None:
        self.wake = callback

    def route(self, key: RouteKey) -> Route | None:
        return self._refuse()

    def ready_endpoints(self, namespace: str, service: str) -> int | None:
        return self._refuse()

    def template(self, namespace: str, kind: str, name: str) -> str | None:
        return self._refuse()

    def pod_versions(self, namespace: str, service: str, label: str) -> Mapping[str, int] | None:
        return self._refuse()

    def read_launch(self, key: LaunchKey) -> Launch:
        return self._refuse()

    def read_route(self, key: RouteKey) -> Route:
        return self._refuse()

    def write_status(self, launch: Launch, status: Mapping[str, Any]) -> Launch:
        return self._refuse()

    def patch_route(self, patch: RoutePatch, dry_run: bool = False) -> Route:
        return self._refuse()

    def annotate(self, key: LaunchKey, changes: Mapping[str, str | None]) -> Launch:
        return self._refuse()

    def set_finalizer(self, launch: Launch, present: bool) -> Launch:
        return self._refuse()

    def _refuse(self) -> NoReturn:
        raise AssertionError("the loop itself neither reads routes nor writes")


class Rounds(Reconciler):
    """Keeps what the loop asks of it; a test may make any of it hang or fail."""

    def __init__(self) -> None:
        self.looked: Queue[tuple[LaunchKey, ...]] = Queue()
        self.gathered: Queue[float] = Queue()
        self.settled: Queue[tuple[LaunchKey, bool]] = Queue()
        self.kept: list[set[LaunchKey]] = []
        self.wanted: dict[Subject, int] = {}
        self.on_look: Callable[[tuple[LaunchKey, ...]], None] = nothing
        self.on_gather: Callable[[], object] = nothing
        self.on_settle: Callable[[LaunchKey, bool], bool | None] = nothing

    def look(self, launches: Iterable[Launch]) -> Round:
        keys = tuple(launch.key for launch in launches)
        self.looked.put(keys)
        self.on_look(keys)
        return Round(0.0, dict.fromkeys(keys, course().observe()), self.wanted if keys else {}, {})

    def gather(self, looked: Round, deadline_s: float) -> dict[Subject, Reading]:
        self.gathered.put(deadline_s)
        self.on_gather()
        return {SUBJECT: Reading(0, 0)}

    def forget_all_but(self, keys: Iterable[LaunchKey]) -> None:
        self.kept.append(set(keys))

    def settle(self, looked: Round, key: LaunchKey, readings: Mapping[Subject, Reading], *, asked: bool) -> bool:
        assert asked or not readings
        settled = self.on_settle(key, asked)
        self.settled.put((key, asked))
        return settled is not False


@dataclass
class Book:
    """What the loop tells of itself."""

    failures: Queue[tuple[LaunchKey | None, str, str]] = field(default_factory=Queue)
    rounds: Queue[tuple[float, float]] = field(default_factory=Queue)
    missed: Queue[None] = field(default_factory=Queue)

    def failed(self, key: LaunchKey | None, doing: str, error: BaseException) -> None:
        self.failures.put((key, doing, str(error)))

    def round_done(self, seconds: float, gather_seconds: float) -> None:
        self.rounds.put((seconds, gather_seconds))

    def round_missed(self) -> None:
        self.missed.put(None)


class Stage:
    """A loop of two launches, not yet turning."""

    def __init__(self, *, tick: float = 10.0, workers: int = 2) -> None:
        self.clock, self.fleet, self.rounds, self.book = HandClock(), Fleet([A, B]), Rounds(), Book()
        self.loop = Loop(self.fleet, self._reconciler, self.book, self.clock, tick=tick, workers=workers)
        self.ticked: list[tuple[LaunchKey, ...]] = []
        self.ended: Queue[bool] = Queue()
        self.held: list[threading.Event] = []

    def _reconciler(self, background: Background) -> Reconciler:
        self.background = background
        return self.rounds

    def hold(self) -> threading.Event:
        """Something that hangs until the event is set, or the test is over."""
        self.held.append(threading.Event())
        return self.held[-1]

    @contextmanager
    def turning(self) -> Iterator[None]:
        """Turn, with the first tick at once; stopped afterwards, whatever hangs."""
        thread = threading.Thread(target=lambda: self.ended.put(self.loop.run()))
        thread.start()
        try:
            yield
        finally:
            for event in self.held:
                event.set()
            self.loop.stop()
            thread.join(DEADLINE_S)
        assert not thread.is_alive()

    def turn(self) -> None:
        """Wait until the loop has seen the clock as it is now: its second answer comes after a check for a tick."""
        for _ in range(2):
            self.fleet.wake(NOBODY)
            while keys := self.rounds.looked.get(timeout=DEADLINE_S):
                self.ticked.append(keys)

    def at(self, seconds: float) -> int:
        """Move to so many seconds after the start; how many ticks there were by then."""
        self.clock.time = 1000.0 + seconds
        self.turn()
        return len(self.ticked)


def drained(filled: Queue[Any]) -> list[Any]:
    """All that a queue holds now."""
    return [filled.get_nowait() for _ in range(filled.qsize())]


def test_a_tick_comes_at_its_interval_and_missed_ones_are_not_made_up_for() -> None:
    stage = Stage(tick=10)
    with stage.turning():
        assert stage.at(0) == 1
        assert stage.at(9.9) == 1
        assert stage.at(10) == 2
        assert stage.at(57) == 3, "four ticks were missed; one is made, at once"
        assert stage.at(59.9) == 3
        assert stage.at(60) == 4, "the next one is where it would have been"
    assert stage.ticked == [(A, B)] * 4
    assert stage.rounds.kept == [{A, B}] * 4


def test_nothing_is_looked_at_before_the_cluster_is_listed() -> None:
    stage = Stage(tick=10)
    stage.fleet.is_synced = False
    with stage.turning():
        for _ in range(2):
            assert stage.fleet.asked_for_sync.wait(DEADLINE_S)
            stage.fleet.asked_for_sync.clear()
            stage.fleet.wake(A)
    assert not drained(stage.rounds.looked)
    assert not stage.rounds.kept, "what is remembered is not dropped for an empty list that says nothing"


def test_a_hanging_gather_does_not_delay_what_a_person_says() -> None:
    stage = Stage(tick=10)
    stage.rounds.wanted = {SUBJECT: 0}
    stage.rounds.on_gather = stage.hold().wait
    with stage.turning():
        stage.rounds.gathered.get(timeout=DEADLINE_S)
        stage.fleet.wake(A)
        assert stage.rounds.settled.get(timeout=DEADLINE_S) == (A, False)
        assert not drained(stage.book.rounds)


def test_a_tick_that_finds_the_gather_before_still_asking_is_missed_and_recorded() -> None:
    stage = Stage(tick=10)
    stage.rounds.wanted = {SUBJECT: 0}
    answer = stage.hold()
    stage.rounds.on_gather = answer.wait
    with stage.turning():
        stage.rounds.gathered.get(timeout=DEADLINE_S)
        assert stage.at(10) == 1
        stage.book.missed.get(timeout=DEADLINE_S)
        answer.set()
        assert {stage.rounds.settled.get(timeout=DEADLINE_S) for _ in range(2)} == {(A, True), (B, True)}
        assert stage.book.rounds.get(timeout=DEADLINE_S) == (10.0, 10.0)
        stage.at(20)
        stage.rounds.gathered.get(timeout=DEADLINE_S)


def test_a_hanging_gather_does_not_delay_stopping() -> None:
    stage = Stage()
    stage.rounds.wanted = {SUBJECT: 0}
    stage.rounds.on_gather = stage.hold().wait
    with stage.turning():
        stage.rounds.gathered.get(timeout=DEADLINE_S)
        stage.loop.stop()
        assert stage.ended.get(timeout=DEADLINE_S), "no write was in flight, so the end is a clean one"


def test_a_cluster_that_does_not_stop_is_left_behind() -> None:
    stage = Stage()
    stage.fleet.on_stop = stage.hold().wait
    with stage.turning():
        stage.loop.stop()
        assert stage.ended.get(timeout=DEADLINE_S)


@pytest.mark.parametrize(("tick", "deadline"), [(0.25, 2.0), (5.0, 4.5), (10.0, 9.0), (600.0, 9.0)])
def test_prometheus_is_given_most_of_a_tick(tick: float, deadline: float) -> None:
    stage = Stage(tick=tick)
    stage.rounds.wanted = {SUBJECT: 0}
    with stage.turning():
        assert stage.rounds.gathered.get(timeout=DEADLINE_S) == deadline


def test_a_gather_that_fails_is_recorded_and_the_next_tick_asks_again() -> None:
    stage = Stage(tick=10)
    stage.rounds.wanted = {SUBJECT: 0}

    def fail() -> None:
        raise RuntimeError("no answer fits")

    stage.rounds.on_gather = fail
    with stage.turning():
        assert stage.book.failures.get(timeout=DEADLINE_S) == (None, "gathering", "no answer fits")
        wait_until(lambda: not stage.loop._asked_since, deadline_s=DEADLINE_S, what="the gather to be over")
        stage.rounds.on_gather = nothing
        stage.at(10)
        assert stage.rounds.settled.get(timeout=DEADLINE_S)[1]
    assert not drained(stage.book.missed)


def test_a_look_that_fails_is_recorded_and_the_loop_goes_on() -> None:
    stage = Stage(tick=10)

    def fail(keys: tuple[LaunchKey, ...]) -> None:
        if keys:
            raise RuntimeError("an object of no known shape")

    stage.rounds.on_look = fail
    with stage.turning():
        assert stage.book.failures.get(timeout=DEADLINE_S) == (None, "looking", "an object of no known shape")
        stage.fleet.wake(A)
        assert stage.book.failures.get(timeout=DEADLINE_S) == (None, "looking", "an object of no known shape")
        stage.rounds.on_look = nothing
        stage.at(10)
        stage.book.rounds.get(timeout=DEADLINE_S)


@pytest.mark.parametrize("by_tick", [True, False])
def test_one_launch_that_raises_leaves_the_others_alone_and_is_recorded(by_tick: bool) -> None:
    stage = Stage(workers=1)

    def settle(key: LaunchKey, asked: bool) -> None:
        if key == A and asked is by_tick:
            raise RuntimeError("a bug")

    stage.rounds.on_settle = settle
    with stage.turning():
        if not by_tick:
            stage.book.rounds.get(timeout=DEADLINE_S)
            drained(stage.rounds.settled)
            stage.fleet.wake(A)
            stage.fleet.wake(B)
        assert stage.book.failures.get(timeout=DEADLINE_S) == (A, "deciding", "a bug")
        assert stage.rounds.settled.get(timeout=DEADLINE_S) == (B, by_tick)
        if by_tick:
            stage.book.rounds.get(timeout=DEADLINE_S)
    assert stage.loop.rounds == 1


def test_many_wake_ups_are_one_look_in_their_order() -> None:
    stage = Stage()
    go_on, first = stage.hold(), threading.Event()

    def look(keys: tuple[LaunchKey, ...]) -> None:
        first.set()
        go_on.wait(DEADLINE_S)

    stage.rounds.on_look = look
    with stage.turning():
        assert first.wait(DEADLINE_S)
        for _ in range(500):
            stage.fleet.wake(B)
            stage.fleet.wake(A)
        go_on.set()
        assert stage.rounds.looked.get(timeout=DEADLINE_S) == (A, B), "the tick"
        assert stage.rounds.looked.get(timeout=DEADLINE_S) == (B, A), "the wake-ups"
        settled = [stage.rounds.settled.get(timeout=DEADLINE_S) for _ in range(4)]
        stage.turn()
    assert not stage.ticked
    assert sorted(map(str, settled)) == sorted(map(str, [(A, True), (B, True), (A, False), (B, False)]))
    assert not drained(stage.rounds.settled)


def test_a_look_that_somebody_asks_for_comes_before_its_tick_and_once_a_second_at_most() -> None:
    stage = Stage(tick=10)
    with stage.turning():
        assert stage.at(0) == 1
        stage.loop.look_soon([A, NOBODY])
        assert stage.at(0.1) == 2
        for keys in ([B], [A, B], []):
            stage.loop.look_soon(keys)
        assert stage.at(0.9) == 2
        assert stage.at(1.2) == 3, "all that was asked for meanwhile is one look"
        assert stage.at(9.9) == 3
        stage.loop.look_soon([A])
        assert stage.at(10) == 4, "the tick looks at everything anyway"
        assert stage.at(12) == 4
    assert stage.ticked == [(A, B), (A,), (A, B), (A, B)]
    assert stage.book.rounds.qsize() == stage.loop.rounds == 2, "only ticks are rounds"
    assert stage.rounds.kept == [{A, B}] * 4, "what is not looked at is not forgotten"
    assert (A, True) in drained(stage.rounds.settled)


def test_a_look_that_somebody_asks_for_waits_for_the_gather_that_is_under_way() -> None:
    stage = Stage(tick=10)
    stage.rounds.wanted = {SUBJECT: 0}
    hanging = stage.hold()
    stage.rounds.on_gather = lambda: hanging.wait(DEADLINE_S)
    with stage.turning():
        assert stage.at(0) == 1
        stage.loop.look_soon([A])
        assert stage.at(5) == 1
        hanging.set()
        wait_until(lambda: stage.rounds.gathered.qsize() == 2, deadline_s=DEADLINE_S, what="the look")
    assert not stage.book.missed.qsize()


def test_a_tick_waits_for_a_look_that_somebody_asked_for_and_is_not_missed() -> None:
    stage = Stage(tick=10)
    with stage.turning():
        assert stage.at(0) == 1
        stage.rounds.wanted = {SUBJECT: 0}
        hanging = stage.hold()
        stage.rounds.on_gather = lambda: hanging.wait(DEADLINE_S)
        stage.loop.look_soon([A])
        assert stage.at(2) == 2
        assert stage.at(11) == 2
        hanging.set()
        wait_until(lambda: stage.rounds.gathered.qsize() == 2, deadline_s=DEADLINE_S, what="the tick")
        assert stage.at(12) == 3
    assert stage.ticked == [(A, B), (A,), (A, B)]
    assert not stage.book.missed.qsize()


def test_a_launch_that_was_deleted_meanwhile_is_not_looked_at() -> None:
    stage = Stage()
    with stage.turning():
        stage.book.rounds.get(timeout=DEADLINE_S)
        stage.fleet.keys.remove(A)
        stage.fleet.wake(A)
        stage.turn()
    assert stage.ticked == [(A, B)]


def test_a_launch_that_waits_for_its_turn_is_not_queued_twice() -> None:
    stage = Stage(tick=10, workers=1)
    go_on, begun = stage.hold(), threading.Event()

    def settle(key: LaunchKey, asked: bool) -> None:
        begun.set()
        go_on.wait(DEADLINE_S)

    stage.rounds.on_settle = settle
    with stage.turning():
        assert begun.wait(DEADLINE_S)
        for ticks in range(1, 6):
            stage.at(10.0 * ticks)
        go_on.set()
        settled = [stage.rounds.settled.get(timeout=DEADLINE_S)[0] for _ in range(3)]
        wait_until(stage.loop._workers._work.empty, deadline_s=DEADLINE_S, what="the queue to be empty")
    assert settled == [A, B, A], "the one at work is queued once for the ticks that it missed, the one that waits not"
    assert not drained(stage.rounds.settled)


def test_a_launch_that_another_thread_works_on_is_looked_at_again_soon() -> None:
    stage = Stage()
    busy = iter([False, False, True])
    stage.rounds.on_settle = lambda key, asked: asked or next(busy)
    with stage.turning():
        stage.book.rounds.get(timeout=DEADLINE_S)
        drained(stage.rounds.settled)
        stage.fleet.wake(A)
        for _ in range(3):
            assert stage.rounds.settled.get(timeout=DEADLINE_S) == (A, False)
        stage.turn()
    assert not drained(stage.rounds.settled)


def test_what_a_person_says_overtakes_the_tick_and_both_overtake_records() -> None:
    stage = Stage(workers=1)
    go_on, begun = stage.hold(), threading.Event()
    recorded = LaunchKey("prod", "recorded")

    def settle(key: LaunchKey, asked: bool) -> None:
        begun.set()
        go_on.wait(DEADLINE_S)

    stage.rounds.on_settle = settle
    with stage.turning():
        assert begun.wait(DEADLINE_S)
        stage.background.later(lambda: stage.rounds.settled.put((recorded, False)))
        stage.fleet.wake(B)
        queue = stage.loop._workers._work
        wait_until(lambda: queue.qsize() == 3, deadline_s=DEADLINE_S, what="the tick, the wake-up and the record")
        go_on.set()
        order = [stage.rounds.settled.get(timeout=DEADLINE_S) for _ in range(4)]
    assert order == [(A, True), (B, False), (B, True), (recorded, False)]


def test_stopping_finishes_the_write_in_flight() -> None:
    stage = Stage(workers=1)
    go_on, begun = stage.hold(), threading.Event()

    def settle(key: LaunchKey, asked: bool) -> None:
        begun.set()
        go_on.wait(DEADLINE_S)

    stage.rounds.on_settle = settle
    with stage.turning():
        assert begun.wait(DEADLINE_S)
        stage.loop.stop()
        queue = stage.loop._workers._work.queue
        wait_until(lambda: queue and queue[0][2] is None, deadline_s=DEADLINE_S, what="the workers to be told")
        go_on.set()
        assert stage.ended.get(timeout=DEADLINE_S)
    assert drained(stage.rounds.settled) == [(A, True)], "the other one had not begun and is dropped"


def test_a_write_that_does_not_end_is_given_up_in_time_and_said_so() -> None:
    stage = Stage()
    begun, go_on = threading.Event(), stage.hold()

    def settle(key: LaunchKey, asked: bool) -> None:
        begun.set()
        go_on.wait()

    stage.rounds.on_settle = settle
    stage.fleet.on_stop = stage.hold().wait
    with stage.turning():
        assert begun.wait(DEADLINE_S)
        stage.loop.stop()
        assert stage.ended.get(timeout=DEADLINE_S) is False


def test_all_that_stopping_may_wait_for_takes_less_than_five_seconds() -> None:
    assert STOP_SECONDS + FOLLOWER_SECONDS + alertmanager.STOP_SECONDS < 5


def test_a_loop_that_does_not_turn_is_stuck_after_thirty_seconds() -> None:
    stage = Stage(tick=10)
    go_on, looking = stage.hold(), threading.Event()

    def look(keys: tuple[LaunchKey, ...]) -> None:
        looking.set()
        go_on.wait()

    stage.rounds.on_look = look
    with stage.turning():
        assert looking.wait(DEADLINE_S)
        stage.clock.time += 30
        assert stage.loop.stuck() == ""
        stage.clock.time += 1
        assert stage.loop.stuck() == "the loop has not turned for 31s"
        go_on.set()
        stage.turn()
        assert stage.loop.stuck() == "", "it turns again"


def test_a_loop_that_never_began_is_stuck_too() -> None:
    stage = Stage()
    assert stage.loop.stuck() == ""
    stage.clock.time += 31
    assert stage.loop.stuck() == "the loop has not turned for 31s"


def test_a_slow_tick_has_three_ticks_before_it_counts_as_stuck() -> None:
    stage = Stage(tick=60)
    stage.clock.time += 180
    assert stage.loop.stuck() == ""
    stage.clock.time += 1
    assert stage.loop.stuck() == "the loop has not turned for 181s"


def test_a_gather_that_hangs_is_a_loop_that_is_stuck() -> None:
    stage = Stage(tick=10)
    stage.rounds.wanted = {SUBJECT: 0}
    answer = stage.hold()
    stage.rounds.on_gather = answer.wait
    with stage.turning():
        stage.rounds.gathered.get(timeout=DEADLINE_S)
        stage.at(30)
        assert stage.loop.stuck() == ""
        stage.at(31)
        assert stage.loop.stuck() == "Prometheus has been asked for 31s"
        answer.set()
        stage.book.rounds.get(timeout=DEADLINE_S)
        stage.turn()
        assert stage.loop.stuck() == ""


def test_nothing_can_be_said_until_the_launches_are_listed_and_a_round_was_made() -> None:
    stage = Stage()
    stage.fleet.is_synced = False
    assert stage.loop.unready() == "the launches are not listed yet"
    stage.fleet.trouble = "listing launches: forbidden"
    assert stage.loop.unready() == "listing launches: forbidden"
    stage.fleet.is_synced = True
    assert stage.loop.unready() == "no round was made yet"
    with stage.turning():
        stage.book.rounds.get(timeout=DEADLINE_S)
        assert stage.loop.unready() == ""
        assert stage.loop.rounds == 1
        stage.fleet.is_synced, stage.fleet.trouble = False, "the watch is cut"
        assert stage.loop.unready() == "the watch is cut"


def test_a_fleet_without_launches_makes_rounds_too() -> None:
    stage = Stage()
    stage.fleet.keys.clear()
    with stage.turning():
        assert stage.book.rounds.get(timeout=DEADLINE_S) == (0.0, 0.0)
        assert stage.loop.unready() == ""


@contextmanager
def one_worker(failed: Callable[[BaseException], None] = nothing) -> Iterator[tuple[Workers, threading.Event]]:
    """One worker that is busy until the event is set."""
    workers, begun, go_on = Workers(1, failed), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait()

    workers.submit(work, Workers.NORMAL)
    assert begun.wait(DEADLINE_S)
    try:
        yield workers, go_on
    finally:
        go_on.set()
        assert workers.stop(DEADLINE_S)


def test_urgent_work_comes_first_and_equals_in_their_order() -> None:
    done: Queue[str] = Queue()
    with one_worker() as (workers, go_on):
        for name, urgency in (("later", Workers.LATER), ("normal", Workers.NORMAL), ("urgent", Workers.URGENT)):
            for place in (1, 2):
                workers.submit(partial(done.put, f"{name} {place}"), urgency)
        go_on.set()
        order = [done.get(timeout=DEADLINE_S) for _ in range(6)]
    assert order == ["urgent 1", "urgent 2", "normal 1", "normal 2", "later 1", "later 2"]


def test_work_beside_another_gives_its_result_or_its_error_which_is_told_too() -> None:
    told: Queue[BaseException] = Queue()

    def fail() -> NoReturn:
        raise RuntimeError("a bug")

    with one_worker(told.put) as (workers, go_on):
        good, bad = workers.beside(lambda: "stored"), workers.beside(fail)
        assert not good.done(), "it waits for a free thread, and nobody waits for it"
        go_on.set()
        assert good.result(DEADLINE_S) == "stored"
        with pytest.raises(RuntimeError, match="a bug"):
            bad.result(DEADLINE_S)
        assert str(told.get(timeout=DEADLINE_S)) == "a bug"


def test_work_that_raises_is_told_and_does_not_end_its_worker() -> None:
    told: Queue[BaseException] = Queue()
    done = threading.Event()

    def fail() -> None:
        raise RuntimeError("a bug")

    with one_worker(told.put) as (workers, go_on):
        workers.submit(fail, Workers.NORMAL)
        workers.submit(done.set, Workers.NORMAL)
        go_on.set()
        assert str(told.get(timeout=DEADLINE_S)) == "a bug"
        assert done.wait(DEADLINE_S)


def test_one_slow_worker_among_many_has_all_the_time_there_is() -> None:
    workers, begun, never = Workers(16, nothing), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        never.wait(1.2)

    workers.submit(work, Workers.NORMAL)
    assert begun.wait(DEADLINE_S)
    assert workers.stop(16.0), "1.2 seconds is more than one sixteenth of sixteen, but less than sixteen"


def test_all_workers_together_have_no_more_time_than_was_given() -> None:
    workers, begun, release = Workers(64, nothing), threading.Semaphore(0), threading.Event()

    def work() -> None:
        begun.release()
        release.wait()

    for _ in range(64):
        workers.submit(work, Workers.NORMAL)
    for _ in range(64):
        assert begun.acquire(timeout=DEADLINE_S)
    since = time.monotonic()
    assert not workers.stop(0.4)
    assert time.monotonic() - since < 15, "64 times 0.4 seconds is 25.6"
    release.set()
    assert workers.stop(DEADLINE_S)
