"""The whole plan with where it stands: when each part was to be, when it was or will be, and what was found there.

What is to come is told as it would be if everything passes as soon as it may: with the dates, windows and delays that
are known now. So it is the earliest that can be, by the rules that the launch itself moves its dates with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from controller.core.calendar import opening
from controller.core.plan import Phase, Plan
from controller.core.schedule import LATE, gate_due, move_of, passed_late, planned_end, preflight_opens, start_of
from controller.core.signals import Signal
from controller.core.status import CheckpointScore, PhaseSummary, State, Status
from controller.core.units import format_duration, format_instant, format_weight, write_duration

Instant = float
"""Seconds since the epoch; of a timeline that is ``relative``, since the launch begins."""
Seconds = float
Weight = int
"""Thousandths of the traffic."""

Tense = Literal["past", "now", "to come", "stopped", "not reached"]
Finding = Literal["passed", "failed", "undecided", "missed", "taken", "to come", "not taken"]
GateState = Literal["passed", "failed", "undecided", "waiting", "judged", "to come", "not reached"]

MOST_CLOSED = 120
"""Stretches without raises that are listed at most."""
_STOPPED = (State.ROLLING_BACK, State.ROLLED_BACK)
_GATE_STATES: Mapping[str, GateState] = {
    Signal.GATE_FAILED.value: "failed",
    Signal.ESCALATED.value: "failed",
    Signal.DELIVERABLES_MISSING.value: "waiting",
    Signal.GATE_UNDECIDED.value: "undecided",
    Signal.GATE_APPROVAL.value: "waiting",
}


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step: when it was to begin, and when it did or may. ``at`` None: that is not kept, or never comes."""

    number: int
    weight: Weight
    lasts: Seconds
    approval: str
    planned: Instant
    at: Instant | None
    tense: Tense


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """One checkpoint: ``at`` when it was taken or is due. The three numbers are of criteria."""

    after: Seconds
    at: Instant | None
    holds: bool
    state: Finding
    passed: int = 0
    undecided: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class GateRow:
    """The end of a phase. ``at`` is when it passed, or is judged at the earliest. ``put_off`` counts by outcome."""

    planned: Instant
    at: Instant | None
    state: GateState
    criteria: tuple[str, ...]
    approval: str
    missing: tuple[str, ...]
    put_off: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """One phase. ``passes`` is when it has passed or may, ``ends`` when the next one takes over from it.

    ``begun`` and ``passed`` say whether the instants are facts; None: it never comes to that. ``late`` is by how much
    it begins after its planned start. ``why`` is what moved it, of moves that were decided.
    """

    name: str
    number: int
    tense: Tense
    here: bool
    targets: tuple[str, ...]
    planned_start: Instant
    planned_pass: Instant
    planned_end: Instant
    start: Instant | None
    passes: Instant | None
    ends: Instant | None
    begun: bool
    passed: bool
    late: Seconds
    why: str
    preflight_opens: Instant | None
    steps: tuple[StepRow, ...]
    checkpoints: tuple[CheckpointRow, ...]
    gate: GateRow | None
    holds: int = 0


@dataclass(frozen=True, slots=True)
class Closed:
    """A stretch in which no traffic is raised, and what says so."""

    start: Instant
    end: Instant
    why: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """The plan of a launch from its first start to its last gate. ``now`` None: only the plan is shown.

    ``relative``: the plan names no date, so all instants count from its beginning. ``more_closed`` is how many
    stretches without raises are not listed.
    """

    launch: str
    revision: str
    state: str
    reason: str
    message: str
    zone: str
    relative: bool
    now: Instant | None
    begins: Instant
    ends: Instant
    phases: tuple[PhaseRow, ...]
    closed: tuple[Closed, ...]
    more_closed: int


def timeline(plan: Plan, status: Status, now: float | None) -> Timeline:
    """Where every part of the plan stands at ``now`` (epoch seconds); None: as a plan that nobody runs."""
    if now is None:
        status = Status()
    relative = now is None and not any(_dated(phase) for phase in plan.phases)
    begin = _begin(plan, status, now)
    phases = tuple(_rows(plan, status, now, begin, relative=relative))
    instants = [instant for row in phases for instant in _instants(row)]
    instants += [instant for instant in (now, status.ended_at) if instant is not None and status.run is not None]
    begins, ends = min(instants), max(instants)
    closed = () if relative else tuple(_closed(plan, begins, ends))
    return Timeline(
        launch=f"{plan.namespace}/{plan.name}",
        revision=plan.revision,
        state="" if now is None else status.state.value,
        reason=status.reason,
        message=status.message,
        zone=plan.spec.time_zone,
        relative=relative,
        now=now,
        begins=begins,
        ends=ends,
        phases=phases,
        closed=closed[:MOST_CLOSED],
        more_closed=max(0, len(closed) - MOST_CLOSED),
    )


