"""What a gate waits for, and what uses its extensions up: only evidence that had its time, and nothing twice."""

from __future__ import annotations

from controller.core.evidence import Outcome, Verdict
from controller.core.schedule import put_off
from controller.core.series import Reading, Row, Series
from controller.core.signals import Signal
from controller.core.status import State
from controller.core.units import format_instant
from controller.core.verdicts import advance, begin, in_force, judge
from tests.core.builders import NOW, Course, course, criterion, good, ramp, thin

ERRORS = {"metric": "errors", "below": "1%"}
HOUR = 3600.0


def until(launched: Course, signal: Signal, ticks: int = 2000) -> Course:
    for _ in range(ticks):
        if launched.tick().signal is signal:
            return launched
    raise AssertionError(f"not {signal} but {launched.status.reason}: {launched.status.message}")


def watched_loosely(**gate: object) -> Course:
    """A phase without steps behind a ramp, whose gate is judged each five minutes, an hour from now."""
    sprint = {
        "name": "sprint",
        "monitoring": "standard",
        "gate": {"at": format_instant(NOW + HOUR), "criteria": [ERRORS], **gate},
    }
    return course(phases=[ramp(), sprint])


def test_a_wait_for_deliverables_goes_on_between_two_judgements_of_the_gate() -> None:
    launched = course(
        phases=[
            ramp(),
            {"name": "sprint", "monitoring": "standard", "deliverables": ["notes"], "gate": {"after": "5m"}},
        ]
    )
    until(launched, Signal.DELIVERABLES_MISSING)
    later = launched.run(100)
    assert {decision.signal for decision in later} == {Signal.DELIVERABLES_MISSING}
    assert not any(decision.decisive for decision in later)


def test_a_gate_without_data_is_held_between_two_judgements_too() -> None:
    launched = until(watched_loosely(), Signal.PHASE_ENTERED)
    launched.run(int((NOW + HOUR - launched.now) / 10) - 12)
    launched.problem = "Prometheus did not answer"
    until(launched, Signal.BLIND)
    later = launched.run(100)
    assert {(decision.signal, decision.status.state) for decision in later} == {(Signal.BLIND, State.HELD)}


def test_what_is_put_off_is_later_than_now() -> None:
    assert put_off(100.0, 60.0, 100.0) == 160.0
    assert put_off(100.0, 60.0, 110.0) == 160.0
    assert put_off(100.0, 60.0, 500.0) == 560.0
    assert put_off(None, 60.0, 500.0) == 560.0


def test_evidence_that_a_retry_has_begun_anew_uses_no_extension_up_before_it_had_its_time() -> None:
    launched = until(watched_loosely(onUndecided={"extend": "1h", "times": 2, "then": "hold"}), Signal.PHASE_ENTERED)
    launched.traffic = lambda subject, at: (1000.0, 15.0)
    until(launched, Signal.GATE_FAILED)
    launched.traffic = thin
    launched.annotations["retry"] = "mended"
    assert launched.tick().status.hold is None
    waited = launched.run(12)
    assert Signal.GATE_MOVED not in {decision.signal for decision in waited}
    since = launched.now
    until(launched, Signal.GATE_MOVED)
    assert 1500 < launched.now - since < 2100
    assert launched.status.gate is not None
    assert launched.status.gate.used == {"undecided": 1}


def test_a_gate_that_comes_undecided_to_its_time_is_put_off_at_once() -> None:
    launched = until(watched_loosely(onUndecided={"extend": "1h", "times": 2, "then": "hold"}), Signal.PHASE_ENTERED)
    launched.traffic = thin
    until(launched, Signal.GATE_MOVED)
    assert NOW + HOUR <= launched.now <= NOW + HOUR + 20


def test_data_that_were_lost_can_be_done_without_by_a_retry() -> None:
    launched = until(watched_loosely(criteria=[ERRORS, {"incidents": "critical", "atMost": 0}]), Signal.PHASE_ENTERED)
    launched.traffic = lambda subject, at: (0.0, 0.0) if subject.series.kind == "incidents" else good(subject, at)
    launched.run(30)
    seen = launched.traffic
    launched.traffic = lambda subject, at: None if NOW + 900 < at < NOW + 2700 else seen(subject, at)
    until(launched, Signal.BLIND)
    launched.run(int((NOW + HOUR - launched.now) / 10) + 30)
    assert launched.status.state is State.HELD
    assert "no proof for" in launched.status.message
    launched.annotations["retry"] = "nothing in the log"
    launched.tick()
    until(launched, Signal.LAUNCH_PASSED)


def test_a_bare_value_that_comes_back_passes_on_nothing_from_before_it_was_gone() -> None:
    series = Series("value", "uplift", interval=10, settle=10.0)
    above = criterion(key="uplift above 5", series=series, limit=5.0, side="above", certainty=None, min_bad=1)
    began = int(NOW)
    fold = in_force(above, begin(above, began, None), began)
    rows = [Row(float(at), 1.0, 6.0) for at in range(began + 10, began + 210, 10)]
    fold = advance(above, fold, rows, began + 200)

    def said(at: int, *tail: Row) -> Verdict:
        through = at - 10
        now = advance(above, fold, [], through)
        return judge(above, "main", now, Reading(through, through, (), tail), float(at))

    assert said(began + 210, Row(began + 210.0, 1.0, 6.0)).outcome is Outcome.PASS
    assert said(began + 900, Row(began + 900.0, 1.0, 6.0)).outcome is Outcome.UNDECIDED
    assert said(began + 900).outcome is Outcome.NO_DATA
