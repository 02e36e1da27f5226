"""A gate may ask that every guardrail passes over its whole phase, and that the launch was not held in it."""

from __future__ import annotations

from typing import Any

import pytest

from controller.core.decide import Decision, decide
from controller.core.evidence import Outcome
from controller.core.ledger import record, redecide
from controller.core.plan import InvalidPlanError, parse
from controller.core.questions import questions
from controller.core.signals import Signal
from controller.core.status import State
from tests.core.builders import Course, bad, course, document, good, plan, ramp, silent

ALL = {"guardrails": "pass"}
NO_HOLDS = {"metric": "holds", "atMost": 0}
GATE = {"after": "20m", "criteria": [ALL, NO_HOLDS]}
TWO = [
    {"metric": "errors", "below": "2%"},
    {"metric": "latency", "quantile": 0.99, "below": "500ms", "enforce": False},
    {"metric": "availability", "above": "95%"},
]


def launch(gate: dict[str, Any] = GATE, **phase: Any) -> Course:
    launched = course(phases=[ramp(gate=gate, **phase)])
    launched.through_json = True
    return launched


def until(launched: Course, signal: Signal, ticks: int = 400) -> str:
    """Ticks until that signal; its message."""
    for _ in range(ticks):
        decision = launched.tick()
        if decision.signal is signal:
            return decision.message
    raise AssertionError(f"no {signal} in {ticks} ticks, but {launched.status.state}: {launched.status.message}")


def held_for_a_minute(launched: Course) -> None:
    launched.until_weight(300)
    launched.run(20)
    launched.annotations["hold"] = "a look at the logs"
    launched.run(6)
    assert launched.status.state is State.HELD
    del launched.annotations["hold"]


def test_the_guardrails_that_are_enforced_stand_for_themselves_at_the_gate() -> None:
    gate = plan(phases=[ramp(gate=GATE, guardrails=TWO)]).phases[0].gate
    assert gate is not None
    assert [each.key for each in gate.criteria] == ["errors below 2%", "availability above 95%", "holds at most 0"]
    assert gate.written == (0, 0, 1)


def test_what_is_a_guardrail_and_written_at_the_gate_besides_is_judged_once() -> None:
    criteria = [{"metric": "errors", "below": "2%"}, ALL]
    gate = plan(phases=[ramp(gate={"after": "20m", "criteria": criteria})]).phases[0].gate
    assert gate is not None
    assert [each.key for each in gate.criteria] == ["errors below 2%"]


def test_a_phase_without_holds_passes_and_says_so() -> None:
    launched = launch()
    launched.until(State.SUCCEEDED)
    (shown,) = [item for item in launched.status.criteria if item.criterion == "holds at most 0"]
    assert (shown.target, shown.verdict, shown.value, shown.limit) == ("", "pass", "0", "0")
    assert shown.sentence == "holds at most 0: never held in this phase"


def test_one_hold_in_the_phase_fails_its_gate_though_it_has_ended() -> None:
    launched = launch()
    held_for_a_minute(launched)
    message = until(launched, Signal.GATE_FAILED)
    assert message == "gate of phase ramp: holds at most 0: held once in this phase, none is allowed"
    assert launched.status.phases[0].holds == 1


def test_as_many_holds_as_are_allowed_pass() -> None:
    launched = launch({"after": "20m", "criteria": [{"metric": "holds", "atMost": 1}]})
    held_for_a_minute(launched)
    launched.until(State.SUCCEEDED)


def test_a_hold_for_want_of_data_counts_as_well() -> None:
    launched = launch()
    launched.until_weight(300)
    launched.traffic = silent
    launched.until(State.HELD)
    launched.traffic = good
    assert "held once in this phase" in until(launched, Signal.GATE_FAILED)


def test_what_only_waits_for_people_is_no_hold_of_the_service() -> None:
    launched = launch(deliverables=["runbook"])
    until(launched, Signal.DELIVERABLES_MISSING)
    assert launched.status.state is State.HELD
    launched.annotations["done"] = "ramp/runbook"
    launched.until(State.SUCCEEDED)


