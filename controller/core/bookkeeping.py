"""Bookkeeping before the ladder: what was asked for again, what came into force, what the rows add up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from controller.core.bursts import burstiness
from controller.core.evidence import Criterion, Fold, Outcome
from controller.core.facts import Judged
from controller.core.incidents import note
from controller.core.observation import Observation, TargetView
from controller.core.plan import Phase, Plan, standing
from controller.core.questions import (
    bursts_wanted,
    coming_phase,
    companions,
    criteria_of,
    fold_key,
    reading_for,
    reading_of,
    watched,
    watched_targets,
)
from controller.core.schedule import looks_of
from controller.core.series import Series
from controller.core.status import UNDER_WAY, Bursts, Intent, PhaseSummary, State, Status, TargetStatus
from controller.core.units import FULL_WEIGHT
from controller.core.verdicts import advance, begin, in_force
from controller.core.words import sentence

ACCEPT_TIMEOUT = 60.0
"""Seconds that a route's parents have to accept a weight before the share seen in Prometheus decides."""
SHARE_TOLERANCE = 0.02
SHARE_REQUESTS = 100


class Standing(NamedTuple):
    """Where the launch stands while it is being decided: its status, its folds, the phase that runs."""

    status: Status
    folds: dict[str, Fold]
    phase: Phase | None


def retry(seen: Observation, status: Status, plan: Plan) -> Standing:
    """Judge again: evidence starts anew, an edited phase is accepted, a rolled-back run becomes a new one."""
    if status.state is State.ROLLED_BACK or status.run is None:
        fresh = status.model_copy(
            update={
                "run": None if status.run is None else status.run.model_copy(update={"revision": ""}),
                "state": State.PENDING,
                "intent": None,
                "hold": None,
                "ended_at": None,
            }
        )
        return Standing(fresh, {}, None)
    index = max(plan.phase_index(status.phase), 0)
    phase = plan.phases[index]
    same = phase.name == status.phase
    run = status.run.model_copy(update={"stands_on": standing(plan, phase.name)})
    status = status.model_copy(
        update={
            "hold": None,
            "grant": None,
            "approvals": (),
            "run": run,
            "phase": phase.name,
            "phase_started_at": status.phase_started_at if same else None,
            "step": min(status.step, len(phase.steps)) if same else 0,
            "gate": None if status.gate is None else status.gate.model_copy(update={"passed_at": None}),
            "targets": _targets(status, plan),
        }
    )
    return Standing(forgiven(status), fresh_folds(status, phase, seen.now), phase)


def forgiven(status: Status) -> Status:
    """The status of a run whose evidence begins anew: the holds before count no more."""
    phases = tuple(
        each.model_copy(update={"forgiven": each.holds}) if each.name == status.phase else each
        for each in status.phases
    )
    return status.model_copy(update={"phases": phases})


def fresh_folds(status: Status, phase: Phase, at: float) -> dict[str, Fold]:
    """Evidence that starts at ``at``, of every target with canary traffic and, once the phase has begun, of the launch."""
    folds = {} if status.phase_started_at is None else _launch_folds(phase, at, {})
    for target in status.targets:
        if target.weight and target.name in watched_targets(phase, status):
            folds.update(_new_folds(status, phase, target.name, at, {}))
    return folds


def measure_bursts(seen: Observation, status: Status, plan: Plan | None, phase: Phase | None) -> Status:
    """The status with how the stable tracks' bad events vary, before a phase begins and where all of them answered."""
    coming = coming_phase(plan, status, phase)
    if coming is None or plan is None or status.intent is not None:
        return status
    factors: dict[str, str] = {}
    wanted = bursts_wanted(plan, coming, status, seen.now)
    for criterion, name in wanted:
        reading = reading_of(seen, name, criterion.series, "stable", past=True)
        if reading is None or reading.problem:
            return status
        factor = f"{burstiness(reading.hours):.2f}"
        if float(factor) > 1:
            factors[_bursts_key(name, criterion.series)] = factor
    return status.model_copy(update={"bursts": Bursts(at=seen.now, factors=factors)}) if wanted else status


def _bursts_key(target: str, series: Series) -> str:
    return f"{target}|{series.metric}" + (f" {series.edge:g}s" if series.edge else "")


def bursts_of(status: Status, target: str, series: Series) -> float:
    """What the evidence of that series is divided by, as it was measured before the phase; 1 where it was not."""
    measured = status.bursts.factors.get(_bursts_key(target, series)) if status.bursts is not None else None
    return 1.0 if measured is None else max(1.0, float(measured))


