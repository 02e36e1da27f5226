"""Any mixture of faults, people and time: the invariants hold, and when the faults stop it all settles.

The cases are drawn from a fixed seed, so that every run draws the same; a failing one is shrunk to its shortest form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.reconcile import Reconciler
from tests.invariants import violations
from tests.virtual.play import TICK
from tests.virtual.world import KEY, Crash, View, World, answer_lost, shop

CASES = 250
SETTLES = 7200.0
QUIET_TICKS = 12

Event = tuple[str, Any]


class Story:
    """A world with one or two processes, and what may happen to them."""

    arrange: Callable[[], World] = staticmethod(shop)

    def __init__(self, kind: type[Reconciler] = Reconciler) -> None:
        self.world = self.arrange()
        self.kind = kind
        self.armed = ""
        self.processes: list[tuple[View, Reconciler]] = []
        self.start()
        self.world.before_write = lambda number, kind: self._strike("before", number, kind)
        self.world.after_write = lambda number, kind: self._strike("after", number, kind)
        self.world.holds = self._holds

    def start(self) -> None:
        view = self.world.view()
        self.processes.append((view, self.world.reconciler(cluster=view, kind=self.kind)))

    def _strike(self, when: str, _number: int, _kind: str) -> None:
        if self.armed == f"crash {when}":
            self.armed = ""
            raise Crash
        if self.armed == f"lost {when}":
            self.armed = ""
            answer_lost()
        if self.armed == "hold meanwhile" and when == "before":
            self.armed = ""
            self.world.annotate(hold="wait")

    def _holds(self, _number: int, kind: str) -> bool:
        if self.armed != f"late {kind}":
            return False
        self.armed = ""
        return True

    def tick(self, *, asked: bool = True) -> None:
        self.world.clock.at += TICK if asked else 0.5
        for place, (_, process) in enumerate(list(self.processes)):
            try:
                self.world.turn(process, asked=asked)
            except Crash:
                view = self.world.view()
                self.processes[place] = view, self.world.reconciler(cluster=view, kind=self.kind)

    def happen(self, event: Event) -> None:
        """Let one thing happen, by its name."""
        name, value = event
        handler: Callable[[Any], None] = getattr(self, f"on_{name}")
        handler(value)

    def on_ticks(self, number: int) -> None:
        for _ in range(number):
            self.tick()

    def on_look(self, _: None) -> None:
        self.tick(asked=False)

    def on_harm(self, harm: str) -> None:
        self.armed = harm

    def on_arrive(self, _: None) -> None:
        self.world.arrive()

    def on_restart(self, _: None) -> None:
        self.processes.pop(0)
        self.start()

    def on_second(self, _: None) -> None:
        if len(self.processes) < 2:
            self.start()

    def on_frozen(self, frozen: bool) -> None:
        for view, _ in self.processes:
            view.frozen = frozen

    def on_cut(self, cut: bool) -> None:
        self.processes[0][0].cut = cut

    def on_down(self, down: bool) -> None:
        self.world.down = down

    def on_outage(self, problem: str) -> None:
        self.world.problem_of_evidence = problem

    def on_silent(self, seconds: float) -> None:
        self.world.service("shop").silent.append((self.world.clock.at, self.world.clock.at + seconds))

    def on_errors(self, share: float) -> None:
        self.world.service("shop").canary_errors.append((self.world.clock.at, share))

    def on_said(self, annotations: dict[str, str | None]) -> None:
        self.world.annotate(changes=annotations)

    def on_weight(self, weight: int) -> None:
        self.world.backends(("shop-stable", 100 - weight), ("shop-canary", weight))

    def on_renamed(self, _: None) -> None:
        self.world.backends(("shop-stable", 70), ("shop-canary-2", 30))

    def on_chatter(self, _: None) -> None:
        self.world.touch_launch()

    def on_skew(self, seconds: float) -> None:
        self.world.clock.step = seconds

    def on_revision(self, revision: str) -> None:
        if self.world.launch_document["spec"]["revision"] != revision:
            self.world.edit_spec(lambda spec: spec.update(revision=revision))

    def on_plan(self, weight: Any) -> None:
        self.world.edit_spec(lambda spec: spec["phases"][0]["steps"][1].update(weight=weight))

    def on_endpoints(self, endpoints: int | None) -> None:
        self.world.endpoints["shop-stable"] = endpoints

    def without_faults(self) -> None:
        """Everything works again, and a process that was started after it."""
        world = self.world
        self.armed = ""
        world.arrive()
        world.clock.step = 0.0
        world.down = False
        world.problem_of_evidence = ""
        self.processes = self.processes[-1:]
        self.processes[0][0].frozen = self.processes[0][0].cut = False
        self.start()
        self.processes.pop(0)

    def settle(self) -> None:
        """All faults stop; whoever is annotated takes it back, the route is put back, and it all comes to rest."""
        world = self.world
        world.endpoints.clear()
        self.without_faults()
        self.on_plan(30)
        world.annotate(hold=None, rollback=None, retry=None)
        world.backends(("shop-stable", 100), ("shop-canary", 0))
        self.on_ticks(4)
        status = world.status
        weight = (status.intent.weights if status.intent else {"main": status.targets[0].weight})["main"]
        self.on_weight(weight // 10)
        end = world.clock.at + SETTLES
        while world.clock.at < end:
            writes = len(world.writes)
            self.on_ticks(QUIET_TICKS)
            if len(world.writes) == writes and world.state != "Progressing":
                return
        raise AssertionError(f"it does not settle: {world.state} {world.status.message}")


HARM = st.sampled_from(
    ["crash before", "crash after", "lost before", "lost after", "late route", "late status", "hold meanwhile"]
)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.tuples(st.just("ticks"), st.integers(1, 30)),
    st.tuples(st.just("ticks"), st.integers(1, 30)),
    st.tuples(st.just("harm"), HARM),
    st.tuples(st.just("arrive"), st.none()),
    st.tuples(st.just("look"), st.none()),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("second"), st.none()),
    st.tuples(st.just("frozen"), st.booleans()),
    st.tuples(st.just("cut"), st.booleans()),
    st.tuples(st.just("down"), st.booleans()),
    st.tuples(st.just("outage"), st.sampled_from(["", "Prometheus did not answer within 5s"])),
    st.tuples(st.just("silent"), st.sampled_from([20.0, 120.0])),
    st.tuples(st.just("errors"), st.sampled_from([0.0, 0.01, 0.2])),
    st.tuples(
        st.just("said"),
        st.sampled_from(
            [{"hold": "wait"}, {"hold": None}, {"rollback": "no"}, {"rollback": None}, {"retry": "a"}, {"retry": "b"}]
        ),
    ),
    st.tuples(st.just("weight"), st.sampled_from([0, 5, 30, 50])),
    st.tuples(st.just("renamed"), st.none()),
    st.tuples(st.just("chatter"), st.none()),
    st.tuples(st.just("skew"), st.sampled_from([0.0, 3600.0, -3600.0])),
    st.tuples(st.just("revision"), st.sampled_from(["v2", "v3"])),
    st.tuples(st.just("plan"), st.sampled_from([30, 40, "much"])),
    st.tuples(st.just("endpoints"), st.sampled_from([0, 1, None])),
)


S = TypeVar("S", bound=Story)


def tell(events: list[Event], story: S) -> S:
    """The story, with these events one after the other, up to where the faults stop."""
    for event in events:
        story.happen(event)
    return story


@settings(max_examples=CASES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(EVENTS, min_size=8, max_size=40))
def test_the_invariants_hold_in_every_story_and_it_settles_when_the_faults_stop(events: list[Event]) -> None:
    story = tell(events, Story())
    assert violations(story.world.history, KEY.namespace, KEY.name) == []
    story.settle()
    assert violations(story.world.history, KEY.namespace, KEY.name) == []
    # Where it rests, route and status agree.
    assert story.world.weight() == story.world.status.targets[0].weight
