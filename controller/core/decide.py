"""The one door: decide(Observation) -> Decision. Pure; the same in production, simulation, backtest and tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from controller.core.alarms import Place, other_alarms
from controller.core.alarms import standing as standing_alarms
from controller.core.bookkeeping import (
    advance_folds,
    begin_missing,
    enter,
    forgiven,
    fresh_folds,
    measure_bursts,
    restand,
    retry,
    rolled_back,
    settle_drift,
    settle_intent,
    void_approvals,
)
from controller.core.calendar import opening
from controller.core.comparisons import told_apart
from controller.core.evidence import NOT_ASKED, Criterion, Fold, Outcome, Verdict
from controller.core.exact_counts import judge_holds
from controller.core.facts import Facts, Judged, TakenCheckpoint
from controller.core.observation import Observation
from controller.core.override_rules import (
    FIRST_VERBS,
    LAST_VERBS,
    approvals_asked,
    approved,
    carried_out,
    refuse,
    refuse_approval,
)
from controller.core.overrides import Heard, both, hear
from controller.core.plan import Consequence, Contact, Guardrail, Phase, Plan, standing
from controller.core.questions import (
    coming_phase,
    companion,
    fold_key,
    following_phase,
    gate_targets,
    questions,
    reading_for,
    running_phase,
    valid_plan,
    watched_targets,
)
from controller.core.schedule import gate_due, gate_moved, looks_of, moved, passed_late, put_off, shift_of, start_of
from controller.core.signals import (
    Signal,
    breach_that_holds,
    broken_alone,
    checkpoint_that_holds,
    gate_move,
    read_signal,
)
from controller.core.status import (
    UNDER_WAY,
    CheckpointScore,
    GateStatus,
    Hold,
    Intent,
    OverrideRecord,
    Run,
    State,
    Status,
    TargetStatus,
)
from controller.core.transitions import Action, transition
from controller.core.units import FULL_WEIGHT, format_date, format_duration
from controller.core.verdicts import judge
from controller.core.words import Reason, shape

LONGEST_MESSAGE = 1024
KEPT_CHECKPOINTS = 24


@dataclass(frozen=True, slots=True)
class Decision:
    """What should happen to one launch now.

    ``decisive`` says that ``status`` must be stored (it changes where the launch stands, or acts on a person's word);
    ``changed`` that only the reason for waiting is another one, or that data came or went; ``alarmed`` that people are
    told of something else than before. ``contacts`` are those to tell. ``weights`` are the patches
    to make, thousandths by target; ``withheld`` names targets whose stable backend is known to be empty. ``folds`` are
    exact and in memory. ``checkpoint`` is the scored record of a checkpoint that was due. ``gate_judged_at`` is when the
    gate was last judged (epoch seconds).
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
    checkpoint: TakenCheckpoint | None = None
    gate_judged_at: float | None = None
    alarmed: bool = False
    contacts: tuple[Contact, ...] = ()

    @property
    def message(self) -> str:
        """Why, in words."""
        said = str(self.reason)[:LONGEST_MESSAGE]
        if self.withheld:
            said += f"; withheld: the stable backend of {', '.join(self.withheld)} has no ready endpoint"
        return said

    def waits_for_another(self, message: str) -> bool:
        """Whether a launch under way waits for something else than what ``message`` says; numbers that go on are not."""
        return self.status.state in UNDER_WAY and shape(self.message) != shape(message)

    @property
    def raises(self) -> bool:
        """Whether it gives the canary more traffic."""
        return self.action is Action.RAISE and bool(self.weights)

    @property
    def lowers(self) -> bool:
        """Whether it takes traffic from the canary."""
        return self.action in (Action.RETREAT, Action.WITHDRAW, Action.RETURN)


def decide(seen: Observation) -> Decision:
    """Where the launch goes from what was seen. Same observation, same decision."""
    before = seen.status
    run = before.run.number if before.run else 0
    heard = hear(seen.annotations, before.overrides, run, seen.now, lambda said: refuse(seen, said), FIRST_VERBS)
    status = before.model_copy(update={"overrides": heard.records, "observed_generation": seen.generation})
    status = carried_out(seen, status, heard)
    plan = valid_plan(seen.plan)
    phase, _ = running_phase(seen, status)
    status, folds, phase = restand(seen, status, plan, phase)
    if heard.retry is not None and plan is not None:
        status, folds, phase = retry(seen, status, plan)
    status = measure_bursts(seen, status, plan, phase)
    if phase is not None:
        folds = advance_folds(seen, status, phase, folds)
    status, folds, phase = settle_intent(seen, status, plan, phase, folds)
    status, folds, phase = settle_drift(seen, status, phase, folds)
    if phase is not None:
        folds = begin_missing(seen, status, phase, folds)
    judged = _judge(seen, status, phase, folds)
    status, voided = void_approvals(status, judged)
    facts = _facts(seen, status, plan, phase, judged)
    said = hear(seen.annotations, heard.records, run, seen.now, lambda said: refuse_approval(facts, said), LAST_VERBS)
    heard = both(heard, said)
    facts = replace(facts, heard=heard, voided=voided, status=status.model_copy(update={"overrides": heard.records}))
    if override := said.acted.get("approve"):
        facts = replace(facts, status=approved(facts, override))
    facts = replace(facts, checkpoint=_checkpoint(facts))
    signal, reason = read_signal(facts)
    action, state = transition(status.state, signal)
    if _cannot_say(facts, before, signal, action):
        signal, state = Signal(before.reason), before.state
        reason = before.message if signal is not Signal.PREFLIGHT_OPEN else reason
    return _carry_out(facts, before, folds, signal, action, state, reason)


_STANDS_ON_EVIDENCE = frozenset(
    {
        Signal.PREFLIGHT_LATE,
        Signal.PREFLIGHT_OPEN,
        Signal.NOT_READY,
        Signal.STEP_NOT_DONE,
        Signal.STEP_APPROVAL,
        Signal.GATE_OPEN,
        Signal.GATE_APPROVAL,
        Signal.DELIVERABLES_MISSING,
        Signal.NOT_RETURNED,
    }
)


def _cannot_say(facts: Facts, before: Status, signal: Signal, action: Action) -> bool:
    """Whether the launch only seems to wait for something else, because Prometheus was not asked in this round."""
    waits = not facts.asked and action is Action.WAIT and signal in _STANDS_ON_EVIDENCE
    return waits and before.state in UNDER_WAY and before.reason in _STANDS_ON_EVIDENCE


def _facts(
    seen: Observation, status: Status, plan: Plan | None, phase: Phase | None, judged: tuple[Judged, ...]
) -> Facts:
    spec = None if plan is None else plan.spec
    cadence = 0.0
    if phase is not None and status.phase_started_at is not None:
        cadence = phase.cadence(status.phase_started_at, seen.now, shift_of(status, phase.name))
    facts = Facts(
        seen=seen,
        status=status,
        plan=plan,
        phase=phase,
        judged=judged,
        heard=Heard(),
        weights={target.name: target.weight for target in status.targets},
        dwelt=_dwelt(seen, status, phase, judged),
        in_phase=0.0 if status.phase_started_at is None else seen.now - status.phase_started_at,
        coming=coming_phase(plan, status, phase),
        asked=bool(seen.readings) or not questions(seen),
        following=following_phase(plan, phase, status),
        cadence=cadence,
    )
    if spec is not None and (spec.windows or spec.freezes):
        facts = replace(facts, opening=opening(spec.windows, spec.freezes, spec.time_zone, seen.now))
    return facts


def _checkpoint(facts: Facts) -> TakenCheckpoint | None:
    """The checkpoint that is due; of several (nobody was there) the last one, for only that can still be seen."""
    phase, status, seen = facts.phase, facts.status, facts.seen
    if phase is None or status.phase_started_at is None or not facts.under_way:
        return None
    due = [checkpoint for checkpoint in phase.checkpoints if status.phase_started_at + checkpoint.at <= seen.now]
    if len(due) <= status.checkpoints_taken:
        return None
    measured = [item for item in facts.judged if not item.verdict.criterion.of_record]
    if measured and all(item.verdict.problem == NOT_ASKED for item in measured):
        return None
    outcomes = [item.verdict.outcome for item in _each_once(facts.judged)]
    passed, failed = outcomes.count(Outcome.PASS), outcomes.count(Outcome.FAIL)
    score = CheckpointScore(
        phase=phase.name,
        after=format_duration(due[-1].at),
        taken_at=seen.now,
        passed=passed,
        undecided=len(outcomes) - passed - failed,
        failed=failed,
    )
    return TakenCheckpoint(score, facts.judged, any(each.holds for each in due[status.checkpoints_taken :]))


def _each_once(judged: Iterable[Judged]) -> tuple[Judged, ...]:
    """A criterion that is a guardrail and the gate's is one."""
    return tuple({(item.verdict.target, item.verdict.criterion.key): item for item in judged}.values())


def _judge(seen: Observation, status: Status, phase: Phase | None, folds: Mapping[str, Fold]) -> tuple[Judged, ...]:
    if phase is None:
        return ()
    judged = []
    verdicts: dict[str, Verdict] = {}
    gate, used = phase.gate, status.gate.used if status.gate else {}
    ends = gate_due(phase, status) if gate is not None else None
    full = {target.name for target in status.targets if target.weight >= FULL_WEIGHT}
    looks = looks_of(phase, status)

    def verdict_of(criterion: Criterion, name: str) -> Verdict | None:
        key = fold_key(name, criterion)
        if key in folds and key not in verdicts:
            reading = reading_for(seen, name, criterion)
            verdicts[key] = judge(
                criterion, name, folds[key], reading, seen.now, alone=name in full, ends=ends, looks=looks
            )
        return verdicts.get(key)

    def told(guardrail: Guardrail, verdict: Verdict) -> tuple[Verdict, Consequence]:
        """What a breach leads to: where stable is as bad, giving it the traffic back would help nobody."""
        test = companion(guardrail)
        fold = folds.get(fold_key(verdict.target, test)) if test is not None else None
        if verdict.outcome is not Outcome.FAIL or test is None or fold is None or verdict.target in full:
            return verdict, guardrail.on_breach
        verdict = told_apart(verdict, fold, reading_for(seen, verdict.target, test))
        return verdict, "hold" if verdict.world else guardrail.on_breach

    names = watched_targets(phase, status)
    for name in (*names, ""):  # without a name: what is of the whole launch
        for guardrail in phase.guardrails:
            verdict = verdict_of(guardrail.criterion, name)
            if verdict is not None:
                verdict, on_breach = told(guardrail, verdict)
                judged.append(
                    Judged(verdict, on_breach, guardrail.on_no_data, guardrail.enforce, alone=guardrail.alone)
                )
        for criterion in gate.criteria if gate else ():
            if criterion.of_record:
                verdict = _holds(criterion, status, seen.now) if not name else None
            else:
                verdict = verdict_of(criterion, name) if not name or name in gate_targets(phase, names) else None
            if verdict is not None and gate is not None:
                fail = gate.on_fail.after(used.get("fail", 0))
                judged.append(Judged(verdict, fail, gate.on_no_data.after(used.get("noData", 0)), gate=True))
    return tuple(judged)


def _holds(criterion: Criterion, status: Status, now: float) -> Verdict | None:
    """How often the running phase was held since its evidence began; None: it has not begun."""
    began = status.phase_started_at
    summary = next((each for each in status.phases if each.name == status.phase), None)
    if began is None or summary is None:
        return None
    return judge_holds(criterion, summary.holds - summary.forgiven, began, now)


def _dwelt(seen: Observation, status: Status, phase: Phase | None, judged: Iterable[Judged]) -> float | None:
    """For how long the step's weights have been in force, by the instants of the evidence itself.

    Rows carry Prometheus' instants, so neither a restart nor a step of this machine's clock can shorten it; the clock
    without steps, where this process saw the weight come into force, bounds it besides.
    """
    if phase is None or status.intent is not None or status.step == 0:
        return None
    since = []
    for target in status.targets:
        if target.name in phase.targets and not target.withdrawn:
            if target.in_force_at is None:
                return None
            since.append(target.in_force_at)
    verdicts = (item.verdict for item in judged if item.enforce)
    newest = [verdict.as_of for verdict in verdicts if not verdict.criterion.launch_wide and not verdict.alone]
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
    elif action is Action.WITHDRAW:
        status, weights = _withdraw(facts, identity)
    elif action is Action.RETURN:
        status, weights = _return(facts, identity)
        state = status.state if status.intent is None else state
    elif action is Action.PASS:
        status, reason = _pass(facts, reason)
    elif action is Action.ENTER:
        assert facts.plan is not None
        assert facts.coming is not None
        status, folds, _ = enter(status, facts.plan, facts.coming, seen.now)
    elif action is Action.MOVE_GATE:
        status, folds, reason = _put_off(facts, folds)
    elif action is Action.MOVE_START:
        status, reason = _reschedule(facts, reason)
    elif action is Action.ADOPT:
        status, folds = _adopt(facts, run_number + 1)
    elif action is Action.HOLD and status.hold is None:
        status = _hold(status, signal, reason, seen.now)
    elif action is Action.SUCCEED:
        status = _passed(status, seen.now).model_copy(update={"ended_at": seen.now})
    elif status.hold is None and state is State.HELD:
        if breach := breach_that_holds(facts):
            status = _hold(status, Signal.HELD_BREACH, breach, seen.now)
        elif failed := checkpoint_that_holds(facts):
            status = _hold(status, Signal.CHECKPOINT_FAILED, failed, seen.now)
    status = _counting_holds(before, status, signal, state)
    if facts.checkpoint is not None and action is not Action.START:
        status = _with_checkpoint(status, facts)
    if facts.voided:
        reason = f"{reason} ({facts.voided})" if facts.voided not in str(reason) else reason
    lowering = action in (Action.RETREAT, Action.WITHDRAW, Action.RETURN)
    withheld = tuple(name for name in weights if lowering and _stable_empty(facts, name))
    settled = status.intent is None and before.intent is not None
    status = status.model_copy(
        update={"state": state, "epoch": seen.epoch, "reason": _kept_reason(before, status, signal)}
    )
    status = status.model_copy(update={"window": _window(facts, status)})
    decisive = settled or _stands_elsewhere(before, status) or bool(facts.heard.news)
    newest = identity if decisive else before.decisions[-1].id if before.decisions else ""
    asked = approvals_asked(facts) if facts.asked else ()
    status = standing_alarms(facts, before, status, Place(signal, reason, newest), asked)
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
        or before.window != status.window
        or before.observed_generation != status.observed_generation
        or before.bursts != status.bursts
        or _data_came_or_went(before, judged),
        weights={name: weight for name, weight in weights.items() if name not in withheld},
        withheld=withheld,
        folds=folds,
        verdicts=judged,
        news=facts.heard.news,
        checkpoint=facts.checkpoint,
        alarmed=other_alarms(before, status),
        contacts=_contacts(facts),
        gate_judged_at=seen.now if facts.gate_judged and not facts.gate_waits else seen.gate_judged_at,
    )


