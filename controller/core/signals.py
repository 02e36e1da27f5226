"""An ordered ladder: the first rung that holds names the one signal of this tick.

The order is policy. What lowers traffic stands above all that merely stops it; what stops it stands above all that
raises it. Each rung is a small function of the facts that returns its reason in words, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple

from controller.core.evidence import NOT_ASKED, Outcome, Verdict
from controller.core.facts import (
    Facts,
    Judged,
    consequence,
    gate_unjudged,
    gate_unproven,
    had_time,
    missing_deliverables,
    proof,
    undecided_by,
    waited_too_long,
)
from controller.core.incidents import NO_PROOF
from controller.core.observation import ALERTING_NOT_KNOWN, TargetView
from controller.core.plan import InvalidPlanError, Phase
from controller.core.plan import Outcome as PlannedOutcome
from controller.core.questions import criteria_of, reading_of
from controller.core.schedule import coming_since, gate_due, not_ready_at, preflight_opens, start_of
from controller.core.series import Row, Unproven
from controller.core.status import State
from controller.core.units import format_date, format_duration, format_weight
from controller.core.words import Reason, told


class Signal(StrEnum):
    """What a tick amounts to; the value is the reason that people see in conditions and logs."""

    ROLLBACK_ASKED = "RollbackAsked"
    DELETED = "Deleted"
    BREACH = "Breach"
    LOWERING = "Lowering"
    WITHDRAWN = "TargetWithdrawn"
    RETURNING = "Returning"
    PLAN_INVALID = "PlanInvalid"
    REVISION_CHANGED = "RevisionChanged"
    REVISION_CONTINUES = "RevisionContinues"
    NEW_REVISION = "NewRevision"
    NOT_SWAPPED = "ServicesNotSwapped"
    RUN_OVER = "RunOver"
    PLAN_CHANGED = "PlanChanged"
    ROUTE_CLAIMED = "RouteClaimed"
    ROUTE_UNUSABLE = "RouteUnusable"
    DRIFT = "Drift"
    FLEET_STOPPED = "FleetStopped"
    HOLD_ASKED = "HoldAsked"
    HELD_BREACH = "HeldByBreach"
    CHECKPOINT_FAILED = "CheckpointFailed"
    BLIND = "NoData"
    STARTING = "Starting"
    WINDOW_CLOSED = "WindowClosed"
    SCHEDULED = "WaitingForStart"
    PREFLIGHT_MOVED = "StartMoved"
    PREFLIGHT_LATE = "NotReadyAtStart"
    PREFLIGHT_OPEN = "PreflightOpen"
    NOT_READY = "NotReady"
    NOT_IN_FORCE = "WeightNotInForce"
    NEXT_TARGET = "NextTarget"
    STEP_UNDECIDED = "StepUndecided"
    STEP_NOT_DONE = "StepNotDone"
    STEP_APPROVAL = "StepApprovalWanted"
    STEP_DONE = "StepDone"
    GATE_MOVED = "GateMoved"
    ESCALATED = "Escalated"
    GATE_FAILED = "GateFailed"
    GATE_UNDECIDED = "GateUndecided"
    DELIVERABLES_MISSING = "DeliverablesMissing"
    GATE_OPEN = "GateOpen"
    GATE_APPROVAL = "GateApprovalWanted"
    PHASE_PASSED = "PhasePassed"
    PHASE_BEGINS = "PhaseBegins"
    PHASE_ENTERED = "PhaseEntered"
    NOT_RETURNED = "WaitingToReturn"
    RETURN = "Return"
    LAUNCH_PASSED = "LaunchPassed"


Rung = Callable[[Facts], Reason | None]


class GateMove(NamedTuple):
    """That the gate is put off: ``which`` outcome did it (fail, undecided, noData), and how."""

    which: str
    outcome: PlannedOutcome
    reason: Reason


def _rollback_asked(facts: Facts) -> Reason | None:
    override = facts.heard.rollback
    return None if override is None else f"rollback asked{override.words}"


def _deleted(facts: Facts) -> Reason | None:
    if not (facts.seen.deleting and facts.seen.guarded):
        return None
    return "the launch is being deleted, and its plan says onDelete: reset: the canary goes to 0% first"


def _breach(facts: Facts) -> Reason | None:
    if not facts.watching:
        return None
    for judged in facts.judged:
        if consequence(facts, judged) == "rollback" and not judged.alone:
            return told("", judged.verdict)
    broken = broken_alone(facts)
    left = {target.name for target in facts.status.targets if not target.withdrawn}
    if broken and left <= {judged.verdict.target for judged in broken}:
        return told("", *(judged.verdict for judged in broken))
    gate = facts.phase.gate if facts.phase else None
    if gate is None or not facts.gate_judged or facts.granted("gate"):
        return None
    used = facts.status.gate.used if facts.status.gate else {}
    if gate.on_undecided.after(used.get("undecided", 0)) == "rollback" and (waiting := _gate_undecided_too_long(facts)):
        return waiting
    if gate.on_fail.after(used.get("fail", 0)) == "rollback" and (late := _deliverables_late(facts)):
        return late
    return None


def broken_alone(facts: Facts) -> tuple[Judged, ...]:
    """The guardrails whose breach takes their own target out of the run, one for each target that still runs."""
    if not facts.watching:
        return ()
    first: dict[str, Judged] = {}
    for judged in facts.judged:
        name = judged.verdict.target
        if judged.alone and consequence(facts, judged) == "rollback" and not facts.withdrawn(name):
            first.setdefault(name, judged)
    return tuple(first.values())


def _withdrawn(facts: Facts) -> Reason | None:
    intent = facts.status.intent
    if intent is not None and intent.kind == "withdraw":
        return f"taking the canary's traffic of {', '.join(intent.weights)} away"
    broken = broken_alone(facts)
    if not broken:
        return None
    return told(
        f"{', '.join(judged.verdict.target for judged in broken)} is taken out of this run: ",
        *(judged.verdict for judged in broken),
    )


def _lowering(facts: Facts) -> Reason | None:
    intent = facts.status.intent
    if intent is None or intent.kind != "retreat":
        return None
    problem = next((view.problem for view in facts.seen.targets if view.problem and view.name in intent.weights), "")
    return f"taking the canary's traffic away{': ' if problem else ''}{problem}"


def _returning(facts: Facts) -> Reason | None:
    intent = facts.status.intent
    if intent is None or intent.kind != "return":
        return None
    return "all traffic goes back to the stable Services, which run the new revision"


def plan_invalid(facts: Facts) -> Reason | None:
    """The first fault of the plan as it is now, and how many more there are."""
    if not isinstance(facts.seen.plan, InvalidPlanError):
        return None
    faults = facts.seen.plan.faults
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{faults[0]}{more}"


def _new_revision(facts: Facts) -> str | None:
    run, plan = facts.status.run, facts.plan
    if run is None or plan is None:
        return None
    if plan.revision != run.revision:
        return (
            f"revision {plan.revision} instead of {run.revision}" if run.revision else f"revision {plan.revision} again"
        )
    for target in plan.targets:
        view = facts.seen.target(target.name)
        known = run.templates.get(target.name)
        if view is not None and view.template and known and view.template != known:
            return f"the pod template of {target.workload_kind} {target.workload} changed (target {target.name})"
    return None


def _takes_traffic(facts: Facts) -> bool:
    return any(facts.weights.values()) or any(view.takes_traffic for view in facts.seen.targets)


def _revision_changed(facts: Facts) -> Reason | None:
    if not facts.under_way or not (facts.raising or _takes_traffic(facts)) or _continues(facts):
        return None
    change = _new_revision(facts)
    return None if change is None else f"{change}: the canary goes to 0% before it starts again"


def _continues(facts: Facts) -> bool:
    """Whether the running phase goes on with a new revision."""
    return (
        facts.phase is not None
        and not facts.phase.restarts
        and facts.status.phase_started_at is not None
        and not facts.raising
    )


def _revision_continues(facts: Facts) -> Reason | None:
    if not facts.under_way or not _continues(facts) or facts.phase is None:
        return None
    change = _new_revision(facts)
    return None if change is None else f"{change}: phase {facts.phase.name} continues with it, its evidence starts anew"


def _start_on_new_revision(facts: Facts) -> Reason | None:
    if facts.status.state is State.SUCCEEDED and not _may_run_again(facts):
        return None
    change = _new_revision(facts)
    return None if change is None else f"{change}: a new run starts"


def _not_swapped(facts: Facts) -> Reason | None:
    change = _new_revision(facts)
    if change is None:
        return None
    return (
        f"{change}, but the traffic of the last run stays on its canary: "
        f"name the two Services of each target the other way round (stable: the one that has the traffic now)"
    )


def _may_run_again(facts: Facts) -> bool:
    """Whether a new run finds the traffic on stable: it was returned, or the plan names the Services the other way round."""
    running, plan = facts.seen.running, facts.plan
    if not _takes_traffic(facts):
        return True
    if running is None or plan is None:
        return False
    before = {target.name: target for target in running.targets}
    return all(
        target.name not in before
        or (target.stable, target.canary) == (before[target.name].canary, before[target.name].stable)
        for target in plan.targets
    )


def _run_over(facts: Facts) -> Reason | None:
    if facts.status.state is State.ROLLED_BACK:
        return facts.status.message or "rolled back; a new revision or retry starts again"
    if facts.status.state is State.SUCCEEDED:
        return "all phases passed"
    return None


def _plan_changed(facts: Facts) -> Reason | None:
    running, plan = facts.seen.running, facts.plan
    if facts.status.run is None or plan is None:
        return None
    if running is None:
        return "what the run stands on cannot be read from its status; annotate retry to start from the plan as it is"
    before, intent = running.phases[0], facts.status.intent
    index = plan.phase_index(before.name)
    if intent is not None and plan.phase_index(intent.phase) < 0:
        return f"phase {intent.phase}, to which it was going, is no longer in the plan; put it back, or roll back"
    if facts.status.phase_started_at is None and not facts.raising:
        return None  # nothing stands on a phase that has not begun
    if index < 0:
        return (
            f"phase {before.name}, which is running, is no longer in the plan; annotate retry to accept, or put it back"
        )
    if plan.phases[index].digest != before.digest:
        return f"phase {before.name}, which is running, was edited; annotate retry to accept, or change it back"
    return None


def _route_claimed(facts: Facts) -> Reason | None:
    other = facts.seen.claimed_by
    return f"launch {other} is older and moves the same route; wait for its end or delete it" if other else None


def _route_unusable(facts: Facts) -> Reason | None:
    if _far_from_start(facts):
        return None
    return next((view.problem for view in facts.views() if view.problem), None)


def _far_from_start(facts: Facts) -> bool:
    """Whether a launch that has not begun waits for its calendar: what it will move need not be there yet."""
    if facts.status.phase_started_at is not None or facts.raising:
        return False
    if facts.status.run is None:
        first = facts.plan.phases[0] if facts.plan else None
        if first is None or first.start is None:
            return False
        return facts.seen.now < first.start - (first.preflight.opens if first.preflight else 0.0)
    return _scheduled(facts) is not None


def drifted(facts: Facts) -> Reason | None:
    """Which route has another weight than the launch left it at."""
    intent = facts.status.intent
    if _far_from_start(facts):
        return None
    for view in facts.views():
        if view.weight is None:
            continue
        recorded = facts.weights.get(view.name, 0)
        expected = {recorded}
        if intent is not None and view.name in intent.weights:
            planned = intent.weights[view.name]
            expected = {planned} if facts.seen.intent_fate == "written" else {recorded, planned}
        if view.weight not in expected:
            return _drifted(view, expected)
    return None


def _drifted(view: TargetView, expected: set[int]) -> str:
    wanted = " or ".join(format_weight(weight) for weight in sorted(expected))
    live = "an unknown weight" if view.weight is None else format_weight(view.weight)
    return (
        f"target {view.name}: the route gives the canary {live}, the launch left it at {wanted}; set it back to go on"
    )


def _fleet_stopped(facts: Facts) -> Reason | None:
    stop = facts.seen.stop
    if stop is None or not stop.stands(facts.seen.now):
        return None
    return f"all raises are stopped{stop.words}"


def _hold_asked(facts: Facts) -> Reason | None:
    override = facts.heard.hold
    return None if override is None else f"hold asked{override.words}; remove the annotation to go on"


def _held_breach(facts: Facts) -> Reason | None:
    if facts.status.hold is not None:
        return facts.status.hold.message
    return breach_that_holds(facts)


def breach_that_holds(facts: Facts) -> Reason | None:
    """A guardrail that failed and asks for a hold; it must be kept even where something stronger is the signal."""
    if not facts.watching:
        return None
    for judged in facts.judged:
        if judged.verdict.outcome is Outcome.FAIL and not judged.gate and consequence(facts, judged) == "hold":
            return told("", judged.verdict)
    return None


def checkpoint_that_holds(facts: Facts) -> Reason | None:
    """A checkpoint that was taken now, failed and asks for a hold; it must be kept like a breach."""
    taken = facts.checkpoint
    if taken is None or not taken.holds or not facts.under_way:
        return None
    failed = [item.verdict for item in taken.judged if item.enforce and item.verdict.outcome is Outcome.FAIL]
    return told(f"checkpoint {taken.score.after} of phase {taken.score.phase} failed: ", *failed) if failed else None


def _blind(facts: Facts) -> Reason | None:
    for judged in facts.judged:
        if judged.verdict.outcome is Outcome.NO_DATA and consequence(facts, judged) == "hold":
            return told("", judged.verdict)
    return None


def _starting(facts: Facts) -> Reason | None:
    if facts.status.run is not None or facts.plan is None:
        return None
    return f"run of revision {facts.plan.revision} starts with phase {facts.plan.phases[0].name}"


# The wait for a phase: its date, its preflight, and what the controller sees for itself.


def _window_closed(facts: Facts) -> Reason | None:
    """A closed window stops what would raise next: it does not keep a gate from being judged, nor a phase without steps."""
    if facts.opening.open or facts.raising or facts.phase is None:
        return None
    coming, phase, status = facts.coming, facts.phase, facts.status
    raises = bool(coming.steps) if coming is not None else status.step < len(phase.steps)
    raises = raises or (coming is None and status.step > 0 and _next_raise(facts) is not None)
    if not raises or (coming is not None and any(rung(facts) for rung in _BEFORE_RAISE)):
        return None  # what people still have to do is told first
    changes = facts.opening.changes_at
    return f"no raise now: {facts.opening.why}" + ("" if changes is None else f"; opens {format_date(changes)}")


def _scheduled(facts: Facts) -> Reason | None:
    coming = facts.coming
    if coming is None or facts.raising or facts.granted("start"):
        return None
    start = start_of(coming, facts.status)
    if start is None or facts.seen.now >= start:
        return None
    if coming.preflight is not None and facts.seen.now >= _preflight_opens(facts, coming):
        return None
    until = f"phase {coming.name} begins {format_date(start)}"
    why = next((move.why for move in facts.status.moves if move.phase == coming.name and move.why), "")
    return f"{until} ({why})" if why else until


def _preflight_opens(facts: Facts, coming: Phase) -> float:
    return preflight_opens(coming, facts.status, coming_since(facts.status))


def preflight_missing(facts: Facts) -> tuple[str, ...]:
    """What the coming phase's go or no-go still wants, people and machines."""
    coming = facts.coming
    if coming is None or coming.preflight is None:
        return ()
    return (*_people_missing(facts, coming), *_checks_failing(facts, coming))


