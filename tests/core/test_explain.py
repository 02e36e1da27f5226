"""What is told of a launch: where it is, why, what would change that, and what comes next."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from controller.core.explain import CHANGES, Explanation, Say, explain
from controller.core.signals import Signal
from controller.core.status import UNDER_WAY, State
from controller.core.timeline import document
from tests.core.builders import NOW, Course, bad, course, invalid, plan, ramp, silent, target, thin
from tests.core.test_whole_launch import HOUR, PREFLIGHT, at, planning, until

LAUNCH = "prod/shop"
STRICT = [{"metric": "errors", "below": "0.5%"}]


def told(launched: Course) -> Explanation:
    """The explanation where the course stands, which has no hole anywhere."""
    explanation = explain(launched.plan, launched.status, launched.now, launch=LAUNCH, annotations=launched.annotations)
    whole(explanation)
    return explanation


def whole(explanation: Explanation) -> None:
    """Everything that people ask is answered, in words, and scripts can read it."""
    assert explanation.where
    assert explanation.why
    assert explanation.changes
    assert explanation.comes
    assert all(change.when and change.then for change in explanation.changes)
    assert all(wait.what for wait in explanation.waits)
    assert all(coming.what for coming in explanation.comes)
    written = json.dumps(document(explanation))
    assert "None" not in written
    assert '""' not in "".join(str(change) for change in explanation.changes)


def commands(explanation: Explanation) -> list[str]:
    """What people can say, as it is typed behind the program's name and without the launch."""
    return [change.say.words("", "").strip() for change in explanation.changes if change.say is not None]


def coming(explanation: Explanation) -> list[str]:
    return [one.what for one in explanation.comes]


def wanted(explanation: Explanation) -> list[tuple[str, str, bool]]:
    """Of whom what is wanted: the role, what to say, and whether it is asked for now."""
    return [
        (wait.who, wait.say.words("", "").strip(), wait.asked)
        for wait in explanation.waits
        if wait.kind == "people" and wait.say is not None
    ]


def fresh() -> Course:
    return course()


def scheduled() -> Course:
    launched = course(phases=[ramp(start={"at": at(HOUR)}, preflight=PREFLIGHT)])
    launched.run(3)
    return launched


def asked() -> Course:
    launched = course(phases=[ramp(gate={"approval": {"role": "lead"}})])
    until(launched, Signal.GATE_APPROVAL)
    return launched


def stepping() -> Course:
    launched = course()
    launched.until_weight(50)
    launched.run(2)
    return launched


def judging() -> Course:
    launched = course(phases=[ramp(gate={"after": "1h", "criteria": STRICT})])
    until(launched, Signal.GATE_OPEN)
    return launched


def held() -> Course:
    launched = course(phases=[ramp(guardrails=[{"metric": "errors", "below": "2%", "onBreach": "hold"}])])
    launched.until_weight(50)
    launched.traffic = bad
    launched.until(State.HELD)
    return launched


def rolling_back() -> Course:
    launched = course()
    launched.until_weight(50)
    launched.traffic, launched.carried_out = bad, False
    launched.until(State.ROLLING_BACK)
    return launched


def rolled_back() -> Course:
    launched = course()
    launched.until_weight(50)
    launched.traffic = bad
    launched.until(State.ROLLED_BACK)
    return launched


def succeeded() -> Course:
    launched = course()
    launched.until(State.SUCCEEDED)
    return launched


def faulty() -> Course:
    launched = Course(invalid())
    launched.tick()
    return launched


STATES: dict[State, Callable[[], Course]] = {
    State.PENDING: fresh,
    State.SCHEDULED: scheduled,
    State.AWAITING_APPROVAL: asked,
    State.PROGRESSING: stepping,
    State.JUDGING: judging,
    State.HELD: held,
    State.ROLLING_BACK: rolling_back,
    State.ROLLED_BACK: rolled_back,
    State.SUCCEEDED: succeeded,
    State.INVALID: faulty,
}


