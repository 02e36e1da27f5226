"""A launch with phases, a calendar, gates and people, decided tick by tick."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controller.core.series import Subject
from controller.core.signals import Signal
from controller.core.status import State, write_status
from controller.core.units import format_instant
from tests.core.builders import NOW, Course, bad, course, good, plan, ramp, silent, target, thin

HOUR = 3600.0


def at(seconds: float) -> str:
    """An instant so many seconds after the beginning, as a plan writes it."""
    return format_instant(NOW + seconds)


def signals(launched: Course) -> list[str]:
    """The signals so far, each once in a row."""
    said = [decision.signal for decision in launched.history]
    return [signal for signal, before in zip(said, [None, *said], strict=False) if signal is not before]


def until(launched: Course, signal: Signal, ticks: int = 800) -> str:
    """Ticks until that signal; its message."""
    for _ in range(ticks):
        decision = launched.tick()
        if decision.signal is signal:
            return decision.message
    raise AssertionError(f"no {signal} in {ticks} ticks, but {launched.status.state}: {launched.status.message}")


def planning(name: str = "planning", **changes: Any) -> dict[str, Any]:
    """A phase without traffic."""
    return {"name": name, **changes}


def test_a_phase_waits_for_its_start_and_begins_at_it() -> None:
    launched = course(phases=[ramp(start={"at": at(HOUR)})])
    message = until(launched, Signal.SCHEDULED)
    assert launched.status.state is State.SCHEDULED
    assert message == "phase ramp begins Nov 14 23:13"
    until(launched, Signal.PHASE_BEGINS)
    assert 0 <= launched.now - NOW - HOUR <= 10
    launched.until(State.SUCCEEDED)
    assert launched.raises == [{"main": 50}, {"main": 300}]


def test_nothing_of_prometheus_or_the_route_matters_to_a_launch_that_is_far_from_its_start() -> None:
    launched = course(phases=[ramp(start={"at": at(HOUR)})])
    launched.route_problem = "HTTPRoute prod/main of target main does not exist"
    launched.run(5)
    assert launched.status.state is State.SCHEDULED
    assert launched.observe().readings == {}


def test_a_phase_begins_when_the_one_before_has_passed_and_its_time_has_come() -> None:
    second = ramp("rollout", steps=[{"weight": 60, "for": "30s"}], start={"at": at(HOUR)})
    launched = course(phases=[ramp(), second])
    until(launched, Signal.PHASE_PASSED)
    passed = launched.now
    until(launched, Signal.PHASE_BEGINS)
    assert passed < NOW + HOUR <= launched.now <= NOW + HOUR + 10
    assert launched.status.phase == "ramp", "the phase before watches until the weight of the next is in force"
    launched.tick()
    assert launched.status.phase == "rollout"
    launched.until(State.SUCCEEDED)
    assert [(each.name, each.passed_at is not None) for each in launched.status.phases] == [
        ("ramp", True),
        ("rollout", True),
    ]


def test_guardrails_of_a_passed_phase_stay_in_force_until_the_next_has_begun() -> None:
    launched = course(phases=[ramp(), ramp("rollout", start={"at": at(HOUR)}, steps=[{"weight": 60}])])
    until(launched, Signal.PHASE_PASSED)
    launched.run(5)
    launched.traffic = bad
    launched.until(State.ROLLED_BACK, 20)
    assert launched.history[-1].signal is Signal.BREACH


def test_a_phase_without_steps_is_entered_and_passes_at_its_end() -> None:
    phases = [planning(end=at(600)), ramp(start={"at": at(900)})]
    launched = course(phases=phases)
    until(launched, Signal.PHASE_PASSED)
    assert NOW + 600 <= launched.now <= NOW + 610
    until(launched, Signal.PHASE_BEGINS)
    assert NOW + 900 <= launched.now <= NOW + 910
    launched.until(State.SUCCEEDED)


def test_a_phase_without_steps_watches_the_traffic_that_is_there() -> None:
    stay = planning("stabilise", end=at(HOUR), guardrails=[{"metric": "errors", "below": "1%"}])
    launched = course(phases=[ramp(), stay])
    until(launched, Signal.PHASE_ENTERED)
    launched.run(3)
    assert {item.criterion for item in launched.status.criteria} == {"errors below 1%"}
    launched.traffic = bad
    launched.until(State.ROLLED_BACK, 20)


def test_a_late_gate_moves_what_can_no_longer_keep_its_date() -> None:
    first = ramp(steps=[{"weight": 5, "for": "30s"}], gate={"at": at(600), "approval": {"role": "lead"}})
    second = ramp(
        "rollout", steps=[{"weight": 60}], start={"at": at(1200)}, gate={"at": at(2400), "approval": {"role": "lead"}}
    )
    launched = course(phases=[first, second])
    until(launched, Signal.GATE_APPROVAL)
    assert 600 <= launched.now - NOW <= 610
    launched.run(360)
    launched.annotations["approve"] = "ramp/gate"
    message = until(launched, Signal.PHASE_PASSED)
    late = launched.now - NOW - 600
    assert f"ramp passed {60 + 1} min late" in message or "late: rollout moved from Nov 14 22:33 to" in message, message
    until(launched, Signal.PHASE_BEGINS)
    assert launched.now - NOW == pytest.approx(1200 + late, abs=20)
    launched.tick()
    until(launched, Signal.GATE_APPROVAL)
    assert launched.now - NOW == pytest.approx(2400 + late, abs=20), "the gate of the moved phase moves with it"


def test_a_late_gate_moves_nothing_while_the_next_date_can_be_met() -> None:
    first = ramp(gate={"at": at(600), "approval": {"role": "lead"}})
    launched = course(phases=[first, ramp("rollout", steps=[{"weight": 60}], start={"at": at(2 * HOUR)})])
    until(launched, Signal.GATE_APPROVAL)
    launched.run(60)
    launched.annotations["approve"] = "ramp/gate"
    until(launched, Signal.PHASE_PASSED)
    assert launched.status.moves == ()


def test_an_approval_is_refused_before_it_is_asked_for_and_may_be_given_again() -> None:
    launched = course(phases=[ramp(gate={"approval": {"role": "lead"}})])
    launched.annotations["approve"] = "ramp/gate"
    launched.run(8)
    (record,) = launched.status.overrides
    assert (record.outcome, record.message) == (
        "refused",
        "ramp/gate is not asked for yet: an approval is for the evidence as it stands",
    )
    message = until(launched, Signal.GATE_APPROVAL)
    assert message == "gate of phase ramp has passed and waits for the approval of lead (annotate approve=ramp/gate)"
    assert launched.status.state is State.AWAITING_APPROVAL
    launched.run(30)
    assert launched.status.state is State.AWAITING_APPROVAL, "it waits as long as it takes"
    del launched.annotations["approve"]
    launched.tick()
    launched.annotations["approve"] = '{"value": "ramp/gate", "by": "ada"}'
    launched.tick()
    assert launched.status.overrides[-1].outcome == "accepted"
    launched.until(State.SUCCEEDED, 1)


def test_an_approval_is_void_when_the_evidence_turns_worse_before_traffic_moves() -> None:
    gate = {"criteria": [{"metric": "errors", "below": "0.5%"}], "approval": {"role": "lead"}}
    second = ramp("rollout", steps=[{"weight": 60}], start={"at": at(HOUR)})
    launched = course(phases=[ramp(gate=gate), second])
    until(launched, Signal.GATE_APPROVAL)
    launched.annotations["approve"] = "ramp/gate"
    until(launched, Signal.PHASE_PASSED)

    def slightly_worse(subject: Subject, now: float) -> tuple[float, float]:
        return 1000.0, 9.0 if subject.track == "canary" else 0.0

    launched.traffic = slightly_worse
    launched.run(20)
    assert launched.status.gate is not None
    assert launched.status.gate.passed_at is None
    assert not launched.status.approvals
    voided = [decision.message for decision in launched.history if "is void" in decision.message]
    assert voided
    assert "the approval ramp/gate is void, the evidence turned worse: errors below 0.5% (main)" in voided[0]
    launched.run(400)
    assert launched.raises == [{"main": 50}, {"main": 300}], "no raise on a void approval"


def test_a_step_waits_for_its_approval() -> None:
    steps = [{"weight": 5, "for": "30s", "approval": {"role": "lead"}}, {"weight": 30}]
    launched = course(phases=[ramp(steps=steps)])
    message = until(launched, Signal.STEP_APPROVAL)
    assert "step 1 of phase ramp has passed and waits for the approval of lead" in message
    launched.run(200)
    assert launched.status.state is State.AWAITING_APPROVAL
    launched.annotations["approve"] = "ramp/1"
    launched.until(State.SUCCEEDED)


PREFLIGHT = {"opens": "10m", "checklist": ["dashboards"], "approval": {"role": "vp"}}


def test_a_preflight_opens_before_the_start_and_names_what_it_waits_for() -> None:
    launched = course(phases=[ramp(start={"at": at(HOUR)}, preflight=PREFLIGHT)])
    message = until(launched, Signal.PREFLIGHT_OPEN)
    assert HOUR - 600 <= launched.now - NOW <= HOUR - 590
    assert "checklist: dashboards (annotate done)" in message
    assert "the approval of vp (annotate approve=ramp/preflight)" in message
    launched.annotations |= {"done": "ramp/dashboards", "approve": "ramp/preflight"}
    launched.tick()
    assert launched.history[-1].message == "phase ramp is ready and begins Nov 14 23:13"
    until(launched, Signal.PHASE_BEGINS)
    assert HOUR <= launched.now - NOW <= HOUR + 10


def test_a_phase_that_is_not_ready_at_its_start_is_held_until_it_is() -> None:
    launched = course(phases=[ramp(start={"at": at(HOUR)}, preflight=PREFLIGHT)])
    message = until(launched, Signal.PREFLIGHT_LATE)
    assert launched.status.state is State.HELD
    assert message.startswith("phase ramp was not ready at its start: waits for checklist: dashboards")
    launched.annotations |= {"done": "ramp/dashboards", "approve": "ramp/preflight"}
    until(launched, Signal.PHASE_BEGINS, 3)


def test_a_phase_that_is_not_ready_is_moved_as_often_as_its_plan_says() -> None:
    preflight = PREFLIGHT | {"onNotReady": {"reschedule": "1h", "times": 2}}
    launched = course(phases=[ramp(start={"at": at(HOUR)}, preflight=preflight), planning("after", end=at(9 * HOUR))])
    until(launched, Signal.PREFLIGHT_MOVED)
    assert [(each.phase, each.by) for each in launched.status.moves] == [("ramp", HOUR), ("after", HOUR)]
    until(launched, Signal.PREFLIGHT_MOVED)
    assert 2 * HOUR <= launched.now - NOW <= 2 * HOUR + 10
    until(launched, Signal.PREFLIGHT_LATE)
    assert 3 * HOUR <= launched.now - NOW <= 3 * HOUR + 10


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("alerting", "Alertmanager at am:9093 refuses the connection", "alerts would not arrive"),
        ("unwritable", "forbidden", "a dry run of the raise was refused: forbidden"),
        ("canary_ready", 0, "the canary has no ready endpoint"),
        ("traffic", silent, "of the stable track has no samples"),
    ],
)
def test_the_controller_checks_for_itself_what_a_start_needs(field: str, value: object, words: str) -> None:
    launched = course(phases=[ramp(start={"at": at(HOUR)}, preflight={"opens": "10m"})])
    setattr(launched, field, value)
    until(launched, Signal.PREFLIGHT_OPEN)
    assert words in until(launched, Signal.PREFLIGHT_LATE)
    setattr(launched, field, {"alerting": "", "unwritable": "", "canary_ready": 2, "traffic": good}[field])
    until(launched, Signal.PHASE_BEGINS, 10)


def test_a_gate_that_fails_is_extended_and_judged_on_new_evidence() -> None:
    gate = {"at": at(600), "criteria": [{"metric": "errors", "below": "0.5%"}], "onFail": {"extend": "20m", "times": 2}}
    launched = course(phases=[ramp(gate=gate)])

    def worse(subject: Subject, now: float) -> tuple[float, float]:
        return 1000.0, 9.0 if now < NOW + 700 else 0.0

    launched.traffic = worse
    message = until(launched, Signal.GATE_MOVED)
    assert 600 <= launched.now - NOW <= 610
    assert message.endswith("extended by 20m to Nov 14 22:43 (1 of 2)"), message
    assert launched.status.state is State.JUDGING
    launched.until(State.SUCCEEDED)
    assert 1800 <= launched.now - NOW <= 1820


def test_a_gate_that_fails_too_often_does_what_its_plan_says_last() -> None:
    onward = {"extend": "10m", "times": 1, "then": "rollback"}
    gate = {"at": at(600), "criteria": [{"metric": "errors", "below": "0.5%"}], "onFail": onward}
    launched = course(phases=[ramp(gate=gate)])
    launched.traffic = lambda subject, now: (1000.0, 9.0)
    until(launched, Signal.GATE_MOVED)
    launched.until(State.ROLLED_BACK)
    assert 1200 <= launched.now - NOW <= 1220


def test_a_gate_that_is_undecided_is_extended_with_the_evidence_it_has() -> None:
    gate = {"at": at(600), "criteria": [{"metric": "errors", "below": "0.5%"}], "onUndecided": {"extend": "10m"}}
    launched = course(phases=[ramp(gate=gate, guardrails=[{"metric": "errors", "below": "20%"}])])
    launched.traffic = lambda subject, now: (20.0, 0.0)
    launched.until_weight(300)
    until(launched, Signal.GATE_MOVED)
    before = launched.folds["main|errors below 0.5%"].n
    launched.tick()
    assert launched.folds["main|errors below 0.5%"].n >= before > 0


def test_a_gate_can_escalate_and_then_holds_until_retry() -> None:
    gate = {"at": at(600), "criteria": [{"metric": "errors", "below": "0.5%"}], "onFail": "escalate"}
    launched = course(phases=[ramp(gate=gate)])
    launched.traffic = lambda subject, now: (1000.0, 9.0)
    until(launched, Signal.ESCALATED)
    assert launched.status.hold is not None
    assert launched.status.hold.reason == "Escalated"
    launched.traffic = good
    launched.run(10)
    assert launched.status.state is State.HELD
    launched.annotations["retry"] = "repaired"
    launched.until(State.SUCCEEDED)


def test_a_rescheduled_gate_moves_the_phases_after_it() -> None:
    gate = {"at": at(600), "onFail": {"reschedule": "1h"}}
    first = planning(deliverables=["team-hired"], gate=gate)
    launched = course(phases=[first, ramp(start={"at": at(1200)})])
    message = until(launched, Signal.GATE_MOVED)
    assert "not done yet: team-hired (annotate done): rescheduled by 1h" in message, message
    launched.annotations["done"] = "planning/team-hired"
    until(launched, Signal.PHASE_PASSED)
    assert 600 + HOUR <= launched.now - NOW <= 610 + HOUR
    until(launched, Signal.PHASE_BEGINS)
    assert 1200 + HOUR <= launched.now - NOW <= 1210 + HOUR


def test_deliverables_that_are_missing_hold_only_until_they_are_done() -> None:
    launched = course(phases=[planning(deliverables=["a", "b"], end=at(600)), ramp()])
    launched.annotations["done"] = "planning/a"
    message = until(launched, Signal.DELIVERABLES_MISSING)
    assert message == "gate of phase planning: not done yet: b (annotate done)"
    assert launched.status.state is State.HELD
    launched.annotations["done"] = "planning/b"
    launched.tick()
    assert launched.status.done == ("planning/a", "planning/b")
    launched.until(State.SUCCEEDED)


def test_a_checkpoint_leaves_its_score_and_one_that_was_missed_says_so() -> None:
    launched = course(
        phases=[ramp(checkpoints=["1m", "2m", "3m", "20m"], gate={"after": "10m", "approval": {"role": "lead"}})]
    )
    launched.until_weight(50)
    while not any(decision.checkpoint for decision in launched.history):
        launched.tick()
    (score,) = launched.status.checkpoints
    assert (score.phase, score.after, score.passed, score.undecided, score.failed) == ("ramp", "1m", 0, 1, 0)
    launched.now += 300
    launched.tick()
    assert [(each.after, each.passed) for each in launched.status.checkpoints] == [("1m", 0), ("2m", 0), ("3m", 1)]
    taken = [decision for decision in launched.history if decision.checkpoint]
    assert all(decision.decisive for decision in taken)
    assert len(taken) == 2


def test_a_failed_checkpoint_holds_where_its_plan_says_so() -> None:
    phase = ramp(
        steps=[{"weight": 5, "for": "1h"}],
        guardrails=[{"metric": "errors", "below": "20%"}],
        gate={"after": "2h", "criteria": [{"metric": "errors", "below": "0.5%"}]},
        checkpoints=["2m", {"at": "5m", "onFail": "hold"}],
    )
    launched = course(phases=[phase])
    launched.traffic = lambda subject, now: (1000.0, 9.0)
    message = until(launched, Signal.CHECKPOINT_FAILED)
    assert message.startswith("checkpoint 5m of phase ramp failed: errors below 0.5% (main)")
    assert launched.status.hold is not None
    launched.run(5)
    assert launched.status.state is State.HELD


def test_a_closed_window_stops_raises_and_no_gate() -> None:
    windows = [{"days": ["Wed"], "from": "09:00", "to": "18:00"}]
    launched = course(windows=windows, phases=[ramp()])
    message = until(launched, Signal.WINDOW_CLOSED)
    assert launched.status.state is State.SCHEDULED
    assert message == "no raise now: outside window Wed 09:00-18:00 UTC; opens Nov 15 09:00"
    until(launched, Signal.PHASE_BEGINS, 4000)
    assert format_instant(launched.now).startswith("2023-11-15T09:00")


def test_a_freeze_between_two_steps_keeps_the_weight_and_its_guardrails() -> None:
    freezes = [{"name": "sale", "from": at(60), "to": at(HOUR)}]
    launched = course(freezes=freezes)
    launched.until_weight(50)
    message = until(launched, Signal.WINDOW_CLOSED)
    assert "freeze sale until" in message
    launched.run(100)
    assert launched.raises == [{"main": 50}]
    launched.traffic = bad
    launched.until(State.ROLLED_BACK, 20)


def test_advance_passes_a_step_a_gate_and_a_start_by_hand_once() -> None:
    phases = [
        ramp(steps=[{"weight": 5, "for": "2h"}, {"weight": 30}], gate={"after": "3h", "approval": {"role": "lead"}}),
        ramp("rollout", steps=[{"weight": 60}], start={"at": at(20 * HOUR)}),
    ]
    launched = course(phases=phases)
    launched.until_weight(50)
    launched.annotations["advance"] = "ramp/1"
    launched.until_weight(300, ticks=3)
    assert launched.history[-2].message == "step 1 of 2 is left by hand"
    launched.run(3)
    launched.annotations["advance"] = '{"value": "ramp", "by": "ada"}'
    launched.tick()
    assert launched.history[-1].message == "phase ramp is passed by hand by ada"
    launched.annotations["advance"] = "rollout"
    launched.run(2)
    assert launched.raises[-1] == {"main": 600}
    launched.until(State.SUCCEEDED)


def test_advance_is_refused_where_the_launch_is_elsewhere() -> None:
    launched = course(phases=[ramp(), ramp("rollout", steps=[{"weight": 60}])])
    launched.until_weight(50)
    for value, words in (
        ("rollout", "the launch is at phase ramp, step 1"),
        ("ramp/2", "the launch is at phase ramp, step 1"),
        ("ramp/9", "9 is no step of phase ramp; write 1 to 2, or last"),
        ("sprint", "there is no phase sprint; write one of ramp, rollout"),
    ):
        launched.annotations["advance"] = value
        while launched.status.intent is not None:
            launched.tick()
        launched.tick()
        record = launched.status.overrides[-1]
        assert (record.outcome, record.message) == ("refused", words)


def test_advance_to_the_last_step_goes_one_step_at_a_time() -> None:
    steps = [{"weight": weight, "for": "2h"} for weight in (5, 10, 20, 40)]
    launched = course(phases=[ramp(steps=steps)])
    launched.until_weight(50)
    launched.annotations["advance"] = "ramp/last"
    launched.until_weight(400, ticks=12)
    assert launched.raises == [{"main": 50}, {"main": 100}, {"main": 200}, {"main": 400}]
    assert launched.status.grant is None
    launched.run(30)
    assert launched.status.state is not State.SUCCEEDED


def test_advance_never_passes_a_breach_a_hold_or_blindness() -> None:
    launched = course(phases=[ramp(steps=[{"weight": 5, "for": "2h"}, {"weight": 30}])])
    launched.until_weight(50)
    launched.annotations |= {"advance": "ramp", "hold": "no"}
    launched.run(5)
    assert launched.raises == [{"main": 50}]
    launched.problem = "Prometheus did not answer"
    launched.run(30)
    del launched.annotations["hold"]
    launched.run(30)
    assert launched.raises == [{"main": 50}]
    assert launched.status.state is State.HELD


def test_a_step_is_not_left_by_hand_while_nothing_is_seen_of_its_traffic() -> None:
    launched = course(phases=[ramp(steps=[{"weight": 5, "for": "2h"}, {"weight": 30}])])
    launched.until_weight(50)
    launched.run(3)
    launched.traffic = silent
    launched.run(4)
    launched.annotations["advance"] = "ramp/1"
    assert launched.tick().message == "step 1 of 2 at 5%: errors below 2% (main): no data for 55s: no samples"
    assert launched.raises == [{"main": 50}]


def test_reschedule_moves_a_phase_and_those_after_it() -> None:
    phases = [ramp(start={"at": at(HOUR)}), ramp("rollout", steps=[{"weight": 60}], start={"at": at(3 * HOUR)})]
    launched = course(phases=phases)
    launched.run(3)
    launched.annotations["reschedule"] = f"ramp={at(2 * HOUR)}"
    launched.tick()
    assert launched.status.overrides[-1].outcome == "accepted"
    until(launched, Signal.PHASE_BEGINS)
    assert 2 * HOUR <= launched.now - NOW <= 2 * HOUR + 10
    launched.run(2)
    launched.annotations["reschedule"] = f"ramp={at(9 * HOUR)}"
    launched.tick()
    assert launched.status.overrides[-1].message == "phase ramp has begun; a phase that has not can be moved"
    until(launched, Signal.PHASE_BEGINS, 2000)
    assert 4 * HOUR <= launched.now - NOW <= 4 * HOUR + 10


def test_one_bad_region_is_taken_out_and_the_others_go_on() -> None:
    guardrails = [{"metric": "errors", "below": "2%", "scope": "target"}]
    launched = course(targets=[target("us"), target("eu")], phases=[ramp(guardrails=guardrails)])
    launched.until_weight(50, "eu")

    def eu_bad(subject: Subject, now: float) -> tuple[float, float]:
        return bad(subject, now) or (0.0, 0.0) if subject.target == "eu" else (1000.0, 0.0)

    launched.traffic = eu_bad
    until(launched, Signal.WITHDRAWN)
    launched.run(2)
    assert launched.live["eu"] == 0
    assert [each.withdrawn for each in launched.status.targets] == ["", "errors below 2%"]
    launched.until(State.SUCCEEDED)
    assert launched.live == {"us": 300, "eu": 0}


def test_the_last_region_that_is_bad_ends_the_run() -> None:
    guardrails = [{"metric": "errors", "below": "2%", "scope": "target"}]
    launched = course(targets=[target("us"), target("eu")], phases=[ramp(guardrails=guardrails)])
    launched.until_weight(50, "eu")
    launched.traffic = bad
    launched.until(State.ROLLED_BACK, 30)
    assert launched.live == {"us": 0, "eu": 0}


def test_regions_join_in_waves_and_a_phase_that_does_not_name_one_leaves_its_weight() -> None:
    targets = [target(name) for name in ("us", "eu", "ap")]
    phases = [
        ramp(targets=["us"], steps=[{"weight": 10}]),
        ramp("rollout", targets=["us", "eu"], steps=[{"weight": 50}, {"weight": 100}]),
        ramp("sprint", targets=["ap"], steps=[{"weight": 10}, {"weight": 100}]),
    ]
    launched = course(targets=targets, phases=phases)
    launched.until(State.SUCCEEDED)
    assert launched.raises == [
        {"us": 100},
        {"us": 500}, {"eu": 500}, {"us": 1000}, {"eu": 1000},
        {"ap": 100}, {"ap": 1000},
    ]  # fmt: skip


def test_a_target_that_the_phase_does_not_name_is_still_guarded() -> None:
    phases = [
        ramp(targets=["us"], steps=[{"weight": 10}]),
        ramp("sprint", targets=["eu"], steps=[{"weight": 10, "for": "1h"}]),
    ]
    launched = course(targets=[target("us"), target("eu")], phases=phases)
    launched.until_weight(100, "eu")
    bad_us = {("us", "canary")}
    launched.traffic = lambda subject, now: (1000.0, 200.0 if (subject.target, subject.track) in bad_us else 0.0)
    launched.until(State.ROLLED_BACK, 20)


def test_an_edit_of_a_phase_that_has_not_begun_changes_nothing_that_runs() -> None:
    launched = course(phases=[ramp(), ramp("rollout", steps=[{"weight": 60}])])
    launched.until_weight(50)
    launched.plan = plan(phases=[ramp(), ramp("rollout", steps=[{"weight": 70}])])
    launched.until(State.SUCCEEDED)
    assert launched.raises[-1] == {"main": 700}


def test_an_edit_before_the_first_phase_has_begun_is_simply_taken() -> None:
    launched = course(phases=[ramp(start={"at": at(HOUR)})])
    launched.run(3)
    launched.plan = plan(phases=[ramp("first", start={"at": at(HOUR)}, steps=[{"weight": 7}])])
    launched.until(State.SUCCEEDED, 500)
    assert launched.raises == [{"main": 70}]


def test_a_new_revision_sends_phases_with_steps_back_and_keeps_what_was_ticked_off() -> None:
    phases = [planning(deliverables=["team"]), ramp(start={"at": at(300)})]
    launched = course(phases=phases)
    launched.annotations["done"] = "planning/team"
    launched.until_weight(50)
    launched.plan = plan(phases=phases, revision="v3")
    launched.until_weight(50)
    assert launched.live["main"] == 50
    assert [decision.signal for decision in launched.history].count(Signal.PHASE_ENTERED) == 1, (
        "planning is not repeated"
    )
    assert launched.status.run is not None
    assert (launched.status.run.number, launched.status.run.revision) == (2, "v3")
    launched.until(State.SUCCEEDED)


def test_a_phase_that_continues_goes_on_with_a_new_revision() -> None:
    stay = planning("sprint", end=at(HOUR), guardrails=[{"metric": "errors", "below": "2%"}])
    launched = course(phases=[ramp(), stay])
    until(launched, Signal.PHASE_ENTERED)
    launched.run(5)
    launched.plan = plan(phases=[ramp(), stay], revision="v3")
    launched.tick()
    assert launched.history[-1].signal is Signal.REVISION_CONTINUES
    launched.tick()
    assert (launched.live["main"], launched.status.run and launched.status.run.revision) == (300, "v3")
    launched.until(State.SUCCEEDED, 500)


def test_another_pod_template_is_a_new_revision() -> None:
    workload = {"kind": "Deployment", "name": "shop-canary"}
    one = target()
    one["canary"]["workload"] = workload
    launched = course(targets=[one])
    launched.templates["main"] = "a" * 16
    launched.until_weight(50)
    launched.templates["main"] = "b" * 16
    decision = launched.tick()
    assert decision.signal is Signal.REVISION_CHANGED
    assert "the pod template of Deployment shop-canary changed (target main)" in decision.message
    launched.until_weight(50)
    launched.until(State.SUCCEEDED)


def test_return_waits_for_the_stable_pods_and_gives_the_traffic_back() -> None:
    launched = course(onSuccess="return", phases=[ramp(steps=[{"weight": 100, "for": "30s"}])])
    launched.versions = {"v1": 2}
    message = until(launched, Signal.NOT_RETURNED)
    assert message == "traffic goes back to stable when its pods run v2: target main: 2 of v1"
    launched.versions = {"v1": 1, "v2": 1}
    launched.run(10)
    assert launched.live["main"] == 1000
    launched.versions = {"v2": 2}
    launched.until(State.SUCCEEDED, 5)
    assert launched.live["main"] == 0
    launched.plan = plan(onSuccess="return", phases=[ramp(steps=[{"weight": 100, "for": "30s"}])], revision="v3")
    launched.versions = {"v2": 2}
    until(launched, Signal.NOT_RETURNED)
    assert launched.live["main"] == 1000, "one plan serves release after release"


def test_a_launch_that_is_deleted_takes_its_traffic_away_where_the_plan_says_so() -> None:
    launched = course(onDelete="reset")
    launched.guarded = True
    launched.until_weight(50)
    launched.deleting = True
    launched.until(State.ROLLED_BACK, 3)
    assert launched.live["main"] == 0
    left = course()
    left.until_weight(50)
    left.deleting = True
    left.run(2)
    assert left.live["main"] == 50


def test_a_gate_is_judged_as_often_as_its_monitoring_says() -> None:
    gate = {
        "after": "10m",
        "criteria": [{"metric": "errors", "below": "0.5%"}],
        "onFail": {"extend": "1s", "times": 100},
    }
    for mode, expected in (("intensive", range(20, 62)), ("close", range(8, 12)), ("standard", range(2, 4))):
        launched = course(phases=[ramp(gate=gate, monitoring=mode, guardrails=[{"metric": "errors", "below": "9%"}])])
        launched.traffic = lambda subject, now: (100000.0, 5000.0)
        launched.until_weight(300)
        launched.now = NOW + 600
        launched.run(60)
        moves = sum(decision.signal is Signal.GATE_MOVED for decision in launched.history)
        assert moves in expected, (mode, moves)


def test_status_stays_small_however_long_the_launch() -> None:
    checkpoints = [f"{minutes}m" for minutes in range(1, 90)]
    phases = [ramp(f"phase-{number}", steps=[{"weight": 1 + number}], checkpoints=checkpoints) for number in range(60)]
    launched = course(phases=phases)
    launched.until(State.SUCCEEDED, 2000)
    assert len(json.dumps(write_status(launched.status))) < 32 * 1024


def test_a_run_that_is_thin_of_traffic_waits_and_says_so() -> None:
    launched = course(phases=[ramp(start={"at": at(60)})])
    launched.traffic = thin
    launched.run(20)
    assert launched.raises == [{"main": 50}]


def test_status_says_whether_a_window_is_open_also_where_no_raise_is_due() -> None:
    freezes = [{"name": "sale", "from": at(300), "to": at(900)}]
    launched = course(
        freezes=freezes,
        phases=[ramp(steps=[{"weight": 5}], gate={"after": "20m", "criteria": [{"metric": "errors", "below": "2%"}]})],
    )
    launched.until_weight(50)
    assert launched.status.window == "open; closes Nov 14 22:18"
    while launched.now < NOW + 290:
        launched.tick()
    decision = launched.tick()
    assert decision.signal is Signal.GATE_OPEN
    assert (decision.changed, decision.decisive) == (True, False)
    assert decision.status.window == "closed: freeze sale until 2023-11-14 22:28:20 UTC; opens Nov 14 22:28"
    launched.until(State.SUCCEEDED, 600)
    assert launched.status.window == ""


def test_a_plan_without_windows_and_freezes_says_nothing_of_them() -> None:
    launched = course()
    launched.until_weight(50)
    assert launched.status.window == ""