def _contacts(facts: Facts) -> tuple[Contact, ...]:
    """Who is to be told: as the plan says now; of one with faults, as the run was begun."""
    plan = facts.plan or facts.seen.running
    return () if plan is None else plan.contacts


def _passed(status: Status, now: float) -> Status:
    """The status with the running phase recorded as passed."""
    phases = tuple(
        each.model_copy(update={"passed_at": now}) if each.name == status.phase and each.passed_at is None else each
        for each in status.phases
    )
    gate = (status.gate or GateStatus()).model_copy(update={"passed_at": now})
    return status.model_copy(update={"phases": phases, "gate": gate, "grant": None})


def _pass(facts: Facts, reason: Reason) -> tuple[Status, Reason]:
    assert facts.plan is not None
    assert facts.phase is not None
    status = _passed(facts.status, facts.seen.now)
    index = facts.plan.phase_index(facts.phase.name)
    written = facts.plan.phases[index] if index >= 0 else facts.phase
    status, late = passed_late(status, written, facts.following, facts.seen.now)
    return status, f"{reason}; {late}" if late else reason


def _put_off(facts: Facts, folds: dict[str, Fold]) -> tuple[Status, dict[str, Fold], Reason]:
    """The gate is judged later. A fail that is given another chance is judged on new evidence, else it stays a fail."""
    move, phase, plan, now = gate_move(facts), facts.phase, facts.plan, facts.seen.now
    assert move is not None
    assert phase is not None
    assert plan is not None
    due = put_off(gate_due(phase, facts.status), move.outcome.by, now)
    status = gate_moved(facts.status, move.which, due)
    verb = "extended"
    if move.outcome.kind == "reschedule":
        verb = "rescheduled"
        if facts.following is not None:
            why = f"gate of {phase.name} rescheduled to {format_date(due)}"
            status = moved(status, plan, facts.following.name, move.outcome.by, why)
    measured = any(item.gate and item.verdict.outcome is Outcome.FAIL for item in facts.judged)
    if move.which == "fail" and measured:
        folds = fresh_folds(status, phase, now)
        status = forgiven(status)
    elif move.which == "noData":
        # Where what is missing cannot come any more, waiting for it is no chance.
        lost = {fold_key(item.verdict.target, item.verdict.criterion) for item in facts.judged if item.verdict.lost}
        folds = folds | {key: fold for key, fold in fresh_folds(status, phase, now).items() if key in lost}
    count = f"{status.gate.used[move.which] if status.gate else 1} of {move.outcome.times}"
    return status, folds, f"{move.reason}: {verb} by {format_duration(move.outcome.by)} to {format_date(due)} ({count})"