def test_every_state_is_explained() -> None:
    assert set(STATES) == set(State)
    for state, reach in STATES.items():
        launched = reach()
        assert launched.status.state is state
        explanation = told(launched)
        assert explanation.state == state.value
        assert explanation.where.startswith(f"{state.value}: ")


def test_every_reason_names_what_would_change_it() -> None:
    assert set(CHANGES) == set(Signal)


@pytest.mark.parametrize("state", State, ids=str)
def test_no_reason_leaves_a_hole_in_any_state(state: State) -> None:
    launched = STATES[state]()
    for signal in Signal:
        for plan_of_it in (launched.plan, invalid()):
            status = launched.status.model_copy(update={"reason": signal.value})
            whole(explain(plan_of_it, status, launched.now, launch=LAUNCH))


def test_a_launch_is_explained_at_every_tick_of_its_life() -> None:
    gate = {"after": "10m", "criteria": STRICT, "approval": {"role": "lead"}, "onUndecided": {"extend": "5m"}}
    phases = [
        planning(deliverables=["team"], end=at(300)),
        ramp(gate=gate, checkpoints=["1m", "5m"], steps=[{"weight": 5, "for": "30s", "approval": {"role": "lead"}}]),
        ramp("rollout", steps=[{"weight": 60}], start={"at": at(1800)}, preflight=PREFLIGHT),
    ]
    launched = course(phases=phases, freezes=[{"name": "sale", "from": at(2000), "to": at(2400)}])
    said = {"done": ["planning/team", "rollout/dashboards"], "approve": ["ramp/1", "ramp/gate", "rollout/preflight"]}
    reasons = set()
    for tick in range(500):
        launched.tick()
        explanation = told(launched)
        reasons.add(explanation.reason)
        for _, command, ready in wanted(explanation):
            verb, _, about = command.partition(" ")
            if ready and verb in said and about in said[verb] and tick % 7 == 0:
                launched.annotations[verb] = about  # what it tells people to say is what lets it go on
        if launched.status.state is State.SUCCEEDED:
            break
    assert launched.status.state is State.SUCCEEDED
    assert {"DeliverablesMissing", "StepApprovalWanted", "GateApprovalWanted", "PreflightOpen"} <= reasons


def test_where_it_is_says_phase_step_weight_and_since_when() -> None:
    explanation = told(stepping())
    assert explanation.where == (
        "Progressing: run 1 of revision v2, phase ramp, step 1 of 2, the canary has 5%, "
        "begun Nov 14 22:13 UTC (20s ago)"
    )
    assert explanation.why.startswith("step 1 of 2 at 5%: ")
    assert [(share.target, share.weight) for share in explanation.targets] == [("main", 50)]
    assert explanation.since == NOW + 10


def test_a_running_step_says_what_comes_and_when() -> None:
    launched = stepping()
    explanation = told(launched)
    began = launched.status.targets[0].in_force_at
    assert began is not None
    step = next(one for one in explanation.comes if one.what == "step 2 of 2 at 30%")
    assert step.at == began + 30 + 10, "its time, and until the last counts are settled"
    assert step.earliest
    launched.until_weight(300)
    assert launched.now == pytest.approx(step.at, abs=20)
    assert "advance ramp/1" in commands(explanation)
    assert "the canary goes to 0% everywhere, at once" in [change.then for change in explanation.changes]


def test_an_approval_names_its_role_and_the_command() -> None:
    explanation = told(asked())
    assert wanted(explanation) == [("lead", "approve ramp/gate", True)]
    assert commands(explanation)[:2] == ["approve ramp/gate", "advance ramp"]
    assert coming(explanation)[0] == "it waits as long as it takes; the canary stays at 30%"


def test_an_approval_that_is_not_asked_for_yet_is_told_as_such() -> None:
    launched = course(phases=[ramp(gate={"approval": {"role": "lead"}}, deliverables=["runbook"])])
    launched.until_weight(50)
    explanation = told(launched)
    assert wanted(explanation) == [("", "done ramp/runbook", False), ("lead", "approve ramp/gate", False)]
    assert "approve ramp/gate" not in commands(explanation)


