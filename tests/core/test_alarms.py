"""What people have to hear of: each kind from the launch that asks for it, since when it is so, and until when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from controller.core.alarms import (
    APPROVAL_WANTED,
    CONTEST_SECONDS,
    DRIFT,
    GATE_FAILED,
    HELD,
    NEWS_SECONDS,
    NO_DATA,
    NOT_READY,
    PLAN_INVALID,
    ROLLED_BACK,
    ROUTE_CONTESTED,
    SHORT_MESSAGE,
    TARGET_ROLLED_BACK,
)
from controller.core.alerts import SEVERITIES, alerts_of_decision
from controller.core.decide import decide
from controller.core.observation import ALERTING_NOT_KNOWN
from controller.core.series import Subject
from controller.core.status import Alarm, State, read_status, write_status
from controller.core.units import format_instant
from controller.core.world import LaunchKey
from tests.core.builders import NOW, Course, bad, course, good, invalid, ramp, silent, target, thin

KEY = LaunchKey("prod", "shop")
CONTACTS = [{"role": "on-call"}, {"role": "eng-lead", "after": "10m"}]
HOLDS = {"metric": "errors", "below": "2%", "onBreach": "hold"}
PLANNING: dict[str, Any] = {"name": "planning", "deliverables": ["design"]}


def standing(launched: Course) -> list[str]:
    return [alarm.kind for alarm in launched.status.alarms]


def the(launched: Course) -> Alarm:
    (alarm,) = launched.status.alarms
    return alarm


def running(**spec: Any) -> Course:
    """A launch whose first weight is in force."""
    launched = course(contacts=CONTACTS, **spec)
    launched.until_weight(50)
    assert standing(launched) == []
    return launched


def held_by_hand() -> Course:
    launched = running()
    launched.annotations["hold"] = "looking"
    launched.tick()
    return launched


def held_by_breach() -> Course:
    launched = running(phases=[ramp(guardrails=[HOLDS])])
    launched.traffic = bad
    launched.until(State.HELD)
    return launched


def rolled_back() -> Course:
    launched = running()
    launched.traffic = bad
    launched.until(State.ROLLED_BACK)
    return launched


def one_target_out() -> Course:
    guardrail = {"metric": "errors", "below": "2%", "scope": "target"}
    steps = [{"weight": 5, "for": "1h"}]
    launched = running(targets=[target("main"), target("eu")], phases=[ramp(steps=steps, guardrails=[guardrail])])
    launched.until_weight(50, "eu")

    def bad_in_main(subject: Subject, at: float) -> tuple[float, float] | None:
        return bad(subject, at) if subject.target == "main" else good(subject, at)

    launched.traffic = bad_in_main
    while not launched.status.targets[0].withdrawn:
        launched.tick()
    return launched


def approval_wanted() -> Course:
    launched = running(phases=[ramp(gate={"approval": {"role": "vp"}})])
    launched.until(State.AWAITING_APPROVAL)
    return launched


def gate_failed() -> Course:
    launched = course(contacts=CONTACTS, phases=[{**PLANNING, "gate": {"after": "1m"}}])
    launched.until(State.HELD)
    return launched


def blind() -> Course:
    launched = running(phases=[ramp(steps=[{"weight": 5, "for": "1h"}])])
    launched.traffic = silent
    launched.until(State.HELD)
    return launched


def drifting() -> Course:
    launched = running()
    launched.live["main"] = 700
    launched.tick()
    return launched


def claimed() -> Course:
    launched = course(contacts=CONTACTS)
    launched.claimed_by = "prod/older"
    launched.tick()
    return launched


def broken_plan() -> Course:
    launched = running()
    launched.plan = invalid()
    launched.tick()
    return launched


def not_ready() -> Course:
    start = {"at": format_instant(NOW + 600)}
    launched = course(
        contacts=CONTACTS, phases=[ramp(start=start, preflight={"opens": "5m", "checklist": ["dashboards"]})]
    )
    launched.until(State.HELD)
    return launched


KINDS: dict[str, tuple[str, Callable[[], Course]]] = {
    "held by hand": (HELD, held_by_hand),
    "held by a breach": (HELD, held_by_breach),
    "rolled back": (ROLLED_BACK, rolled_back),
    "a target taken out": (TARGET_ROLLED_BACK, one_target_out),
    "an approval wanted": (APPROVAL_WANTED, approval_wanted),
    "a gate that failed": (GATE_FAILED, gate_failed),
    "no data": (NO_DATA, blind),
    "drift": (DRIFT, drifting),
    "a claimed route": (ROUTE_CONTESTED, claimed),
    "a plan with faults": (PLAN_INVALID, broken_plan),
    "not ready": (NOT_READY, not_ready),
}


def test_every_kind_of_alert_is_made_here() -> None:
    assert {kind for kind, _ in KINDS.values()} == SEVERITIES.keys()


@pytest.mark.parametrize("name", KINDS)
def test_each_trouble_is_told_once_as_the_kind_that_says_most(name: str) -> None:
    kind, make = KINDS[name]
    assert the(make()).kind == kind


@pytest.mark.parametrize("name", KINDS)
def test_an_alarm_goes_on_since_it_began_also_in_rounds_without_questions_and_after_a_restart(name: str) -> None:
    launched = KINDS[name][1]()
    before = the(launched)
    assert before.message
    for asked in (True, False, True):
        launched.asked = asked
        launched.tick()
        assert the(launched).since == before.since
    launched.status = read_status(write_status(launched.status))
    for asked, alerting in ((False, ALERTING_NOT_KNOWN), (True, ALERTING_NOT_KNOWN), (True, "")):
        launched.asked, launched.alerting = asked, alerting
        launched.now += 10
        # A process that has just begun has watched for no time at all.
        decision = decide(replace(launched.observe(), watched=0.0))
        (after,) = decision.status.alarms
        assert (after.kind, after.since, after.reason) == (before.kind, before.since, before.reason)
        assert not decision.alarmed


@pytest.mark.parametrize("name", KINDS)
def test_the_alert_of_a_decision_that_is_not_stored_yet_is_there_already(name: str) -> None:
    launched = KINDS[name][1]()
    first = next(decision for decision in launched.history if decision.status.alarms)
    alert = next(iter(alerts_of_decision(KEY, first)))
    assert alert.starts_at <= first.at
    assert first.alarmed
    assert alert.description


def test_an_alarm_that_could_not_be_stored_goes_on_by_what_this_process_remembers() -> None:
    launched = running()
    launched.live["main"] = 700
    launched.now += 10
    seen = launched.observe()
    first = decide(seen)
    later = decide(replace(seen, now=seen.now + 60, alarms=first.status.alarms))
    assert later.status.alarms[0].since == first.at
    assert later.alarmed


ENDS: dict[str, Callable[[Course], None]] = {
    "held by hand": lambda launched: launched.annotations.clear(),
    "held by a breach": lambda launched: launched.annotations.update(retry="fixed"),
    "an approval wanted": lambda launched: launched.annotations.update(approve="ramp/gate"),
    "a gate that failed": lambda launched: launched.annotations.update(done="planning/design"),
    "no data": lambda launched: setattr(launched, "traffic", good),
    "drift": lambda launched: launched.live.update(main=50),
    "a claimed route": lambda launched: setattr(launched, "claimed_by", ""),
    "a plan with faults": lambda launched: setattr(launched, "plan", running().plan),
    "not ready": lambda launched: launched.annotations.update(done="ramp/dashboards"),
    "rolled back": lambda launched: launched.annotations.update(retry="fixed"),
}


@pytest.mark.parametrize("name", ENDS)
def test_an_alarm_ends_with_its_cause(name: str) -> None:
    launched = KINDS[name][1]()
    launched.traffic = good
    ENDS[name](launched)
    launched.run(3)
    assert standing(launched) == []


@pytest.mark.parametrize("name", ["rolled back", "a target taken out"])
def test_a_rollback_is_news_for_one_hour(name: str) -> None:
    launched = KINDS[name][1]()
    launched.traffic = good
    began = launched.now
    launched.tick(NEWS_SECONDS - 60)
    assert standing(launched) == [KINDS[name][0]]
    decision = launched.tick(120)
    assert standing(launched) == []
    assert decision.alarmed
    assert launched.now > began + NEWS_SECONDS


@pytest.mark.parametrize("cause", ["a new revision", "the deletion"])
def test_a_retreat_that_is_part_of_the_plan_is_no_alarm(cause: str) -> None:
    launched = running()
    if cause == "the deletion":
        launched.deleting = launched.guarded = True
    else:
        launched.plan = running(revision="v3").plan
    launched.carried_out = False
    launched.run(3)
    assert launched.status.state is State.ROLLING_BACK
    assert standing(launched) == []


def test_what_is_found_beside_a_hold_is_told_beside_it() -> None:
    launched = held_by_breach()
    launched.live["main"] = 700
    launched.tick()
    assert sorted(standing(launched)) == [DRIFT, HELD]
    launched.plan = invalid()
    launched.tick()
    assert sorted(standing(launched)) == [DRIFT, HELD, PLAN_INVALID]


def test_a_hold_for_another_reason_is_another_alarm_that_nobody_has_acknowledged() -> None:
    launched = held_by_hand()
    assert the(launched).acknowledged_at == launched.now
    del launched.annotations["hold"]
    launched.route_problem = "HTTPRoute prod/main does not hold both backends"
    launched.tick()
    assert (the(launched).reason, the(launched).since) == ("RouteUnusable", launched.now)
    assert the(launched).acknowledged_at is None


def test_an_escalated_gate_is_told_as_a_gate_that_failed() -> None:
    launched = course(contacts=CONTACTS, phases=[{**PLANNING, "gate": {"after": "1m", "onFail": "escalate"}}])
    launched.until(State.HELD)
    assert (the(launched).kind, the(launched).reason) == (GATE_FAILED, "Escalated")


def test_a_gate_that_failed_and_is_put_off_is_told_for_an_hour() -> None:
    launched = course(
        contacts=CONTACTS, phases=[{**PLANNING, "gate": {"after": "1m", "onFail": {"extend": "4h", "times": 1}}}]
    )
    while not standing(launched):
        launched.tick()
    assert (the(launched).kind, the(launched).reason) == (GATE_FAILED, "GateMoved")
    launched.tick(NEWS_SECONDS + 10)
    assert standing(launched) == []


def test_a_start_that_was_moved_is_told_for_an_hour() -> None:
    start = {"at": format_instant(NOW + 600)}
    preflight = {"opens": "5m", "checklist": ["dashboards"], "onNotReady": {"reschedule": "24h"}}
    launched = course(phases=[ramp(start=start, preflight=preflight)])
    while not standing(launched):
        launched.tick()
    assert (the(launched).kind, the(launched).reason) == (NOT_READY, "StartMoved")
    launched.tick(NEWS_SECONDS + 10)
    assert standing(launched) == []


def test_a_gate_that_stays_undecided_is_a_hold_and_no_failed_gate() -> None:
    launched = running(phases=[ramp(gate={"criteria": [{"metric": "errors", "below": "0.1%"}]})])
    launched.until_weight(300)
    launched.traffic = thin
    launched.until(State.HELD, ticks=2000)
    assert the(launched).kind == HELD


def test_a_weight_that_is_put_back_and_forth_is_contested_and_told_as_that_alone() -> None:
    launched = running(phases=[ramp(steps=[{"weight": 5, "for": "1h"}])])
    for _ in range(2):
        launched.live["main"] = 700
        launched.tick()
        assert standing(launched) == [DRIFT]
        launched.live["main"] = 50
        launched.tick()
        assert standing(launched) == []
    launched.live["main"] = 700
    launched.tick()
    assert standing(launched) == [ROUTE_CONTESTED]
    launched.live["main"] = 50
    launched.tick()
    assert standing(launched) == [ROUTE_CONTESTED]
    launched.tick(CONTEST_SECONDS)
    assert standing(launched) == []


def test_an_older_launch_on_the_route_is_no_drift_of_this_one() -> None:
    launched = claimed()
    launched.live["main"] = 700
    launched.tick()
    assert standing(launched) == [ROUTE_CONTESTED]


def test_an_approval_is_wanted_from_the_opening_of_a_preflight_and_no_longer_than_until_it_is_given() -> None:
    start = {"at": format_instant(NOW + 600)}
    launched = course(phases=[ramp(start=start, preflight={"opens": "5m", "approval": {"role": "vp"}})])
    launched.run(29)
    assert standing(launched) == []
    launched.tick()
    assert (the(launched).kind, the(launched).role, the(launched).reason) == (APPROVAL_WANTED, "vp", "ramp/preflight")
    launched.annotations["approve"] = "ramp/preflight"
    launched.tick()
    assert standing(launched) == []


def test_contacts_of_a_plan_with_faults_are_those_that_the_run_was_begun_with() -> None:
    launched = broken_plan()
    assert [contact.role for contact in launched.history[-1].contacts] == ["on-call", "eng-lead"]


def test_an_acknowledgement_is_of_all_that_is_told_and_is_refused_when_there_is_nothing() -> None:
    launched = running()
    launched.annotations["ack"] = "too early"
    launched.tick()
    (record,) = launched.status.overrides
    assert (record.outcome, record.message) == ("refused", "nothing is firing that could be acknowledged")
    launched = held_by_breach()
    launched.live["main"] = 700
    launched.tick()
    launched.annotations["ack"] = '{"reason": "on it", "by": "ana"}'
    decision = launched.tick()
    assert {alarm.acknowledged_by for alarm in launched.status.alarms} == {"ana"}
    assert decision.decisive
    launched.annotations["ack"] = "and again"
    launched.tick()
    assert launched.status.overrides[-1].message == "all that is firing is acknowledged already by ana"


@pytest.mark.parametrize("verb", ["hold", "rollback"])
def test_what_a_person_has_asked_for_has_nobody_else_told(verb: str) -> None:
    launched = running()
    launched.annotations[verb] = '{"reason": "looking", "by": "ana"}'
    launched.run(3)
    assert the(launched).acknowledged_by == "ana"
    assert the(launched).acknowledged_at == the(launched).since
    decision = launched.tick(3000)
    assert [alert.role for alert in alerts_of_decision(KEY, decision)] == ["on-call"]


def test_an_acknowledgement_that_has_lapsed_is_none() -> None:
    launched = held_by_breach()
    launched.annotations["ack"] = f'{{"until": "{format_instant(launched.now - 1)}"}}'
    launched.tick()
    assert launched.status.overrides[-1].outcome == "expired"
    assert the(launched).acknowledged_at is None


def test_a_tick_whose_alarms_are_the_same_asks_for_no_write() -> None:
    launched = blind()
    launched.run(3)
    assert not any(decision.alarmed for decision in launched.history[-2:])
    for before, after in pairwise(launched.history):
        if after.alarmed:
            assert before.status.alarms != after.status.alarms


def test_the_alarms_of_many_targets_have_room_in_status() -> None:
    guardrail = {"metric": "errors", "below": "2%", "scope": "target"}
    names = ["main", *(f"region-{number}" for number in range(11))]
    launched = course(
        targets=[target(name) for name in names],
        phases=[ramp(steps=[{"weight": 5, "for": "1h"}], guardrails=[guardrail])],
    )
    launched.until_weight(50, names[-1])

    def bad_but_in_main(subject: Subject, at: float) -> tuple[float, float] | None:
        return good(subject, at) if subject.target == "main" else bad(subject, at)

    launched.traffic = bad_but_in_main
    while sum(bool(each.withdrawn) for each in launched.status.targets) < len(names) - 1:
        launched.tick()
    launched.tick()
    assert sorted(alarm.target for alarm in launched.status.alarms) == sorted(names[1:])
    assert all(0 < len(alarm.message) <= SHORT_MESSAGE for alarm in launched.status.alarms)
