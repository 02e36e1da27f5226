"""An ordered ladder: the first rung that holds names the one signal of this tick.

The order is policy. What lowers traffic stands above all that merely stops it; what stops it stands above all that
raises it. Each rung is a small function of the facts that returns its reason in words, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import inf

from controller.core.evidence import NO_DATA_INTERVALS, NO_DATA_SECONDS, Outcome, Verdict
from controller.core.observation import Observation, TargetView
from controller.core.overrides import Heard
from controller.core.plan import Consequence, InvalidPlanError, Phase, Plan
from controller.core.questions import following_phase
from controller.core.status import State, Status
from controller.core.units import format_duration, format_weight
from controller.core.words import Reason, told

PATIENCE_FACTOR = 3
"""A step that stays undecided waits this many times its ``for`` before ``onUndecided`` applies."""
PATIENCE_WITHOUT_FOR = 1800.0
"""The same for a step without ``for``, in seconds."""


class Signal(StrEnum):
    """What a tick amounts to; the value is the reason that people see in conditions and logs."""

    ROLLBACK_ASKED = "RollbackAsked"
    BREACH = "Breach"
    LOWERING = "Lowering"
    PLAN_INVALID = "PlanInvalid"
    REVISION_CHANGED = "RevisionChanged"
    NEW_REVISION = "NewRevision"
    NOT_SWAPPED = "ServicesNotSwapped"
    RUN_OVER = "RunOver"
    PLAN_CHANGED = "PlanChanged"
    ROUTE_CLAIMED = "RouteClaimed"
    ROUTE_UNUSABLE = "RouteUnusable"
    DRIFT = "Drift"
    HOLD_ASKED = "HoldAsked"
    HELD_BREACH = "HeldByBreach"
    BLIND = "NoData"
    STARTING = "Starting"
    NOT_READY = "NotReady"
    NOT_IN_FORCE = "WeightNotInForce"
    NEXT_TARGET = "NextTarget"
    STEP_UNDECIDED = "StepUndecided"
    STEP_NOT_DONE = "StepNotDone"
    STEP_DONE = "StepDone"
    GATE_FAILED = "GateFailed"
    GATE_UNDECIDED = "GateUndecided"
    GATE_OPEN = "GateOpen"
    NEXT_NOT_READY = "NextPhaseNotReady"
    PHASE_PASSED = "PhasePassed"
    LAUNCH_PASSED = "LaunchPassed"


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict with what the plan says follows from it. ``gate`` is true for a criterion of the gate."""

    verdict: Verdict
    on_fail: Consequence
    on_no_data: Consequence
    enforce: bool = True
    gate: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rungs look at: the observation, the status after its bookkeeping, the running phase, the verdicts.

    ``dwelt`` is for how many seconds the step's weights have been in force; None: not yet.
    ``in_phase`` is for how many seconds the phase has gone on.
    """

    seen: Observation
    status: Status
    plan: Plan | None
    phase: Phase | None
    judged: tuple[Judged, ...]
    heard: Heard
    weights: Mapping[str, int]
    dwelt: float | None
    in_phase: float

    @property
    def watching(self) -> bool:
        """Whether the guardrails have a consequence now."""
        status = self.status
        plan = self.plan or self.seen.running
        if status.state is State.SUCCEEDED and status.ended_at is not None and plan is not None:
            return self.seen.now - status.ended_at <= plan.watch_after
        return status.state in (State.PROGRESSING, State.JUDGING, State.HELD)

    @property
    def gate_due(self) -> bool:
        """Whether the steps are over and the gate's time has come."""
        phase = self.phase
        if phase is None or phase.gate is None or self.dwelt is None or self.status.step < len(phase.steps):
            return False
        if phase.gate.after is not None:
            return self.in_phase >= phase.gate.after
        return self.dwelt >= phase.steps[-1].lasts

    def views(self) -> tuple[TargetView, ...]:
        """The views of the targets that the running phase moves (all, before the first phase)."""
        names = self.phase.targets if self.phase else tuple(view.name for view in self.seen.targets)
        return tuple(view for view in self.seen.targets if view.name in names)


Rung = Callable[[Facts], Reason | None]


def too_long_without_data(verdict: Verdict, watched: float = inf) -> bool:
    """Whether the silence is an outcome of its own by now; ``watched`` is for how many seconds somebody listened."""
    series = verdict.criterion.series
    patience = max(NO_DATA_SECONDS, NO_DATA_INTERVALS * series.interval)
    return verdict.outcome is Outcome.NO_DATA and min(verdict.silent, watched) > series.settle + patience


def _rollback_asked(facts: Facts) -> Reason | None:
    override = facts.heard.rollback
    return None if override is None else f"rollback asked{override.words}"


