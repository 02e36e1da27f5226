"""What must be asked of Prometheus so that a launch can be decided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from controller.core.comparisons import us_or_world
from controller.core.evidence import Criterion, grid
from controller.core.observation import Observation
from controller.core.plan import Guardrail, InvalidPlanError, Phase, Plan
from controller.core.schedule import coming_since, preflight_opens, start_of
from controller.core.series import Reading, Series, Subject, Track, beside, launch_wide
from controller.core.status import UNDER_WAY, State, Status

SOON = 300.0
"""Seconds before a phase begins from which on its targets are looked at, where it has no preflight."""
BURSTS_OVER = 86_400.0
"""Seconds of the stable track's past that say how its bad events vary; what was measured holds as long again."""


def fold_key(target: str, criterion: Criterion) -> str:
    """The name of a fold in status; of a criterion of the whole launch the target is empty."""
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
    weights = {target.name: target.weight for target in status.targets}

    def ask(
        criterion: Criterion, name: str, after: int, known: Plan, *, stable: bool = False, past: bool = False
    ) -> None:
        if criterion.launch_wide:
            subject = launch_wide(criterion.series, seen.namespace, known.prometheus)
        else:
            subject = Subject(
                series=criterion.series,
                namespace=seen.namespace,
                target=name,
                service=known.target(name).service,
                revision=status.run.revision if status.run else known.revision,
                track="stable" if stable else "canary",
                past=past,
                backend=known.target(name).prometheus,
            )
        asked[subject] = min(after, asked.get(subject, after))

    def recent(criterion: Criterion) -> int:
        return grid(seen.now - criterion.series.settle, criterion.series.interval) - 2 * criterion.series.interval

    intent = status.intent if status.intent and status.intent.kind == "raise" else None
    for criterion, name in watched(phase, status):
        fold = seen.folds.get(fold_key(name, criterion))
        if fold is not None:
            ask(criterion, name, fold.last, source)
            if criterion.versus:
                ask(criterion, name, fold.last, source, stable=True)
        if criterion.versus == "stable" or (criterion.exact and not criterion.launch_wide):
            continue
        if name in phase.targets and status.phase_started_at is not None:
            raising = intent is not None and name in intent.weights
            if raising or (weights.get(name, 0) == 0 and phase.steps):
                after = recent(criterion)
                if intent is not None and name in intent.weights:
                    after = min(after, grid(intent.at, criterion.series.interval))
                    if criterion.series.of_requests:
                        ask(criterion, name, after, source)
                ask(criterion, name, after, source, stable=criterion.series.of_requests)
    coming = coming_phase(plan, status, phase)
    if coming is not None and plan is not None and _soon(coming, status, seen.now):
        known = {target.name for target in plan.targets}
        for criterion in criteria_of(coming):
            if criterion.launch_wide:
                ask(criterion, "", recent(criterion), plan)
            if criterion.exact:
                continue
            for name in coming.targets if coming.steps else ():
                if name in known and weights.get(name, 0) == 0:
                    after = recent(criterion)
                    if intent is not None and name in intent.weights:
                        after = min(after, grid(intent.at, criterion.series.interval))
                        if criterion.series.of_requests:
                            ask(criterion, name, after, plan)
                    ask(criterion, name, after, plan, stable=criterion.series.of_requests)
        for criterion, name in bursts_wanted(plan, coming, status, seen.now):
            since = grid(seen.now - BURSTS_OVER, criterion.series.interval)
            ask(criterion, name, since, plan, stable=True, past=True)
    return asked


def bursts_wanted(plan: Plan, coming: Phase, status: Status, now: float) -> tuple[tuple[Criterion, str], ...]:
    """Each criterion of counts and target whose burstiness is measured before that phase; nothing while it is known."""
    if status.bursts is not None and 0 <= now - status.bursts.at < BURSTS_OVER:
        return ()
    known = [target.name for target in plan.targets]
    weighed = [criterion for criterion in criteria_of(coming) if not criterion.plain]
    return tuple((criterion, name) for criterion in weighed for name in known)


def _soon(coming: Phase, status: Status, now: float) -> bool:
    start = start_of(coming, status)
    if start is None or now >= start - SOON:
        return True
    return coming.preflight is not None and now >= preflight_opens(coming, status, coming_since(status))


def valid_plan(plan: Plan | InvalidPlanError) -> Plan | None:
    """The plan, unless it has faults."""
    return plan if isinstance(plan, Plan) else None


def running_phase(seen: Observation, status: Status) -> tuple[Phase | None, Plan | None]:
    """The phase that the run is in, by what it stands on."""
    if status.run is None or seen.running is None:
        return None, None
    return seen.running.phases[0], seen.running


def following_phase(plan: Plan | None, phase: Phase | None, status: Status) -> Phase | None:
    """The phase after this one in the plan as it is now, those that need not be run again left out."""
    if plan is None or phase is None:
        return None
    passed = status.run.passed if status.run is not None else ()
    after = plan.phases[plan.phase_index(phase.name) + 1 :]
    return next((each for each in after if each.name not in passed), None)