def test_the_hold_is_counted_once_however_long_it_lasts_and_through_a_restart() -> None:
    launched = launch()
    launched.until_weight(300)
    launched.annotations["hold"] = "a look at the logs"
    for _ in range(3):
        launched.run(10)
        launched.folds = {}
    assert launched.status.phases[0].holds == 1


def test_a_retry_and_an_extension_forgive_what_was_before() -> None:
    launched = launch()
    held_for_a_minute(launched)
    until(launched, Signal.GATE_FAILED)
    launched.annotations["retry"] = "the cause is known"
    launched.until(State.SUCCEEDED)
    extended = launch({**GATE, "onFail": {"extend": "10m"}})
    held_for_a_minute(extended)
    assert "held once" in until(extended, Signal.GATE_MOVED)
    extended.until(State.SUCCEEDED)


def test_nobody_is_asked_how_often_it_was_held() -> None:
    launched = launch({"after": "20m", "criteria": [NO_HOLDS]})
    launched.until_weight(50)
    assert {subject.series.kind for subject in questions(launched.observe())} == {"recorded"}
    assert not [key for key in launched.folds if "holds" in key]


def test_a_round_without_questions_takes_no_checkpoint_of_holds_alone() -> None:
    launched = launch(checkpoints=["5m"])
    launched.until_weight(300)
    launched.now = (launched.status.phase_started_at or 0) + 300
    launched.asked = False
    launched.tick(0)
    assert not launched.status.checkpoints
    launched.asked = True
    launched.tick(1)
    assert [score.after for score in launched.status.checkpoints] == ["5m"]


def test_the_decision_on_holds_can_be_made_again_from_its_record() -> None:
    launched = launch()
    held_for_a_minute(launched)
    lines: list[str] = []

    def decided() -> Decision:
        launched.now += 10
        seen = launched.observe()
        decision = decide(seen)
        lines.extend(record(seen, decision))
        launched._carry_out(decision)
        return decision

    decision = next(made for _ in range(200) if (made := decided()).signal is Signal.GATE_FAILED)
    assert all(each.same for each in redecide(lines))
    holds = [item.verdict for item in decision.verdicts if item.verdict.criterion.of_record]
    assert [verdict.outcome for verdict in holds] == [Outcome.FAIL]


@pytest.mark.parametrize(
    ("phase", "path", "words"),
    [
        ({"guardrails": [NO_HOLDS]}, "guardrails[0].metric", "write it under the gate's criteria"),
        ({"gate": {"criteria": [{"metric": "holds"}]}}, "gate.criteria[0].atMost", "write atMost: 0"),
        ({"gate": {"criteria": [{**NO_HOLDS, "below": "1%"}]}}, "gate.criteria[0].below", "write atMost: 0"),
        ({"gate": {"criteria": [ALL, ALL]}}, "gate.criteria[1]", "says the same as criteria[0]"),
        ({"gate": {"criteria": [{**ALL, "below": "1%"}]}}, "gate.criteria[0].below", "says nothing beside"),
        ({"gate": {"criteria": [{**ALL, "metric": "errors"}]}}, "gate.criteria[0].metric", "says nothing beside"),
        (
            {"gate": {"after": "1h", "criteria": [ALL]}, "guardrails": [], "steps": None},
            "gate.criteria[0].guardrails",
            "has none that is enforced; add guardrails",
        ),
        (
            {"gate": {"after": "1h", "criteria": [NO_HOLDS]}, "guardrails": []},
            "phases[0]",
            "has steps but nothing that proves them good",
        ),
    ],
)
def test_a_fault_says_where_it_is_and_what_to_write(phase: dict[str, Any], path: str, words: str) -> None:
    with pytest.raises(InvalidPlanError) as caught:
        parse(document(phases=[ramp(**phase)]))
    found = [fault for fault in caught.value.faults if fault.path.endswith(path)]
    assert found, [str(fault) for fault in caught.value.faults]
    assert words in found[0].message


def test_a_breach_in_the_phase_is_no_pass_of_the_gate() -> None:
    launched = launch()
    launched.until_weight(300)
    launched.traffic = bad
    launched.until(State.ROLLED_BACK)