def restand(seen: Observation, status: Status, plan: Plan | None, phase: Phase | None) -> Standing:
    """A run whose first phase has not begun stands on the plan as it is now."""
    if plan is None or status.run is None or status.phase_started_at is not None or status.intent is not None:
        return Standing(status, dict(seen.folds), phase)
    first = next((each for each in plan.phases if each.name not in status.run.passed), plan.phases[-1])
    same = phase is not None and (phase.digest, phase.given) == (first.digest, first.given)
    if same and status.phase == first.name:
        return Standing(status, dict(seen.folds), phase)
    run = status.run.model_copy(update={"stands_on": standing(plan, first.name)})
    status = status.model_copy(update={"run": run, "phase": first.name, "targets": _targets(status, plan)})
    return Standing(status, {}, first)


def _targets(status: Status, plan: Plan) -> tuple[TargetStatus, ...]:
    """The targets of the plan, with what is recorded of them; new ones have no weight yet."""
    known = {target.name: target for target in status.targets}
    return tuple(known.get(target.name) or TargetStatus(name=target.name) for target in plan.targets)


def _new_folds(
    status: Status, phase: Phase, target: str, at: float, folds: Mapping[str, Fold], weight: int | None = None
) -> dict[str, Fold]:
    """The target's folds of the phase with the pass evidence started at ``at``; those that are missing begin there.

    ``weight`` is in thousandths; None: as in status.
    """
    if weight is None:
        weight = next((each.weight for each in status.targets if each.name == target), 0)
    started = {}
    for criterion in _criteria_on(phase, target):
        key = fold_key(target, criterion)
        fold = folds.get(key) or begin(criterion, at, phase.horizon, bursts_of(status, target, criterion.series))
        started[key] = in_force(criterion, fold, at, alone=weight >= FULL_WEIGHT)
    return started


def _launch_folds(phase: Phase, at: float, folds: Mapping[str, Fold]) -> dict[str, Fold]:
    """Of the criteria of the whole launch: the folds that are missing, begun at ``at``."""
    whole = (criterion for criterion in criteria_of(phase) if criterion.launch_wide)
    keys = ((fold_key("", criterion), criterion) for criterion in whole)
    return {key: begin(criterion, at, phase.horizon) for key, criterion in keys if key not in folds}


def _criteria_on(phase: Phase, target: str) -> tuple[Criterion, ...]:
    """What is folded of the target: the criteria of the gate only where the phase names it."""
    if target in phase.targets:
        its_own = criteria_of(phase)
    else:
        its_own = tuple({each.criterion.key: each.criterion for each in phase.guardrails}.values())
    return (*(criterion for criterion in its_own if not criterion.launch_wide), *companions(phase))


def begin_missing(seen: Observation, status: Status, phase: Phase, folds: dict[str, Fold]) -> dict[str, Fold]:
    """Evidence that a weight in force should have and has not (an unreadable fold) starts anew, never passes."""
    for target in status.targets:
        if target.in_force_at is not None and target.weight and not target.withdrawn:
            keys = {fold_key(target.name, criterion) for criterion in _criteria_on(phase, target.name)}
            if not keys <= folds.keys():
                begun = _new_folds(status, phase, target.name, seen.now, {})
                folds = folds | {key: fold for key, fold in begun.items() if key not in folds}
    if status.phase_started_at is not None and status.state in UNDER_WAY:
        # From the start of the phase: what is counted over the whole of it must not be forgotten with its fold.
        folds = folds | _launch_folds(phase, status.phase_started_at, folds)
    return folds


def advance_folds(seen: Observation, status: Status, phase: Phase, folds: dict[str, Fold]) -> dict[str, Fold]:
    """The phase's folds after the settled rows of this round."""
    looks = looks_of(phase, status)
    for criterion, name in watched(phase, status):
        key = fold_key(name, criterion)
        fold = folds.get(key)
        reading = reading_for(seen, name, criterion)
        if fold is not None and reading is not None and not reading.problem and reading.after <= fold.last:
            fold = advance(criterion, fold, reading.settled, reading.through, looks)
            folds[key] = note(criterion, fold, reading.noticed)
    return folds


def settle_intent(
    seen: Observation, status: Status, plan: Plan | None, phase: Phase | None, folds: dict[str, Fold]
) -> Standing:
    """Close an open intent to raise: in force and recorded, or known never to have happened."""
    intent = status.intent
    if intent is None or intent.kind != "raise":
        return Standing(status, folds, phase)
    views = {view.name: view for view in seen.targets}
    live = {name: views[name].weight if name in views else None for name in intent.weights}
    recorded = {target.name: target.weight for target in status.targets}
    if live == intent.weights:
        if not all(_weight_in_force(seen, views[name], weight) for name, weight in intent.weights.items()):
            return Standing(status, folds, phase)
        return _in_force(seen, status, plan, phase, folds, intent)
    if seen.intent_fate == "fenced" and live == {name: recorded.get(name, 0) for name in intent.weights}:
        return Standing(status.model_copy(update={"intent": None}), folds, phase)
    return Standing(status, folds, phase)


