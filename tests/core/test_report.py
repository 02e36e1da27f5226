"""What is stored of a decision: where it stands, why, what comes next, and the conditions that tools wait for."""

from __future__ import annotations

from controller.core.fold_text import decode
from controller.core.report import KEPT_DECISIONS, LONGEST_RECORD, presented, with_evidence
from controller.core.status import Hold, Intent, State, Status, TargetStatus
from tests.core.builders import NOW, Course, bad, course, ramp


def at_first_step() -> Course:
    """A launch whose first weight is in force."""
    launched = course()
    launched.until_weight(50)
    return launched


def conditions(status: Status) -> dict[str, str]:
    """Status by type."""
    return {condition.type: condition.status for condition in status.conditions}


def test_the_evidence_is_stored_with_its_numbers() -> None:
    launched = at_first_step()
    launched.run(2)
    decision = launched.tick()
    (shown,) = with_evidence(decision).criteria
    assert (shown.target, shown.criterion, shown.limit) == ("main", "errors below 2%", "2%")
    assert (shown.verdict, shown.value, shown.requests, shown.bad) == ("pass", "0%", "1,000", "0")
    assert shown.as_of == launched.now
    assert {key: decode(text) for key, text in with_evidence(decision).folds.items()} == dict(decision.folds)


def test_a_round_that_asked_nothing_keeps_the_evidence_that_was_shown() -> None:
    launched = at_first_step()
    launched.run(3)
    shown = launched.status.criteria
    launched.asked = False
    assert with_evidence(launched.tick()).criteria == shown


def test_only_decisive_decisions_are_recorded_and_the_last_ten_are_kept() -> None:
    launched = course(phases=[ramp(), ramp("full", steps=[{"weight": 40 + 5 * number} for number in range(12)])])
    launched.until(State.SUCCEEDED)
    recorded = [one.id for one in launched.history if one.decisive]
    assert len(recorded) > KEPT_DECISIONS
    assert [one.id for one in launched.status.decisions] == recorded[-KEPT_DECISIONS:]
    assert launched.status.sequence == len(recorded)
    assert all(len(one.message) <= LONGEST_RECORD for one in launched.status.decisions)


def test_a_record_says_what_was_decided_and_to_which_weight() -> None:
    launched = course()
    launched.run(2)
    record = launched.status.decisions[-1]
    assert (record.id, record.signal, record.state, record.weights) == (
        "1-2",
        "PhaseBegins",
        "Progressing",
        {"main": 50},
    )
    assert record.message == "phase ramp begins with 5%"


def test_what_comes_next_is_told_in_each_state() -> None:
    def said(**changes: object) -> str:
        return presented(Status.model_validate(changes), NOW).next

    raising = Intent(id="1-2", kind="raise", phase="ramp", step=1, weights={"main": 50}, epoch=1, at=NOW)
    assert said(intent=raising) == "raise to main 5%"
    assert said(state=State.HELD, hold=Hold(reason="x", message="y", since=NOW)) == "retry, when the cause is gone"
    assert said(state=State.HELD) == "goes on when the cause is gone"
    assert said(state=State.ROLLED_BACK) == "a new revision, or retry"
    assert said(state=State.SUCCEEDED) == "a new revision"
    assert said(state=State.INVALID) == "a plan without faults"
    assert said(state=State.AWAITING_APPROVAL) == "goes on when what is asked for is given"
    assert said() == "the first phase"


def test_what_comes_next_is_the_next_place_of_the_run() -> None:
    gate = {"after": "3m", "criteria": [{"metric": "errors", "below": "1%"}]}
    launched = course(phases=[ramp(gate=gate), ramp("full", steps=[{"weight": 100}])])
    launched.accepted = False
    told: dict[str, None] = {}
    for number in range(60):
        launched.accepted = number > 2
        launched.tick()
        told[launched.status.next] = None
    assert list(told) == [
        "phase ramp",
        "raise to main 5%",
        "phase ramp, step 2 of 2",
        "raise to main 30%",
        "gate of phase ramp",
        "what follows phase ramp",
        "raise to main 100%",
        "the end of phase full",
        "a new revision",
    ]


def test_the_weight_is_told_for_one_target_and_for_several() -> None:
    one, two = TargetStatus(name="east", weight=50), TargetStatus(name="west", weight=1)
    assert presented(Status(targets=(one,)), NOW).weight == "5%"
    assert presented(Status(targets=(one, two)), NOW).weight == "east 5%, west 0.1%"


def test_conditions_follow_the_state() -> None:
    launched = at_first_step()
    assert conditions(launched.status) == {
        "Ready": "False",
        "Reconciling": "True",
        "Stalled": "False",
        "Succeeded": "False",
    }
    launched.annotations["hold"] = "wait"
    launched.tick()
    assert conditions(launched.status)["Stalled"] == "True"
    assert conditions(launched.status)["Reconciling"] == "False"
    del launched.annotations["hold"]
    launched.until(State.SUCCEEDED)
    assert conditions(launched.status) == {
        "Ready": "True",
        "Reconciling": "False",
        "Stalled": "False",
        "Succeeded": "True",
    }
    rolled = at_first_step()
    rolled.traffic = bad
    rolled.until(State.ROLLED_BACK)
    assert conditions(rolled.status)["Stalled"] == "True"
    assert conditions(rolled.status)["Ready"] == "False"


def test_a_condition_keeps_the_time_of_its_last_change_and_the_newest_generation() -> None:
    launched = at_first_step()
    since = {one.type: one.last_transition_time for one in launched.status.conditions}
    launched.generation = 7
    launched.run(2)
    assert {one.type: one.last_transition_time for one in launched.status.conditions} == since
    assert {one.observed_generation for one in launched.status.conditions} == {7}
    assert all(one.reason and one.message for one in launched.status.conditions)
