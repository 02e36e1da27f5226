"""Incidents are of the launch as a whole: counted once from the start of a phase, and judged by its gate."""

from __future__ import annotations

from typing import Any

import pytest

from controller.core.decide import decide
from controller.core.evidence import Outcome
from controller.core.ledger import record, redecide
from controller.core.plan import InvalidPlanError, parse
from controller.core.questions import fold_key, questions
from controller.core.series import Subject, launch_wide
from controller.core.signals import Signal
from controller.core.status import State
from controller.core.units import format_instant
from tests.core.builders import NOW, Course, Traffic, course, document, good, ramp, target

CALM = {"incidents": "critical", "atMost": 0}
KEY = "|critical incidents at most 0"
NEVER = float("inf")


def fires(*spans: tuple[float, float], down: tuple[float, float] = (0.0, 0.0), traffic: Traffic = good) -> Traffic:
    """Alerts that fire in these spans (seconds after the beginning), and no proof at all while Prometheus is down."""

    def counts(subject: Subject, at: float) -> tuple[float, float] | None:
        if subject.series.kind != "incidents":
            return traffic(subject, at)
        now = at - NOW
        if down[0] <= now < down[1]:
            return None
        begun = sum(now - subject.series.interval < first <= now for first, _ in spans)
        firing = sum(first <= now and now - subject.series.interval < last for first, last in spans)
        return float(firing), float(begun)

    return counts


def launch(*spans: tuple[float, float], gate: dict[str, Any] | None = None, **phase: Any) -> Course:
    """A launch whose gate, 20 minutes after its start, wants no critical incidents."""
    gate = {"after": "20m", "criteria": [CALM], **(gate or {})}
    launched = course(phases=[ramp(gate=gate, **phase)])
    launched.through_json = True
    launched.traffic = fires(*spans)
    return launched


def until(launched: Course, signal: Signal, ticks: int = 400) -> str:
    """Ticks until that signal; its message."""
    for _ in range(ticks):
        decision = launched.tick()
        if decision.signal is signal:
            return decision.message
    raise AssertionError(f"no {signal} in {ticks} ticks, but {launched.status.state}: {launched.status.message}")


def outcomes(launched: Course) -> list[tuple[str, Outcome]]:
    """Of what the newest verdicts on incidents are, and what they are."""
    items = [item.verdict for item in launched.history[-1].verdicts if item.gate]
    return [(verdict.target, verdict.outcome) for verdict in items if verdict.criterion.launch_wide]


def test_a_gate_without_incidents_passes_and_says_so() -> None:
    launched = launch()
    launched.until(State.SUCCEEDED)
    assert launched.history[-1].verdicts[-1].verdict.outcome is Outcome.PASS
    (shown,) = [item for item in launched.status.criteria if not item.target]
    assert (shown.criterion, shown.value, shown.sentence) == (
        "critical incidents at most 0",
        "0",
        "no critical incidents since 2023-11-14 22:14 UTC",
    )


@pytest.mark.parametrize("span", [(400.0, 401.0), (-600.0, 40.0), (1200.0, 1300.0)])
def test_one_incident_in_the_phase_fails_the_gate_however_short_it_was(span: tuple[float, float]) -> None:
    launched = launch(span)
    assert "1 critical incident, none is allowed" in until(launched, Signal.GATE_FAILED)
    assert launched.raises == [{"main": 50}, {"main": 300}]


@pytest.mark.parametrize("span", [(-600.0, -10.0), (2000.0, 2100.0)])
def test_what_was_over_before_the_phase_or_began_after_the_launch_does_not_count(span: tuple[float, float]) -> None:
    launched = launch(span)
    launched.until(State.SUCCEEDED)
    launched.run(90)
    assert launched.status.state is State.SUCCEEDED
    assert launched.status.gate is not None
    assert launched.status.gate.passed_at is not None
    assert "void" not in launched.history[-1].message