def _reschedule(facts: Facts, reason: Reason) -> tuple[Status, Reason]:
    """The coming phase and those after it begin later, because it was not ready."""
    coming, plan, now = facts.coming, facts.plan, facts.seen.now
    assert coming is not None
    assert plan is not None
    assert coming.preflight is not None
    by = coming.preflight.on_not_ready.by
    fresh = put_off(start_of(coming, facts.status), by, now)
    status = moved(facts.status, plan, coming.name, by, f"not ready: moved to {format_date(fresh)}", start=fresh)
    moves = tuple(
        move.model_copy(update={"times": move.times + 1}) if move.phase == coming.name else move
        for move in status.moves
    )
    return status.model_copy(update={"moves": moves}), f"{reason}: moved to {format_date(fresh)}"


def _adopt(facts: Facts, number: int) -> tuple[Status, dict[str, Fold]]:
    """The running phase goes on with a new revision: a run of its own, without approvals, its evidence begun anew."""
    plan, phase, status = facts.plan, facts.phase, facts.status
    assert plan is not None
    assert phase is not None
    assert status.run is not None
    run = status.run.model_copy(
        update={
            "number": number,
            "revision": plan.revision,
            "templates": _templates(facts),
            "stands_on": {**status.run.stands_on, "revision": plan.revision},
        }
    )
    status = forgiven(status.model_copy(update={"run": run, "approvals": (), "hold": None}))
    return status, fresh_folds(status, phase, facts.seen.now)