def _people_missing(facts: Facts, coming: Phase) -> Iterator[str]:
    assert coming.preflight is not None
    items = [item for item in coming.preflight.checklist if f"{coming.name}/{item}" not in facts.status.done]
    if items:
        yield f"checklist: {', '.join(items)} (annotate done)"
    if coming.preflight.approval and not facts.approved(f"{coming.name}/preflight"):
        voided = f"; {facts.voided}" if facts.voided else ""
        yield f"the approval of {coming.preflight.approval} (annotate approve={coming.name}/preflight){voided}"


def _checks_failing(facts: Facts, coming: Phase) -> Iterator[str]:
    if facts.seen.alerting:
        yield f"alerts would not arrive: {facts.seen.alerting}"
    yield from _not_counted(facts, coming)
    if not coming.steps:
        return
    if reason := _coming_not_ready(facts, coming, data=facts.asked):
        yield str(reason)
    for view in facts.moving(coming):
        if view.unwritable:
            yield f"target {view.name}: a dry run of the raise was refused: {view.unwritable}"


def _not_counted(facts: Facts, coming: Phase) -> Iterator[str]:
    """What is counted of the whole launch in the coming phase, and does not answer."""
    for criterion in criteria_of(coming):
        if criterion.launch_wide:
            reading = reading_of(facts.seen, "", criterion.series)
            problem = NOT_ASKED if reading is None else reading.problem
            if reading is not None and not (problem or any(_proven(row) for row in (*reading.settled, *reading.tail))):
                problem = f"{NO_PROOF}: {reading.unproven}" if reading.unproven else NO_PROOF
            if reading is not None and not problem and reading.noticed is not None:
                problem = reading.noticed.problem
            if problem:
                yield f"{criterion.series.bad}: {problem}"