def test_incidents_are_asked_and_folded_once_whatever_the_number_of_targets() -> None:
    targets = [target("east"), target("west")]
    launched = course(targets=targets, phases=[ramp(gate={"after": "20m", "criteria": [CALM]})])
    launched.traffic = fires((300.0, 400.0))
    launched.until_weight(50, "west")
    launched.tick()
    wide = [subject for subject in questions(launched.observe()) if subject.series.kind == "incidents"]
    assert wide == [launch_wide(wide[0].series, "prod")]
    guarded = [f"{name}|errors below 2%{beside}" for name in ("east", "west") for beside in ("", " beside stable")]
    assert sorted(launched.folds) == sorted([KEY, *guarded])
    launched.until(State.HELD)
    assert outcomes(launched) == [("", Outcome.FAIL)]
    assert launched.folds[KEY].x == 1


def test_they_are_counted_from_the_first_raise_on_and_asked_after_the_last_row() -> None:
    launched = launch()
    launched.until_weight(50)
    began = launched.status.phase_started_at
    assert began is not None
    assert began <= launched.folds[KEY].began < began + 30
    launched.run(30)
    launched.now += 1000
    asked = {subject.target: after for subject, after in questions(launched.observe()).items()}
    assert asked[""] == launched.folds[KEY].last


def test_a_phase_without_traffic_counts_them_too() -> None:
    phases = [{"name": "planning", "gate": {"after": "10m", "criteria": [CALM]}}, ramp()]
    calm = course(phases=phases)
    calm.traffic = fires()
    calm.until_weight(50)
    assert 600 <= calm.now - NOW <= 700
    troubled = course(phases=phases)
    troubled.traffic = fires((300.0, 330.0))
    assert "1 critical incident" in until(troubled, Signal.GATE_FAILED)
    assert troubled.raises == []


def test_each_phase_counts_its_own() -> None:
    gate = {"after": "10m", "criteria": [CALM]}
    first = ramp(gate={**gate, "criteria": [{**CALM, "atMost": 1}]})
    launched = course(phases=[first, ramp("second", steps=[{"weight": 60}], gate=gate)])
    launched.traffic = fires((300.0, 400.0))
    launched.until(State.SUCCEEDED)
    assert [each.name for each in launched.status.phases if each.passed_at] == ["ramp", "second"]
    assert launched.folds[KEY].x == 0


def test_guardrails_let_a_step_be_left_while_the_gate_has_yet_to_judge_the_incidents() -> None:
    launched = launch((35.0, 200.0))
    launched.until_weight(300)
    assert outcomes(launched) == [("", Outcome.FAIL)]


def test_where_the_gate_is_the_only_proof_an_incident_stops_the_steps() -> None:
    criteria = [{"metric": "errors", "below": "2%"}, CALM]
    launched = launch((60.0, 90.0), gate={"criteria": criteria}, guardrails=None)
    assert "1 critical incident, none is allowed" in until(launched, Signal.STEP_UNDECIDED)
    assert launched.raises == [{"main": 50}]


def test_steps_that_nothing_but_incidents_would_prove_are_refused() -> None:
    with pytest.raises(InvalidPlanError, match="has steps but nothing that proves them good"):
        parse(document(phases=[ramp(guardrails=None, gate={"criteria": [CALM]})]))


def test_incidents_delay_no_step() -> None:
    plain, counting = course(phases=[ramp(gate={"after": "20m", "approval": {"role": "lead"}})]), launch()
    for launched in (plain, counting):
        launched.until_weight(300)
    assert counting.now == plain.now
    counting = launch()
    counting.traffic = fires(down=(-NEVER, NEVER))
    counting.until_weight(300)
    assert counting.now == plain.now


@pytest.mark.parametrize("lost", [False, True])
def test_a_restarted_process_counts_on_and_one_whose_fold_cannot_be_read_counts_again(lost: bool) -> None:
    launched = launch((200.0, 230.0), gate={"criteria": [{**CALM, "atMost": 3}]})
    launched.until_weight(300)
    launched.run(20)
    key = KEY.replace("0", "3")
    fold = launched.folds[key]
    assert fold.x == 1
    if lost:
        launched.folds = {name: fold for name, fold in launched.folds.items() if name != key}
        launched.tick()
        assert launched.folds[key].began == fold.began
    launched.run(2)
    assert launched.folds[key].x == 1
    assert launched.folds[key].newest >= fold.newest