def _templates(facts: Facts) -> dict[str, str]:
    return {view.name: view.template for view in facts.seen.targets if view.template}


def _with_checkpoint(status: Status, facts: Facts) -> Status:
    taken, phase = facts.checkpoint, facts.phase
    assert taken is not None
    assert phase is not None
    began = facts.status.phase_started_at
    assert began is not None
    due = sum(began + checkpoint.at <= facts.seen.now for checkpoint in phase.checkpoints)
    nothing = {"passed": 0, "undecided": 0, "failed": 0}
    missed = (
        taken.score.model_copy(update={"after": format_duration(each.at), **nothing})
        for each in phase.checkpoints[facts.status.checkpoints_taken : due - 1]
    )
    scores = (*status.checkpoints, *missed, taken.score)[-KEPT_CHECKPOINTS:]
    return status.model_copy(update={"checkpoints_taken": due, "checkpoints": scores})


def _hold(status: Status, signal: Signal, reason: Reason, now: float) -> Status:
    """A hold that lasts until somebody says otherwise."""
    return status.model_copy(
        update={"hold": Hold(reason=signal.value, message=str(reason)[:LONGEST_MESSAGE], since=now)}
    )


_NO_HOLD_OF_THE_SERVICE = frozenset(
    {
        Signal.DELIVERABLES_MISSING,
        Signal.FLEET_STOPPED,
        Signal.PREFLIGHT_LATE,
        Signal.GATE_FAILED,
        Signal.GATE_UNDECIDED,
        Signal.ESCALATED,
    }
)
"""What waits for people alone, the stop of all launches, and what the gate itself says of the phase."""


