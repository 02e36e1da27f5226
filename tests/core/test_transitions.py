"""The table says for every state and signal what is done and where that leads; here it is written out once more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import TypeAlias

import pytest

from controller.core.signals import Signal
from controller.core.status import UNDER_WAY, State
from controller.core.transitions import TRANSITIONS, Action, Cell, transition

Table: TypeAlias = Mapping[Signal, Mapping[State, Cell]]

CELLS: dict[str, tuple[Action, State | None]] = {
    ".": (Action.WAIT, None),
    "i": (Action.WAIT, State.INVALID),
    "h": (Action.WAIT, State.HELD),
    "p": (Action.WAIT, State.PROGRESSING),
    "j": (Action.WAIT, State.JUDGING),
    "s": (Action.WAIT, State.SCHEDULED),
    "w": (Action.WAIT, State.AWAITING_APPROVAL),
    "S": (Action.START, State.PROGRESSING),
    "a": (Action.ADOPT, State.PROGRESSING),
    "R": (Action.RETREAT, State.ROLLING_BACK),
    "W": (Action.WITHDRAW, None),
    "<": (Action.RETURN, None),
    "H": (Action.HOLD, State.HELD),
    "m": (Action.MOVE_START, State.SCHEDULED),
    "g": (Action.MOVE_GATE, State.JUDGING),
    "^": (Action.RAISE, State.PROGRESSING),
    "e": (Action.ENTER, State.PROGRESSING),
    "/": (Action.PASS, State.JUDGING),
    "+": (Action.SUCCEED, State.SUCCEEDED),
}
"""A point waits and stays. These wait and go: i Invalid, h Held, p Progressing, j Judging, s Scheduled, w AwaitingApproval.
S starts a run, a adopts a revision, R retreats, W withdraws a target, < returns the traffic to stable, H holds until
somebody says otherwise, m moves a start, g a gate, ^ raises, e enters a phase, / passes one, + succeeds."""

MATRIX = """
                    Pending Scheduled AwaitingApproval Progressing Judging Held RollingBack RolledBack Succeeded Invalid
