"""The whole plan with where it stands: what was planned, what was, and what is to come."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from controller.adapters.yaml_documents import read_documents
from controller.core.plan import Plan, parse
from controller.core.signals import Signal
from controller.core.status import State, Status
from controller.core.timeline import MOST_CLOSED, PhaseRow, Timeline, document, timeline
from controller.core.units import format_date
from tests.core.builders import NOW, Course, bad, course, plan, ramp, target
from tests.core.test_whole_launch import HOUR, PREFLIGHT, at, planning, until
from tests.realparts.parts import ROOT

DAY = 86400.0
STRICT = [{"metric": "errors", "below": "0.5%"}]


def line_of(launched: Course) -> Timeline:
    assert isinstance(launched.plan, Plan)
    line = timeline(launched.plan, launched.status, launched.now)
    sound(line)
    return line


def sound(line: Timeline) -> None:
    """No row runs backwards, and every instant is within the picture."""
    for row in line.phases:
        known = [instant for instant in (row.start, row.passes, row.ends) if instant is not None]
        assert known == sorted(known), row
        assert row.planned_start <= row.planned_pass <= row.planned_end
        assert all(line.begins <= instant <= line.ends for instant in (*known, row.planned_start, row.planned_end))
        steps = [step.at for step in row.steps if step.at is not None]
        assert steps == sorted(steps), row
    starts = [row.start for row in line.phases if row.start is not None]
    assert starts == sorted(starts)
    assert sum(row.here for row in line.phases) <= 1
    assert "None" not in json.dumps(document(line))


def row_of(line: Timeline, name: str) -> PhaseRow:
    return next(row for row in line.phases if row.name == name)


def november() -> Plan:
    text = (ROOT / "deploy/examples/november-launch.yaml").read_text()
    return parse(read_documents(text)[0].value)


def test_a_plan_that_nobody_runs_shows_its_own_dates() -> None:
    line = timeline(november(), Status(), None)
    sound(line)
    assert (line.state, line.now, line.relative) == ("", None, False)
    assert [(row.name, format_date(row.start or 0), format_date(row.passes or 0)) for row in line.phases[:4]] == [
        ("canary", "Oct 24 14:00", "Oct 31 23:59"),
        ("ramp", "Nov 1 14:00", "Nov 1 18:00"),
        ("rollout", "Nov 2 16:00", "Nov 3 16:00"),
        ("stabilisation", "Nov 4 16:00", "Nov 15 23:59"),
    ]
    assert all((row.start, row.passes) == (row.planned_start, row.planned_pass) for row in line.phases)
    assert not any(row.late or row.begun or row.here for row in line.phases)
    rollout = row_of(line, "rollout")
    assert format_date(rollout.planned_end) == "Nov 4 04:00", "its gate lies inside the phase"
    assert rollout.ends == row_of(line, "stabilisation").start
    assert [closed.why.split()[1] for closed in line.closed] == ["thanksgiving", "holidays"]


def test_a_plan_without_dates_counts_from_its_beginning() -> None:
    line = timeline(plan(phases=[ramp(), ramp("rollout", steps=[{"weight": 60, "for": "10m"}])]), Status(), None)
    sound(line)
    assert line.relative
    assert [(row.start, row.passes) for row in line.phases] == [(0.0, 80.0), (80.0, 690.0)]
    written = document(line)
    assert written["phases"][1]["start"] == "+80s"
    assert written["phases"][1]["steps"][0]["lasts"] == "10m"


def test_phases_before_the_first_date_are_counted_back_from_it() -> None:
    line = timeline(
        plan(phases=[ramp(), ramp("rollout", start={"at": at(HOUR)}, steps=[{"weight": 60}])]), Status(), None
    )
    assert not line.relative
    assert [row.planned_start for row in line.phases] == [NOW + HOUR - 80, NOW + HOUR]


def test_what_is_told_to_come_comes() -> None:
    phases = [
        planning(end=at(600)),
        ramp(
            gate={"after": "10m", "criteria": STRICT}, steps=[{"weight": 5, "for": "2m"}, {"weight": 30, "for": "3m"}]
        ),
        ramp("rollout", steps=[{"weight": 60, "for": "1m"}, {"weight": 100, "for": "1m"}], start={"at": at(HOUR)}),
        planning("stay", gate={"after": "20m", "criteria": STRICT}),
    ]
    launched = course(phases=phases, freezes=[{"name": "sale", "from": at(HOUR - 60), "to": at(2 * HOUR)}])
    launched.run(2)
    told = line_of(launched)
    launched.until(State.SUCCEEDED, 1200)
    was = line_of(launched)
    for before, after in zip(told.phases, was.phases, strict=True):
        assert after.passed
        assert after.begun
        assert after.start == pytest.approx(before.start, abs=30), after.name
        assert after.passes == pytest.approx(before.passes, abs=60), after.name
    assert row_of(was, "rollout").start == pytest.approx(NOW + 2 * HOUR, abs=30), "nothing is raised in a freeze"
    assert row_of(told, "rollout").late == pytest.approx(HOUR, abs=1)


def test_a_launch_is_sound_at_every_tick() -> None:
    gate = {"at": at(600), "criteria": STRICT, "approval": {"role": "lead"}, "onFail": {"extend": "5m", "times": 2}}
    phases = [
        ramp(gate=gate, checkpoints=["1m", "5m", "30m"]),
        ramp("rollout", steps=[{"weight": 60}], start={"at": at(1200)}, preflight=PREFLIGHT),
        planning("end", end=at(2000)),
    ]
    launched = course(phases=phases, windows=[{"days": ["Tue"], "from": "22:00", "to": "23:00"}])
    states = set()
    for tick in range(400):
        launched.tick()
        line_of(launched)
        states.add(launched.status.state)
        if tick == 100:
            launched.annotations["approve"] = "ramp/gate"
        if tick == 200:
            launched.annotations |= {"done": "rollout/dashboards", "approve": "rollout/preflight"}
        if tick == 350:
            launched.traffic = bad
    assert {State.AWAITING_APPROVAL, State.PROGRESSING, State.HELD} <= states


def test_a_late_gate_shows_what_it_moves_before_and_after_it_was_moved() -> None:
    first = ramp(steps=[{"weight": 5, "for": "30s"}], gate={"at": at(600), "approval": {"role": "lead"}})
    phases = [first, ramp("rollout", steps=[{"weight": 60}], start={"at": at(1200)}), planning("end", end=at(1900))]
    launched = course(phases=phases)
    until(launched, Signal.GATE_APPROVAL)
    on_time = line_of(launched)
    assert row_of(on_time, "rollout").late == 0
    assert on_time.phases[0].gate is not None
    assert on_time.phases[0].gate.state == "waiting"
    launched.run(120)
    expected = row_of(line_of(launched), "rollout")
    assert expected.late == pytest.approx(launched.now - NOW - 600, abs=1)
    assert expected.why == "", "nothing was decided yet"
    launched.annotations["approve"] = "ramp/gate"
    until(launched, Signal.PHASE_PASSED)
    moved = row_of(line_of(launched), "rollout")
    assert moved.why.startswith("ramp passed 20m10s late: rollout moved from Nov 14 22:33 to Nov 14 22:53")
    assert moved.start == pytest.approx(expected.start, abs=20)
    assert (moved.here, moved.tense) == (True, "to come")
    assert line_of(launched).phases[0].tense == "past"


def test_steps_say_when_they_began_or_may() -> None:
    steps = [{"weight": 5, "for": "2m"}, {"weight": 30, "for": "2m"}, {"weight": 100, "for": "2m"}]
    launched = course(phases=[ramp(steps=steps)])
    launched.until_weight(300)
    (row,) = line_of(launched).phases
    assert [(step.tense, step.weight) for step in row.steps] == [("past", 50), ("now", 300), ("to come", 1000)]
    ats = [step.at for step in row.steps]
    assert ats[0] == row.start
    assert ats[1] == launched.now
    assert ats[2] == launched.now + 130
    assert row.passes == launched.now + 260


def test_a_step_that_goes_on_longer_moves_the_next_one_with_the_clock() -> None:
    launched = course(phases=[ramp(steps=[{"weight": 5, "for": "30s", "approval": {"role": "lead"}}, {"weight": 30}])])
    until(launched, Signal.STEP_APPROVAL)
    launched.run(60)
    (row,) = line_of(launched).phases
    assert row.steps[1].at == launched.now


def test_checkpoints_say_what_they_found() -> None:
    phase = ramp(
        steps=[{"weight": 30}],
        checkpoints=["1m", "2m", "3m", "5m", "20m"],
        gate={"after": "10m", "approval": {"role": "lead"}},
        guardrails=[{"metric": "errors", "below": "2%"}, {"metric": "errors", "below": "1%", "enforce": False}],
    )
    launched = course(phases=[phase])
    launched.until_weight(300)
    launched.traffic = lambda subject, now: (1e5, 0.0 if now < NOW + 130 else 1500.0)
    launched.now = NOW + 80
    launched.tick()
    launched.now = NOW + 240
    launched.run(3)
    launched.now = NOW + 320
    launched.tick()
    (row,) = line_of(launched).phases
    assert [one.state for one in row.checkpoints] == ["passed", "missed", "failed", "failed", "to come"]
    assert row.checkpoints[0].passed == 2
    assert row.start is not None
    assert row.checkpoints[-1].at == row.start + 1200


@pytest.mark.parametrize(
    ("gate", "signal", "state"),
    [
        ({"at": at(600), "criteria": STRICT}, Signal.GATE_FAILED, "failed"),
        ({"at": at(600), "criteria": STRICT, "onFail": "escalate"}, Signal.ESCALATED, "failed"),
        ({"at": at(600), "criteria": STRICT, "onFail": {"extend": "20m"}}, Signal.GATE_MOVED, "to come"),
        ({"at": at(600), "criteria": STRICT, "onFail": "rollback"}, Signal.BREACH, "not reached"),
    ],
    ids=["hold", "escalate", "extend", "rollback"],
)
def test_a_gate_that_fails_says_so(gate: dict[str, Any], signal: Signal, state: str) -> None:
    launched = course(phases=[ramp(gate=gate), ramp("rollout", start={"at": at(700)}, steps=[{"weight": 60}])])
    launched.traffic = lambda subject, now: (1000.0, 9.0)
    until(launched, signal)
    if signal is Signal.BREACH:
        launched.until(State.ROLLED_BACK)
    row, following = line_of(launched).phases
    assert row.gate is not None
    assert row.gate.state == state
    assert row.gate.planned == NOW + 600
    assert row.gate.put_off == ({"fail": 1} if signal is Signal.GATE_MOVED else {})
    if signal is Signal.GATE_MOVED:
        assert row.gate.at == NOW + 600 + 1200
        assert following.start == pytest.approx(NOW + 1900, abs=1), "the gap that the plan leaves stays"


def test_deliverables_that_are_open_stand_with_their_gate() -> None:
    launched = course(phases=[planning(deliverables=["a", "b"], end=at(600)), ramp()])
    launched.annotations["done"] = "planning/a"
    until(launched, Signal.DELIVERABLES_MISSING)
    gate = line_of(launched).phases[0].gate
    assert gate is not None
    assert (gate.state, gate.missing, gate.at) == ("waiting", ("b",), launched.now)


def test_what_was_rolled_back_ends_there_and_the_rest_is_not_reached() -> None:
    launched = course(
        phases=[ramp(), ramp("rollout", steps=[{"weight": 60, "for": "1h"}]), planning("end", end=at(DAY))]
    )
    launched.until_weight(600)
    launched.traffic = bad
    launched.until(State.ROLLED_BACK)
    launched.run(10)
    line = line_of(launched)
    assert [row.tense for row in line.phases] == ["past", "stopped", "not reached"]
    stopped, last = line.phases[1:]
    assert (stopped.here, stopped.ends, stopped.passes) == (True, launched.status.ended_at, None)
    assert (last.start, last.passes, last.ends) == (None, None, None)
    assert last.planned_end == NOW + DAY


def test_a_launch_that_succeeded_has_only_a_past() -> None:
    launched = course(phases=[ramp(checkpoints=["30s", "9h"]), ramp("rollout", steps=[{"weight": 60}])])
    launched.until(State.SUCCEEDED)
    line = line_of(launched)
    assert [row.tense for row in line.phases] == ["past", "past"]
    assert [step.tense for row in line.phases for step in row.steps] == ["past"] * 3
    assert [one.state for one in line.phases[0].checkpoints] == ["passed", "taken"]
    assert line.phases[-1].ends == launched.status.ended_at


def test_a_passed_phase_goes_on_being_watched_until_the_next_begins() -> None:
    launched = course(phases=[ramp(), ramp("rollout", steps=[{"weight": 60}], start={"at": at(HOUR)})])
    until(launched, Signal.PHASE_PASSED)
    launched.tick()
    first, second = line_of(launched).phases
    assert first.passes is not None
    assert first.passes < NOW + 200
    assert first.ends == second.start == NOW + HOUR


def test_a_preflight_is_shown_where_it_opens() -> None:
    launched = course(phases=[ramp(start={"at": at(HOUR)}, preflight=PREFLIGHT)])
    launched.run(2)
    assert line_of(launched).phases[0].preflight_opens == NOW + HOUR - 600


def test_windows_are_told_as_the_stretches_without_raises() -> None:
    windows = [{"days": ["Mon", "Tue", "Wed", "Thu"], "from": "09:00", "to": "18:00"}]
    shown = timeline(
        plan(windows=windows, phases=[ramp(start={"at": at(0)}), planning("end", end=at(7 * DAY))]), Status(), None
    )
    assert len(shown.closed) == 5, "four nights, and from Thursday to Monday"
    assert {closed.why for closed in shown.closed} == {"outside window Mon-Thu 09:00-18:00 UTC"}
    assert all(before.end < after.start for before, after in pairwise(shown.closed))
    long = timeline(
        plan(windows=windows, phases=[ramp(start={"at": at(0)}), planning("end", end=at(360 * DAY))]), Status(), None
    )
    assert len(long.closed) == MOST_CLOSED
    assert long.more_closed > 50


def test_freezes_that_overlap_are_told_one_after_the_other() -> None:
    freezes = [
        {"name": "sale", "from": at(100), "to": at(1000)},
        {"name": "audit", "from": at(500), "to": at(2000)},
    ]
    shown = timeline(
        plan(freezes=freezes, phases=[planning(start={"at": at(0)}, end=at(HOUR)), ramp()]), Status(), None
    )
    assert [(closed.start - NOW, closed.end - NOW, closed.why.split()[1]) for closed in shown.closed] == [
        (100, 500, "sale"),
        (500, 1000, "audit"),
        (1000, 2000, "audit"),
    ]


def test_a_launch_that_has_not_begun_begins_now_at_the_earliest() -> None:
    launched = course(targets=[target("us"), target("eu")])
    line = line_of(launched)
    assert (line.state, line.phases[0].start, line.phases[0].begun) == ("Pending", NOW, False)
    assert line.phases[0].targets == ("us", "eu")


def test_a_running_phase_that_is_no_longer_in_the_plan_leaves_the_others_as_they_are() -> None:
    launched = course(phases=[ramp(), ramp("rollout", steps=[{"weight": 60}])])
    launched.until_weight(50)
    launched.plan = plan(phases=[ramp("rollout", steps=[{"weight": 60}]), planning("end", end=at(DAY))])
    until(launched, Signal.PLAN_CHANGED)
    line = line_of(launched)
    assert [(row.name, row.tense, row.here) for row in line.phases] == [
        ("rollout", "to come", False),
        ("end", "to come", False),
    ]
    assert line.reason == "PlanChanged"


def test_the_next_run_keeps_what_need_not_be_run_again() -> None:
    phases = [planning(deliverables=["team"]), ramp(start={"at": at(300)}, steps=[{"weight": 5, "for": "10m"}])]
    launched = course(phases=phases)
    launched.annotations["done"] = "planning/team"
    launched.until_weight(50)
    launched.plan = plan(phases=phases, revision="v3")
    launched.until_weight(50)
    line = line_of(launched)
    assert [(row.name, row.tense, row.here) for row in line.phases] == [
        ("planning", "past", False),
        ("ramp", "now", True),
    ]
    assert line.phases[0].start == NOW + 20
    assert line.begins <= NOW + 20, "what was before the run is in the picture"