def document(value: Any, *, relative: bool = False) -> Any:
    """A timeline, or any value made of such parts, as JSON-ready data: instants and durations are text, as in a plan."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        written: dict[str, Any] = {}
        relative = relative or getattr(value, "relative", False)
        for field in dataclasses.fields(value):
            name = field.name.split("_")
            key = name[0] + "".join(word.capitalize() for word in name[1:])
            written[key] = _plain(getattr(value, field.name), str(field.type), relative=relative)
        return written
    return _plain(value, "", relative=relative)


def _plain(value: Any, kind: str, *, relative: bool) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    if kind.startswith("Instant"):
        return f"+{_duration(value)}" if relative else format_instant(value)
    if kind.startswith("Seconds"):
        return _duration(value)
    if kind.startswith("Weight"):
        return format_weight(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, "", relative=relative) for key, inner in value.items()}
    if isinstance(value, Sequence):
        return [document(inner, relative=relative) for inner in value]
    return document(value, relative=relative) if dataclasses.is_dataclass(value) else value


def _duration(seconds: float) -> str:
    return write_duration(seconds) if seconds > 0 else "0s"


def _dated(phase: Phase) -> bool:
    return phase.start is not None or phase.end is not None or (phase.gate is not None and phase.gate.at is not None)


def settle_of(phase: Phase) -> float:
    """How many seconds after its ``for`` a step's proof is complete at the earliest: until its last counts are settled."""
    criteria = [guardrail.criterion for guardrail in phase.guardrails if guardrail.enforce]
    criteria = criteria or list(phase.gate.criteria if phase.gate else ())
    return max((criterion.series.settle for criterion in criteria), default=0.0)


def _length(phase: Phase) -> float:
    """How many seconds the phase takes at least, by its own text."""
    steps = sum(step.lasts + settle_of(phase) for step in phase.steps)
    return max(steps, (phase.gate.after or 0.0) if phase.gate else 0.0)


def _begin(plan: Plan, status: Status, now: float | None) -> float:
    """When the plan was to begin, where its first phase names no date."""
    if status.run is not None:
        return min([status.run.started_at, *(summary.started_at for summary in status.phases)])
    if now is not None:
        return now
    ahead = 0.0
    for phase in plan.phases:
        if phase.start is not None:
            return phase.start - ahead
        ahead += _length(phase)
        end = planned_end(phase)
        if end is not None:
            return end - ahead
    return 0.0


def _planned(plan: Plan, begin: float) -> Iterator[tuple[float, float]]:
    """Start and pass of every phase, by the plan alone."""
    at = begin
    for phase in plan.phases:
        start = at if phase.start is None else phase.start
        end = planned_end(phase)
        at = max(start, start + _length(phase) if end is None else end)
        yield start, at


def _rows(plan: Plan, status: Status, now: float | None, begin: float, *, relative: bool) -> Iterator[PhaseRow]:
    planned = tuple(_planned(plan, begin))
    known = {summary.name: summary for summary in status.phases}
    ready = status.run.started_at if status.run is not None else begin
    stopped = status.state in _STOPPED
    standing = status
    made: list[PhaseRow] = []
    for index, phase in enumerate(plan.phases):
        summary = known.get(phase.name)
        running = phase.name == status.phase and status.phase_started_at is not None
        if summary is None and running:
            assert status.phase_started_at is not None
            summary = PhaseSummary(name=phase.name, started_at=status.phase_started_at)
        start: float | None
        if summary is not None:
            start = summary.started_at
        elif stopped or status.state is State.SUCCEEDED:
            start = None
        else:
            due = start_of(phase, standing)
            start = max(instant for instant in (due, ready, now) if instant is not None)
            start = start if relative or not phase.steps else _raisable(plan, start)
        steps, over = _steps(plan, phase, status, planned[index][0], start, now, running=running, relative=relative)
        passes = _passes(phase, standing, start, over, now, running=running)
        if summary is not None and summary.passed_at is not None:
            passes = summary.passed_at
        elif stopped:
            passes = None
        passed = summary is not None and summary.passed_at is not None
        if passes is not None:
            ready = passes
            if not passed:
                following = plan.phases[index + 1] if index + 1 < len(plan.phases) else None
                standing, _ = passed_late(standing, phase, following, passes)
        made.append(_row(phase, status, summary, planned[index], (start, passes), steps, now, number=index + 1))
    for index, row in enumerate(made):
        after = made[index + 1].start if index + 1 < len(made) else None
        yield dataclasses.replace(row, ends=_ends(row, after, status), here=_here(made, index, status))


