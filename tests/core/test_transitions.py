"""The table says for every state and signal what is done and where that leads; here it is written out once more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import TypeAlias

import pytest

from controller.core.signals import Signal
from controller.core.status import State
from controller.core.transitions import TRANSITIONS, Action, Cell, transition

Table: TypeAlias = Mapping[Signal, Mapping[State, Cell]]

CELLS: dict[str, Cell] = {
    "h": (Action.WAIT, State.HELD),
    "p": (Action.WAIT, State.PROGRESSING),
    "j": (Action.WAIT, State.JUDGING),
    "i": (Action.WAIT, State.INVALID),
    "R": (Action.RETREAT, State.ROLLING_BACK),
    "S": (Action.START, State.PROGRESSING),
    "^": (Action.RAISE, State.PROGRESSING),
    "H": (Action.HOLD, State.HELD),
    "+": (Action.SUCCEED, State.SUCCEEDED),
}
"""A point waits and stays. Small letters wait and go: h Held, p Progressing, j Judging, i Invalid. R retreats, S starts a
run, ^ raises, H holds until somebody says otherwise, + succeeds."""

MATRIX = """
                    Pending Progressing Judging Held RollingBack RolledBack Succeeded Invalid
RollbackAsked       R       R           R       R    R           .          R         R
Breach              .       R           R       R    R           .          R         .
Lowering            R       R           R       R    R           R          R         R
PlanInvalid         i       h           h       .    .           .          .         .
RevisionChanged     .       R           R       R    R           .          R         .
NewRevision         S       S           S       S    .           S          S         S
ServicesNotSwapped  .       .           .       .    .           .          .         .
RunOver             .       .           .       .    .           .          .         .
PlanChanged         h       h           h       .    .           .          .         h
RouteClaimed        h       h           h       .    .           .          .         h
RouteUnusable       h       h           h       .    .           .          .         h
Drift               h       h           h       .    .           .          .         h
HoldAsked           h       h           h       .    .           .          .         h
HeldByBreach        .       H           H       H    .           .          .         .
NoData              h       h           h       .    .           .          .         h
Starting            S       .           .       S    .           .          .         S
NotReady            .       .           p       p    .           .          .         .
WeightNotInForce    .       .           p       p    .           .          .         .
NextTarget          .       ^           ^       ^    .           .          .         .
StepUndecided       .       H           H       H    .           .          .         .
StepNotDone         .       .           p       p    .           .          .         .
StepDone            .       ^           ^       ^    .           .          .         .
GateFailed          .       H           H       H    .           .          .         .
GateUndecided       .       H           H       H    .           .          .         .
GateOpen            .       j           .       j    .           .          .         .
NextPhaseNotReady   .       j           .       j    .           .          .         .
PhasePassed         .       ^           ^       ^    .           .          .         .
LaunchPassed        .       +           +       +    .           .          .         .
"""


def expected() -> dict[tuple[Signal, State], Cell]:
    """The matrix, read."""
    head, *lines = MATRIX.strip("\n").splitlines()
    states = [State(name) for name in head.split()]
    cells: dict[tuple[Signal, State], Cell] = {}
    for line in lines:
        signal, *row = line.split()
        for state, cell in zip(states, row, strict=True):
            cells[Signal(signal), state] = (Action.WAIT, state) if cell == "." else CELLS[cell]
    return cells


EXPECTED = expected()
OVER = (State.ROLLED_BACK, State.SUCCEEDED, State.INVALID, State.ROLLING_BACK, State.PENDING)
RUNS = (State.PROGRESSING, State.JUDGING, State.HELD)


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


@pytest.mark.parametrize("state", OVER)
def test_nothing_raises_out_of_a_launch_that_does_not_run(state: State) -> None:
    assert {TRANSITIONS[signal][state][0] for signal in Signal}.isdisjoint({Action.RAISE, Action.SUCCEED, Action.HOLD})


def test_a_launch_that_is_rolling_back_only_goes_on_rolling_back() -> None:
    for signal in Signal:
        assert TRANSITIONS[signal][State.ROLLING_BACK][1] is State.ROLLING_BACK


def test_what_retreats_does_so_from_every_state_that_runs_and_after_success() -> None:
    for signal in (Signal.ROLLBACK_ASKED, Signal.BREACH, Signal.LOWERING, Signal.REVISION_CHANGED):
        for state in (*RUNS, State.SUCCEEDED):
            assert TRANSITIONS[signal][state] == (Action.RETREAT, State.ROLLING_BACK)


def test_a_held_launch_goes_on_only_by_what_stands_below_all_that_holds() -> None:
    order = list(Signal)
    goes_on = [
        order.index(signal)
        for signal in Signal
        if TRANSITIONS[signal][State.HELD][1] in (State.PROGRESSING, State.JUDGING, State.SUCCEEDED)
        and signal is not Signal.NEW_REVISION  # a person's word, and a new run
    ]
    assert min(goes_on) > order.index(Signal.BLIND)


def test_every_action_leads_where_its_name_says() -> None:
    leads = {
        Action.START: {State.PROGRESSING},
        Action.RAISE: {State.PROGRESSING},
        Action.RETREAT: {State.ROLLING_BACK},
        Action.HOLD: {State.HELD},
        Action.SUCCEED: {State.SUCCEEDED},
    }
    for signal, state in product(Signal, State):
        action, after = TRANSITIONS[signal][state]
        assert action is Action.WAIT or after in leads[action]


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
