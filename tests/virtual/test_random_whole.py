"""The launch with people, dates and waves under any mixture of faults: the invariants hold, and it can always be ended."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.invariants import violations
from tests.virtual.test_random import HARM, Event, Story, tell
from tests.virtual.test_whole import MINUTE, at, people, whole
from tests.virtual.world import KEY

CASES = 150
SETTLES = 6 * 3600.0

ROUTES = {"us": "shop-us", "eu": "shop-eu"}


class WholeStory(Story):
    """The same things happen to a launch of two regions, and people do what people do."""

    arrange = staticmethod(whole)

    def on_people(self, minutes: int) -> None:
        """Somebody is at the desk for so long."""
        end = self.world.clock.at + minutes * MINUTE
        while self.world.clock.at < end and self.world.launch(KEY) is not None:
            self.tick()
            if self.world.launch(KEY) is not None:
                people(self.world)

    def on_broken(self, errors: tuple[str, float]) -> None:
        region, share = errors
        self.world.service(ROUTES[region]).canary_errors.append((self.world.clock.at, share))

    def on_silent(self, seconds: float) -> None:
        for route in ROUTES.values():
            self.world.service(route).silent.append((self.world.clock.at, self.world.clock.at + seconds))

    def on_weight(self, weight: int) -> None:
        self.world.backends(("shop-us-stable", 100 - weight), ("shop-us-canary", weight), route="shop-us")

    def on_plan(self, weight: Any) -> None:
        self.world.edit_spec(lambda spec: spec["phases"][1]["steps"][1].update(weight=weight))

    def on_hours(self, hours: int) -> None:
        """Nobody looks: every process is down."""
        self.world.clock.at += hours * 3600

    def on_pods(self, version: str) -> None:
        for route in ROUTES.values():
            self.world.pods[f"{route}-stable"] = {version: 3}

    def end(self) -> None:
        """All faults stop, and somebody rolls back: the canary is at 0 everywhere, and nothing is written any more."""
        world = self.world
        self.without_faults()
        world.annotate(changes=dict.fromkeys(("hold", "rollback", "retry", "advance", "approve", "reschedule")))
        self.on_plan(10)
        self.on_ticks(4)
        for name, route in ROUTES.items():
            recorded = next((target.weight for target in world.status.targets if target.name == name), 0)
            world.backends((f"{route}-stable", 100 - recorded // 10), (f"{route}-canary", recorded // 10), route=route)
        world.annotate(rollback="the test is over")
        self.on_ticks(24)
        writes = len(world.writes)
        self.on_ticks(24)
        assert world.writes[writes:] == []
        assert world.state in ("RolledBack", "Succeeded", "Pending", "Scheduled", "Held"), world.status.message
        if world.state != "Succeeded":
            assert [world.weight(route) for route in ROUTES.values()] == [0, 0]


SAID = st.sampled_from(
    [
        {"hold": "wait"},
        {"hold": None},
        {"rollback": "no"},
        {"rollback": None},
        {"retry": "a"},
        {"retry": "b"},
        {"advance": "planning"},
        {"advance": "ramp"},
        {"advance": "ramp/1"},
        {"advance": "ramp/last"},
        {"advance": "rollout/1"},
        {"approve": "planning/gate"},
        {"approve": "ramp/preflight"},
        {"approve": "ramp/1"},
        {"approve": "ramp/gate"},
        {"approve": None},
        {"done": "planning/hired, ramp/dashboards"},
        {"reschedule": f"ramp={at(60)}"},
        {"reschedule": f"rollout={at(300)}"},
    ]
)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.tuples(st.just("people"), st.integers(1, 30)),
    st.tuples(st.just("people"), st.integers(1, 30)),
    st.tuples(st.just("ticks"), st.integers(1, 40)),
    st.tuples(st.just("said"), SAID),
    st.tuples(st.just("said"), SAID),
    st.tuples(st.just("harm"), HARM),
    st.tuples(st.just("arrive"), st.none()),
    st.tuples(st.just("look"), st.none()),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("second"), st.none()),
    st.tuples(st.just("hours"), st.integers(1, 5)),
    st.tuples(st.just("down"), st.booleans()),
    st.tuples(st.just("outage"), st.sampled_from(["", "Prometheus did not answer within 5s"])),
    st.tuples(st.just("silent"), st.sampled_from([20.0, 120.0])),
    st.tuples(st.just("broken"), st.tuples(st.sampled_from(["us", "eu"]), st.sampled_from([0.0, 0.01, 0.2]))),
    st.tuples(st.just("weight"), st.sampled_from([0, 5, 10, 50])),
    st.tuples(st.just("skew"), st.sampled_from([0.0, 3600.0, -3600.0])),
    st.tuples(st.just("revision"), st.sampled_from(["v2", "v3"])),
    st.tuples(st.just("plan"), st.sampled_from([10, 20, "much"])),
    st.tuples(st.just("pods"), st.sampled_from(["v1", "v2", "v3"])),
)


@settings(max_examples=CASES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(EVENTS, min_size=8, max_size=40))
def test_the_invariants_hold_with_people_dates_and_waves_and_a_rollback_always_ends_it(events: list[Event]) -> None:
    story = tell(events, WholeStory())
    assert violations(story.world.history, KEY.namespace, KEY.name) == []
    story.end()
    assert violations(story.world.history, KEY.namespace, KEY.name) == []
