"""Several Prometheuses: each question goes to the one that it names, and one that hangs holds up nobody else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from queue import Queue

from controller.adapters.prometheus import PrometheusSettings
from controller.adapters.promql import Confinement
from controller.backends import Backends
from controller.core.series import Reading, Subject
from controller.core.world import LaunchKey
from controller.reconcile import Round
from tests.core.builders import ERRORS, course
from tests.test_loop import DEADLINE_S, A, B, Stage, nothing

C = LaunchKey("prod", "c")
MAIN = Subject(ERRORS, "prod", "main", "main", "v2")
EU, US = replace(MAIN, backend="eu"), replace(MAIN, backend="us")
PLACES = {name: PrometheusSettings(url=f"http://{name}:9090") for name in ("default", "eu")}


@dataclass
class Fake:
    """Answers at once, or when a test says so."""

    name: str
    wanted: Queue[Mapping[Subject, int]] = field(default_factory=Queue)
    stopped: threading.Event = field(default_factory=threading.Event)
    wait: Callable[[], object] = nothing

    def gather(self, wanted: Mapping[Subject, int], now: float, deadline_s: float) -> dict[Subject, Reading]:
        self.wanted.put(dict(wanted))
        self.wait()
        return {subject: Reading(after, int(now)) for subject, after in wanted.items()}

    def stop(self) -> None:
        self.stopped.set()


class Made:
    """The fakes, in the order in which they were made."""

    def __init__(self) -> None:
        self.all: list[Fake] = []
        self.known = dict(PLACES)
        self.backends = Backends(self.make, self.known, Confinement(), linger=0.05)

    def make(self, name: str, settings: PrometheusSettings, confinement: Confinement) -> Fake:
        self.all.append(Fake(name))
        return self.all[-1]


def test_each_question_goes_to_the_prometheus_that_it_names() -> None:
    made = Made()
    readings = made.backends.gather({MAIN: 10, EU: 20}, 30.0, 1.0)
    assert readings == {MAIN: Reading(10, 30), EU: Reading(20, 30)}
    assert [(fake.name, fake.wanted.get_nowait()) for fake in made.all] == [("default", {MAIN: 10}), ("eu", {EU: 20})]


def test_of_one_that_there_is_not_the_reading_says_which_there_are() -> None:
    readings = Made().backends.gather({US: 10, MAIN: 10}, 30.0, 1.0)
    assert readings[US] == Reading(
        10, 10, problem="the operator's configuration has no Prometheus us; it has default and eu"
    )
    assert readings[MAIN].problem == ""


def test_another_address_makes_another_and_lets_the_old_one_go_after_its_last_question() -> None:
    made = Made()
    made.backends.apply({**PLACES, "eu": PrometheusSettings(url="http://elsewhere:9090")}, Confinement())
    main, before, after = made.all
    assert (before.name, after.name) == ("eu", "eu")
    assert before.stopped.wait(DEADLINE_S)
    made.backends.gather({MAIN: 1, EU: 1}, 30.0, 1.0)
    assert (main.wanted.qsize(), before.wanted.qsize(), after.wanted.qsize()) == (1, 0, 1)
    assert not main.stopped.is_set(), "what is as it was is not touched"
    made.backends.apply({"default": PLACES["default"]}, Confinement())
    assert made.backends.gather({EU: 1}, 30.0, 1.0)[EU].problem


def test_another_scope_check_makes_all_of_them_anew() -> None:
    made = Made()
    made.backends.apply(PLACES, Confinement(enforced=False))
    assert [fake.name for fake in made.all] == ["default", "eu"] * 2


# In the loop


class Regions(Stage):
    """Launch a asks the default Prometheus, b the one of eu, c both."""

    def __init__(self) -> None:
        super().__init__(tick=1)
        self.fleet.keys.append(C)
        self.needs = {A: {MAIN}, B: {EU}, C: {MAIN, EU}}
        self.asked: Queue[frozenset[str]] = Queue()
        self.holding: dict[str, threading.Event] = {}
        self.rounds.look = self.look  # type: ignore[method-assign]
        self.rounds.gather = self.gather  # type: ignore[method-assign]

    def look(self, launches: object) -> Round:
        keys = tuple(launch.key for launch in launches)  # type: ignore[attr-defined]
        self.rounds.looked.put(keys)
        wanted = {subject: 0 for key in keys for subject in self.needs[key]}
        names = {key: frozenset(subject.backend for subject in self.needs[key]) for key in keys}
        return Round(0.0, dict.fromkeys(keys, course().observe()), wanted, {}, names)

    def gather(self, looked: Round, deadline_s: float) -> dict[Subject, Reading]:
        (name,) = {subject.backend for subject in looked.wanted}
        self.asked.put(frozenset({name}))
        if name in self.holding:
            self.holding[name].wait(DEADLINE_S)
        return {subject: Reading(0, 0) for subject in looked.wanted}

    def settled(self, number: int) -> set[LaunchKey]:
        return {self.rounds.settled.get(timeout=DEADLINE_S)[0] for _ in range(number)}


def test_launches_wait_for_the_prometheuses_that_they_need_and_for_no_other() -> None:
    stage = Regions()
    stage.holding["eu"] = stage.hold()
    with stage.turning():
        assert stage.settled(1) == {A}
        stage.at(1)
        assert stage.settled(1) == {A}, "the next tick does not wait for the one that hangs either"
        stage.at(2)
        assert stage.settled(1) == {A}
        stage.holding.pop("eu").set()
        assert stage.settled(2) == {B, C}
        stage.at(3)
        assert stage.settled(3) == {A, B, C}
    asked = [stage.asked.get_nowait() for _ in range(stage.asked.qsize())]
    assert asked.count(frozenset({"eu"})) == 2, "what hangs is not asked again meanwhile"
    assert asked.count(frozenset({""})) == 4


def test_a_round_is_done_when_all_have_answered() -> None:
    stage = Regions()
    stage.holding["eu"] = stage.hold()
    with stage.turning():
        stage.settled(1)
        stage.at(1)
        stage.settled(1)
        assert stage.book.missed.qsize() == 1, "a tick that finds one still asking is missed"
        stage.holding.pop("eu").set()
        stage.settled(2)
        stage.book.rounds.get(timeout=DEADLINE_S)
        assert stage.loop.unready() == ""


def test_asking_one_that_fails_takes_nothing_from_the_others() -> None:
    stage = Regions()
    gather = stage.gather

    def failing(looked: Round, deadline_s: float) -> dict[Subject, Reading]:
        if any(subject.backend == "eu" for subject in looked.wanted):
            raise RuntimeError("no answer fits")
        return gather(looked, deadline_s)

    stage.rounds.gather = failing  # type: ignore[method-assign]
    with stage.turning():
        assert stage.settled(1) == {A}
        assert stage.book.failures.get(timeout=DEADLINE_S) == (None, "gathering", "no answer fits")
        stage.rounds.gather = gather  # type: ignore[method-assign]
        stage.at(1)
        assert stage.settled(3) == {A, B, C}