def _weight_in_force(seen: Observation, view: TargetView, weight: int) -> bool:
    if seen.intent_fate == "unknown":
        return False
    if view.accepted is None:
        return seen.intent_age >= seen.route_settle
    return view.accepted or (seen.intent_age >= ACCEPT_TIMEOUT and _share_seen(seen, view.name, weight / 1000))


def _share_seen(seen: Observation, target: str, share: float) -> bool:
    """Whether the requests since the intent were split as it says, within three standard errors and a tolerance."""
    intent = seen.status.intent
    assert intent is not None
    for series in {subject.series for subject in seen.readings if subject.series.of_requests}:
        counts = {"canary": 0.0, "stable": 0.0}
        for subject, reading in seen.readings.items():
            if (subject.target, subject.series) == (target, series) and not (reading.problem or subject.past):
                since = intent.at + series.lag + series.interval
                counts[subject.track] += sum(row.n for row in reading.settled if row.at >= since)
        total = sum(counts.values())
        if total >= SHARE_REQUESTS:
            error = 3 * (share * (1 - share) / total) ** 0.5 + SHARE_TOLERANCE
            return bool(abs(counts["canary"] / total - share) <= error)
    return False


def _in_force(
    seen: Observation,
    status: Status,
    plan: Plan | None,
    phase: Phase | None,
    folds: dict[str, Fold],
    intent: Intent,
) -> Standing:
    """The raise is done: its weights are recorded, and the pass evidence of its targets starts here."""
    assert status.run is not None
    at = _in_force_at(seen, intent)
    entered = intent.phase != status.phase or status.phase_started_at is None
    run = status.run
    if entered:
        index = plan.phase_index(intent.phase) if plan is not None else -1
        if plan is not None and index >= 0:
            phase = plan.phases[index]
            run = run.model_copy(update={"stands_on": standing(plan, intent.phase)})
            status = status.model_copy(update={"targets": _targets(status, plan)})
        elif intent.phase != status.phase or phase is None:
            # The plan lost that phase while the weight was on its way: the old phase goes on watching.
            return Standing(status, folds, phase)
        folds = _launch_folds(phase, at, {})
        status = begun(status, phase, at)
    assert phase is not None
    weights = {target.name: target.weight for target in status.targets} | intent.weights
    raised = list(intent.weights)
    if entered and phase.steps:
        # Targets that already stand at the first step's weight are not raised; their evidence begins here all the same.
        raised += [
            name
            for name in phase.targets
            if name not in raised and weights.get(name, 0) >= phase.steps[0].weight and not _withdrawn(status, name)
        ]
    if entered:
        # The guardrails of the new phase watch the targets that it does not name as well.
        for name in watched_targets(phase, status):
            if name not in raised and weights.get(name, 0):
                folds = folds | _new_folds(status, phase, name, at, folds, weights[name])
    for name in raised:
        folds = folds | _new_folds(status, phase, name, at, folds, weights.get(name, 0))
    targets = tuple(
        target.model_copy(update={"weight": weights[target.name], "in_force_at": at})
        if target.name in raised
        else target
        for target in status.targets
    )
    status = status.model_copy(
        update={
            "intent": None,
            "run": run,
            "phase": intent.phase,
            "step": intent.step,
            "targets": targets,
        }
    )
    return Standing(status, folds, phase)


def _withdrawn(status: Status, name: str) -> bool:
    return any(target.name == name and target.withdrawn for target in status.targets)


def begun(status: Status, phase: Phase, at: float) -> Status:
    """The status of a run whose phase begins at ``at``: the gate of the one before is forgotten, its approvals are used."""
    kept = tuple(summary for summary in status.phases if summary.name != phase.name)
    return status.model_copy(
        update={
            "phase": phase.name,
            "phase_started_at": at,
            "gate": None,
            "grant": None,
            "approvals": (),
            "checkpoints_taken": 0,
            "phases": (*kept, PhaseSummary(name=phase.name, started_at=at)),
        }
    )


def enter(status: Status, plan: Plan, phase: Phase, at: float) -> Standing:
    """A phase without steps begins: weights stay, the evidence of every target with canary traffic starts anew."""
    assert status.run is not None
    run = status.run.model_copy(update={"stands_on": standing(plan, phase.name)})
    status = begun(status, phase, at).model_copy(update={"run": run, "step": 0, "targets": _targets(status, plan)})
    return Standing(status, fresh_folds(status, phase, at), phase)