def _proven(row: Row) -> bool:
    return not isinstance(row, Unproven)


def _preflight_moved(facts: Facts) -> Reason | None:
    return _preflight_late(facts, "reschedule")


def _preflight_holds(facts: Facts) -> Reason | None:
    return _preflight_late(facts, "hold")


def _preflight_late(facts: Facts, wanted: str) -> Reason | None:
    coming = facts.coming
    if coming is None or coming.preflight is None or facts.raising or facts.granted("start"):
        return None
    if facts.seen.now < not_ready_at(coming, facts.status, coming_since(facts.status)):
        return None
    missing = preflight_missing(facts)
    if not missing or not all_looked_at(facts):
        return None
    times = next((move.times for move in facts.status.moves if move.phase == coming.name), 0)
    outcome = coming.preflight.on_not_ready.after(times)
    if (outcome == "reschedule") != (wanted == "reschedule"):
        return None
    return f"phase {coming.name} was not ready at its start: waits for {'; '.join(missing)}"


def all_looked_at(facts: Facts) -> bool:
    """Whether every check was made: what nobody has looked at yet is no reason to move a date."""
    return facts.asked and facts.seen.alerting != ALERTING_NOT_KNOWN


def _preflight_open(facts: Facts) -> Reason | None:
    coming = facts.coming
    if coming is None or coming.preflight is None or facts.raising or facts.granted("start"):
        return None
    start, missing = start_of(coming, facts.status), preflight_missing(facts)
    if missing:
        return f"preflight of phase {coming.name} waits for {'; '.join(missing)}"
    if start is not None and facts.seen.now < start:
        return f"phase {coming.name} is ready and begins {format_date(start)}"
    return None


