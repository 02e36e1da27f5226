"""When phases begin and gates are judged, and what moves when something is late."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.plan import Gate, Outcome, Phase, Plan, Preflight
from controller.core.schedule import (
    LATE,
    coming_since,
    gate_due,
    gate_moved,
    instants,
    move_of,
    moved,
    not_ready_at,
    passed_late,
    planned_end,
    preflight_opens,
    put_off,
    shift_of,
    start_of,
)
from controller.core.status import GateStatus, Move, Run, Status
from controller.core.units import format_instant
from tests.core.builders import NOW, plan, ramp

HOUR, DAY = 3600.0, 86400.0
ONE, TWO, THREE = NOW + DAY, NOW + 3 * DAY, NOW + 7 * DAY
GATED = {"criteria": [{"metric": "errors", "below": "1%"}]}


def phase(name: str, at: float | None = None, **changes: Any) -> dict[str, Any]:
    """A phase of one step that starts at an instant."""
    start = None if at is None else {"at": format_instant(at)}
    return ramp(name, start=start, steps=[{"weight": 5}], **changes)


def gate_at(at: float) -> dict[str, Any]:
    """A gate that is judged at an instant."""
    return {"at": format_instant(at), **GATED}


# Ramp for a day, a day of rest, roll-out for a day, then a phase that begins when it has passed.
PLAN = plan(
    phases=[
        phase("ramp", ONE, gate=gate_at(ONE + DAY)),
        phase("rollout", TWO, gate=gate_at(TWO + DAY)),
        phase("rest"),
        phase("last", THREE),
    ]
)
RAMP, ROLLOUT, REST, LAST = PLAN.phases


def running(name: str, began: float = NOW, **changes: Any) -> Status:
    """A run in that phase."""
    run = Run(number=1, revision="v2", started_at=NOW - 60, stands_on={})
    return Status(**{"run": run, "phase": name, "phase_started_at": began, **changes})


def starts(status: Status, known: Plan = PLAN) -> dict[str, float | None]:
    """The start of each phase as things stand."""
    return {each.name: start_of(each, status) for each in known.phases}


PLANNED = starts(Status())


def test_a_phase_starts_when_its_plan_says() -> None:
    assert PLANNED == {"ramp": ONE, "rollout": TWO, "rest": None, "last": THREE}


def test_a_moved_phase_starts_by_as_much_later_or_at_the_instant_that_was_set() -> None:
    later = Status(moves=(Move(phase="rollout", by=HOUR), Move(phase="rest", by=HOUR)))
    assert starts(later) == {**PLANNED, "rollout": TWO + HOUR}
    set_to = Status(moves=(Move(phase="rollout", by=HOUR, start=TWO + 9), Move(phase="rest", start=NOW)))
    assert starts(set_to) == {**PLANNED, "rollout": TWO + 9, "rest": NOW}
    assert move_of(set_to, "ramp") is None
    assert (shift_of(set_to, "rollout"), shift_of(set_to, "ramp")) == (HOUR, 0.0)


def test_a_move_moves_what_follows_and_nothing_before() -> None:
    status = moved(Status(), PLAN, "rollout", HOUR, "why")
    assert starts(status) == {**PLANNED, "rollout": TWO + HOUR, "last": THREE + HOUR}
    assert [(move.phase, move.by, move.why) for move in status.moves] == [
        (name, HOUR, "why") for name in ("rollout", "rest", "last")
    ]
    again = moved(status, PLAN, "last", 60.0, "again")
    assert starts(again) == {**PLANNED, "rollout": TWO + HOUR, "last": THREE + HOUR + 60}
    assert [move.why for move in again.moves] == ["why", "why", "again"]


def test_a_phase_may_be_moved_to_an_instant_and_earlier_again() -> None:
    status = moved(Status(), PLAN, "rollout", 2 * HOUR, "later", start=TWO + 2 * HOUR)
    assert starts(status) == {**PLANNED, "rollout": TWO + 2 * HOUR, "last": THREE + 2 * HOUR}
    back = moved(status, PLAN, "rollout", -2 * HOUR, "as planned", start=TWO)
    assert starts(back) == PLANNED
    # An instant that was set moves along when an earlier phase is moved.
    both = moved(status, PLAN, "ramp", HOUR, "all")
    assert starts(both) == {
        "ramp": ONE + HOUR, "rollout": TWO + 3 * HOUR, "rest": None, "last": THREE + 3 * HOUR,
    }  # fmt: skip


def test_a_gate_is_judged_at_its_instant_after_its_time_or_where_it_was_put() -> None:
    assert gate_due(RAMP, running("ramp")) == ONE + DAY
    assert gate_due(RAMP, running("ramp", moves=(Move(phase="ramp", by=HOUR),))) == ONE + DAY + HOUR
    assert gate_due(RAMP, running("ramp", gate=GateStatus(due_at=NOW + 5))) == NOW + 5
    assert gate_due(REST, running("rest")) is None
    after = plan(phases=[phase("ramp", gate={"after": "4h", **GATED})]).phases[0]
    assert gate_due(after, running("ramp", began=NOW)) == NOW + 4 * HOUR
    assert gate_due(after, running("ramp", phase_started_at=None)) is None
    open_ = plan(phases=[phase("ramp", gate=GATED)]).phases[0]
    assert gate_due(open_, running("ramp")) is None


def test_what_is_put_off_is_so_from_its_own_time_or_from_now_where_that_is_over_too() -> None:
    assert put_off(NOW - 60, HOUR, NOW) == NOW - 60 + HOUR
    assert put_off(NOW + 60, HOUR, NOW) == NOW + 60 + HOUR
    assert put_off(NOW - HOUR, HOUR, NOW) == put_off(NOW - DAY, HOUR, NOW) == put_off(None, HOUR, NOW) == NOW + HOUR


def test_a_gate_that_is_put_off_counts_what_put_it_off() -> None:
    status = gate_moved(running("ramp"), "fail", NOW + HOUR)
    assert status.gate == GateStatus(due_at=NOW + HOUR, used={"fail": 1})
    status = gate_moved(gate_moved(status, "undecided", NOW + 2 * HOUR), "fail", NOW + 3 * HOUR)
    assert status.gate == GateStatus(due_at=NOW + 3 * HOUR, used={"fail": 2, "undecided": 1})


def test_the_planned_end_is_that_of_the_gate_or_the_phase() -> None:
    assert planned_end(RAMP) == ONE + DAY
    assert planned_end(REST) is None
    assert planned_end(replace(RAMP, end=ONE + 5, gate=None)) == ONE + 5
    gate = Gate(None, 600.0, (), (), "", Outcome("hold"), Outcome("hold"), Outcome("hold"))
    assert planned_end(replace(RAMP, gate=gate)) == ONE + 600
    assert planned_end(replace(RAMP, gate=gate, start=None, end=None)) is None


def ready(name: Phase, opens: float) -> Phase:
    """The phase with a preflight."""
    return replace(name, preflight=Preflight(opens, ("a",), "", Outcome("hold")))


def test_a_preflight_opens_before_its_start_but_not_before_the_phase_before_has_passed() -> None:
    coming = ready(ROLLOUT, DAY)
    assert preflight_opens(coming, Status(), since=NOW) == TWO - DAY
    assert preflight_opens(coming, Status(), since=TWO - HOUR) == TWO - HOUR
    late = Status(moves=(Move(phase="rollout", by=HOUR),))
    assert preflight_opens(coming, late, since=NOW) == TWO - DAY + HOUR
    assert preflight_opens(ready(REST, DAY), Status(), since=NOW) == NOW


def test_it_is_too_late_to_be_ready_at_the_start_or_once_the_preflight_was_open_for_its_time() -> None:
    coming = ready(ROLLOUT, DAY)
    assert not_ready_at(coming, Status(), since=NOW) == TWO
    assert not_ready_at(coming, Status(), since=TWO + 5) == TWO + 5 + DAY
    assert not_ready_at(ready(REST, DAY), Status(), since=NOW) == NOW + DAY
    assert not_ready_at(REST, Status(), since=NOW) == NOW


def test_the_wait_for_a_phase_begins_with_the_run_or_when_the_one_before_has_passed() -> None:
    assert coming_since(Status()) == 0.0
    assert coming_since(running("ramp")) == NOW - 60
    assert coming_since(running("ramp", gate=GateStatus(passed_at=NOW + 9))) == NOW + 9


# A phase that passes late


def test_a_pass_in_time_moves_nothing() -> None:
    for at in (ONE + DAY, TWO, TWO + LATE):
        assert passed_late(running("ramp"), RAMP, ROLLOUT, at) == (running("ramp"), "")
    assert passed_late(running("rollout"), ROLLOUT, REST, THREE + DAY) == (running("rollout"), "")
    assert passed_late(running("last"), LAST, None, THREE + DAY) == (running("last"), "")


def test_a_late_pass_moves_the_next_phase_and_keeps_what_the_plan_leaves_between_them() -> None:
    passed = TWO + HOUR
    status, said = passed_late(running("ramp"), RAMP, ROLLOUT, passed)
    assert starts(status) == {**PLANNED, "rollout": passed + DAY}
    assert shift_of(status, "rollout") == DAY + HOUR
    assert said == "ramp passed 1d1h late: rollout moved from Nov 17 22:13 to Nov 18 23:13"
    assert status.moves[0].why == said


def test_a_late_pass_of_phases_that_touch_moves_the_next_to_now() -> None:
    known = plan(phases=[phase("ramp", ONE, gate=gate_at(TWO)), phase("rollout", TWO)])
    status, said = passed_late(running("ramp"), known.phases[0], known.phases[1], TWO + 26 * HOUR)
    assert starts(status, known)["rollout"] == TWO + 26 * HOUR
    assert said.startswith("ramp passed 1d2h late: rollout moved from ")


def test_a_late_pass_of_a_phase_without_an_end_is_late_by_what_it_takes_of_the_next() -> None:
    open_ = replace(RAMP, gate=None)
    status, said = passed_late(running("ramp"), open_, ROLLOUT, TWO + HOUR)
    assert starts(status)["rollout"] == TWO + HOUR
    assert said.startswith("ramp passed 1h late: ")


def test_a_late_pass_counts_from_where_the_next_phase_was_moved_to() -> None:
    before = moved(running("ramp"), PLAN, "rollout", 2 * DAY, "by hand", start=TWO + 2 * DAY)
    assert passed_late(before, RAMP, ROLLOUT, TWO + DAY) == (before, "")
    status, _ = passed_late(before, RAMP, ROLLOUT, TWO + 3 * DAY)
    move = move_of(status, "rollout")
    assert move is not None
    assert (move.start, move.by) == (TWO + 4 * DAY, 4 * DAY)
    assert starts(status)["last"] == THREE + 2 * DAY


@settings(max_examples=30, deadline=None)
@given(late=st.floats(0, 30 * DAY), before=st.floats(-DAY, 10 * DAY))
def test_no_phase_is_planned_in_the_past_after_the_one_before_has_passed(late: float, before: float) -> None:
    status = moved(running("ramp"), PLAN, "rollout", before, "by hand", start=TWO + before)
    now = ONE + DAY + late
    status, said = passed_late(status, RAMP, ROLLOUT, now)
    start = start_of(ROLLOUT, status)
    assert start is not None
    assert start >= now - LATE
    assert (start != TWO + before) == bool(said)


# Every instant that is worth a look


def test_every_instant_of_the_calendar_is_named_once_and_in_order() -> None:
    known = plan(
        phases=[
            phase("ramp", ONE, gate=gate_at(ONE + DAY), preflight={"opens": "2h"}, checkpoints=["1h", "2h"]),
            phase("rollout", ONE + DAY, end=format_instant(TWO)),
        ],
        freezes=[{"name": "winter", "from": format_instant(TWO + 1), "to": format_instant(TWO + 2)}],
    )
    planned = instants(known, Status())
    assert planned == (ONE - 2 * HOUR, ONE, ONE + DAY, TWO, TWO + 1, TWO + 2)
    began = ONE + 60
    assert instants(known, running("ramp", began=began)) == (
        ONE - 2 * HOUR, ONE, began + HOUR, began + 2 * HOUR, ONE + DAY, TWO, TWO + 1, TWO + 2,
    )  # fmt: skip
    later = moved(running("ramp", began=began), known, "rollout", HOUR, "later")
    assert {ONE + DAY + HOUR, TWO + HOUR} <= set(instants(known, later))
    moved_gate = moved(Status(), known, "ramp", HOUR, "later")
    assert {ONE + HOUR, ONE + DAY + HOUR} <= set(instants(known, moved_gate))
    # Nothing is known of the checkpoints of a phase that is only waited for.
    assert instants(known, running("ramp", phase_started_at=None)) == planned
    later_gate = gate_moved(running("ramp", began=began), "fail", ONE + 2 * DAY - 5)
    assert ONE + 2 * DAY - 5 in instants(known, later_gate)
    assert all(one < other for one, other in pairwise(instants(known, later)))


@pytest.mark.parametrize("status", [Status(), running("rest")], ids=["before", "within"])
def test_a_plan_without_dates_names_no_instant(status: Status) -> None:
    assert instants(plan(phases=[ramp("rest")]), status) == ()
