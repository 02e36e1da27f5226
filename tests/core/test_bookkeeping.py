"""What is put down before a decision: what came into force, what was asked for again, what a verb may do."""

from __future__ import annotations

from dataclasses import replace

from controller.core.bookkeeping import settle_intent
from controller.core.observation import IntentFate, Observation
from controller.core.plan import Plan
from controller.core.questions import running_phase
from controller.core.status import Status
from tests.core.builders import Course, course, ramp


def raising() -> Course:
    """A launch that has just been given its first weight; nothing is known to be in force."""
    launched = course()
    launched.accepted = False
    launched.run(2)
    return launched


def settled(seen: Observation) -> Status:
    """The status once its intent was looked at."""
    phase, _ = running_phase(seen, seen.status)
    assert isinstance(seen.plan, Plan)
    return settle_intent(seen, seen.status, seen.plan, phase, {}).status


def seen_at(weight: int, *, fate: IntentFate, accepted: bool | None = True, age: float = 5.0) -> Observation:
    """The launch with this live weight."""
    launched = raising()
    launched.live["main"] = weight
    launched.accepted = accepted
    return replace(launched.observe(), intent_fate=fate, intent_age=age)


def test_a_raise_is_done_when_its_weight_is_live_and_accepted() -> None:
    status = settled(seen_at(50, fate="written"))
    assert (status.intent, status.step, status.targets[0].weight) == (None, 1, 50)
    assert status.targets[0].in_force_at is not None


def test_a_raise_of_unknown_fate_is_neither_done_nor_undone() -> None:
    for weight in (0, 50):
        seen = seen_at(weight, fate="unknown")
        assert settled(seen) == seen.status


def test_a_raise_that_can_no_longer_arrive_is_forgotten() -> None:
    status = settled(seen_at(0, fate="fenced"))
    assert (status.intent, status.step, status.targets[0].weight) == (None, 0, 0)
    assert settled(seen_at(50, fate="fenced")).step == 1


def test_a_raise_that_was_written_waits_for_its_weight_to_be_seen() -> None:
    seen = seen_at(0, fate="written")
    assert settled(seen) == seen.status
    other = seen_at(20, fate="fenced")
    assert settled(other) == other.status


def test_a_route_that_is_not_accepted_is_not_in_force() -> None:
    for age in (5.0, 500.0):
        seen = seen_at(50, fate="written", accepted=False, age=age)
        assert settled(seen) == seen.status


def test_a_route_that_nobody_reports_is_in_force_after_its_settle() -> None:
    assert settled(seen_at(50, fate="written", accepted=None, age=9.9)).step == 0
    assert settled(seen_at(50, fate="written", accepted=None, age=10.0)).step == 1


def test_the_second_phase_begins_where_the_first_ended() -> None:
    launched = course(phases=[ramp(), ramp("full", steps=[{"weight": 30, "for": "1m"}, {"weight": 100}])])
    launched.until_weight(300)
    while launched.status.phase == "ramp":
        launched.tick()
    assert (launched.status.phase, launched.status.step) == ("full", 1)
    assert launched.status.targets[0].in_force_at == launched.status.phase_started_at == launched.now
    assert launched.status.run is not None
    assert [phase["name"] for phase in launched.status.run.stands_on["phases"]] == ["full"]
    fold = launched.folds["main|errors below 2%"]
    assert (fold.n, fold.began > launched.now) == (0, True)


def test_a_raise_keeps_the_fail_evidence_of_its_phase() -> None:
    launched = course()
    launched.until_weight(50)
    launched.until_weight(300)
    fold = launched.folds["main|errors below 2%"]
    assert fold.n > 0
    assert (fold.pass_n, fold.since > launched.now) == (0, True)
