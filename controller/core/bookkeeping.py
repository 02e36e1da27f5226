"""Bookkeeping before the ladder: what was asked for again, what came into force, what the rows add up to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from controller.core.evidence import Fold, advance, begin, in_force
from controller.core.observation import Observation, TargetView
from controller.core.plan import Phase, Plan, standing
from controller.core.questions import criteria_of, fold_key, reading_of, valid_plan
from controller.core.status import Intent, State, Status, TargetStatus

ACCEPT_TIMEOUT = 60.0
"""Seconds that a route's parents have to accept a weight before the share seen in Prometheus decides."""
SHARE_TOLERANCE = 0.02
SHARE_REQUESTS = 100
_UNDER_WAY = (State.PROGRESSING, State.JUDGING, State.HELD)


class Standing(NamedTuple):
    """Where the launch stands while it is being decided: its status, its folds, the phase that runs."""

    status: Status
    folds: dict[str, Fold]
    phase: Phase | None


def refusals(seen: Observation) -> dict[str, str]:
    """Why a verb does not fit where the launch stands."""
    status = seen.status
    refused: dict[str, str] = {}
    if status.run is None:
        refused["rollback"] = "no run has started; use hold to keep it from starting"
    elif status.state is State.ROLLED_BACK:
        refused["rollback"] = "it is rolled back already"
    if not isinstance(seen.plan, Plan):
        refused["retry"] = f"the plan has faults: {seen.plan.faults[0]}"
    elif "rollback" in seen.annotations:
        refused["retry"] = "the rollback annotation is still there; remove it first"
    elif status.state is State.ROLLING_BACK:
        refused["retry"] = "it is still rolling back; wait until the canary is at 0%"
    elif status.state is State.SUCCEEDED:
        refused["retry"] = "the run has succeeded; give a new revision to run again"
    elif status.hold is None and status.state is not State.ROLLED_BACK and not _edited(seen):
        refused["retry"] = "nothing is held that retry could judge again"
    return refused


def _edited(seen: Observation) -> bool:
    plan = valid_plan(seen.plan)
    if plan is None or seen.status.run is None:
        return False
    if seen.running is None:
        return True
    index = plan.phase_index(seen.running.phases[0].name)
    return index < 0 or plan.phases[index].digest != seen.running.phases[0].digest


def retry(seen: Observation, status: Status, plan: Plan) -> Standing:
    """Judge again: evidence starts anew, an edited phase is accepted, a rolled-back run becomes a new one."""
    if status.state is State.ROLLED_BACK or status.run is None:
        fresh = Status(
            observed_generation=status.observed_generation,
            epoch=status.epoch,
            sequence=status.sequence,
            overrides=status.overrides,
            decisions=status.decisions,
            conditions=status.conditions,
            run=None if status.run is None else status.run.model_copy(update={"revision": ""}),
        )
        return Standing(fresh, {}, None)
    index = max(plan.phase_index(status.phase), 0)
    phase = plan.phases[index]
    same = phase.name == status.phase
    run = status.run.model_copy(update={"stands_on": standing(plan, phase.name)})
    status = status.model_copy(
        update={
            "hold": None,
            "run": run,
            "phase": phase.name,
            "step": min(status.step, len(phase.steps)) if same else 0,
            "targets": _targets(status, plan),
        }
    )
    folds = {}
    for name in phase.targets:
        if any(target.name == name and target.weight for target in status.targets):
            folds.update(_new_folds(phase, name, seen.now, {}))
    return Standing(status, folds, phase)


def _targets(status: Status, plan: Plan) -> tuple[TargetStatus, ...]:
    """The targets of the plan, with what is recorded of them; new ones have no weight yet."""
    known = {target.name: target for target in status.targets}
    return tuple(known.get(target.name) or TargetStatus(name=target.name) for target in plan.targets)


