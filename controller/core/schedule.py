"""Where the calendar of a plan stands: when phases begin, when gates are judged, and what moves when something is late."""

from __future__ import annotations

from collections.abc import Iterator

from controller.core.looks import Looks
from controller.core.plan import Phase, Plan
from controller.core.status import GateStatus, Move, Status
from controller.core.units import format_date, format_duration

LATE = 60.0
"""Seconds by which a phase may begin late without its date being moved: a tick is not a delay."""


def move_of(status: Status, phase: str) -> Move | None:
    """How the phase was moved, if it was."""
    return next((move for move in status.moves if move.phase == phase), None)


def start_of(phase: Phase, status: Status) -> float | None:
    """When the phase is to begin as things stand (epoch seconds); None: when the one before has passed."""
    move = move_of(status, phase.name)
    if move is not None and move.start is not None:
        return move.start
    if phase.start is None:
        return None
    return phase.start + (move.by if move is not None else 0.0)


def shift_of(status: Status, phase: str) -> float:
    """By how many seconds the instants of the phase have moved."""
    move = move_of(status, phase)
    return 0.0 if move is None else move.by


def gate_due(phase: Phase, status: Status) -> float | None:
    """When the running phase's gate is judged (epoch seconds); None: no gate, or when the last step's time is over."""
    gate = phase.gate
    if gate is None:
        return None
    if status.gate is not None and status.gate.due_at is not None:
        return status.gate.due_at
    if gate.after is not None:
        return None if status.phase_started_at is None else status.phase_started_at + gate.after
    return None if gate.at is None else gate.at + shift_of(status, phase.name)


def looks_of(phase: Phase, status: Status) -> Looks:
    """When the values of the running phase are looked at, as things stand."""
    began = status.phase_started_at
    if began is None or phase.name != status.phase:
        return Looks()
    return Looks(tuple(began + offset for offset in phase.looks), _gate_looks_at(phase, status, began))


def _gate_looks_at(phase: Phase, status: Status, began: float) -> float | None:
    """When the gate's time has come and its last step is in force, whichever is later; None: not known yet."""
    if phase.gate is None:
        return None
    due = gate_due(phase, status)
    if not phase.steps:
        return began if due is None else due
    theirs = [target.in_force_at for target in status.targets if target.name in phase.targets and not target.withdrawn]
    since = [at for at in theirs if at is not None]
    if status.step < len(phase.steps) or status.intent is not None or not since or len(since) < len(theirs):
        return None
    return max(since) + phase.steps[-1].lasts if due is None else max(due, *since)


def planned_end(phase: Phase) -> float | None:
    """When the plan wants the phase to have passed, if it names an instant for that."""
    if phase.gate is not None and phase.gate.at is not None:
        return phase.gate.at
    if phase.gate is not None and phase.gate.after is not None and phase.start is not None:
        return phase.start + phase.gate.after
    return phase.end


def preflight_opens(phase: Phase, status: Status, since: float) -> float:
    """When the phase's go or no-go is asked for; ``since`` is when the phase before it had passed."""
    start = start_of(phase, status)
    if start is None or phase.preflight is None:
        return since
    return max(since, start - phase.preflight.opens)


def not_ready_at(phase: Phase, status: Status, since: float) -> float:
    """From when on it is too late to become ready: the start, but people are asked for no shorter time than planned."""
    opens = 0.0 if phase.preflight is None else phase.preflight.opens
    start = start_of(phase, status)
    return since + opens if start is None else max(start, since + opens)


def coming_since(status: Status) -> float:
    """When the wait for the next phase began."""
    if status.gate is not None and status.gate.passed_at is not None:
        return status.gate.passed_at
    return status.run.started_at if status.run is not None else 0.0


def moved(status: Status, plan: Plan, phase: str, by: float, why: str, *, start: float | None = None) -> Status:
    """The status with that phase and those after it moved by so many seconds; ``start`` sets the phase's start."""
    moves = {move.phase: move for move in status.moves}
    for other in plan.phases[plan.phase_index(phase) :]:
        before = moves.get(other.name) or Move(phase=other.name)
        own = other.name == phase
        update: dict[str, object] = {"by": before.by + by, "why": why}
        if own and start is not None:
            update["start"] = start
        elif before.start is not None:
            update["start"] = before.start + by
        moves[other.name] = before.model_copy(update=update)
    return status.model_copy(update={"moves": tuple(moves.values())})


def passed_late(status: Status, phase: Phase, following: Phase | None, now: float) -> tuple[Status, str]:
    """The status after the phase passed at ``now``, its follower moved if its date can no longer be met, and in words.

    A date that is missed moves by as much as the phase was late, so that what the plan leaves between the two stays.
    """
    start = None if following is None else start_of(following, status)
    if following is None or start is None or now <= start + LATE:
        return status, ""
    due = planned_end(phase)
    late = now - (start if due is None else due)
    gap = 0.0 if due is None or following.start is None else max(0.0, following.start - due)
    fresh = now + gap
    why = f"{phase.name} passed {format_duration(late)} late: {following.name} moved from {format_date(start)} to {format_date(fresh)}"
    moves = {move.phase: move for move in status.moves}
    before = moves.get(following.name) or Move(phase=following.name)
    planned = following.start if following.start is not None else start
    moves[following.name] = before.model_copy(update={"start": fresh, "by": fresh - planned, "why": why})
    return status.model_copy(update={"moves": tuple(moves.values())}), why


def put_off(before: float | None, by: float, now: float) -> float:
    """When it is then (epoch seconds): ``by`` seconds later than before, or from now where that is over as well."""
    later = (now if before is None else before) + by
    return later if later > now else now + by


def gate_moved(status: Status, which: str, due: float) -> Status:
    """The status with the running phase's gate put off to ``due``, counted under ``which``."""
    gate = status.gate or GateStatus()
    used = {**gate.used, which: gate.used.get(which, 0) + 1}
    return status.model_copy(update={"gate": gate.model_copy(update={"due_at": due, "used": used})})


def instants(plan: Plan, status: Status) -> tuple[float, ...]:
    """Every instant that the calendar of the run as it stands names, in order; those of the past too."""
    return tuple(sorted(set(_instants(plan, status))))


def _instants(plan: Plan, status: Status) -> Iterator[float]:
    for phase in plan.phases:
        start = start_of(phase, status)
        if start is not None:
            yield start
            if phase.preflight is not None:
                yield preflight_opens(phase, status, float("-inf"))
        running = phase.name == status.phase and status.phase_started_at is not None
        shift = shift_of(status, phase.name)
        due = gate_due(phase, status) if running else phase.gate.at + shift if phase.gate and phase.gate.at else None
        if due is not None:
            yield due
        if phase.end is not None:
            yield phase.end + shift
        if running and status.phase_started_at is not None:
            for checkpoint in phase.checkpoints:
                yield status.phase_started_at + checkpoint.at
    for freeze in plan.spec.freezes:
        yield from (freeze.from_, freeze.to)