def _breach(facts: Facts) -> Reason | None:
    if not facts.watching:
        return None
    for judged in facts.judged:
        if _consequence(facts, judged) == "rollback":
            return told("", judged.verdict)
    gate = facts.phase.gate if facts.phase else None
    if gate and gate.on_undecided == "rollback" and (waiting := _gate_undecided_too_long(facts)):
        return waiting
    return None


def _consequence(facts: Facts, judged: Judged) -> Consequence | None:
    """What a fail, or a silence that is too long, leads to; None: nothing (yet)."""
    if not judged.enforce or (judged.gate and not facts.gate_due):
        return None
    if judged.verdict.outcome is Outcome.FAIL:
        return judged.on_fail
    if too_long_without_data(judged.verdict, facts.seen.watched):
        return judged.on_no_data
    return None


def _lowering(facts: Facts) -> Reason | None:
    intent = facts.status.intent
    if intent is None or intent.kind != "retreat":
        return None
    problem = next((view.problem for view in facts.seen.targets if view.problem and view.name in intent.weights), "")
    return f"taking the canary's traffic away{': ' if problem else ''}{problem}"


def _plan_invalid(facts: Facts) -> Reason | None:
    if not isinstance(facts.seen.plan, InvalidPlanError):
        return None
    faults = facts.seen.plan.faults
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{faults[0]}{more}"


def _new_revision(facts: Facts) -> str | None:
    run, plan = facts.status.run, facts.plan
    if run is None or plan is None or plan.revision == run.revision:
        return None
    return f"revision {plan.revision} instead of {run.revision}" if run.revision else f"revision {plan.revision} again"


def _takes_traffic(facts: Facts) -> bool:
    return any(facts.weights.values()) or any(view.takes_traffic for view in facts.seen.targets)


def _revision_changed(facts: Facts) -> Reason | None:
    coming = facts.status.intent is not None and facts.status.intent.kind == "raise"
    under_way = facts.status.state in (State.PROGRESSING, State.JUDGING, State.HELD)
    if not under_way or not (coming or _takes_traffic(facts)):
        return None
    change = _new_revision(facts)
    return None if change is None else f"{change}: the canary goes to 0% before it starts again"


def _start_on_new_revision(facts: Facts) -> Reason | None:
    if facts.status.state is State.SUCCEEDED and not _swapped(facts):
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


def _swapped(facts: Facts) -> bool:
    running, plan = facts.seen.running, facts.plan
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
    return next((view.problem for view in facts.views() if view.problem), None)


def _drift(facts: Facts) -> Reason | None:
    intent = facts.status.intent
    for view in facts.views():
        if view.weight is None:
            continue
        recorded = facts.weights.get(view.name, 0)
        expected = {recorded}
        if intent is not None and view.name in intent.weights:
            planned = intent.weights[view.name]
            expected = {planned} if facts.seen.intent_fate == "written" else {recorded, planned}
        if view.weight not in expected:
            wanted = " or ".join(format_weight(weight) for weight in sorted(expected))
            return (
                f"target {view.name}: the route gives the canary {format_weight(view.weight)}, "
                f"the launch left it at {wanted}; set it back to go on"
            )
    return None


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
        if judged.verdict.outcome is Outcome.FAIL and not judged.gate and _consequence(facts, judged) == "hold":
            return told("", judged.verdict)
    return None


def _blind(facts: Facts) -> Reason | None:
    for judged in facts.judged:
        if judged.verdict.outcome is Outcome.NO_DATA and _consequence(facts, judged) == "hold":
            return told("", judged.verdict)
    return None


def _starting(facts: Facts) -> Reason | None:
    if facts.status.run is not None or facts.plan is None:
        return None
    return f"run of revision {facts.plan.revision} starts with phase {facts.plan.phases[0].name}"


def _next_raise(facts: Facts) -> TargetView | None:
    """The target that is raised next within the step where the launch stands or to which it goes."""
    phase, status = facts.phase, facts.status
    if phase is None:
        return None
    step = max(status.step, 1)
    if step > len(phase.steps):
        return None
    for view in facts.views():
        if facts.weights.get(view.name, 0) < phase.steps[step - 1].weight:
            return view
    return None


def _not_ready(facts: Facts) -> Reason | None:
    """A raise wants fresh data; the first one from 0 has none of the canary: it wants endpoints and stable's data."""
    view = _next_raise(facts)
    if view is None or facts.status.intent is not None:
        return None
    if facts.weights.get(view.name, 0) > 0:
        proof = [judged.verdict for judged in _proof(facts) if judged.verdict.target == view.name]
        if not proof:
            return f"target {view.name}: its evidence has not begun"
        unproven = next((verdict for verdict in proof if verdict.outcome is not Outcome.PASS), None)
        return None if unproven is None else told("", unproven)
    return _first_raise_not_ready(facts, view)