def _counting_holds(before: Status, status: Status, signal: Signal, state: State) -> Status:
    """The status with one more hold of the running phase, where it is held from now on."""
    if state is not State.HELD or before.state is State.HELD or signal in _NO_HOLD_OF_THE_SERVICE:
        return status
    phases = tuple(
        each.model_copy(update={"holds": each.holds + 1}) if each.name == status.phase else each
        for each in status.phases
    )
    return status.model_copy(update={"phases": phases})


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


def _kept_reason(before: Status, status: Status, signal: Signal) -> str:
    """The signal; of a run that is over what ended it, of a hold that lasts what began it."""
    if signal is Signal.HELD_BREACH and status.hold is not None:
        return status.hold.reason
    return before.reason if signal is Signal.RUN_OVER and before.reason else signal.value


def _window(facts: Facts, status: Status) -> str:
    """Whether traffic may be raised at all now; a run that is over has nothing to raise."""
    now, changes = facts.opening, facts.opening.changes_at
    if status.state not in UNDER_WAY or not (now.why or changes):
        return ""
    because = f": {now.why}" if now.why else ""
    until = f"; {'closes' if now.open else 'opens'} {format_date(changes)}" if changes else ""
    return f"{'open' if now.open else 'closed'}{because}{until}"


def _stands_elsewhere(before: Status, after: Status) -> bool:
    """Whether anything differs that a restart must know."""
    fields = (
        *("state", "phase", "step", "intent", "hold", "targets", "run", "ended_at", "phase_started_at"),
        *("gate", "grant", "moves", "approvals", "done", "checkpoints_taken", "phases"),
    )
    return any(getattr(before, name) != getattr(after, name) for name in fields)


