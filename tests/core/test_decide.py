"""Whole decisions: the rules that are easy to get wrong, each run to the point where it matters."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest

from controller.core.decide import Decision, decide
from controller.core.evidence import Outcome
from controller.core.series import Subject
from controller.core.signals import Signal
from controller.core.status import State
from controller.core.transitions import Action
from tests.core.builders import NOW, Course, bad, course, document, good, invalid, plan, ramp, silent, target, thin

HOLDS = {"metric": "errors", "below": "2%", "onBreach": "hold"}
FULL = ramp("full", steps=[{"weight": 100}])
GATE = {"criteria": [{"metric": "errors", "below": "1%"}]}


def at_first_step(**spec: object) -> Course:
    """A launch whose first weight is in force."""
    launched = course(**spec)
    launched.until_weight(50)
    return launched


def at_second_step(**spec: object) -> Course:
    """A launch whose second weight is in force."""
    launched = course(**spec)
    launched.until_weight(300)
    return launched


# The way up


def test_a_good_canary_takes_each_step_in_order_and_ends() -> None:
    launched = course(phases=[ramp(), FULL])
    launched.until(State.SUCCEEDED)
    assert launched.raises == [{"main": 50}, {"main": 300}, {"main": 1000}]
    assert launched.status.ended_at == launched.now


def test_a_step_is_left_only_when_its_time_is_over() -> None:
    launched = at_first_step(phases=[ramp(steps=[{"weight": 5, "for": "10m"}, {"weight": 30}])])
    began = launched.status.targets[0].in_force_at
    assert began is not None
    while not launched.tick().raises:
        assert launched.live["main"] == 50
    assert launched.now - began >= 600


def test_the_clock_without_steps_bounds_the_dwell() -> None:
    launched = at_first_step()
    launched.run(2)
    launched.now += 10
    seen = launched.observe()
    assert decide(seen).signal is Signal.STEP_DONE
    assert decide(replace(seen, awake=29.0)).signal is Signal.STEP_NOT_DONE


def test_a_step_is_left_only_when_every_guardrail_passes_since_the_raise() -> None:
    launched = at_first_step(
        phases=[ramp(guardrails=[{"metric": "errors", "below": "2%"}, {"metric": "availability", "above": "99.99%"}])]
    )
    decision = launched.run(8)[-1]
    assert decision.signal is Signal.STEP_NOT_DONE
    assert "availability above 99.99% (main): 0 errors in 6,000 requests" in decision.message


def test_a_guardrail_that_is_only_shown_keeps_nothing() -> None:
    launched = course(
        phases=[
            ramp(
                guardrails=[
                    {"metric": "errors", "below": "2%"},
                    {"metric": "errors", "below": "0.001%", "enforce": False},
                ]
            )
        ]
    )
    launched.until(State.SUCCEEDED)


def test_an_undecided_step_holds_after_three_times_its_time_until_retry() -> None:
    launched = at_first_step()
    launched.traffic = thin
    decision = launched.until(State.HELD)
    assert (decision.signal, decision.action) == (Signal.STEP_UNDECIDED, Action.HOLD)
    assert launched.status.hold is not None
    assert 90 <= launched.now - (launched.status.targets[0].in_force_at or 0) <= 110
    launched.traffic = good
    assert {decision.signal for decision in launched.run(30)} == {Signal.HELD_BREACH}
    launched.annotations["retry"] = "more traffic now"
    assert launched.tick().status.state is State.PROGRESSING
    launched.until_weight(300)


def test_a_retry_judges_on_new_evidence_alone() -> None:
    launched = at_first_step(phases=[ramp(guardrails=[HOLDS])])
    launched.traffic = bad
    launched.until(State.HELD)
    launched.annotations["retry"] = "fixed"
    launched.traffic = good
    assert launched.tick().signal is Signal.STEP_NOT_DONE
    (fold,) = launched.folds.values()
    assert (fold.n, fold.x, fold.pass_n) == (0, 0, 0)
    launched.until_weight(300)


def test_a_proof_must_be_fresh() -> None:
    launched = at_first_step()
    launched.run(2)
    launched.asked = False
    assert launched.run(3)[-1].signal is Signal.STEP_NOT_DONE
    launched.asked = True
    assert launched.tick().raises


def test_the_first_raise_wants_endpoints_and_the_data_of_stable() -> None:
    launched = course()
    launched.canary_ready = None
    launched.tick()
    assert "has no EndpointSlice that is known" in launched.tick().message
    launched.canary_ready = 0
    assert "has no ready endpoint" in launched.tick().message
    launched.canary_ready = 1
    launched.traffic = silent
    assert "errors of the stable track has no samples" in launched.tick().message
    launched.problem = "Prometheus did not answer"
    assert "errors of the stable track: Prometheus did not answer" in launched.tick().message
    launched.problem, launched.traffic, launched.asked = "", good, False
    assert launched.tick().signal is Signal.NOT_READY
    assert launched.raises == []
    launched.problem, launched.asked, launched.traffic = "", True, good
    assert launched.tick().weights == {"main": 50}


def test_a_weight_counts_from_when_it_was_seen_in_force() -> None:
    launched = course()
    launched.accepted = False
    launched.run(2)
    assert launched.live == {"main": 50}
    assert {decision.signal for decision in launched.run(5)} == {Signal.NOT_IN_FORCE}
    launched.accepted = True
    launched.tick()
    assert launched.status.targets[0].in_force_at == launched.now
    assert launched.status.intent is None


def test_a_route_that_no_parent_reports_is_in_force_after_its_time() -> None:
    launched = course()
    launched.accepted = None
    launched.run(2)
    assert launched.tick(9.0).signal is Signal.NOT_IN_FORCE
    assert launched.tick(1.0).status.intent is None


def test_the_share_that_is_seen_decides_where_the_parents_stay_silent() -> None:
    def split(subject: Subject, at: float) -> tuple[float, float]:
        return (50.0 if subject.track == "canary" else 950.0), 0.0

    launched = course()
    launched.accepted = False
    launched.run(8)  # the weight has been written for a minute, the requests are split half and half
    assert launched.status.intent is not None
    launched.traffic = split
    launched.until_weight(50, ticks=12)
    assert launched.raises == [{"main": 50}]


# Thin air


def test_no_data_holds_never_raises_and_goes_on_by_itself() -> None:
    launched = at_first_step()
    launched.traffic = silent
    decision = launched.until(State.HELD)
    assert decision.signal is Signal.BLIND
    assert "no data for" in decision.message
    assert launched.status.hold is None
    launched.run(60)
    assert launched.raises == [{"main": 50}]
    assert launched.live == {"main": 50}
    launched.traffic = good
    launched.until_weight(300)


def test_no_data_rolls_back_only_where_the_plan_says_so() -> None:
    launched = at_first_step(phases=[ramp(guardrails=[{"metric": "errors", "below": "2%", "onNoData": "rollback"}])])
    launched.problem = "Prometheus answered 500"
    launched.run(6)
    assert launched.live == {"main": 50}
    launched.until(State.ROLLED_BACK, ticks=6)
    assert launched.history[-1].signal is Signal.BREACH
    assert "Prometheus answered 500" in launched.history[-1].message


def test_a_silence_does_not_count_as_dwell() -> None:
    launched = at_first_step()
    launched.run(2)
    launched.traffic = silent
    launched.run(5)
    assert launched.live == {"main": 50}


# The way down


def at_breach(launched: Course) -> Decision:
    """Ticks until the canary is lowered."""
    launched.traffic = bad
    for _ in range(8):
        if (decision := launched.tick()).lowers:
            return decision
    raise AssertionError(launched.status.message)


def test_a_breach_lowers_and_is_final() -> None:
    launched = at_second_step()
    decision = at_breach(launched)
    assert decision.weights == {"main": 0}
    assert "proven worse than" in decision.message
    assert launched.status.state is State.ROLLED_BACK
    launched.traffic = good
    assert {one.signal for one in launched.run(60)} == {Signal.RUN_OVER}
    assert launched.live == {"main": 0}
    assert launched.status.targets[0].in_force_at is None


def _invalid(launched: Course) -> None:
    launched.plan = invalid()


def _drift(launched: Course) -> None:
    launched.live["main"] = 70


def _hold(launched: Course) -> None:
    launched.annotations["hold"] = "lunch"


def _claimed(launched: Course) -> None:
    launched.claimed_by = "prod/older"


def _edited(launched: Course) -> None:
    launched.plan = plan(phases=[ramp(steps=[{"weight": 5, "for": "1h"}, {"weight": 30}])])


def _unusable(launched: Course) -> None:
    launched.route_problem = "backend canary is gone"


def _intent(launched: Course) -> None:
    launched.carried_out = False
    while launched.status.intent is None:
        launched.tick()
    launched.carried_out = True


@pytest.mark.parametrize("trouble", [_invalid, _drift, _hold, _claimed, _edited, _unusable, _intent])
def test_a_breach_lowers_whatever_else_is_the_matter(trouble: Callable[[Course], None]) -> None:
    launched = at_first_step()
    trouble(launched)
    decision = at_breach(launched)
    assert (decision.signal, decision.weights) == (Signal.BREACH, {"main": 0})


def test_an_open_raise_is_lowered_by_its_own_targets_too() -> None:
    launched = course()
    launched.run(1)
    launched.carried_out = False
    assert launched.tick().raises
    launched.annotations["rollback"] = "no"
    decision = launched.tick()
    assert decision.weights == {"main": 0}
    assert decision.status.intent is not None
    assert decision.status.intent.kind == "retreat"


def test_no_retreat_onto_a_stable_backend_that_is_known_to_be_empty() -> None:
    launched = at_second_step()
    launched.stable_ready = 0
    decision = at_breach(launched)
    assert (decision.weights, decision.withheld) == ({}, ("main",))
    assert "withheld: the stable backend of main has no ready endpoint" in decision.message
    assert launched.run(3)[-1].signal is Signal.LOWERING
    assert launched.live == {"main": 300}
    launched.stable_ready = 1
    assert launched.tick().weights == {"main": 0}
    assert launched.status.state is State.ROLLED_BACK


def test_a_retreat_goes_ahead_where_nothing_is_known_of_stable() -> None:
    launched = at_second_step()
    launched.stable_ready = None
    assert at_breach(launched).weights == {"main": 0}


def test_a_retreat_that_did_not_arrive_is_made_again() -> None:
    launched = at_second_step()
    launched.carried_out = False
    first = at_breach(launched)
    again = launched.tick()
    assert (again.signal, again.weights, again.decisive) == (Signal.LOWERING, {"main": 0}, False)
    assert again.status.intent == first.status.intent


def test_a_breach_that_holds_lasts_until_retry() -> None:
    launched = at_first_step(phases=[ramp(guardrails=[HOLDS])])
    launched.traffic = bad
    launched.until(State.HELD)
    assert launched.status.hold is not None
    assert "proven worse than" in launched.status.hold.message
    launched.traffic = good
    launched.run(100)
    assert launched.status.state is State.HELD
    assert launched.live == {"main": 50}


def test_guardrails_stay_in_force_for_a_while_after_success() -> None:
    launched = course()
    launched.until(State.SUCCEEDED)
    launched.run(3)
    assert at_breach(launched).signal is Signal.BREACH
    late = course(watchAfter="5m")
    late.until(State.SUCCEEDED)
    late.run(31)
    late.traffic = bad
    assert {decision.signal for decision in late.run(8)} == {Signal.RUN_OVER}


# Overrides


def test_a_hold_keeps_from_raising_while_it_is_there() -> None:
    launched = at_first_step()
    launched.annotations["hold"] = '{"reason": "lunch", "by": "jo"}'
    assert launched.tick().message == "hold asked by jo: lunch; remove the annotation to go on"
    launched.run(30)
    assert launched.live == {"main": 50}
    del launched.annotations["hold"]
    assert launched.tick().raises


def test_a_hold_before_the_start_keeps_it_from_starting() -> None:
    launched = course()
    launched.annotations["hold"] = "not yet"
    launched.run(3)
    assert (launched.status.state, launched.status.run) == (State.HELD, None)
    launched.annotations.clear()
    assert launched.tick().action is Action.START


def test_a_hold_that_lapses_lets_it_go_on() -> None:
    launched = at_first_step()
    launched.annotations["hold"] = '{"until": "2023-11-14T22:20:00Z"}'  # 400 s after the beginning
    while launched.tick().signal is Signal.HOLD_ASKED:
        assert launched.now < NOW + 400
    assert launched.status.overrides[0].outcome == "expired"


def test_a_rollback_needs_no_prometheus_and_is_acted_on_once() -> None:
    launched = at_second_step()
    launched.asked = False
    launched.annotations["rollback"] = "looks odd"
    decision = launched.tick(0.1)
    assert (decision.weights, decision.decisive) == ({"main": 0}, True)
    assert decision.message == "rollback asked: looks odd"
    assert launched.status.state is State.ROLLED_BACK
    assert {one.signal for one in launched.run(3)} == {Signal.RUN_OVER}


def test_a_rolled_back_launch_starts_again_by_retry_as_a_new_run() -> None:
    launched = at_second_step()
    launched.annotations["rollback"] = "looks odd"
    launched.tick()
    launched.annotations["retry"] = "again"
    launched.tick()
    assert launched.status.state is State.ROLLED_BACK
    assert launched.status.overrides[-1].message == "the rollback annotation is still there; remove it first"
    launched.annotations = {}
    launched.tick()
    launched.annotations = {"retry": "again"}
    assert launched.tick().action is Action.START
    assert launched.status.run is not None
    assert launched.status.run.number == 2
    launched.until_weight(300)


def test_a_malformed_override_is_refused_and_changes_nothing() -> None:
    launched = at_second_step()
    launched.annotations = {"rollback": '{"reason": 1}', "hold": "{", "approve": "ramp/gate"}
    decision = launched.tick()
    assert decision.signal is Signal.STEP_NOT_DONE
    assert [(one.verb, one.outcome) for one in decision.news] == [
        ("hold", "refused"),
        ("rollback", "refused"),
        ("approve", "refused"),
    ]
    assert not launched.tick().decisive


# Several targets


TWO = [target("east"), target("west")]


def test_targets_are_raised_one_after_the_other_and_the_time_counts_from_the_last() -> None:
    launched = course(targets=TWO)
    launched.until_weight(50, "east")
    assert launched.live.get("west", 0) == 0 or launched.status.targets[1].in_force_at is None
    launched.until_weight(50, "west")
    west = launched.status.targets[1].in_force_at
    launched.until_weight(300, "east")
    assert launched.raises[:3] == [{"east": 50}, {"west": 50}, {"east": 300}]
    intents = [one for one in launched.history if one.raises and one.weights == {"east": 300}]
    assert west is not None
    assert intents[0].at - west >= 30
    launched.until(State.SUCCEEDED)
    assert launched.live == {"east": 300, "west": 300}


def test_a_breach_of_one_target_lowers_all() -> None:
    launched = course(targets=TWO)
    launched.until_weight(300, "west")

    def west_fails(subject: Subject, at: float) -> tuple[float, float] | None:
        return bad(subject, at) if subject.target == "west" else good(subject, at)

    launched.traffic = west_fails
    launched.until(State.ROLLED_BACK, ticks=8)
    assert launched.live == {"east": 0, "west": 0}


def test_a_step_is_not_left_while_one_target_is_unproven() -> None:
    launched = course(targets=TWO)
    launched.until_weight(50, "west")

    def west_is_idle(subject: Subject, at: float) -> tuple[float, float] | None:
        return thin(subject, at) if subject.target == "west" else good(subject, at)

    launched.traffic = west_is_idle
    assert "(west)" in launched.run(6)[-1].message
    assert launched.live == {"east": 50, "west": 50}


# Phases and gates


def test_a_gate_passes_a_phase_and_is_judged_over_the_whole_of_it() -> None:
    launched = course(phases=[ramp(gate=GATE), FULL])
    launched.until_weight(1000)
    assert launched.status.phase == "full"
    assert launched.status.step == 1
    began = launched.status.phase_started_at
    assert began == launched.now


def test_a_gate_waits_for_its_time() -> None:
    launched = course(phases=[ramp(gate={**GATE, "after": "10m"}), FULL])
    launched.until(State.JUDGING)
    began = launched.status.phase_started_at
    launched.until_weight(1000)
    assert began is not None
    assert launched.now - began >= 600


def test_a_phase_with_a_bad_past_is_not_passed_by_good_rows_since_the_raise() -> None:
    def at_first_rather_bad(subject: Subject, at: float) -> tuple[float, float]:
        return 1000.0, 9.0 if subject.track == "canary" and at < NOW + 80 else 0.0

    launched = course(phases=[ramp(gate={"criteria": [{"metric": "errors", "below": "0.5%"}]}), FULL])
    launched.traffic = at_first_rather_bad
    launched.until_weight(300)
    decision = launched.run(5)[-1]
    gate = next(judged.verdict for judged in decision.verdicts if judged.gate)
    assert (gate.outcome, gate.passes_phase) == (Outcome.PASS, False)
    assert decision.signal is Signal.GATE_OPEN


def test_a_phase_without_guardrails_is_proven_by_its_gate() -> None:
    launched = course(phases=[ramp(guardrails=[], gate=GATE), FULL])
    launched.until_weight(300)
    launched.traffic = bad
    assert launched.until(State.HELD).signal is Signal.GATE_FAILED


def test_one_round_without_an_answer_late_in_a_step_is_no_lasting_hold() -> None:
    launched = course(phases=[ramp(gate={**GATE, "after": "8m"})])
    launched.until_weight(300)
    launched.run(20)
    launched.asked = False
    launched.run(1)
    launched.asked, launched.problem = True, "Prometheus did not answer"
    launched.run(3)
    assert launched.status.hold is None
    launched.problem = ""
    launched.until(State.SUCCEEDED)


def test_an_undecided_verdict_while_the_gate_is_not_due_yet_waits_for_it() -> None:
    launched = course(phases=[ramp(gate={**GATE, "after": "1h"})])
    launched.until_weight(300)
    launched.run(30)
    launched.folds = {}  # lost, so that the proof begins anew
    launched.traffic = thin
    launched.run(30)
    assert launched.status.state is State.PROGRESSING


def test_an_undecided_gate_follows_its_plan() -> None:
    strict = {"criteria": [{"metric": "errors", "below": "0.001%"}]}
    launched = course(phases=[ramp(gate=strict), FULL])
    assert launched.until(State.HELD).signal is Signal.GATE_UNDECIDED
    launched = course(phases=[ramp(gate={**strict, "onUndecided": "rollback"}), FULL])
    launched.until(State.ROLLED_BACK)
    assert "gate of phase ramp is undecided" in launched.history[-1].message


def test_a_failed_gate_that_rolls_back_lowers() -> None:
    # Too bad for the gate, and good enough for the guardrail.
    def rather_bad(subject: Subject, at: float) -> tuple[float, float]:
        return 1000.0, 9.0

    gate = {"criteria": [{"metric": "errors", "below": "0.5%"}], "onFail": "rollback"}
    launched = course(phases=[ramp(gate=gate)])
    launched.traffic = rather_bad
    launched.until(State.ROLLED_BACK)
    assert launched.raises == [{"main": 50}, {"main": 300}]


def test_the_evidence_of_a_phase_is_its_own() -> None:
    launched = course(phases=[ramp(), ramp("full", steps=[{"weight": 100, "for": "5m"}])])
    launched.until_weight(1000)
    assert launched.folds.keys() == {"main|errors below 2%", "main|errors below 2% beside stable"}
    assert all((fold.n, fold.instants) == (0, 0) for fold in launched.folds.values())


def test_the_next_phase_guards_what_it_moves_before_its_first_raise() -> None:
    launched = course(targets=TWO, phases=[ramp(targets=["east"]), ramp("both", steps=[{"weight": 30, "for": "30s"}])])
    launched.until_weight(300, "east")
    launched.canary_ready = 0
    launched.run(30)
    assert launched.live == {"east": 300}
    assert "target west: the canary has no ready endpoint" in launched.status.message
    launched.canary_ready = 2

    def west_is_silent(subject: Subject, at: float) -> tuple[float, float] | None:
        return silent(subject, at) if subject.target == "west" else good(subject, at)

    launched.traffic = west_is_silent
    assert "target west: errors of the stable track has no samples" in launched.run(3)[-1].message
    launched.traffic = good
    launched.live["west"] = 20
    assert "target west: the route gives the canary 2%, the launch left it at 0%" in launched.run(3)[-1].message
    launched.live["west"] = 0
    launched.until(State.SUCCEEDED)
    assert launched.live == {"east": 300, "west": 300}


# New revisions, edited plans


def test_a_new_revision_takes_the_canary_to_0_and_starts_a_new_run() -> None:
    launched = at_second_step()
    launched.plan = plan(revision="v3")
    decision = launched.tick()
    assert (decision.signal, decision.weights) == (Signal.REVISION_CHANGED, {"main": 0})
    assert launched.tick().action is Action.START
    assert launched.status.run is not None
    assert (launched.status.run.number, launched.status.run.revision) == (2, "v3")
    assert launched.folds == {}
    launched.until_weight(50)
    launched.until(State.SUCCEEDED)


def test_a_new_revision_after_success_wants_the_services_the_other_way_round() -> None:
    launched = course(phases=[ramp(), FULL])
    launched.until(State.SUCCEEDED)
    launched.plan = plan(revision="v3", phases=[ramp(), FULL])
    decision = launched.run(3)[-1]
    assert decision.signal is Signal.NOT_SWAPPED
    assert "the other way round" in decision.message
    assert launched.live == {"main": 1000}
    launched.plan = plan(
        revision="v3", phases=[ramp(), FULL], targets=[target(stable="main-canary", canary="main-stable")]
    )
    launched.live["main"] = 0
    assert launched.tick().action is Action.START
    launched.until_weight(50)


def test_an_edit_of_the_running_phase_holds_until_it_is_accepted_or_taken_back() -> None:
    launched = at_first_step()
    _edited(launched)
    decision = launched.tick()
    assert decision.signal is Signal.PLAN_CHANGED
    assert "phase ramp, which is running, was edited; annotate retry to accept, or change it back" in decision.message
    launched.plan = plan()
    launched.tick()
    assert launched.status.state is State.PROGRESSING
    _edited(launched)
    launched.annotations["retry"] = "longer, please"
    launched.run(2)
    assert launched.status.state is State.PROGRESSING
    launched.run(20)
    assert launched.live == {"main": 50}


def test_an_edit_of_a_later_phase_changes_nothing_that_runs() -> None:
    launched = at_first_step(phases=[ramp(), FULL])
    launched.plan = plan(phases=[ramp(), ramp("full", steps=[{"weight": 50}, {"weight": 100}])])
    launched.until(State.SUCCEEDED)
    assert launched.raises == [{"main": 50}, {"main": 300}, {"main": 500}, {"main": 1000}]


def test_a_phase_that_is_lost_on_the_way_to_it_is_told() -> None:
    launched = course(phases=[ramp(), FULL])
    launched.until_weight(300)
    launched.accepted = False
    while launched.status.intent is None:
        launched.tick()
    assert launched.status.intent.phase == "full"
    launched.plan = plan(phases=[ramp()])
    launched.accepted = True
    decision = launched.run(2)[-1]
    assert decision.signal is Signal.PLAN_CHANGED
    assert "phase full, to which it was going, is no longer in the plan" in decision.message
    launched.plan = plan(phases=[ramp(), FULL])
    launched.until(State.SUCCEEDED)


def test_a_plan_with_faults_moves_nothing_and_says_which() -> None:
    launched = course()
    launched.plan = invalid()
    decision = launched.tick()
    assert (decision.status.state, decision.weights) == (State.INVALID, {})
    assert decision.message.startswith("spec.phases")
    launched.plan = plan()
    assert launched.tick().action is Action.START


# The door itself


def decisions() -> list[Course]:
    """Courses that are about to do something of each kind."""
    raising = at_first_step()
    raising.run(2)
    retreating = at_second_step()
    retreating.traffic = bad
    retreating.run(1)
    held = at_first_step()
    held.traffic = thin
    held.until(State.HELD)
    held.annotations = {"retry": "again", "hold": "wait"}
    for launched in (raising, retreating, held):
        launched.now += 10
    return [course(), raising, retreating, held]


def test_the_same_observation_gives_the_same_decision_and_is_left_as_it_was() -> None:
    for launched in decisions():
        seen = launched.observe()
        kept = copy.deepcopy(seen)
        assert decide(seen) == decide(seen) == decide(kept)
        assert seen == kept
        assert seen.status.model_dump_json() == kept.status.model_dump_json()


def test_each_recorded_decision_has_an_id_of_its_own() -> None:
    launched = course(phases=[ramp(), FULL])
    launched.until(State.SUCCEEDED)
    recorded = [one.id for one in launched.history if one.decisive]
    assert len(set(recorded)) == len(recorded)
    assert [one.id for one in launched.status.decisions] == recorded[-10:]
    assert recorded[0] == "1-1"
    assert all(one.startswith("1-") for one in recorded)


def test_a_steady_launch_has_nothing_to_record() -> None:
    launched = course()
    launched.until(State.SUCCEEDED)
    assert not any(one.decisive or one.changed for one in launched.run(5)[1:])


def test_a_restart_goes_on_where_status_says() -> None:
    without, restarted = course(phases=[ramp(), FULL]), course(phases=[ramp(), FULL])
    restarted.through_json = True
    without.until(State.SUCCEEDED)
    restarted.until(State.SUCCEEDED)
    assert [(d.at, d.signal, d.weights) for d in without.history] == [
        (d.at, d.signal, d.weights) for d in restarted.history
    ]


def test_evidence_that_was_lost_starts_anew_and_only_delays() -> None:
    launched = at_first_step()
    launched.run(2)
    launched.folds = {}
    assert not launched.tick().raises
    assert launched.tick().signal is Signal.STEP_NOT_DONE
    launched.until_weight(300)


def test_a_standing_that_cannot_be_read_holds_and_retry_reads_the_plan() -> None:
    launched = at_first_step()
    assert launched.status.run is not None
    run = launched.status.run.model_copy(update={"stands_on": {"phases": []}})
    launched.status = launched.status.model_copy(update={"run": run})
    assert launched.tick().signal is Signal.PLAN_CHANGED
    launched.annotations["retry"] = "as it is"
    assert launched.run(2)[-1].status.state is State.PROGRESSING
    launched.until_weight(300)


def test_the_document_of_these_tests_is_a_plan() -> None:
    assert plan().name == document()["metadata"]["name"]