def test_retry_judges_by_what_happens_from_then_on() -> None:
    launched = launch((400.0, 430.0))
    until(launched, Signal.GATE_FAILED)
    launched.annotations["retry"] = "the page was a false alarm"
    launched.tick()
    assert launched.folds[KEY].x == 0
    launched.until(State.SUCCEEDED)


def test_an_extension_after_a_fail_counts_anew() -> None:
    launched = launch((400.0, 430.0), gate={"onFail": {"extend": "1h", "times": 1, "then": "rollback"}})
    until(launched, Signal.GATE_MOVED)
    launched.until(State.SUCCEEDED, 500)


def test_the_same_incident_fails_the_extension_where_it_goes_on() -> None:
    launched = launch((400.0, NEVER), gate={"onFail": {"extend": "1h", "times": 1, "then": "rollback"}})
    until(launched, Signal.GATE_MOVED)
    assert "1 critical incident" in until(launched, Signal.BREACH, 500)
    assert launched.live == {"main": 0}


def test_while_prometheus_is_down_nothing_is_known_and_afterwards_the_past_is_asked_for() -> None:
    launched = launch((700.0, 710.0))
    launched.until_weight(300)
    launched.problem = "Prometheus does not answer"
    launched.run(60)
    assert outcomes(launched) == [("", Outcome.NO_DATA)]
    launched.problem = ""
    assert "1 critical incident" in until(launched, Signal.GATE_FAILED)


def test_what_prometheus_itself_missed_is_no_pass() -> None:
    launched = launch()
    launched.traffic = fires(down=(300.0, 900.0))
    message = until(launched, Signal.BLIND)
    assert message == "critical incidents: no data for 10m: no proof for 2023-11-14 22:18-22:28 UTC"
    launched.run(200)
    assert launched.status.state is State.HELD


def test_an_extension_for_lack_of_data_counts_anew_what_is_lost_for_good() -> None:
    launched = launch(gate={"onNoData": {"extend": "1h", "times": 1, "then": "hold"}})
    launched.traffic = fires(down=(300.0, 900.0))
    errors = fold_key("main", launched.plan.phases[0].guardrails[0].criterion)  # type: ignore[union-attr]
    assert "no proof" in until(launched, Signal.GATE_MOVED)
    assert launched.folds[KEY].gap == (0, 0)
    assert launched.folds[errors].n > 1000 * 100
    launched.until(State.SUCCEEDED, 500)


def test_an_extension_for_lack_of_data_keeps_what_may_still_come() -> None:
    gate = {"after": "20m", "criteria": [CALM], "onNoData": {"extend": "10m", "times": 3, "then": "hold"}}
    launched = course(phases=[{"name": "planning", "gate": gate}, ramp()])
    launched.traffic = fires((700.0, 710.0))
    launched.run(60)
    launched.problem = "Prometheus does not answer"
    until(launched, Signal.GATE_MOVED)
    launched.problem = ""
    assert "1 critical incident" in until(launched, Signal.GATE_FAILED)


@pytest.mark.parametrize("verb", [{"retry": "seen elsewhere: nothing was wrong"}, {"advance": "ramp/1"}])
def test_a_step_that_lost_its_proof_for_good_is_held_until_somebody_says_otherwise(verb: dict[str, str]) -> None:
    criteria = [{"metric": "errors", "below": "2%"}, CALM]
    steps = [{"weight": 5, "for": "15m"}, {"weight": 30, "for": "30s"}]
    launched = launch(gate={"after": "3h", "criteria": criteria}, guardrails=None, steps=steps)
    launched.traffic = fires(down=(100.0, 700.0))
    assert "no proof for" in until(launched, Signal.STEP_UNDECIDED)
    assert launched.raises == [{"main": 50}]
    launched.run(100, 60.0)
    assert launched.raises == [{"main": 50}]
    launched.annotations.update(verb)
    launched.until_weight(300)


def test_an_incident_after_the_gate_has_passed_opens_it_again_before_traffic_moves() -> None:
    later = ramp("second", steps=[{"weight": 60}], start={"at": format_instant(NOW + 7200)})
    launched = course(phases=[ramp(gate={"after": "20m", "criteria": [CALM]}), later])
    launched.traffic = fires((3000.0, 3100.0))
    until(launched, Signal.SCHEDULED)
    assert "is void, the evidence turned worse: 1 critical incident" in until(launched, Signal.GATE_FAILED)
    assert launched.raises == [{"main": 50}, {"main": 300}]