def test_a_preflight_says_who_is_waited_for_until_when_and_what_follows() -> None:
    preflight = PREFLIGHT | {"onNotReady": {"reschedule": "1h", "times": 2}}
    launched = course(phases=[ramp(start={"at": at(HOUR)}, preflight=preflight)])
    launched.run(3)
    early = told(launched)
    assert [(wait.say and wait.say.about, wait.asked, wait.until) for wait in early.waits if wait.kind == "people"] == [
        ("ramp/dashboards", False, NOW + HOUR),
        ("ramp/preflight", False, NOW + HOUR),
    ]
    assert "go or no-go of ramp is asked for" in coming(early)
    until(launched, Signal.PREFLIGHT_OPEN)
    explanation = told(launched)
    assert wanted(explanation) == [("", "done ramp/dashboards", True), ("vp", "approve ramp/preflight", True)]
    assert commands(explanation)[:4] == [
        "done ramp/dashboards",
        "approve ramp/preflight",
        "advance ramp",
        "reschedule ramp=TIME",
    ]
    assert (
        "not ready by then, phase ramp does what onNotReady says: it is rescheduled by 1h (1 of 2), then hold"
        in coming(explanation)
    )


def test_a_closed_window_says_when_it_opens() -> None:
    launched = course(windows=[{"days": ["Wed"], "from": "09:00", "to": "18:00"}])
    until(launched, Signal.WINDOW_CLOSED)
    explanation = told(launched)
    (window,) = [wait for wait in explanation.waits if wait.kind == "window"]
    assert "outside window Wed 09:00-18:00 UTC" in window.what
    assert window.asked
    assert explanation.changes[0].when == "a window opens Nov 15 09:00 UTC (in 10h46m)"
    begins = next(one for one in explanation.comes if one.what == "phase ramp begins with 5%")
    assert begins.at == window.until


def test_a_hold_that_a_person_asked_for_is_ended_by_resume() -> None:
    launched = stepping()
    launched.annotations["hold"] = json.dumps({"reason": "lunch", "by": "ada", "until": at(HOUR)})
    launched.tick()
    explanation = told(launched)
    assert ("ada", "resume", True) in wanted(explanation)
    assert commands(explanation)[0] == "resume"
    assert "hold" not in commands(explanation), "it is there already"
    assert any(change.when.startswith("the hold lapses Nov 14 23:13 UTC") for change in explanation.changes)
    assert coming(explanation)[0].startswith("nothing is raised: the canary stays at 5%")


def test_a_breach_that_holds_is_ended_by_retry_and_never_by_advance() -> None:
    explanation = told(held())
    assert commands(explanation) == ["retry", "rollback"]
    assert explanation.criteria[0].verdict == "fail"
    assert explanation.since is not None


def test_a_gate_that_escalated_may_be_passed_by_hand() -> None:
    launched = course(phases=[ramp(gate={"at": at(600), "criteria": STRICT, "onFail": "escalate"})])
    launched.traffic = lambda subject, now: (1000.0, 9.0)
    until(launched, Signal.ESCALATED)
    assert commands(told(launched)) == ["retry", "advance ramp", "rollback"]


def test_a_gate_says_what_it_would_do_as_the_evidence_stands() -> None:
    gate = {"after": "1h", "criteria": STRICT, "onFail": {"extend": "20m", "times": 2, "then": "rollback"}}
    launched = course(phases=[ramp(gate=gate)])
    launched.traffic = lambda subject, now: (1000.0, 9.0)
    until(launched, Signal.GATE_OPEN)
    assert any(
        what == "as it stands, the gate of ramp would not pass (errors below 0.5% in main: fail): "
        "it is extended by 20m (1 of 2), then rollback"
        for what in coming(told(launched))
    )