_BEFORE_RAISE = (_scheduled, _preflight_moved, _preflight_holds, _preflight_open)


def _coming_not_ready(facts: Facts, coming: Phase, *, data: bool = True) -> Reason | None:
    """The first raise of a phase: what is in traffic must pass afresh, what is not must be ready.

    Without ``data`` only what can be said without Prometheus.
    """
    lowest = coming.steps[0].weight
    for view in facts.moving(coming):
        recorded = facts.weights.get(view.name, 0)
        if view.problem:
            return view.problem
        if view.weight != recorded:
            return _drifted(view, {recorded})
        if recorded == 0 and (reason := _first_raise_not_ready(facts, view, data=data)):
            return reason
        if data and 0 < recorded < lowest and (reason := _not_proven(facts, view.name)):
            return reason
    return None


def _not_proven(facts: Facts, target: str) -> Reason | None:
    said = [judged.verdict for judged in proof(facts) if judged.verdict.target in (target, "")]
    if not any(verdict.target for verdict in said):
        return f"target {target}: its evidence has not begun"
    unproven = next((verdict for verdict in said if verdict.outcome is not Outcome.PASS), None)
    return None if unproven is None else _told_of(facts, "", unproven)


def _told_of(facts: Facts, before: str, verdict: Verdict) -> Reason:
    """Where nobody asked, there is nothing to say of the evidence yet."""
    if not facts.asked and verdict.problem == NOT_ASKED:
        return f"{before}Prometheus is asked with the next tick"
    return told(before, verdict)