def _ends(row: PhaseRow, after: float | None, status: Status) -> float | None:
    if row.start is None:
        return None
    if after is not None:
        return after
    if row.tense == "stopped" or (row.begun and status.ended_at is not None):
        return status.ended_at
    return row.passes


def _here(rows: Sequence[PhaseRow], index: int, status: Status) -> bool:
    """Whether the launch stands in this phase, or before it."""
    if status.run is None:
        return False
    names = [row.name for row in rows]
    at = names.index(status.phase) if status.phase in names else -1
    if at >= 0 and rows[at].passed and at + 1 < len(rows) and status.state is not State.SUCCEEDED:
        at = next((later for later in range(at + 1, len(rows)) if not rows[later].passed), at)
    return index == at


def _row(
    phase: Phase,
    status: Status,
    summary: PhaseSummary | None,
    planned: tuple[float, float],
    expected: tuple[float | None, float | None],
    steps: tuple[StepRow, ...],
    now: float | None,
    *,
    number: int,
) -> PhaseRow:
    start, passes = expected
    passed = summary is not None and summary.passed_at is not None
    move = move_of(status, phase.name)
    tense = _tense(status, phase, begun=summary is not None, passed=passed)
    opens = None
    if phase.preflight is not None and summary is None and start is not None:
        opens = preflight_opens(phase, status, float("-inf"))
        opens = None if opens == float("-inf") else opens
    late = 0.0
    if start is not None and phase.start is not None and start - planned[0] > LATE:
        late = start - planned[0]
    return PhaseRow(
        name=phase.name,
        number=number,
        tense=tense,
        here=False,
        targets=phase.targets,
        planned_start=planned[0],
        planned_pass=planned[1],
        planned_end=max(planned[1], phase.end or planned[1]),
        start=start,
        passes=passes,
        ends=None,
        begun=summary is not None,
        passed=passed,
        late=late,
        why=move.why if move is not None else "",
        preflight_opens=opens,
        steps=steps,
        checkpoints=tuple(_checkpoints(phase, status, start, now, tense)),
        gate=_gate(phase, status, planned[1], passes, tense, now),
        holds=summary.holds if summary is not None else 0,
    )


def _tense(status: Status, phase: Phase, *, begun: bool, passed: bool) -> Tense:
    if passed or status.state is State.SUCCEEDED:
        return "past"
    if status.state in _STOPPED:
        return "stopped" if begun or phase.name == status.phase else "not reached"
    return "now" if begun else "to come"


def _raisable(plan: Plan, at: float) -> float:
    """The first instant from ``at`` on at which traffic may be raised; ``at`` itself where no such instant is known."""
    spec = plan.spec
    found = opening(spec.windows, spec.freezes, spec.time_zone, at)
    return at if found.open or found.changes_at is None else found.changes_at


def _steps(
    plan: Plan,
    phase: Phase,
    status: Status,
    planned: float,
    start: float | None,
    now: float | None,
    *,
    running: bool,
    relative: bool,
) -> tuple[tuple[StepRow, ...], float | None]:
    """The steps, and when the last of them may be over."""
    settle = settle_of(phase)
    current = status.step if running else 0
    succeeded = status.state is State.SUCCEEDED
    gone = any(summary.name == phase.name and summary.passed_at is not None for summary in status.phases)
    stopped = status.state in _STOPPED
    in_force = [
        target.in_force_at for target in status.targets if target.name in phase.targets and not target.withdrawn
    ]
    since = max((instant for instant in in_force if instant is not None), default=None)
    rows, at = [], start
    for number, step in enumerate(phase.steps, start=1):
        tense: Tense = "to come"
        began: float | None
        if (gone and not running) or (succeeded and start is not None) or number < current:
            tense, began = "past", start if number == 1 else _raised_at(status, phase, number)
        elif running and number == current:
            tense = "past" if gone else "now"
            began = start if since is None else since
            at = began
        elif stopped or start is None:
            tense, began = "not reached", None
        else:
            # the step before is left when its time is over, but not before now
            at = max(instant for instant in (at, now if running else None) if instant is not None)
            at = at if relative or number == 1 else _raisable(plan, at)
            began = at
        rows.append(StepRow(number, step.weight, step.lasts, step.approval, planned, began, tense))
        planned += step.lasts + settle
        if began is not None:
            at = began + step.lasts + settle
    return tuple(rows), at