def test_missing_deliverables_say_what_their_gate_does_without_them() -> None:
    launched = course(phases=[planning(deliverables=["a", "b"], end=at(600)), ramp()])
    launched.run(3)
    explanation = told(launched)
    assert wanted(explanation) == [("", "done planning/a planning/b", False)]
    assert "without a, b, the gate of planning would not pass: it is held until somebody acts" in coming(explanation)
    until(launched, Signal.DELIVERABLES_MISSING)
    assert commands(told(launched))[:2] == ["done planning/a planning/b", "advance planning"]


def test_dates_that_moved_or_can_no_longer_be_met_are_told() -> None:
    first = ramp(steps=[{"weight": 5, "for": "30s"}], gate={"at": at(600), "approval": {"role": "lead"}})
    launched = course(phases=[first, ramp("rollout", steps=[{"weight": 60}], start={"at": at(1200)})])
    until(launched, Signal.GATE_APPROVAL)
    assert told(launched).moves == ()
    launched.run(120)
    (expected,) = told(launched).moves
    assert (expected.phase, expected.planned, expected.expected) == ("rollout", NOW + 1200, True)
    assert "late at the earliest" in expected.why
    launched.annotations["approve"] = "ramp/gate"
    launched.tick()
    (moved,) = told(launched).moves
    assert not moved.expected
    assert moved.why.startswith("ramp passed 20m10s late: rollout moved from Nov 14 22:33 to Nov 14 2")
    assert moved.planned == NOW + 1200
    assert moved.start == pytest.approx(expected.start, abs=20)


def test_undecided_for_too_long_is_told_before_it_comes() -> None:
    launched = course(phases=[ramp(steps=[{"weight": 5, "for": "2m"}, {"weight": 30}])])
    launched.until_weight(50)
    launched.traffic = thin
    launched.run(2)
    warning = next(one for one in told(launched).comes if one.what.startswith("still undecided by then"))
    until(launched, Signal.STEP_UNDECIDED)
    assert warning.at == pytest.approx(launched.now, abs=60)
    assert commands(told(launched))[:2] == ["retry", "advance ramp/1"]


def test_a_launch_without_data_waits_for_them_and_nobody_can_pass_that() -> None:
    launched = stepping()
    launched.traffic = silent
    until(launched, Signal.BLIND)
    explanation = told(launched)
    assert explanation.changes[0].when == "Prometheus answers with data again"
    assert not [command for command in commands(explanation) if command.startswith("advance")]
    assert [wait.what for wait in explanation.waits if wait.kind == "evidence"] == [
        "errors below 2% in main passes; it has no data now"
    ]


def test_what_is_of_the_whole_launch_is_waited_for_in_no_target() -> None:
    gate = {"after": "1s", "criteria": [{"incidents": "critical", "atMost": 0}]}
    launched = course(phases=[{"name": "planning", "gate": gate}, ramp()])
    until(launched, Signal.GATE_OPEN)
    explanation = told(launched)
    assert [wait.what for wait in explanation.waits if wait.kind == "evidence"] == [
        "critical incidents at most 0 passes; it is undecided now"
    ]
    assert any("would not pass (critical incidents at most 0: undecided)" in said for said in coming(explanation))


@pytest.mark.parametrize(
    ("change", "signal", "when"),
    [
        ({"plan": plan(phases=[ramp(steps=[{"weight": 7}])])}, Signal.PLAN_CHANGED, "somebody says retry"),
        ({"plan": invalid()}, Signal.PLAN_INVALID, "the plan is corrected: spec.phases: is empty"),
        ({"claimed_by": "prod/older"}, Signal.ROUTE_CLAIMED, "the older launch is over, or is deleted"),
        ({"route_problem": "HTTPRoute prod/main is gone"}, Signal.ROUTE_UNUSABLE, "the route is as the plan says"),
        ({"live": {"main": 900}}, Signal.DRIFT, "the route's weights are set back to what the launch left: 5%"),
    ],
    ids=["edited", "faults", "claimed", "no route", "drift"],
)
def test_what_came_from_outside_says_how_to_put_it_right(change: dict[str, Any], signal: Signal, when: str) -> None:
    launched = stepping()
    for field, value in change.items():
        setattr(launched, field, value)
    until(launched, signal)
    explanation = told(launched)
    assert launched.status.state is State.HELD
    assert explanation.changes[0].when.startswith(when)
    assert launched.status.message in explanation.why