def _not_seen(facts: Facts, target: str = "") -> Reason | None:
    """What nobody may pass by hand: that nothing is seen of the traffic which is raised."""
    traffic = [judged.verdict for judged in proof(facts) if not judged.verdict.criterion.launch_wide]
    said = [verdict for verdict in traffic if target in ("", verdict.target)]
    blind = next((verdict for verdict in said if verdict.outcome is Outcome.NO_DATA), None)
    if blind is not None:
        return told("", blind)
    return None if said else f"{f'target {target}: ' if target else ''}its evidence has not begun"


def _next_raise(facts: Facts) -> TargetView | None:
    """The target that is raised next within the step where the launch stands."""
    phase, status = facts.phase, facts.status
    if phase is None or not 0 < status.step <= len(phase.steps):
        return None
    for view in facts.moving(phase):
        if facts.weights.get(view.name, 0) < phase.steps[status.step - 1].weight:
            return view
    return None


def _not_ready(facts: Facts) -> Reason | None:
    """A raise wants fresh data; the first one from 0 has none of the canary: it wants endpoints and stable's data."""
    if facts.status.intent is not None:
        return None
    coming = facts.coming
    if coming is not None:
        reason = _coming_not_ready(facts, coming) if coming.steps else None
        return None if reason is None else f"phase {coming.name} waits: {reason}"
    view = _next_raise(facts)
    if view is None:
        return None
    if facts.weights.get(view.name, 0) > 0:
        return _not_seen(facts, view.name) if facts.granted("step") else _not_proven(facts, view.name)
    return _first_raise_not_ready(facts, view)


def _first_raise_not_ready(facts: Facts, view: TargetView, *, data: bool = True) -> Reason | None:
    if not view.canary_ready:
        known = "has no ready endpoint" if view.canary_ready == 0 else "has no EndpointSlice that is known"
        return f"target {view.name}: the canary {known}; wait until its pods are ready"
    if not data:
        return None
    subjects = {
        subject: reading
        for subject, reading in facts.seen.readings.items()
        if subject.target == view.name
        and not subject.past
        and (subject.track == "stable" or subject.series.kind == "value")
    }
    if not subjects:
        return f"target {view.name}: Prometheus is asked for the stable track with the next tick"
    for subject, reading in subjects.items():
        if reading.problem:
            return f"target {view.name}: {subject.series.metric} of the stable track: {reading.problem}"
        if not reading.settled and not reading.tail:
            return f"target {view.name}: {subject.series.metric} of the stable track has no samples"
    return None


def _not_in_force(facts: Facts) -> Reason | None:
    intent = facts.status.intent
    if intent is None or intent.kind != "raise":
        return None
    listed = ", ".join(f"{name} {format_weight(weight)}" for name, weight in intent.weights.items())
    return f"waiting until the weight is in force: {listed}"


def _next_target(facts: Facts) -> Reason | None:
    view = _next_raise(facts)
    if view is None or facts.phase is None or facts.coming is not None:
        return None
    return f"target {view.name} is next in step {facts.status.step} of phase {facts.phase.name}"