def _raised_at(status: Status, phase: Phase, number: int) -> float | None:
    """When the step was decided, as long as that decision is among the last ones."""
    for record in status.decisions:
        if (record.signal, record.phase, record.step) == (Signal.STEP_DONE.value, phase.name, number - 1):
            return record.at
    return None


def _passes(
    phase: Phase, status: Status, start: float | None, over: float | None, now: float | None, *, running: bool
) -> float | None:
    """When the phase may pass at the earliest."""
    if start is None:
        return None
    if not running:
        # what is kept of a gate is of the running phase
        status = status.model_copy(update={"gate": None, "phase": phase.name, "phase_started_at": start})
    due = gate_due(phase, status)
    return max(instant for instant in (start, over, due, now) if instant is not None)


def _gate(
    phase: Phase, status: Status, planned: float, passes: float | None, tense: Tense, now: float | None
) -> GateRow | None:
    gate = phase.gate
    if gate is None:
        return None
    running = phase.name == status.phase and status.phase_started_at is not None
    ticked = set(status.done)
    state: GateState = "to come"
    if tense == "past":
        state = "passed"
    elif tense in ("stopped", "not reached"):
        state = "not reached"
    elif running:
        held = status.hold.reason if status.hold is not None else status.reason
        due = gate_due(phase, status)
        judged = status.state is State.JUDGING and now is not None and (due is None or now >= due)
        state = _GATE_STATES.get(held, "judged" if judged else "to come")
    at = passes
    if running and tense == "now":
        at = gate_due(phase, status) if state == "to come" else passes
        at = passes if at is None else at
    return GateRow(
        planned=planned,
        at=at,
        state=state,
        criteria=tuple(criterion.key for criterion in gate.criteria),
        approval=gate.approval,
        missing=tuple(item for item in phase.deliverables if f"{phase.name}/{item}" not in ticked),
        put_off=dict(status.gate.used) if running and status.gate is not None else {},
    )


def _checkpoints(
    phase: Phase, status: Status, start: float | None, now: float | None, tense: Tense
) -> Iterator[CheckpointRow]:
    scores: dict[str, CheckpointScore] = {}
    for score in status.checkpoints:
        if score.phase == phase.name:
            scores.setdefault(score.after, score)
    running = phase.name == status.phase and status.phase_started_at is not None
    for number, checkpoint in enumerate(phase.checkpoints):
        found = scores.get(format_duration(checkpoint.at))
        due = None if start is None else start + checkpoint.at
        if found is not None:
            counts = (found.passed, found.undecided, found.failed)
            yield CheckpointRow(checkpoint.at, found.taken_at, checkpoint.holds, _found(found), *counts)
        elif running and tense in ("now", "past") and (number >= status.checkpoints_taken):
            waits = now is None or status.state is not State.SUCCEEDED
            yield CheckpointRow(checkpoint.at, due, checkpoint.holds, "to come" if waits else "not taken")
        elif tense == "to come":
            yield CheckpointRow(checkpoint.at, due, checkpoint.holds, "to come")
        elif running and tense != "stopped":
            yield CheckpointRow(checkpoint.at, due, checkpoint.holds, "taken")
        else:
            # of phases long gone only what status still keeps is known
            yield CheckpointRow(checkpoint.at, due, checkpoint.holds, "taken" if tense == "past" else "not taken")


def _found(score: CheckpointScore) -> Finding:
    if score.failed:
        return "failed"
    if score.undecided:
        return "undecided"
    return "passed" if score.passed else "missed"


def _instants(row: PhaseRow) -> Iterator[float]:
    known = (row.planned_start, row.planned_end, row.start, row.passes, row.ends, row.preflight_opens)
    yield from (instant for instant in known if instant is not None)
    for checkpoint in row.checkpoints:
        if checkpoint.at is not None and checkpoint.state not in ("not taken", "to come"):
            yield checkpoint.at


def _closed(plan: Plan, begins: float, ends: float) -> Iterator[Closed]:
    """The stretches between these instants in which nothing is raised; one whose cause changes within is several."""
    spec, at = plan.spec, begins
    if not spec.windows and not spec.freezes:
        return
    edges = sorted({edge for freeze in spec.freezes for edge in (freeze.from_, freeze.to)})
    for _ in range(10 * MOST_CLOSED):
        found = opening(spec.windows, spec.freezes, spec.time_zone, at)
        until = ends if found.changes_at is None else min(found.changes_at, ends)
        if not found.open:
            until = min([until, *(edge for edge in edges if edge > at)])
            if until > at:
                yield Closed(at, until, found.why)
        if until >= ends:
            return
        at = until
