"""The whole state machine as one table: (state, signal) -> (action, state after). There is no default.

Read it by column: what a signal does in each state. A launch that is over (RolledBack, Succeeded) only answers to
what lowers traffic and to a new revision.
"""

from __future__ import annotations

from enum import StrEnum

from controller.core.signals import Signal
from controller.core.status import State


class Action(StrEnum):
    """What is done besides writing down where the launch stands."""

    WAIT = "wait"
    START = "start a run"
    RAISE = "raise"
    ENTER = "begin a phase without steps"
    PASS = "record the phase as passed"
    MOVE_GATE = "put the gate off"
    MOVE_START = "put the start off"
    ADOPT = "go on with the new revision"
    RETREAT = "retreat"
    WITHDRAW = "take a target out of the run"
    RETURN = "return the traffic to stable"
    HOLD = "hold until somebody says otherwise"
    SUCCEED = "succeed"


Cell = tuple[Action, State]

_S = State
_ALL = tuple(State)
_RUNNING = (_S.PROGRESSING, _S.JUDGING, _S.HELD, _S.SCHEDULED, _S.AWAITING_APPROVAL)
_BEFORE = (_S.PENDING, _S.INVALID)


def _row(*cells: tuple[tuple[State, ...] | State, Action, State | None]) -> dict[State, Cell]:
    """One signal's column: later entries win; a state of None stays as it is."""
    row: dict[State, Cell] = {}
    for states, action, after in cells:
        for state in (states,) if isinstance(states, State) else states:
            row[state] = (action, state if after is None else after)
    return row


_STAY = (_ALL, Action.WAIT, None)
_PAUSED = _row(_STAY, (_BEFORE, Action.WAIT, _S.HELD), (_RUNNING, Action.WAIT, _S.HELD))
_HOLDING = _row(_STAY, (_RUNNING, Action.HOLD, _S.HELD))
_WAITING = _row(_STAY, (_RUNNING, Action.WAIT, _S.PROGRESSING))
_SCHEDULED = _row(_STAY, (_RUNNING, Action.WAIT, _S.SCHEDULED))
_ASKING = _row(_STAY, (_RUNNING, Action.WAIT, _S.AWAITING_APPROVAL))
_RAISING = _row(_STAY, (_RUNNING, Action.RAISE, _S.PROGRESSING))
_RETREATING = _row(_STAY, ((*_RUNNING, _S.ROLLING_BACK, _S.SUCCEEDED), Action.RETREAT, _S.ROLLING_BACK))

TRANSITIONS: dict[Signal, dict[State, Cell]] = {
    Signal.ROLLBACK_ASKED: _row(
        (_ALL, Action.RETREAT, _S.ROLLING_BACK),
        (_S.ROLLED_BACK, Action.WAIT, None),
    ),
    Signal.DELETED: _row(
        (_ALL, Action.RETREAT, _S.ROLLING_BACK),
        (_S.ROLLED_BACK, Action.WAIT, None),
    ),
    Signal.BREACH: _RETREATING,
    Signal.LOWERING: _row((_ALL, Action.RETREAT, _S.ROLLING_BACK)),
    Signal.WITHDRAWN: _row((_ALL, Action.WITHDRAW, None)),
    Signal.RETURNING: _row((_ALL, Action.RETURN, None)),
    Signal.PLAN_INVALID: _row(_STAY, (_BEFORE, Action.WAIT, _S.INVALID), (_RUNNING, Action.WAIT, _S.HELD)),
    Signal.REVISION_CHANGED: _RETREATING,
    Signal.REVISION_CONTINUES: _row(_STAY, (_RUNNING, Action.ADOPT, _S.PROGRESSING)),
    Signal.NEW_REVISION: _row(
        (_ALL, Action.START, _S.PROGRESSING),
        (_S.ROLLING_BACK, Action.WAIT, None),
    ),
    Signal.NOT_SWAPPED: _row(_STAY),
    Signal.RUN_OVER: _row(_STAY),
    Signal.PLAN_CHANGED: _PAUSED,
    Signal.ROUTE_CLAIMED: _PAUSED,
    Signal.ROUTE_UNUSABLE: _PAUSED,
    Signal.DRIFT: _PAUSED,
    Signal.FLEET_STOPPED: _PAUSED,
    Signal.HOLD_ASKED: _PAUSED,
    Signal.HELD_BREACH: _HOLDING,
    Signal.CHECKPOINT_FAILED: _HOLDING,
    Signal.BLIND: _PAUSED,
    Signal.STARTING: _row(_STAY, ((*_BEFORE, _S.HELD), Action.START, _S.PROGRESSING)),
    Signal.WINDOW_CLOSED: _SCHEDULED,
    Signal.SCHEDULED: _SCHEDULED,
    Signal.PREFLIGHT_MOVED: _row(_STAY, (_RUNNING, Action.MOVE_START, _S.SCHEDULED)),
    Signal.PREFLIGHT_LATE: _row(_STAY, (_RUNNING, Action.WAIT, _S.HELD)),
    Signal.PREFLIGHT_OPEN: _ASKING,
    Signal.NOT_READY: _WAITING,
    Signal.NOT_IN_FORCE: _WAITING,
    Signal.NEXT_TARGET: _RAISING,
    Signal.STEP_UNDECIDED: _HOLDING,
    Signal.STEP_NOT_DONE: _WAITING,
    Signal.STEP_APPROVAL: _ASKING,
    Signal.STEP_DONE: _RAISING,
    Signal.GATE_MOVED: _row(_STAY, (_RUNNING, Action.MOVE_GATE, _S.JUDGING)),
    Signal.ESCALATED: _HOLDING,
    Signal.GATE_FAILED: _HOLDING,
    Signal.GATE_UNDECIDED: _HOLDING,
    Signal.DELIVERABLES_MISSING: _row(_STAY, (_RUNNING, Action.WAIT, _S.HELD)),
    Signal.GATE_OPEN: _row(_STAY, (_RUNNING, Action.WAIT, _S.JUDGING)),
    Signal.GATE_APPROVAL: _ASKING,
    Signal.PHASE_PASSED: _row(_STAY, (_RUNNING, Action.PASS, _S.JUDGING)),
    Signal.PHASE_BEGINS: _RAISING,
    Signal.PHASE_ENTERED: _row(_STAY, (_RUNNING, Action.ENTER, _S.PROGRESSING)),
    Signal.NOT_RETURNED: _WAITING,
    Signal.RETURN: _row(_STAY, (_RUNNING, Action.RETURN, None)),
    Signal.LAUNCH_PASSED: _row(_STAY, (_RUNNING, Action.SUCCEED, _S.SUCCEEDED)),
}


def transition(state: State, signal: Signal) -> Cell:
    """What to do, and where that leads."""
    return TRANSITIONS[signal][state]