def _new_folds(phase: Phase, target: str, at: float, folds: Mapping[str, Fold]) -> dict[str, Fold]:
    """The target's folds of the phase with the pass evidence started at ``at``; those that are missing begin there."""
    started = {}
    for criterion in criteria_of(phase):
        key = fold_key(target, criterion)
        fold = folds.get(key) or begin(criterion, at, phase.horizon)
        started[key] = in_force(criterion, fold, at)
    return started


def begin_missing(seen: Observation, status: Status, phase: Phase, folds: dict[str, Fold]) -> dict[str, Fold]:
    """Evidence that a weight in force should have and has not (an unreadable fold) starts anew, never passes."""
    for target in status.targets:
        if target.name in phase.targets and target.in_force_at is not None:
            keys = {fold_key(target.name, criterion) for criterion in criteria_of(phase)}
            if not keys <= folds.keys():
                begun = _new_folds(phase, target.name, seen.now, {})
                folds = folds | {key: fold for key, fold in begun.items() if key not in folds}
    return folds


def advance_folds(seen: Observation, phase: Phase, folds: dict[str, Fold]) -> dict[str, Fold]:
    """The phase's folds after the settled rows of this round."""
    for criterion in criteria_of(phase):
        for name in phase.targets:
            key = fold_key(name, criterion)
            fold = folds.get(key)
            reading = reading_of(seen, name, criterion.series)
            if fold is not None and reading is not None and not reading.problem and reading.after <= fold.last:
                folds[key] = advance(criterion, fold, reading.settled, reading.through)
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
    for series in {subject.series for subject in seen.readings if subject.series.kind != "value"}:
        counts = {"canary": 0.0, "stable": 0.0}
        for subject, reading in seen.readings.items():
            if subject.target == target and subject.series == series and not reading.problem:
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
    entered = intent.phase != status.phase or status.step == 0
    run = status.run
    if intent.phase != status.phase:
        if plan is None or plan.phase_index(intent.phase) < 0:
            # The plan lost that phase while the weight was on its way: the old phase goes on watching.
            return Standing(status, folds, phase)
        phase = plan.phases[plan.phase_index(intent.phase)]
        run = run.model_copy(update={"stands_on": standing(plan, intent.phase)})
        status = status.model_copy(update={"targets": _targets(status, plan)})
        folds = {}
    assert phase is not None
    weights = {target.name: target.weight for target in status.targets} | intent.weights
    raised = list(intent.weights)
    if entered and phase.steps:
        # Targets that already stand at the first step's weight are not raised; their evidence begins here all the same.
        raised += [
            name for name in phase.targets if name not in raised and weights.get(name, 0) >= phase.steps[0].weight
        ]
    for name in raised:
        folds = folds | _new_folds(phase, name, at, folds)
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
            "phase_started_at": at if entered else status.phase_started_at,
            "step": intent.step,
            "targets": targets,
        }
    )
    return Standing(status, folds, phase)


def _in_force_at(seen: Observation, intent: Intent) -> float:
    """Now, unless the wall clock has jumped since the intent, when it agreed with Prometheus'."""
    earliest = intent.at + seen.intent_age
    if seen.intent_fate != "written":
        # Another process may have made the intent long ago: how long is not known.
        return round(max(seen.now, earliest), 3)
    return round(min(max(seen.now, earliest), earliest + ACCEPT_TIMEOUT), 3)


def settle_drift(seen: Observation, status: Status, phase: Phase | None, folds: dict[str, Fold]) -> Standing:
    """A weight that somebody took away is not in force; put back, it is so from then on, with its evidence anew."""
    if phase is None or status.intent is not None or status.state not in _UNDER_WAY:
        return Standing(status, folds, phase)
    moved: dict[str, float | None] = {}
    for target in status.targets:
        view = seen.target(target.name)
        there = view is not None and view.weight == target.weight
        if target.weight and target.name in phase.targets and there is (target.in_force_at is None):
            moved[target.name] = seen.now if there else None
            if there:
                folds = folds | _new_folds(phase, target.name, seen.now, folds)
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
            "step": 0,
            "ended_at": now,
            "state": State.ROLLED_BACK,
        }
    )
