"""What must be asked of Prometheus so that a launch can be decided."""

from __future__ import annotations

from controller.core.evidence import Criterion, grid
from controller.core.observation import Observation
from controller.core.plan import InvalidPlanError, Phase, Plan
from controller.core.series import Reading, Series, Subject
from controller.core.status import State, Status


def fold_key(target: str, criterion: Criterion) -> str:
    """The name of a fold in status."""
    return f"{target}|{criterion.key}"


def questions(seen: Observation) -> dict[Subject, int]:
    """What must be known of Prometheus to decide: each subject with the instant after which rows are wanted."""
    status, plan = seen.status, valid_plan(seen.plan)
    phase, source = running_phase(seen, status)
    asked: dict[Subject, int] = {}
    if phase is None or source is None or status.state in (State.ROLLED_BACK, State.INVALID):
        return asked
    if status.state is State.SUCCEEDED and status.ended_at is not None:
        watch = (plan or source).watch_after
        if seen.now - status.ended_at > watch:
            return asked
    recorded = {target.name: target.weight for target in status.targets}

    def ask(criterion: Criterion, name: str, after: int, *, stable: bool = False) -> None:
        target = source.target(name)
        subject = Subject(
            series=criterion.series,
            namespace=seen.namespace,
            target=name,
            service=target.service,
            revision=status.run.revision if status.run else source.revision,
            track="stable" if stable else "canary",
        )
        asked[subject] = min(after, asked.get(subject, after))

    intent = status.intent if status.intent and status.intent.kind == "raise" else None
    for criterion in criteria_of(phase):
        for name in phase.targets:
            fold = seen.folds.get(fold_key(name, criterion))
            if fold is not None:
                ask(criterion, name, fold.last)
            if recorded.get(name, 0) == 0 or (intent and name in intent.weights):
                recent = grid(seen.now - criterion.series.settle, criterion.series.interval)
                recent -= 2 * criterion.series.interval
                if intent and name in intent.weights:
                    recent = min(recent, grid(intent.at, criterion.series.interval))
                    if criterion.series.kind != "value":
                        ask(criterion, name, recent)
                ask(criterion, name, recent, stable=criterion.series.kind != "value")
    following = following_phase(plan, phase) if status.step == len(phase.steps) else None
    if following is not None:
        known = {target.name for target in source.targets}
        for criterion in criteria_of(following):
            for name in following.targets:
                if name in known and name not in phase.targets and recorded.get(name, 0) == 0:
                    recent = grid(seen.now - criterion.series.settle, criterion.series.interval)
                    recent -= 2 * criterion.series.interval
                    ask(criterion, name, recent, stable=criterion.series.kind != "value")
    return asked


def valid_plan(plan: Plan | InvalidPlanError) -> Plan | None:
    """The plan, unless it has faults."""
    return plan if isinstance(plan, Plan) else None


def running_phase(seen: Observation, status: Status) -> tuple[Phase | None, Plan | None]:
    """The phase that the run is in, by what it stands on."""
    if status.run is None or seen.running is None:
        return None, None
    return seen.running.phases[0], seen.running


def following_phase(plan: Plan | None, phase: Phase | None) -> Phase | None:
    """The phase after this one in the plan as it is now."""
    if plan is None or phase is None:
        return None
    place = plan.phase_index(phase.name) + 1
    return plan.phases[place] if place < len(plan.phases) else None


def criteria_of(phase: Phase) -> tuple[Criterion, ...]:
    """Every criterion of the phase once: a gate's that is also a guardrail shares its fold."""
    unique = {guardrail.criterion.key: guardrail.criterion for guardrail in phase.guardrails}
    if phase.gate:
        unique.update({criterion.key: criterion for criterion in phase.gate.criteria})
    return tuple(unique.values())


def reading_of(seen: Observation, target: str, series: Series) -> Reading | None:
    """What was answered of the canary of this target; None where it was not asked."""
    for subject, reading in seen.readings.items():
        if subject.target == target and subject.track == "canary" and subject.series == series:
            return reading
    return None