def coming_phase(plan: Plan | None, status: Status, phase: Phase | None) -> Phase | None:
    """The phase that is waited for, because none has begun or the running one is passed; None: one is running."""
    if plan is None or phase is None:
        return None
    if status.phase_started_at is None:
        index = plan.phase_index(phase.name)
        return plan.phases[index] if index >= 0 else None
    if status.gate is not None and status.gate.passed_at is not None:
        return following_phase(plan, phase, status)
    return None


def preflight_of(plan: Plan | InvalidPlanError, status: Status, now: float) -> Phase | None:
    """The coming phase whose go or no-go is open at ``now`` (epoch seconds); None: no phase's is."""
    known = valid_plan(plan)
    if known is None or status.run is None or status.state not in UNDER_WAY or status.intent is not None:
        return None
    index = known.phase_index(status.phase)
    coming = coming_phase(known, status, known.phases[index] if index >= 0 else None)
    if coming is None or coming.preflight is None:
        return None
    return coming if now >= preflight_opens(coming, status, coming_since(status)) else None


def waits_to_return(plan: Plan, status: Status) -> bool:
    """Whether every phase has passed and the traffic is to go back to stable."""
    passed = status.gate is not None and status.gate.passed_at is not None
    if plan.on_success != "return" or not passed or status.state not in UNDER_WAY:
        return False
    index = plan.phase_index(status.phase)
    return index >= 0 and following_phase(plan, plan.phases[index], status) is None


def watched_targets(phase: Phase, status: Status) -> tuple[str, ...]:
    """The targets on which the phase's guardrails are judged: its own, and every other with canary traffic."""
    names = dict.fromkeys(phase.targets)
    names.update(dict.fromkeys(target.name for target in status.targets if target.weight))
    out = {target.name for target in status.targets if target.withdrawn}
    return tuple(name for name in names if name not in out)


def watched(phase: Phase, status: Status) -> Iterator[tuple[Criterion, str]]:
    """Every criterion of the phase with each target on which it is judged, once, and what is folded beside it."""
    guardrails = {guardrail.criterion.key: guardrail.criterion for guardrail in phase.guardrails}
    targets = watched_targets(phase, status)
    for criterion in (*guardrails.values(), *companions(phase)):
        for name in judged_on(criterion, targets):
            yield criterion, name
    for criterion in phase.gate.criteria if phase.gate else ():
        for name in judged_on(criterion, gate_targets(phase, targets)):
            if criterion.key not in guardrails and not criterion.of_record:
                yield criterion, name


def companions(phase: Phase) -> tuple[Criterion, ...]:
    """What is folded beside the guardrails that roll back, to tell us from the world."""
    return tuple({one.key: one for each in phase.guardrails if (one := companion(each)) is not None}.values())


def companion(guardrail: Guardrail) -> Criterion | None:
    """What is folded beside this guardrail; None where a fail needs no second look, or can have none."""
    criterion = guardrail.criterion
    if not guardrail.enforce or guardrail.on_breach != "rollback" or criterion.plain or criterion.versus:
        return None
    return us_or_world(criterion)


def judged_on(criterion: Criterion, targets: Iterable[str]) -> tuple[str, ...]:
    """Of what the criterion is judged: each of these targets, or once for the whole launch (the empty name)."""
    return ("",) if criterion.launch_wide else tuple(targets)


def gate_targets(phase: Phase, targets: Iterable[str]) -> tuple[str, ...]:
    """Of these targets, those on which the gate is judged: the phase's own."""
    return tuple(name for name in targets if name in phase.targets)


def criteria_of(phase: Phase) -> tuple[Criterion, ...]:
    """Every criterion of the phase that is asked for, once: a gate's that is also a guardrail shares its fold."""
    unique = {guardrail.criterion.key: guardrail.criterion for guardrail in phase.guardrails}
    if phase.gate:
        unique.update({criterion.key: criterion for criterion in phase.gate.criteria if not criterion.of_record})
    return tuple(unique.values())


def reading_for(seen: Observation, target: str, criterion: Criterion) -> Reading | None:
    """What was answered for a criterion's fold: of the canary, or of both tracks where it compares them."""
    canary = reading_of(seen, target, criterion.series)
    if not criterion.versus:
        return canary
    return beside(canary, reading_of(seen, target, criterion.series, "stable"))


def reading_of(
    seen: Observation, target: str, series: Series, track: Track = "canary", *, past: bool = False
) -> Reading | None:
    """What was answered of one track of this target, or (empty) of the whole launch; None where it was not asked."""
    if not target:
        track = ""
    for subject, reading in seen.readings.items():
        if subject.target == target and subject.track == track and subject.past is past and subject.series == series:
            return reading
    return None