def _first_raise_not_ready(facts: Facts, view: TargetView) -> Reason | None:
    if not view.canary_ready:
        known = "has no ready endpoint" if view.canary_ready == 0 else "has no EndpointSlice that is known"
        return f"target {view.name}: the canary {known}; wait until its pods are ready"
    subjects = {
        subject: reading
        for subject, reading in facts.seen.readings.items()
        if subject.target == view.name and (subject.track == "stable" or subject.series.kind == "value")
    }
    if not subjects:
        return f"target {view.name}: the data of the stable track were not asked for in this round"
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
    if view is None or facts.phase is None or facts.status.step == 0:
        return None
    return f"target {view.name} is next in step {facts.status.step} of phase {facts.phase.name}"


def _proof(facts: Facts) -> tuple[Judged, ...]:
    """The verdicts that must pass before a step is left: the enforced guardrails, else the gate's criteria."""
    guardrails = tuple(judged for judged in facts.judged if judged.enforce and not judged.gate)
    return guardrails or tuple(judged for judged in facts.judged if judged.gate)


def _step_proof(facts: Facts) -> tuple[Judged, ...]:
    """The same once the gate's time has come: then its criteria are judged as a gate."""
    return tuple(judged for judged in _proof(facts) if not (judged.gate and facts.gate_due))


def _unproven(facts: Facts) -> Judged | None:
    return next((judged for judged in _step_proof(facts) if judged.verdict.outcome is not Outcome.PASS), None)


def _judges_nothing(facts: Facts) -> bool:
    """No verdict at all is no proof."""
    judged = {item.verdict.target for item in _proof(facts)}
    return facts.phase is None or not judged.issuperset(facts.phase.targets)


def patience(lasts: float) -> float:
    """How many seconds after its weight came into force an undecided step has waited too long."""
    return PATIENCE_FACTOR * lasts if lasts else PATIENCE_WITHOUT_FOR


def _step_undecided(facts: Facts) -> Reason | None:
    if facts.dwelt is None:
        return None
    # No data is another outcome, which ends by itself: it must not become a hold that lasts.
    known = (Outcome.UNDECIDED, Outcome.FAIL)
    waiting = _waited_too_long(facts, (judged for judged in _step_proof(facts) if judged.verdict.outcome in known))
    return None if waiting is None else told(f"undecided for {format_duration(facts.dwelt)}: ", waiting.verdict)


def _waited_too_long(facts: Facts, undecided: Iterable[Judged]) -> Judged | None:
    """The first of these that has had the time and the rows to be decided; of a gate with a time, since that time."""
    phase = facts.phase
    if phase is None or facts.dwelt is None or facts.status.step == 0:
        return None
    lasts, waited = phase.steps[facts.status.step - 1].lasts, facts.dwelt
    if phase.gate is not None and phase.gate.after is not None and facts.status.step == len(phase.steps):
        waited = min(waited, facts.in_phase - phase.gate.after + lasts)
    enough = patience(lasts)
    return next((judged for judged in undecided if min(waited, judged.verdict.waited) >= enough), None)


def _step_not_done(facts: Facts) -> Reason | None:
    phase = facts.phase
    if phase is None or facts.status.step == 0:
        return None
    step = phase.steps[facts.status.step - 1]
    where = f"step {facts.status.step} of {len(phase.steps)} at {format_weight(step.weight)}"
    if unproven := _unproven(facts):
        return told(f"{where}: ", unproven.verdict)
    if facts.dwelt is None or _judges_nothing(facts):
        return f"{where}: its evidence has not begun"
    if facts.dwelt < step.lasts:
        return f"{where}: {format_duration(step.lasts - facts.dwelt)} to go, all criteria pass so far"
    return None


def _step_done(facts: Facts) -> Reason | None:
    phase = facts.phase
    if phase is None or facts.status.step >= len(phase.steps):
        return None
    if facts.status.step == 0:
        return f"phase {phase.name} begins with {format_weight(phase.steps[0].weight)}"
    proof = (judged.verdict for judged in _proof(facts))
    return told(f"step {facts.status.step} of {len(phase.steps)} passed: ", *proof)


def _gate_failed(facts: Facts) -> Reason | None:
    for judged in facts.judged:
        if judged.gate and judged.verdict.outcome is Outcome.FAIL and _consequence(facts, judged) == "hold":
            return told(f"gate of phase {facts.status.phase}: ", judged.verdict)
    return None


def _gate_unproven(facts: Facts) -> Judged | None:
    for judged in facts.judged:
        verdict = judged.verdict
        if judged.gate and (verdict.outcome is not Outcome.PASS or not verdict.passes_phase):
            return judged
    return None