# The running step.


def _in_step(facts: Facts) -> Phase | None:
    """The running phase, while one of its steps is."""
    return facts.phase if facts.coming is None and not facts.passed and facts.status.step > 0 else None


def _step_proof(facts: Facts) -> tuple[Judged, ...]:
    """What must pass; once the gate's time has come, its criteria are judged as a gate."""
    return tuple(judged for judged in proof(facts) if not (judged.gate and facts.gate_due))


def _judges_nothing(facts: Facts) -> bool:
    """No verdict at all is no proof."""
    judged = {item.verdict.target for item in proof(facts)}
    return facts.phase is None or not judged.issuperset(view.name for view in facts.moving(facts.phase))


def _step_undecided(facts: Facts) -> Reason | None:
    if _in_step(facts) is None or facts.dwelt is None or facts.granted("step") or facts.granted("gate"):
        return None
    # No data is another outcome, which ends by itself: it must not become a hold that lasts.
    known = (Outcome.UNDECIDED, Outcome.FAIL)
    open_ones = (item for item in _step_proof(facts) if item.verdict.outcome in known or item.verdict.lost)
    waiting = waited_too_long(facts, open_ones)
    return None if waiting is None else told(f"undecided for {format_duration(facts.dwelt)}: ", waiting.verdict)


def _step_not_done(facts: Facts) -> Reason | None:
    phase = _in_step(facts)
    if phase is None or facts.granted("gate"):
        return None
    step = phase.steps[facts.status.step - 1]
    where = f"step {facts.status.step} of {len(phase.steps)} at {format_weight(step.weight)}"
    if facts.granted("step"):
        blind = _not_seen(facts)
        return None if blind is None else f"{where}: {blind}"
    unproven = next((judged for judged in _step_proof(facts) if judged.verdict.outcome is not Outcome.PASS), None)
    if unproven is not None:
        return _told_of(facts, f"{where}: ", unproven.verdict)
    if facts.dwelt is None or _judges_nothing(facts):
        return f"{where}: its evidence has not begun"
    if facts.dwelt < step.lasts:
        return f"{where}: {format_duration(step.lasts - facts.dwelt)} to go, all criteria pass so far"
    return None


def _step_approval(facts: Facts) -> Reason | None:
    phase = _in_step(facts)
    if phase is None or facts.granted("step") or facts.granted("gate"):
        return None
    role, of = phase.steps[facts.status.step - 1].approval, f"{phase.name}/{facts.status.step}"
    if not role or facts.approved(of):
        return None
    return _wanted(facts, f"step {facts.status.step} of phase {phase.name}", role, of)


def _wanted(facts: Facts, what: str, role: str, of: str) -> str:
    voided = f"; {facts.voided}" if facts.voided else ""
    return f"{what} has passed and waits for the approval of {role} (annotate approve={of}){voided}"


def _step_done(facts: Facts) -> Reason | None:
    phase = _in_step(facts)
    if phase is None or facts.status.step >= len(phase.steps):
        return None
    where = f"step {facts.status.step} of {len(phase.steps)}"
    if grant := facts.granted("step"):
        return f"{where} is left by hand{f' by {grant.by}' if grant.by else ''}"
    return told(f"{where} passed: ", *(judged.verdict for judged in proof(facts)))


# The gate.


def _gate(facts: Facts) -> Phase | None:
    """The running phase, while its gate is open and nobody let it pass."""
    phase = facts.phase
    if phase is None or phase.gate is None or facts.passed or facts.coming is not None or facts.granted("gate"):
        return None
    return phase


def gate_move(facts: Facts) -> GateMove | None:
    """How the gate is put off, if what was found says so."""
    phase = _gate(facts)
    if phase is None or phase.gate is None or not facts.gate_judged:
        return None
    for which, outcome, reason in _gate_findings(facts):
        if outcome.after(_used(facts, which)) in ("extend", "reschedule"):
            return GateMove(which, outcome, reason)
    return None


def _used(facts: Facts, which: str) -> int:
    return facts.status.gate.used.get(which, 0) if facts.status.gate else 0


def _gate_findings(facts: Facts) -> Iterator[tuple[str, PlannedOutcome, Reason]]:
    """What keeps the gate from passing, with the outcome that the plan has for it, the worst first."""
    phase = facts.phase
    assert phase is not None
    assert phase.gate is not None
    gate, name = phase.gate, f"gate of phase {phase.name}: "
    for judged in facts.judged:
        if judged.gate and judged.verdict.outcome is Outcome.FAIL:
            yield "fail", gate.on_fail, told(name, judged.verdict)
    for judged in facts.judged:
        if judged.gate and judged.verdict.outcome is Outcome.NO_DATA and consequence(facts, judged) is not None:
            yield "noData", gate.on_no_data, told(name, judged.verdict)
    for judged in facts.judged:
        if judged.gate and undecided_by(judged.verdict) and had_time(facts, judged.verdict):
            yield "undecided", gate.on_undecided, told(f"gate of phase {phase.name} is undecided: ", judged.verdict)
    if late := _deliverables_late(facts):
        yield "fail", gate.on_fail, late


