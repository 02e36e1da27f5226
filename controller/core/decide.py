"""The one door: decide(Observation) -> Decision. Pure; the same in production, simulation, backtest and tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controller.core.bookkeeping import (
    advance_folds,
    begin_missing,
    refusals,
    retry,
    rolled_back,
    settle_drift,
    settle_intent,
)
from controller.core.evidence import NOT_ASKED, Criterion, Fold, Outcome, Verdict, judge
from controller.core.observation import Observation
from controller.core.overrides import hear
from controller.core.plan import Phase, standing
from controller.core.questions import fold_key, reading_of, running_phase, valid_plan
from controller.core.signals import Facts, Judged, Signal, breach_that_holds, read_signal
from controller.core.status import Hold, Intent, OverrideRecord, Run, State, Status, TargetStatus
from controller.core.transitions import Action, transition
from controller.core.words import Reason

LONGEST_MESSAGE = 1024


@dataclass(frozen=True, slots=True)
class Decision:
    """What should happen to one launch now.

    ``decisive`` says that ``status`` must be stored (it changes where the launch stands, or acts on a person's word);
    ``changed`` that only the reason for waiting is another one, or that data came or went. ``weights`` are the patches
    to make, thousandths by target; ``withheld`` names targets whose stable backend is known to be empty. ``folds`` are
    exact and in memory.
    """

    id: str
    signal: Signal
    action: Action
    reason: Reason
    at: float
    status: Status
    decisive: bool
    changed: bool
    weights: Mapping[str, int] = field(default_factory=dict)
    withheld: tuple[str, ...] = ()
    folds: Mapping[str, Fold] = field(default_factory=dict)
    verdicts: tuple[Judged, ...] = ()
    news: tuple[OverrideRecord, ...] = ()

    @property
    def message(self) -> str:
        """Why, in words."""
        said = str(self.reason)[:LONGEST_MESSAGE]
        if self.withheld:
            said += f"; withheld: the stable backend of {', '.join(self.withheld)} has no ready endpoint"
        return said

    @property
    def raises(self) -> bool:
        """Whether it gives the canary more traffic."""
        return self.action is Action.RAISE and bool(self.weights)

    @property
    def lowers(self) -> bool:
        """Whether it takes traffic from the canary."""
        return self.action is Action.RETREAT


def decide(seen: Observation) -> Decision:
    """Where the launch goes from what was seen. Same observation, same decision."""
    before = seen.status
    heard = hear(seen.annotations, before.overrides, before.run.number if before.run else 0, seen.now, refusals(seen))
    status = before.model_copy(update={"overrides": heard.records, "observed_generation": seen.generation})
    plan = valid_plan(seen.plan)
    folds = dict(seen.folds)
    phase, _ = running_phase(seen, status)
    if heard.retry is not None and plan is not None:
        status, folds, phase = retry(seen, status, plan)
    if phase is not None:
        folds = advance_folds(seen, phase, folds)
    status, folds, phase = settle_intent(seen, status, plan, phase, folds)
    status, folds, phase = settle_drift(seen, status, phase, folds)
    if phase is not None:
        folds = begin_missing(seen, status, phase, folds)
    judged = _judge(seen, phase, folds)
    facts = Facts(
        seen=seen,
        status=status,
        plan=plan,
        phase=phase,
        judged=judged,
        heard=heard,
        weights={target.name: target.weight for target in status.targets},
        dwelt=_dwelt(seen, status, phase, judged),
        in_phase=0.0 if status.phase_started_at is None else seen.now - status.phase_started_at,
    )
    signal, reason = read_signal(facts)
    action, state = transition(status.state, signal)
    return _carry_out(facts, before, folds, signal, action, state, reason)


def _judge(seen: Observation, phase: Phase | None, folds: Mapping[str, Fold]) -> tuple[Judged, ...]:
    if phase is None:
        return ()
    judged = []
    verdicts: dict[str, Verdict] = {}

    def verdict_of(criterion: Criterion, name: str) -> Verdict | None:
        key = fold_key(name, criterion)
        if key in folds and key not in verdicts:
            reading = reading_of(seen, name, criterion.series)
            verdicts[key] = judge(criterion, name, folds[key], reading, seen.now)
        return verdicts.get(key)

    for name in phase.targets:
        for guardrail in phase.guardrails:
            verdict = verdict_of(guardrail.criterion, name)
            if verdict is not None:
                judged.append(Judged(verdict, guardrail.on_breach, guardrail.on_no_data, guardrail.enforce))
        for criterion in phase.gate.criteria if phase.gate else ():
            verdict = verdict_of(criterion, name)
            if verdict is not None and phase.gate is not None:
                judged.append(Judged(verdict, phase.gate.on_fail, phase.gate.on_no_data, gate=True))
    return tuple(judged)


def _dwelt(seen: Observation, status: Status, phase: Phase | None, judged: Iterable[Judged]) -> float | None:
    """For how long the step's weights have been in force, by the instants of the evidence itself.

    Rows carry Prometheus' instants, so neither a restart nor a step of this machine's clock can shorten it; the clock
    without steps, where this process saw the weight come into force, bounds it besides.
    """
    if phase is None or status.intent is not None or status.step == 0:
        return None
    since = []
    for target in status.targets:
        if target.name in phase.targets:
            if target.in_force_at is None:
                return None
            since.append(target.in_force_at)
    newest = [item.verdict.as_of for item in judged if item.enforce]
    if not since or not newest:
        return None
    dwelt = max(0.0, min(newest) - max(since))
    return dwelt if seen.awake is None else min(dwelt, seen.awake)


def _carry_out(
    facts: Facts,
    before: Status,
    folds: dict[str, Fold],
    signal: Signal,
    action: Action,
    state: State,
    reason: Reason,
) -> Decision:
    seen, status = facts.seen, facts.status
    number = before.sequence + 1
    run_number = (status.run.number if status.run else 0) + (action is Action.START)
    identity = f"{run_number}-{number}"
    weights: dict[str, int] = {}
    if action is Action.START:
        status, folds = _start(facts, run_number), {}
    elif action is Action.RAISE:
        status, weights = _raise(facts, signal, identity)
    elif action is Action.RETREAT:
        status, weights = _retreat(facts, identity)
        if status.intent is None:
            state = State.ROLLED_BACK
    elif action is Action.HOLD and status.hold is None:
        status = _hold(status, signal, reason, seen.now)
    elif action is Action.SUCCEED:
        status = status.model_copy(update={"ended_at": seen.now})
    elif status.hold is None and state is State.HELD and (breach := breach_that_holds(facts)):
        status = _hold(status, Signal.HELD_BREACH, breach, seen.now)
    withheld = tuple(name for name in weights if action is Action.RETREAT and _stable_empty(facts, name))
    settled = status.intent is None and before.intent is not None
    status = status.model_copy(update={"state": state, "epoch": seen.epoch, "reason": _kept_reason(before, signal)})
    decisive = settled or _stands_elsewhere(before, status) or bool(facts.heard.news)
    judged = facts.judged if action is not Action.START else ()
    return Decision(
        id=identity,
        signal=signal,
        action=action,
        reason=reason,
        at=seen.now,
        status=status,
        decisive=decisive,
        changed=before.reason != status.reason
        or before.observed_generation != status.observed_generation
        or _data_came_or_went(before, judged),
        weights={name: weight for name, weight in weights.items() if name not in withheld},
        withheld=withheld,
        folds=folds,
        verdicts=judged,
        news=facts.heard.news,
    )


def _hold(status: Status, signal: Signal, reason: Reason, now: float) -> Status:
    """A hold that lasts until somebody says otherwise."""
    return status.model_copy(
        update={"hold": Hold(reason=signal.value, message=str(reason)[:LONGEST_MESSAGE], since=now)}
    )


def _data_came_or_went(before: Status, judged: Iterable[Judged]) -> bool:
    """Whether a criterion is blind now that was not when status was written, or the other way round."""
    was = {(item.target, item.criterion): item.verdict == Outcome.NO_DATA.value for item in before.criteria}
    # Nothing is known of what was not asked, and nothing of it is stored.
    blind = {
        (item.verdict.target, item.verdict.criterion.key): item.verdict.outcome is Outcome.NO_DATA
        for item in judged
        if item.verdict.problem != NOT_ASKED
    }
    if any(was.get(key, now) != now for key, now in blind.items()):
        return True
    return any(blind.values()) and not any(was.values())


def _stable_empty(facts: Facts, name: str) -> bool:
    view = facts.seen.target(name)
    return view is not None and view.stable_ready == 0


def _kept_reason(before: Status, signal: Signal) -> str:
    """The signal; of a run that is over, what ended it."""
    return before.reason if signal is Signal.RUN_OVER and before.reason else signal.value


def _stands_elsewhere(before: Status, after: Status) -> bool:
    """Whether anything differs that a restart must know."""
    fields = ("state", "phase", "step", "intent", "hold", "targets", "run", "ended_at", "phase_started_at")
    return any(getattr(before, name) != getattr(after, name) for name in fields)


def _start(facts: Facts, number: int) -> Status:
    plan, status = facts.plan, facts.status
    assert plan is not None
    phase = plan.phases[0]
    return Status(
        observed_generation=status.observed_generation,
        epoch=status.epoch,
        sequence=status.sequence,
        overrides=status.overrides,
        decisions=status.decisions,
        conditions=status.conditions,
        run=Run(
            number=number,
            revision=plan.revision,
            started_at=facts.seen.now,
            stands_on=standing(plan, phase.name),
        ),
        phase=phase.name,
        phase_started_at=facts.seen.now,
        targets=tuple(TargetStatus(name=target.name) for target in plan.targets),
    )


def _raise(facts: Facts, signal: Signal, identity: str) -> tuple[Status, dict[str, int]]:
    plan, phase, status = facts.plan, facts.phase, facts.status
    assert plan is not None
    assert phase is not None
    step = status.step
    if signal is Signal.PHASE_PASSED:
        phase, step = plan.phases[plan.phase_index(phase.name) + 1], 1
    elif signal is Signal.STEP_DONE:
        step += 1
    weight = phase.steps[step - 1].weight
    lower = [name for name in phase.targets if facts.weights.get(name, 0) < weight]
    name = lower[0] if lower else phase.targets[0]
    weights = {name: max(weight, facts.weights.get(name, 0))}
    intent = Intent(
        id=identity,
        kind="raise",
        phase=phase.name,
        step=step,
        weights=weights,
        epoch=facts.seen.epoch,
        at=facts.seen.now,
    )
    return status.model_copy(update={"intent": intent}), weights


def _retreat(facts: Facts, identity: str) -> tuple[Status, dict[str, int]]:
    """Weight 0 for every target that has, or may come to have, canary traffic; a finished intent is kept as it is."""
    status, intent = facts.status, facts.status.intent
    if intent is not None and intent.kind == "retreat":
        return status, dict.fromkeys(intent.weights, 0)
    coming = intent.weights if intent is not None else {}
    names = [
        view.name
        for view in facts.seen.targets
        if view.takes_traffic or facts.weights.get(view.name) or view.name in coming
    ]
    if not names:
        return rolled_back(status, facts.seen.now), {}
    weights = dict.fromkeys(names, 0)
    lowering = Intent(
        id=identity,
        kind="retreat",
        phase=status.phase,
        step=status.step,
        weights=weights,
        epoch=facts.seen.epoch,
        at=facts.seen.now,
    )
    return status.model_copy(update={"intent": lowering}), weights