def _gate_undecided_too_long(facts: Facts) -> Reason | None:
    phase = facts.phase
    if phase is None or phase.gate is None or not facts.gate_due or facts.dwelt is None:
        return None
    open_ones = (judged for judged in facts.judged if judged.gate and _gate_undecided_by(judged.verdict))
    waiting = _waited_too_long(facts, open_ones)
    return None if waiting is None else told(f"gate of phase {phase.name} is undecided: ", waiting.verdict)


def _gate_undecided_by(verdict: Verdict) -> bool:
    return verdict.outcome is Outcome.UNDECIDED or (verdict.outcome is Outcome.PASS and not verdict.passes_phase)


def _gate_undecided(facts: Facts) -> Reason | None:
    gate = facts.phase.gate if facts.phase else None
    return _gate_undecided_too_long(facts) if gate and gate.on_undecided == "hold" else None


def _gate_open(facts: Facts) -> Reason | None:
    phase = facts.phase
    if phase is None or phase.gate is None:
        return None
    if not facts.gate_due:
        left = (phase.gate.after or 0.0) - facts.in_phase
        return f"gate of phase {phase.name} opens in {format_duration(max(left, 1.0))}"
    if unproven := _gate_unproven(facts):
        return told(f"gate of phase {phase.name}: ", unproven.verdict)
    return None


def _next_phase_not_ready(facts: Facts) -> Reason | None:
    """The next phase may move targets that this one does not watch: they are looked at before its first raise."""
    phase, following = facts.phase, following_phase(facts.plan, facts.phase)
    if phase is None or following is None:
        return None
    for view in facts.seen.targets:
        if view.name not in following.targets or view.name in phase.targets:
            continue
        recorded = facts.weights.get(view.name, 0)
        reason: Reason | None = view.problem or None
        if reason is None and view.weight != recorded:
            live = "an unknown weight" if view.weight is None else format_weight(view.weight)
            reason = f"target {view.name}: the route gives the canary {live}, the launch left it at "
            reason += f"{format_weight(recorded)}; set it back to go on"
        if reason is None and recorded == 0:
            reason = _first_raise_not_ready(facts, view)
        if reason is not None:
            return f"phase {following.name} waits: {reason}"
    return None


def _phase_passed(facts: Facts) -> Reason | None:
    following = following_phase(facts.plan, facts.phase)
    if facts.phase is None or following is None:
        return None
    return f"phase {facts.phase.name} passed; phase {following.name} begins"


def _launch_passed(facts: Facts) -> Reason | None:
    phase = facts.phase
    return f"all phases passed, {phase.name} the last" if phase else "all phases passed"


LADDER: tuple[tuple[Signal, Rung], ...] = (
    (Signal.ROLLBACK_ASKED, _rollback_asked),
    (Signal.BREACH, _breach),
    (Signal.LOWERING, _lowering),
    (Signal.PLAN_INVALID, _plan_invalid),
    (Signal.REVISION_CHANGED, _revision_changed),
    (Signal.NEW_REVISION, _start_on_new_revision),
    (Signal.NOT_SWAPPED, _not_swapped),
    (Signal.RUN_OVER, _run_over),
    (Signal.PLAN_CHANGED, _plan_changed),
    (Signal.ROUTE_CLAIMED, _route_claimed),
    (Signal.ROUTE_UNUSABLE, _route_unusable),
    (Signal.DRIFT, _drift),
    (Signal.HOLD_ASKED, _hold_asked),
    (Signal.HELD_BREACH, _held_breach),
    (Signal.BLIND, _blind),
    (Signal.STARTING, _starting),
    (Signal.NOT_READY, _not_ready),
    (Signal.NOT_IN_FORCE, _not_in_force),
    (Signal.NEXT_TARGET, _next_target),
    (Signal.STEP_UNDECIDED, _step_undecided),
    (Signal.STEP_NOT_DONE, _step_not_done),
    (Signal.STEP_DONE, _step_done),
    (Signal.GATE_FAILED, _gate_failed),
    (Signal.GATE_UNDECIDED, _gate_undecided),
    (Signal.GATE_OPEN, _gate_open),
    (Signal.NEXT_NOT_READY, _next_phase_not_ready),
    (Signal.PHASE_PASSED, _phase_passed),
    (Signal.LAUNCH_PASSED, _launch_passed),
)


def read_signal(facts: Facts) -> tuple[Signal, Reason]:
    """The strongest signal of these facts, with its reason in words."""
    for signal, rung in LADDER:
        reason = rung(facts)
        if reason is not None:
            return signal, reason
    raise AssertionError("the last rung always holds")