def _gate_moved(facts: Facts) -> Reason | None:
    move = gate_move(facts)
    return None if move is None else move.reason


def _escalated(facts: Facts) -> Reason | None:
    if _gate(facts) is None or not facts.gate_judged:
        return None
    for which, outcome, reason in _gate_findings(facts):
        if outcome.after(_used(facts, which)) == "escalate":
            return reason
    return None


def _gate_failed(facts: Facts) -> Reason | None:
    if _gate(facts) is None:
        return None
    for judged in facts.judged:
        if judged.gate and judged.verdict.outcome is Outcome.FAIL and consequence(facts, judged) == "hold":
            return told(f"gate of phase {facts.status.phase}: ", judged.verdict)
    return None


def _gate_undecided_too_long(facts: Facts) -> Reason | None:
    phase = facts.phase
    if phase is None or phase.gate is None or not facts.gate_judged:
        return None
    open_ones = (judged for judged in facts.judged if judged.gate and undecided_by(judged.verdict))
    waiting = waited_too_long(facts, open_ones)
    return None if waiting is None else told(f"gate of phase {phase.name} is undecided: ", waiting.verdict)


def _gate_undecided(facts: Facts) -> Reason | None:
    phase = _gate(facts)
    if phase is None or phase.gate is None:
        return None
    hold = phase.gate.on_undecided.after(_used(facts, "undecided")) == "hold"
    return _gate_undecided_too_long(facts) if hold else None


def _deliverables_late(facts: Facts) -> Reason | None:
    """Deliverables that are missing when all that is measured passes."""
    phase, missing = facts.phase, missing_deliverables(facts)
    if phase is None or not missing or not facts.gate_due or gate_unproven(facts) or gate_unjudged(facts):
        return None
    return f"gate of phase {phase.name}: not done yet: {', '.join(missing)} (annotate done)"


def _deliverables_missing(facts: Facts) -> Reason | None:
    """A wait for people, which goes on between two judgements of the gate; where it is put off, it was so already."""
    phase = _gate(facts)
    if phase is None or phase.gate is None:
        return None
    waits = facts.gate_judged or phase.gate.on_fail.after(_used(facts, "fail")) == "hold"
    return _deliverables_late(facts) if waits else None


def _gate_open(facts: Facts) -> Reason | None:
    phase = _gate(facts)
    if phase is None or not facts.steps_over:
        return None
    if not facts.gate_due:
        due = gate_due(phase, facts.status)
        left = (due or facts.seen.now) - facts.seen.now
        return f"gate of phase {phase.name} opens in {format_duration(max(left, 1.0))}"
    if unproven := gate_unproven(facts):
        return _told_of(facts, f"gate of phase {phase.name}: ", unproven.verdict)
    if gate_unjudged(facts):
        return f"gate of phase {phase.name}: no target has traffic in which its criteria could be judged"
    if missing := missing_deliverables(facts):
        return f"gate of phase {phase.name}: not done yet: {', '.join(missing)} (annotate done)"
    return None


def step_measured(facts: Facts) -> bool:
    """Whether everything of the step but its approval is there."""
    return facts.dwelt is not None and not facts.raising and _step_not_done(facts) is None and not _next_raise(facts)


def gate_measured(facts: Facts) -> bool:
    """Whether everything of the gate but its approval has passed."""
    return facts.gate_due and not gate_unproven(facts) and not gate_unjudged(facts) and not missing_deliverables(facts)


def _gate_approval(facts: Facts) -> Reason | None:
    phase = _gate(facts)
    if phase is None or phase.gate is None or not phase.gate.approval or facts.approved(f"{phase.name}/gate"):
        return None
    return _wanted(facts, f"gate of phase {phase.name}", phase.gate.approval, f"{phase.name}/gate")


# The end of a phase, and of the launch.


def _phase_passed(facts: Facts) -> Reason | None:
    phase = facts.phase
    if phase is None or facts.coming is not None or facts.passed or _ends_with(facts):
        return None
    if grant := facts.granted("gate"):
        return f"phase {phase.name} is passed by hand{f' by {grant.by}' if grant.by else ''}"
    gate = [judged.verdict for judged in facts.judged if judged.gate]
    return told(f"phase {phase.name} passed: ", *gate) if gate else f"phase {phase.name} passed"


def _ends_with(facts: Facts) -> bool:
    """Whether the launch is over with the running phase and nothing has to be waited for."""
    return facts.following is None and (facts.plan is None or facts.plan.on_success == "keep")