def test_a_run_goes_on_being_explained_by_what_it_stands_on_when_its_plan_has_faults() -> None:
    launched = stepping()
    launched.plan = invalid()
    launched.tick()
    explanation = told(launched)
    assert "phase ramp, step 1 of 2" in explanation.where
    assert explanation.waits[0].kind == "plan"


def test_a_target_that_was_taken_out_says_why() -> None:
    guardrails = [{"metric": "errors", "below": "2%", "scope": "target"}]
    launched = course(targets=[target("us"), target("eu")], phases=[ramp(guardrails=guardrails)])
    launched.until_weight(50, "eu")
    bad_one = ("eu", "canary")
    launched.traffic = lambda subject, now: (1000.0, 200.0 if (subject.target, subject.track) == bad_one else 0.0)
    until(launched, Signal.WITHDRAWN)
    launched.run(2)
    explanation = told(launched)
    assert [share.withdrawn for share in explanation.targets] == ["", "errors below 2%"]
    assert "the canary has 30% in us (0% in eu)" in explanation.where


def test_after_the_end_only_a_new_run_is_left() -> None:
    assert commands(told(rolled_back())) == ["retry"]
    launched = succeeded()
    explanation = told(launched)
    assert explanation.waits == ()
    watched = next(one for one in explanation.comes if one.at is not None)
    assert (watched.at, watched.what) == (launched.now + HOUR, "the guardrails of the last phase end")
    assert any("0.5%" in change.when or "2%" in change.when for change in explanation.changes), "until then"
    launched.now += 2 * HOUR
    assert [change.when for change in told(launched).changes] == ["the plan gets a new revision"]


def test_a_new_revision_says_what_it_would_do_to_the_running_phase() -> None:
    def of_revision(launched: Course) -> str:
        return next(change.then for change in told(launched).changes if "new revision" in change.when)

    assert of_revision(stepping()) == "the canary goes to 0% first, then a new run starts"
    launched = course(phases=[ramp(), planning("stay", end=at(HOUR), guardrails=STRICT)])
    until(launched, Signal.PHASE_ENTERED)
    assert of_revision(launched) == "phase stay goes on with it, on new evidence"


def test_what_a_person_can_say_is_there_as_annotation_and_as_command() -> None:
    assert Say("approve", "ramp/gate").annotation == "approve=ramp/gate"
    assert Say("resume").annotation == "hold-"
    assert Say("retry").annotation == "retry=REASON"
    assert Say("advance", "ramp").words("auto-advance", "shop -n prod") == "auto-advance advance shop -n prod ramp"


def test_a_state_under_way_can_always_be_stopped() -> None:
    for state in UNDER_WAY:
        assert "rollback" in commands(told(STATES[state]())), state


def test_who_is_told_next_is_said_until_somebody_acknowledges() -> None:
    contacts = [{"role": "on-call"}, {"role": "eng-lead", "after": "10m"}, {"role": "vp", "after": "30m"}]
    launched = course(contacts=contacts, phases=[{"name": "p", "deliverables": ["design"], "gate": {"after": "1m"}}])
    launched.until(State.HELD)
    assert "else eng-lead is" in next(each.then for each in told(launched).changes if each.say == Say("ack"))
    launched.tick(700)
    assert "else vp is" in next(each.then for each in told(launched).changes if each.say == Say("ack"))
    launched.annotations["ack"] = "on it"
    launched.tick()
    assert "ack" not in commands(told(launched))
