"""Between two ticks a launch is looked at without asking Prometheus: what cannot be said then is not said."""

from __future__ import annotations

from typing import Any

import pytest

from controller.core.signals import Signal
from controller.core.status import State
from tests.core.builders import Course, course, ramp
from tests.core.test_whole_launch import at, planning, until

CRITERIA = [{"metric": "errors", "below": "1%"}]
STEPS = [{"weight": 5, "for": "1m", "approval": {"role": "lead"}}, {"weight": 30}]


def look(launched: Course) -> Any:
    """One round without questions; its decision."""
    launched.asked = False
    decision = launched.tick(0.5)
    launched.asked = True
    return decision


PLACES: dict[str, tuple[Signal, list[dict[str, Any]]]] = {
    "ramp/gate": (Signal.GATE_APPROVAL, [ramp(gate={"criteria": CRITERIA, "approval": {"role": "lead"}})]),
    "ramp/1": (Signal.STEP_APPROVAL, [ramp(steps=STEPS)]),
    "ramp/preflight": (Signal.PREFLIGHT_OPEN, [ramp(preflight={"opens": "1h", "approval": {"role": "lead"}})]),
}


@pytest.mark.parametrize("place", PLACES)
def test_an_approval_that_comes_between_two_ticks_is_accepted(place: str) -> None:
    signal, phases = PLACES[place]
    launched = course(phases=phases)
    until(launched, signal)
    launched.annotations["approve"] = place
    look(launched)
    launched.tick()
    (record,) = launched.status.overrides
    assert (record.verb, record.outcome) == ("approve", "accepted")


def test_an_approval_of_what_is_not_there_is_refused_between_two_ticks() -> None:
    launched = course(phases=PLACES["ramp/gate"][1])
    until(launched, Signal.GATE_APPROVAL)
    launched.annotations["approve"] = "rollout/gate"
    look(launched)
    assert launched.status.overrides[-1].outcome == "refused"


WAITS: dict[str, tuple[Signal, list[dict[str, Any]]]] = {
    **PLACES,
    "a step": (Signal.STEP_NOT_DONE, [ramp()]),
    "a gate": (Signal.GATE_OPEN, [ramp(gate={"after": "1h", "criteria": CRITERIA})]),
    "deliverables": (
        Signal.DELIVERABLES_MISSING,
        [ramp(deliverables=["runbook"], gate={"criteria": CRITERIA}, monitoring="intensive")],
    ),
    "a preflight that is late": (
        Signal.PREFLIGHT_LATE,
        [ramp(start={"at": at(120)}, preflight={"opens": "1m", "checklist": ["a"]})],
    ),
    "planning": (Signal.GATE_APPROVAL, [planning(gate={"approval": {"role": "cto"}}), ramp()]),
}


@pytest.mark.parametrize("wait", WAITS)
def test_a_round_without_questions_changes_nothing_of_what_the_launch_waits_for(wait: str) -> None:
    signal, phases = WAITS[wait]
    launched = course(phases=phases)
    until(launched, signal)
    launched.tick()
    before = launched.status
    for _ in range(5):
        decision = look(launched)
        assert not decision.decisive
        assert not decision.changed
        assert decision.message == before.message
    assert (launched.status.state, launched.status.reason) == (before.state, before.reason)


def test_a_hold_that_is_taken_away_between_two_ticks_ends_at_once() -> None:
    launched = course(phases=[ramp()])
    until(launched, Signal.STEP_NOT_DONE)
    launched.annotations["hold"] = "wait"
    assert look(launched).status.state is State.HELD
    del launched.annotations["hold"]
    assert look(launched).status.state is State.PROGRESSING