def test_a_checkpoint_counts_them_once_and_holds_if_it_is_told_to() -> None:
    targets = [target("east"), target("west")]
    checkpoints = ["5m", {"at": "10m", "onFail": "hold"}]
    phase = ramp(checkpoints=checkpoints, gate={"after": "20m", "criteria": [CALM]})
    launched = course(targets=targets, phases=[phase])
    launched.traffic = fires((400.0, 410.0))
    assert "checkpoint 10m of phase ramp failed: 1 critical incident" in until(launched, Signal.CHECKPOINT_FAILED)
    scores = [(one.passed, one.undecided, one.failed) for one in launched.status.checkpoints]
    assert scores == [(3, 0, 0), (2, 0, 1)]


@pytest.mark.parametrize("phase", [ramp(gate={"criteria": [CALM]}), {"name": "planning", "gate": {"criteria": [CALM]}}])
def test_a_preflight_waits_for_proof_that_alerts_are_evaluated(phase: dict[str, Any]) -> None:
    launched = course(phases=[{**phase, "preflight": {"opens": "1h"}, "start": {"at": format_instant(NOW + 1800)}}])
    launched.traffic = fires(down=(-NEVER, 600.0))
    message = until(launched, Signal.PREFLIGHT_OPEN)
    assert message.endswith("waits for critical incidents: no proof that Prometheus evaluated alerts")
    launched.run(70)
    assert launched.history[-1].message.endswith("is ready and begins Nov 14 22:43")


def test_a_phase_that_begins_shows_no_verdict_that_was_not_asked_for() -> None:
    launched = launch()
    launched.until(State.SUCCEEDED)
    verdicts = [item.verdict for decision in launched.history for item in decision.verdicts]
    said = [verdict for verdict in verdicts if verdict.criterion.launch_wide]
    assert said[0].outcome is Outcome.UNDECIDED
    assert not [verdict for verdict in said if verdict.problem]


@pytest.mark.parametrize("undecided", ["rollback", "escalate", {"extend": "1h"}])
def test_a_gate_that_is_due_before_the_first_count_waits_for_it(undecided: Any) -> None:
    gate = {"after": "1s", "criteria": [CALM], "onUndecided": undecided}
    launched = course(phases=[{"name": "planning", "gate": gate}, ramp()])
    launched.traffic = fires()
    assert until(launched, Signal.GATE_OPEN) == (
        "gate of phase planning: critical incidents: not counted yet; the next count settles it"
    )
    launched.until_weight(50)
    assert 40 <= launched.now - NOW <= 150
    assert {Signal.BREACH, Signal.ESCALATED, Signal.GATE_MOVED}.isdisjoint(each.signal for each in launched.history)


def test_a_new_revision_that_the_phase_continues_with_counts_anew() -> None:
    phase = ramp(gate={"after": "20m", "criteria": [{**CALM, "atMost": 1}]}, onRevision="continue")
    launched = course(phases=[phase])
    launched.traffic = fires((200.0, 210.0))
    launched.until_weight(300)
    launched.run(20)
    assert [fold.x for key, fold in launched.folds.items() if key.startswith("|")] == [1]
    launched.plan = parse(document(phases=[phase], revision="v3"))
    until(launched, Signal.REVISION_CONTINUES)
    launched.run(10)
    assert [fold.x for key, fold in launched.folds.items() if key.startswith("|")] == [0]


def test_every_decision_on_incidents_is_decided_again_the_same() -> None:
    launched = launch(gate={"after": "5m", "onFail": {"extend": "10m", "times": 1, "then": "rollback"}})
    launched.traffic = fires((100.0, 130.0), down=(400.0, 800.0))
    lines: list[str] = []
    for _ in range(60):
        launched.now += 20
        seen = launched.observe()
        decision = decide(seen)
        lines += record(seen, decision)
        launched.history.append(decision)
        launched._carry_out(decision)
    assert {Signal.GATE_MOVED, Signal.BLIND} <= {decision.signal for decision in launched.history}
    again = list(redecide(lines))
    assert len(again) == 60
    assert all(each.same for each in again)