def _phase_begins(facts: Facts) -> Reason | None:
    coming = facts.coming
    if coming is None or not coming.steps:
        return None
    return f"phase {coming.name} begins with {format_weight(coming.steps[0].weight)}"


def _phase_entered(facts: Facts) -> Reason | None:
    return None if facts.coming is None else f"phase {facts.coming.name} begins"


def _not_returned(facts: Facts) -> Reason | None:
    plan, phase = facts.plan, facts.phase
    if plan is None or phase is None or not facts.passed or plan.on_success != "return":
        return None
    for view in facts.seen.targets:
        if facts.weights.get(view.name, 0) == 0:
            continue
        if view.versions is None:
            return f"traffic goes back to stable when its pods run {plan.revision}: target {view.name}: not known yet"
        others = {version: count for version, count in view.versions.items() if version != plan.revision}
        if others or not view.versions:
            listed = ", ".join(f"{count} of {version or 'no version'}" for version, count in sorted(others.items()))
            what = listed or "no ready pod"
            return f"traffic goes back to stable when its pods run {plan.revision}: target {view.name}: {what}"
        if reason := _not_proven(facts, view.name):
            return reason
    return None


def _return(facts: Facts) -> Reason | None:
    if facts.plan is None or facts.plan.on_success != "return" or not facts.passed:
        return None
    return f"every ready pod of the stable Services runs {facts.plan.revision}: traffic goes back to them"


def _launch_passed(facts: Facts) -> Reason | None:
    phase = facts.phase
    return f"all phases passed, {phase.name} the last" if phase else "all phases passed"


LADDER: tuple[tuple[Signal, Rung], ...] = (
    (Signal.ROLLBACK_ASKED, _rollback_asked),
    (Signal.DELETED, _deleted),
    (Signal.BREACH, _breach),
    (Signal.LOWERING, _lowering),
    (Signal.WITHDRAWN, _withdrawn),
    (Signal.RETURNING, _returning),
    (Signal.PLAN_INVALID, plan_invalid),
    (Signal.REVISION_CHANGED, _revision_changed),
    (Signal.REVISION_CONTINUES, _revision_continues),
    (Signal.NEW_REVISION, _start_on_new_revision),
    (Signal.NOT_SWAPPED, _not_swapped),
    (Signal.RUN_OVER, _run_over),
    (Signal.PLAN_CHANGED, _plan_changed),
    (Signal.ROUTE_CLAIMED, _route_claimed),
    (Signal.ROUTE_UNUSABLE, _route_unusable),
    (Signal.DRIFT, drifted),
    (Signal.FLEET_STOPPED, _fleet_stopped),
    (Signal.HOLD_ASKED, _hold_asked),
    (Signal.HELD_BREACH, _held_breach),
    (Signal.CHECKPOINT_FAILED, checkpoint_that_holds),
    (Signal.BLIND, _blind),
    (Signal.STARTING, _starting),
    (Signal.WINDOW_CLOSED, _window_closed),
    (Signal.SCHEDULED, _scheduled),
    (Signal.PREFLIGHT_MOVED, _preflight_moved),
    (Signal.PREFLIGHT_LATE, _preflight_holds),
    (Signal.PREFLIGHT_OPEN, _preflight_open),
    (Signal.NOT_READY, _not_ready),
    (Signal.NOT_IN_FORCE, _not_in_force),
    (Signal.NEXT_TARGET, _next_target),
    (Signal.STEP_UNDECIDED, _step_undecided),
    (Signal.STEP_NOT_DONE, _step_not_done),
    (Signal.STEP_APPROVAL, _step_approval),
    (Signal.STEP_DONE, _step_done),
    (Signal.GATE_MOVED, _gate_moved),
    (Signal.ESCALATED, _escalated),
    (Signal.GATE_FAILED, _gate_failed),
    (Signal.GATE_UNDECIDED, _gate_undecided),
    (Signal.DELIVERABLES_MISSING, _deliverables_missing),
    (Signal.GATE_OPEN, _gate_open),
    (Signal.GATE_APPROVAL, _gate_approval),
    (Signal.PHASE_PASSED, _phase_passed),
    (Signal.PHASE_BEGINS, _phase_begins),
    (Signal.PHASE_ENTERED, _phase_entered),
    (Signal.NOT_RETURNED, _not_returned),
    (Signal.RETURN, _return),
    (Signal.LAUNCH_PASSED, _launch_passed),
)


def read_signal(facts: Facts) -> tuple[Signal, Reason]:
    """The strongest signal of these facts, with its reason in words."""
    for signal, rung in LADDER:
        reason = rung(facts)
        if reason is not None:
            return signal, reason
    raise AssertionError("the last rung always holds")