def void_approvals(status: Status, judged: Iterable[Judged]) -> tuple[Status, str]:
    """An approval is for the evidence as it stands: where that has turned worse, it is taken back, and a gate reopens."""
    items = [item for item in judged if item.enforce]
    worse = next((item for item in items if _says_no(item)), None)
    late = next((item for item in items if item.gate and not item.verdict.passes_phase), None)
    worse = worse or (late if late is not None and late.verdict.outcome is Outcome.PASS else None)
    if worse is None or status.state not in UNDER_WAY:
        return status, ""
    failed = worse.verdict.outcome is Outcome.FAIL
    void = tuple(
        approval
        for approval in status.approvals
        if (failed or approval.proven) and (not worse.gate or approval.of == f"{status.phase}/gate")
    )
    gate = status.gate
    reopens = worse.gate and gate is not None and gate.passed_at is not None
    if not void and not reopens:
        return status, ""
    update: dict[str, object] = {"approvals": tuple(each for each in status.approvals if each not in void)}
    if gate is not None and gate.passed_at is not None and (reopens or any(a.of.endswith("/gate") for a in void)):
        update["gate"] = gate.model_copy(update={"passed_at": None})
        update["phases"] = tuple(
            each.model_copy(update={"passed_at": None}) if each.name == status.phase else each for each in status.phases
        )
    what = ", ".join(f"the approval {each.of}{f' of {each.by}' if each.by else ''}" for each in void) or "the pass"
    return status.model_copy(update=update), f"{what} is void, the evidence turned worse: {sentence(worse.verdict)}"


def _says_no(item: Judged) -> bool:
    """Whether it fails or is undecided.

    That a budget lasts until the end, or what the gate's own look says, is not known before: no turn for the worse.
    """
    verdict = item.verdict
    own_time = verdict.criterion.budget or (verdict.looked is not None and verdict.looked.waits)
    return verdict.outcome is Outcome.FAIL or (verdict.outcome is Outcome.UNDECIDED and not own_time)


def _in_force_at(seen: Observation, intent: Intent) -> float:
    """Now, unless the wall clock has jumped since the intent, when it agreed with Prometheus'."""
    earliest = intent.at + seen.intent_age
    if seen.intent_fate != "written":
        # Another process may have made the intent long ago: how long is not known.
        return round(max(seen.now, earliest), 3)
    return round(min(max(seen.now, earliest), earliest + ACCEPT_TIMEOUT), 3)


def settle_drift(seen: Observation, status: Status, phase: Phase | None, folds: dict[str, Fold]) -> Standing:
    """A weight that somebody took away is not in force; put back, it is so from then on, with its evidence anew."""
    if phase is None or status.intent is not None or status.state not in UNDER_WAY:
        return Standing(status, folds, phase)
    moved: dict[str, float | None] = {}
    for target in status.targets:
        view = seen.target(target.name)
        there = view is not None and view.weight == target.weight
        if target.weight and not target.withdrawn and there is (target.in_force_at is None):
            moved[target.name] = seen.now if there else None
            if there:
                folds = folds | _new_folds(status, phase, target.name, seen.now, folds)
    if moved:
        targets = tuple(
            target.model_copy(update={"in_force_at": moved[target.name]}) if target.name in moved else target
            for target in status.targets
        )
        status = status.model_copy(update={"targets": targets})
    return Standing(status, folds, phase)


def rolled_back(status: Status, now: float) -> Status:
    """The status of a run whose canaries are all at 0, since ``now`` (epoch seconds)."""
    targets = tuple(target.model_copy(update={"weight": 0, "in_force_at": None}) for target in status.targets)
    return status.model_copy(
        update={
            "targets": targets,
            "intent": None,
            "hold": None,
            "grant": None,
            "approvals": (),
            "step": 0,
            "ended_at": now,
            "state": State.ROLLED_BACK,
        }
    )


def lowered(status: Status, now: float) -> Status:
    """The status after the open intent to lower was carried out at ``now``: what that means is the intent's kind."""
    intent = status.intent
    if intent is None or intent.kind == "retreat":
        return rolled_back(status, now)
    gone = {name for name, weight in intent.weights.items() if weight == 0}
    targets = tuple(
        target.model_copy(update={"weight": 0, "in_force_at": None}) if target.name in gone else target
        for target in status.targets
    )
    update: dict[str, object] = {"intent": None, "targets": targets}
    if intent.kind == "return":
        update |= {"ended_at": now, "state": State.SUCCEEDED, "folds": {}}
    return status.model_copy(update=update)