RollbackAsked       R       R         R                R           R       R    R           .          R         R
Deleted             R       R         R                R           R       R    R           .          R         R
Breach              .       R         R                R           R       R    R           .          R         .
Lowering            R       R         R                R           R       R    R           R          R         R
TargetWithdrawn     W       W         W                W           W       W    W           W          W         W
Returning           <       <         <                <           <       <    <           <          <         <
PlanInvalid         i       h         h                h           h       .    .           .          .         .
RevisionChanged     .       R         R                R           R       R    R           .          R         .
RevisionContinues   .       a         a                a           a       a    .           .          .         .
NewRevision         S       S         S                S           S       S    .           S          S         S
ServicesNotSwapped  .       .         .                .           .       .    .           .          .         .
RunOver             .       .         .                .           .       .    .           .          .         .
PlanChanged         h       h         h                h           h       .    .           .          .         h
RouteClaimed        h       h         h                h           h       .    .           .          .         h
RouteUnusable       h       h         h                h           h       .    .           .          .         h
Drift               h       h         h                h           h       .    .           .          .         h
FleetStopped        h       h         h                h           h       .    .           .          .         h
HoldAsked           h       h         h                h           h       .    .           .          .         h
HeldByBreach        .       H         H                H           H       H    .           .          .         .
CheckpointFailed    .       H         H                H           H       H    .           .          .         .
NoData              h       h         h                h           h       .    .           .          .         h
Starting            S       .         .                .           .       S    .           .          .         S
WindowClosed        .       .         s                s           s       s    .           .          .         .
WaitingForStart     .       .         s                s           s       s    .           .          .         .
StartMoved          .       m         m                m           m       m    .           .          .         .
NotReadyAtStart     .       h         h                h           h       .    .           .          .         .
PreflightOpen       .       w         .                w           w       w    .           .          .         .
NotReady            .       p         p                .           p       p    .           .          .         .
WeightNotInForce    .       p         p                .           p       p    .           .          .         .
NextTarget          .       ^         ^                ^           ^       ^    .           .          .         .
StepUndecided       .       H         H                H           H       H    .           .          .         .
StepNotDone         .       p         p                .           p       p    .           .          .         .
StepApprovalWanted  .       w         .                w           w       w    .           .          .         .
StepDone            .       ^         ^                ^           ^       ^    .           .          .         .
GateMoved           .       g         g                g           g       g    .           .          .         .
Escalated           .       H         H                H           H       H    .           .          .         .
GateFailed          .       H         H                H           H       H    .           .          .         .
GateUndecided       .       H         H                H           H       H    .           .          .         .
DeliverablesMissing .       h         h                h           h       .    .           .          .         .
GateOpen            .       j         j                j           .       j    .           .          .         .
GateApprovalWanted  .       w         .                w           w       w    .           .          .         .
PhasePassed         .       /         /                /           /       /    .           .          .         .
PhaseBegins         .       ^         ^                ^           ^       ^    .           .          .         .
PhaseEntered        .       e         e                e           e       e    .           .          .         .
WaitingToReturn     .       p         p                .           p       p    .           .          .         .
Return              .       <         <                <           <       <    .           .          .         .
LaunchPassed        .       +         +                +           +       +    .           .          .         .
"""


def expected() -> dict[tuple[Signal, State], Cell]:
    """The matrix, read."""
    head, *lines = MATRIX.strip("\n").splitlines()
    states = [State(name) for name in head.split()]
    cells: dict[tuple[Signal, State], Cell] = {}
    for line in lines:
        signal, *row = line.split()
        for state, cell in zip(states, row, strict=True):
            action, after = CELLS[cell]
            cells[Signal(signal), state] = (action, after or state)
    return cells


EXPECTED = expected()
OVER = (State.ROLLED_BACK, State.SUCCEEDED, State.INVALID, State.ROLLING_BACK, State.PENDING)
RUNS = (State.SCHEDULED, State.AWAITING_APPROVAL, State.PROGRESSING, State.JUDGING, State.HELD)
LOWERING = (Action.RETREAT, Action.WITHDRAW, Action.RETURN)


def faults_of(table: Table) -> list[str]:
    """What is wrong with a table: cells that are missing or another than those of the matrix."""
    return [
        f"{signal} in {state}"
        for signal, state in product(Signal, State)
        if table.get(signal, {}).get(state) != EXPECTED.get((signal, state))
    ]


def test_every_cell_is_the_one_that_is_written_down() -> None:
    assert faults_of(TRANSITIONS) == []
    assert len(EXPECTED) == len(Signal) * len(State)


def test_every_pair_of_state_and_signal_has_a_cell() -> None:
    for state, signal in product(State, Signal):
        action, after = transition(state, signal)
        assert isinstance(action, Action)
        assert isinstance(after, State)


def test_a_state_runs_or_does_not() -> None:
    assert set(RUNS) == set(UNDER_WAY) == set(State) - set(OVER)


@pytest.mark.parametrize("state", OVER)
def test_a_launch_that_does_not_run_only_waits_starts_or_lowers(state: State) -> None:
    assert {TRANSITIONS[signal][state][0] for signal in Signal} <= {Action.WAIT, Action.START, *LOWERING}


def test_a_launch_that_is_rolling_back_only_goes_on_rolling_back() -> None:
    for signal in Signal:
        assert TRANSITIONS[signal][State.ROLLING_BACK][1] is State.ROLLING_BACK


def test_what_retreats_does_so_from_every_state_that_runs_and_after_success() -> None:
    signals = (Signal.ROLLBACK_ASKED, Signal.DELETED, Signal.BREACH, Signal.LOWERING, Signal.REVISION_CHANGED)
    for signal in signals:
        for state in (*RUNS, State.SUCCEEDED):
            assert TRANSITIONS[signal][state] == (Action.RETREAT, State.ROLLING_BACK)


def test_a_held_launch_goes_on_only_by_what_stands_below_all_that_holds() -> None:
    order = list(Signal)
    goes_on = [
        order.index(signal)
        for signal in Signal
        if TRANSITIONS[signal][State.HELD][1] in {*RUNS, State.SUCCEEDED} - {State.HELD}
        and signal not in (Signal.NEW_REVISION, Signal.REVISION_CONTINUES)  # a person's word, and a new run
    ]
    assert min(goes_on) > order.index(Signal.BLIND)


def test_what_waits_for_time_or_people_is_scheduled_or_awaits_approval() -> None:
    for state in RUNS:
        assert TRANSITIONS[Signal.WINDOW_CLOSED][state] == (Action.WAIT, State.SCHEDULED)
        assert TRANSITIONS[Signal.SCHEDULED][state] == (Action.WAIT, State.SCHEDULED)
        for signal in (Signal.PREFLIGHT_OPEN, Signal.STEP_APPROVAL, Signal.GATE_APPROVAL):
            assert TRANSITIONS[signal][state] == (Action.WAIT, State.AWAITING_APPROVAL)


def test_every_action_leads_where_its_name_says() -> None:
    leads: dict[Action, set[State]] = {
        Action.START: {State.PROGRESSING},
        Action.ADOPT: {State.PROGRESSING},
        Action.RAISE: {State.PROGRESSING},
        Action.ENTER: {State.PROGRESSING},
        Action.PASS: {State.JUDGING},
        Action.MOVE_GATE: {State.JUDGING},
        Action.MOVE_START: {State.SCHEDULED},
        Action.RETREAT: {State.ROLLING_BACK},
        Action.HOLD: {State.HELD},
        Action.SUCCEED: {State.SUCCEEDED},
    }
    assert {*leads, Action.WAIT, Action.WITHDRAW, Action.RETURN} == set(Action)
    for signal, state in product(Signal, State):
        action, after = TRANSITIONS[signal][state]
        # To withdraw a target or to give the traffic back is done on the way: the launch stays where it is.
        assert action is Action.WAIT or after in leads.get(action, {state})


Mutation: TypeAlias = Callable[[dict[Signal, dict[State, Cell]]], object]

MUTANTS: dict[str, Mutation] = {
    "a rolled-back launch raises": lambda table: table[Signal.STEP_DONE].update(
        {State.ROLLED_BACK: (Action.RAISE, State.PROGRESSING)}
    ),
    "a held launch does not retreat": lambda table: table[Signal.BREACH].update(
        {State.HELD: (Action.WAIT, State.HELD)}
    ),
    "a breach only holds": lambda table: table.update({Signal.BREACH: table[Signal.GATE_FAILED]}),
    "an undecided step goes on": lambda table: table.update({Signal.STEP_UNDECIDED: table[Signal.STEP_DONE]}),
    "an invalid plan is over": lambda table: table[Signal.PLAN_INVALID].update(
        {State.PROGRESSING: (Action.WAIT, State.INVALID)}
    ),
    "a row is missing": lambda table: table.pop(Signal.BLIND),
    "a cell is missing": lambda table: table[Signal.GATE_OPEN].pop(State.SUCCEEDED),
    "rollback asked twice": lambda table: table[Signal.ROLLBACK_ASKED].update(
        {State.ROLLED_BACK: (Action.RETREAT, State.ROLLING_BACK)}
    ),
    "a drift raises": lambda table: table.update({Signal.DRIFT: table[Signal.NEXT_TARGET]}),
    "a closed window raises": lambda table: table.update({Signal.WINDOW_CLOSED: table[Signal.PHASE_BEGINS]}),
    "an approval that is wanted is not waited for": lambda table: table.update(
        {Signal.GATE_APPROVAL: table[Signal.PHASE_PASSED]}
    ),
    "a preflight that is late begins": lambda table: table.update({Signal.PREFLIGHT_LATE: table[Signal.PHASE_ENTERED]}),
    "an escalation only waits": lambda table: table.update({Signal.ESCALATED: table[Signal.GATE_OPEN]}),
    "a deleted launch keeps its traffic": lambda table: table[Signal.DELETED].update(
        {State.SUCCEEDED: (Action.WAIT, State.SUCCEEDED)}
    ),
    "a withdrawn target ends the run": lambda table: table.update({Signal.WITHDRAWN: table[Signal.BREACH]}),
    "a gate in time stays in progress": lambda table: table[Signal.GATE_OPEN].update(
        {State.PROGRESSING: (Action.WAIT, State.PROGRESSING)}
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_changed_table_is_noticed(name: str) -> None:
    table = {signal: dict(row) for signal, row in TRANSITIONS.items()}
    MUTANTS[name](table)
    assert faults_of(table)


def test_a_change_of_any_single_cell_is_noticed() -> None:
    for signal, state in product(Signal, State):
        action, after = TRANSITIONS[signal][state]
        other = Action.HOLD if action is Action.WAIT else Action.WAIT
        assert faults_of({**TRANSITIONS, signal: {**TRANSITIONS[signal], state: (other, after)}})