def _start(facts: Facts, number: int) -> Status:
    """A new run: what people ticked off and where the calendar moved stays, approvals and evidence do not."""
    plan, status = facts.plan, facts.status
    assert plan is not None
    restarting = {phase.name for phase in plan.phases if phase.restarts}
    over = status.state is State.SUCCEEDED
    passed = tuple(
        each.name for each in status.phases if each.passed_at is not None and each.name not in restarting and not over
    )
    phase = next((each for each in plan.phases if each.name not in passed), plan.phases[0])
    known = {each.name for each in plan.phases}
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
            templates=_templates(facts),
            passed=passed if phase.name not in passed else (),
        ),
        phase=phase.name,
        targets=tuple(TargetStatus(name=target.name) for target in plan.targets),
        moves=() if over else tuple(move for move in status.moves if move.phase in known),
        done=() if over else tuple(item for item in status.done if item.partition("/")[0] in known),
        phases=tuple(each for each in status.phases if each.name in passed),
    )


def _raise(facts: Facts, signal: Signal, identity: str) -> tuple[Status, dict[str, int]]:
    plan, phase, status = facts.plan, facts.phase, facts.status
    assert plan is not None
    assert phase is not None
    step, grant = status.step, status.grant
    if signal is Signal.PHASE_BEGINS:
        assert facts.coming is not None
        phase, step, grant = facts.coming, 1, None
    elif signal is Signal.STEP_DONE:
        step += 1
        if grant is not None and not (grant.place == "last" and step < len(phase.steps)):
            grant = None
    weight = phase.steps[step - 1].weight
    names = [name for name in phase.targets if not facts.withdrawn(name)] or list(phase.targets)
    lower = [name for name in names if facts.weights.get(name, 0) < weight]
    name = lower[0] if lower else names[0]
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
    return status.model_copy(update={"intent": intent, "grant": grant}), weights


def _withdraw(facts: Facts, identity: str) -> tuple[Status, dict[str, int]]:
    """Weight 0 for the targets whose own guardrail broke; a raise that is on its way is taken back with them."""
    status, intent = facts.status, facts.status.intent
    broken = {judged.verdict.target: str(judged.verdict.criterion.key) for judged in broken_alone(facts)}
    if intent is not None and intent.kind == "withdraw" and broken.keys() <= intent.weights.keys():
        return status, dict(intent.weights)
    weights = dict.fromkeys(broken, 0)
    if intent is not None:
        coming = (
            intent.weights
            if intent.kind == "withdraw"
            else {name: facts.weights.get(name, 0) for name in intent.weights}
        )
        weights = {**coming, **weights}
    targets = tuple(
        target.model_copy(update={"withdrawn": broken[target.name]}) if target.name in broken else target
        for target in status.targets
    )
    lowering = _lowering_intent(facts, identity, "withdraw", weights)
    return status.model_copy(update={"intent": lowering, "targets": targets}), weights


def _return(facts: Facts, identity: str) -> tuple[Status, dict[str, int]]:
    """All traffic back to the stable Services, after success."""
    status, intent = facts.status, facts.status.intent
    if intent is not None and intent.kind == "return":
        return status, dict(intent.weights)
    weights = dict.fromkeys((name for name, weight in facts.weights.items() if weight), 0)
    if not weights:
        ended = status.model_copy(update={"ended_at": facts.seen.now, "state": State.SUCCEEDED})
        return ended, {}
    return status.model_copy(update={"intent": _lowering_intent(facts, identity, "return", weights)}), weights


def _lowering_intent(
    facts: Facts, identity: str, kind: Literal["retreat", "withdraw", "return"], weights: Mapping[str, int]
) -> Intent:
    return Intent(
        id=identity,
        kind=kind,
        phase=facts.status.phase,
        step=facts.status.step,
        weights=dict(weights),
        epoch=facts.seen.epoch,
        at=facts.seen.now,
    )


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
    lowering = _lowering_intent(facts, identity, "retreat", weights)
    return status.model_copy(update={"intent": lowering}), weights
