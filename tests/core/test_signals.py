"""Every rung of the ladder holds by itself, and of every two neighbours the upper one wins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, permutations
from typing import Any, Literal, TypeAlias

import pytest

from controller.core.calendar import Opening
from controller.core.evidence import Outcome, Verdict
from controller.core.facts import Facts, Judged, TakenCheckpoint
from controller.core.observation import Observation, TargetView
from controller.core.overrides import Heard, Override
from controller.core.plan import Gate, Phase, Plan, Preflight, standing
from controller.core.plan import Outcome as Planned
from controller.core.series import Reading, Row, Subject
from controller.core.signals import LADDER, Rung, Signal, gate_move, read_signal
from controller.core.status import (
    ApprovalRecord,
    CheckpointScore,
    GateStatus,
    Grant,
    Hold,
    Intent,
    Move,
    Run,
    State,
    Status,
    TargetStatus,
)
from controller.core.terms import Stop
from controller.core.transitions import TRANSITIONS, Action
from tests.core.builders import ERRORS, NOW, criterion, invalid, plan, ramp

Ladder: TypeAlias = Sequence[tuple[Signal, Rung]]

GATED = ramp(gate={"criteria": [{"metric": "errors", "below": "1%"}]})
PLAN = plan(phases=[GATED])
NEXT = plan(phases=[ramp("next", steps=[{"weight": 100}])]).phases[0]
REST = plan(phases=[{"name": "rest", "deliverables": ["notes"]}]).phases[0]


def judged(outcome: Outcome, *, gate: bool = False, **changes: Any) -> Judged:
    """A verdict that is fresh, and complete where it passes; ``silent`` is seconds without a row."""
    verdict = Verdict(
        criterion=criterion(key="errors below 1%" if gate else "guardrail"),
        target=changes.pop("target", "main"),
        outcome=outcome,
        value=0.0,
        n=5000.0,
        x=0.0,
        span=60.0,
        as_of=int(NOW),
        silent=changes.pop("silent", 0.0),
        problem="no samples" if outcome is Outcome.NO_DATA else "",
        phase_n=changes.pop("phase_n", 5000.0),
        waited=changes.pop("waited", 9999.0),
    )
    return replace(Judged(verdict, on_fail="hold", on_no_data="hold", gate=gate), **changes)


def passed() -> Facts:
    """A run at the end of its only phase of which everything has passed: nothing but the last rung holds."""
    status = Status(
        state=State.JUDGING,
        run=Run(number=1, revision="v2", started_at=NOW - 500, stands_on=standing(PLAN, "ramp")),
        phase="ramp",
        phase_started_at=NOW - 400,
        step=2,
        targets=(TargetStatus(name="main", weight=300, in_force_at=NOW - 40),),
    )
    seen = Observation(
        now=NOW,
        namespace="prod",
        name="shop",
        generation=1,
        plan=PLAN,
        running=PLAN,
        status=status,
        annotations={},
        targets=(TargetView("main", 300, takes_traffic=True, accepted=True, canary_ready=2, stable_ready=2),),
        epoch=1,
    )
    return Facts(
        seen=seen,
        status=status,
        plan=PLAN,
        phase=PLAN.phases[0],
        judged=(judged(Outcome.PASS), judged(Outcome.PASS, gate=True)),
        heard=Heard(),
        weights={"main": 300},
        dwelt=40.0,
        in_phase=400.0,
    )


# One small change of the facts for each way in which a rung can come to hold. Each touches as little as it can, so that
# two of them can be laid over one another.


def _seen(facts: Facts, **changes: Any) -> Facts:
    return replace(facts, seen=replace(facts.seen, **changes))


def _status(facts: Facts, **changes: Any) -> Facts:
    return replace(facts, status=facts.status.model_copy(update=changes))


def _view(facts: Facts, **changes: Any) -> Facts:
    return _seen(facts, targets=tuple(replace(view, **changes) for view in facts.seen.targets))


def _at(facts: Facts, weight: int, **changes: Any) -> Facts:
    return replace(_view(facts, weight=weight, takes_traffic=weight > 0, **changes), weights={"main": weight})


def _also(facts: Facts, item: Judged) -> Facts:
    return replace(facts, judged=(*facts.judged, item))


def _guardrail(facts: Facts, outcome: Outcome) -> Facts:
    return replace(facts, judged=(judged(outcome), *(item for item in facts.judged if item.gate)))


def _gate_judged(facts: Facts, *items: Judged) -> Facts:
    return replace(facts, judged=(*(item for item in facts.judged if not item.gate), *items))


def _planned(facts: Facts, changed: Plan) -> Facts:
    return replace(_seen(facts, plan=changed), plan=changed)


def _plan_with(facts: Facts, **changes: Any) -> Facts:
    assert facts.plan is not None
    return _planned(facts, replace(facts.plan, **changes))


def _phase(facts: Facts, **changes: Any) -> Facts:
    assert facts.phase is not None
    return replace(facts, phase=replace(facts.phase, **changes))


def _gate(facts: Facts, **changes: Any) -> Facts:
    gate = _the_gate(facts)
    return _phase(facts, gate=replace(gate, **changes))


def _the_gate(facts: Facts) -> Gate:
    assert facts.phase is not None
    assert facts.phase.gate is not None
    return facts.phase.gate


def _hears(facts: Facts, verb: str) -> Facts:
    heard = replace(facts.heard, acted={**facts.heard.acted, verb: Override(verb, "d")})
    return replace(facts, heard=heard)


def _gate_undecided(facts: Facts) -> Facts:
    return _also(facts, judged(Outcome.UNDECIDED, gate=True))


def _approvals_wanted(facts: Facts) -> Facts:
    assert facts.phase is not None
    return _phase(facts, steps=tuple(replace(step, approval="lead") for step in facts.phase.steps))


def _intent(kind: str, **changes: Any) -> Intent:
    usual = {"id": "1-7", "kind": kind, "phase": "ramp", "step": 2, "weights": {"main": 300}, "epoch": 1, "at": NOW - 3}
    return Intent.model_validate({**usual, **changes})


def _edited(facts: Facts) -> Facts:
    other = replace(PLAN.phases[0], digest="another")
    return _seen(facts, running=replace(PLAN, phases=(other,)))


def _other_pods(facts: Facts) -> Facts:
    target = replace(PLAN.targets[0], workload_kind="Deployment", workload="shop")
    run = facts.status.run and facts.status.run.model_copy(update={"templates": {"main": "a"}})
    return _status(_plan_with(_view(facts, template="b"), targets=(target,)), run=run)


def _two_targets(facts: Facts) -> Facts:
    west = TargetStatus(name="west")
    return _status(facts, targets=(*(each for each in facts.status.targets if each.name != "west"), west))


def _west_broken(facts: Facts) -> Facts:
    return _also(_two_targets(facts), judged(Outcome.FAIL, target="west", on_fail="rollback", alone=True))


def _coming(facts: Facts, phase: Phase, **changes: Any) -> Facts:
    """The running phase is passed, and this one is waited for."""
    coming = replace(phase, **changes)
    facts = _status(_plan_with(facts, phases=(*PLAN.phases, coming)), gate=GateStatus(passed_at=NOW - 3600))
    return replace(facts, coming=coming, following=coming)


def _first(facts: Facts, **changes: Any) -> Facts:
    """No phase has begun: the first one is waited for."""
    first = replace(PLAN.phases[0], **changes)
    return replace(
        _at(
            _status(
                facts, phase_started_at=None, step=0, targets=(TargetStatus(name="main"),), state=State.PROGRESSING
            ),
            0,
        ),
        phase=first,
        coming=first,
        judged=(),
        dwelt=None,
        in_phase=0.0,
    )


HOLDS = Planned("hold")
MOVES = Planned("reschedule", by=3600.0, times=2)
EXTENDS = Planned("extend", by=3600.0, times=1)


def _preflight(*items: str, late: Planned = HOLDS, approval: str = "") -> Preflight:
    return Preflight(opens=3600.0, checklist=items, approval=approval, on_not_ready=late)


def _beside(facts: Facts, **changes: Any) -> Facts:
    """A second target, which only the next phase moves."""
    facts = _coming(facts, NEXT, targets=("main", "west"))
    view = TargetView("west", **{"weight": 0, "accepted": True, "canary_ready": 2, "stable_ready": 2, **changes})
    return _seen(facts, targets=(*facts.seen.targets, view))


def _returns(facts: Facts, **changes: Any) -> Facts:
    """The launch has passed, and its traffic is to go back to stable."""
    facts = _status(_plan_with(_view(facts, **changes), on_success="return"), gate=GateStatus(passed_at=NOW - 50))
    return replace(facts, following=None)


def _checkpoint(facts: Facts) -> Facts:
    score = CheckpointScore(phase="ramp", after="5m", taken_at=NOW, passed=1, undecided=0, failed=1)
    return replace(facts, checkpoint=TakenCheckpoint(score, (judged(Outcome.FAIL),), holds=True))


NEW = replace(PLAN, revision="v3")
CLOSED = Opening(open=False, why="outside the windows", changes_at=NOW + 60)

Change: TypeAlias = Callable[[Facts], Facts]

WAYS: list[tuple[Signal, str, Change]] = [
    (Signal.ROLLBACK_ASKED, "annotation", lambda facts: _hears(facts, "rollback")),
    (Signal.DELETED, "guarded", lambda facts: _seen(facts, deleting=True, guarded=True)),
    (Signal.BREACH, "fail", lambda facts: _also(facts, judged(Outcome.FAIL, on_fail="rollback"))),
    (
        Signal.BREACH,
        "silence that rolls back",
        lambda facts: _also(facts, judged(Outcome.NO_DATA, silent=99.0, on_no_data="rollback")),
    ),
    (
        Signal.BREACH,
        "gate that rolls back",
        lambda facts: _gate_judged(facts, judged(Outcome.FAIL, gate=True, on_fail="rollback")),
    ),
    (
        Signal.BREACH,
        "gate undecided too long",
        lambda facts: replace(_gate_undecided(_gate(facts, on_undecided=Planned("rollback"))), dwelt=90.0),
    ),
    (
        Signal.BREACH,
        "deliverables too late",
        lambda facts: _gate(_phase(facts, deliverables=("notes",)), on_fail=Planned("rollback")),
    ),
    (
        Signal.BREACH,
        "of the only target that is left",
        lambda facts: _also(facts, judged(Outcome.FAIL, on_fail="rollback", alone=True)),
    ),
    (
        Signal.BREACH,
        "while it is watched after success",
        lambda facts: _also(
            _status(facts, state=State.SUCCEEDED, ended_at=NOW - 1), judged(Outcome.FAIL, on_fail="rollback")
        ),
    ),
    (Signal.LOWERING, "open", lambda facts: _status(facts, intent=_intent("retreat"))),
    (Signal.WITHDRAWN, "one of two", _west_broken),
    (
        Signal.WITHDRAWN,
        "open",
        lambda facts: _status(facts, intent=_intent("withdraw", weights={"west": 0})),
    ),
    (Signal.RETURNING, "open", lambda facts: _status(facts, intent=_intent("return", weights={"main": 0}))),
    (
        Signal.PLAN_INVALID,
        "faults",
        # The plan that was valid before stays in the facts, to lay this over a change of revision.
        lambda facts: _seen(facts, plan=invalid()),
    ),
    (Signal.REVISION_CHANGED, "with traffic", lambda facts: _at(_plan_with(facts, revision="v3"), 300)),
    (Signal.REVISION_CHANGED, "by another pod template", _other_pods),
    (
        Signal.REVISION_CHANGED,
        "while a weight is on its way",
        lambda facts: _status(_at(_plan_with(facts, revision="v3"), 0), intent=_intent("raise")),
    ),
    (
        Signal.REVISION_CONTINUES,
        "where the phase says so",
        lambda facts: _phase(_plan_with(facts, revision="v3"), restarts=False),
    ),
    (Signal.NEW_REVISION, "without traffic", lambda facts: _at(_plan_with(facts, revision="v3"), 0)),
    (
        Signal.NEW_REVISION,
        "after success, the other way round",
        lambda facts: _status(
            _plan_with(
                facts,
                revision="v3",
                targets=tuple(replace(t, stable=t.canary, canary=t.stable) for t in PLAN.targets),
            ),
            state=State.SUCCEEDED,
            ended_at=NOW - 9,
        ),
    ),
    (
        Signal.NEW_REVISION,
        "after success, returned",
        lambda facts: _status(_at(_plan_with(facts, revision="v3"), 0), state=State.SUCCEEDED, ended_at=NOW - 9),
    ),
    (
        Signal.NOT_SWAPPED,
        "after success",
        lambda facts: _status(_plan_with(facts, revision="v3"), state=State.SUCCEEDED, ended_at=NOW - 9),
    ),
    (Signal.RUN_OVER, "succeeded", lambda facts: _status(facts, state=State.SUCCEEDED, ended_at=NOW - 9)),
    (Signal.RUN_OVER, "rolled back", lambda facts: _status(facts, state=State.ROLLED_BACK)),
    (Signal.PLAN_CHANGED, "running phase edited", _edited),
    (
        Signal.PLAN_CHANGED,
        "running phase gone",
        lambda facts: _plan_with(facts, phases=(replace(PLAN.phases[0], name="other"),)),
    ),
    (Signal.PLAN_CHANGED, "standing unreadable", lambda facts: _seen(facts, running=None)),
    (
        Signal.PLAN_CHANGED,
        "phase of a weight on its way gone",
        lambda facts: _status(facts, intent=_intent("raise", phase="next", step=1)),
    ),
    (Signal.ROUTE_CLAIMED, "by an older launch", lambda facts: _seen(facts, claimed_by="prod/older")),
    (Signal.ROUTE_UNUSABLE, "problem", lambda facts: _view(facts, problem="no such route")),
    (Signal.DRIFT, "another weight", lambda facts: _view(facts, weight=310)),
    (Signal.FLEET_STOPPED, "for good", lambda facts: _seen(facts, stop=Stop("incident 7", "ann"))),
    (Signal.FLEET_STOPPED, "for a while", lambda facts: _seen(facts, stop=Stop("incident 7", "ann", NOW + 1))),
    (
        Signal.HOLD_ASKED,
        "annotation",
        lambda facts: replace(facts, heard=replace(facts.heard, hold=Override("hold", "d"))),
    ),
    (
        Signal.HELD_BREACH,
        "recorded hold",
        lambda facts: _status(facts, hold=Hold(reason="StepUndecided", message="undecided", since=NOW - 9)),
    ),
    (Signal.HELD_BREACH, "fail", lambda facts: _also(facts, judged(Outcome.FAIL))),
    (Signal.CHECKPOINT_FAILED, "taken now", _checkpoint),
    (Signal.BLIND, "silence", lambda facts: _also(facts, judged(Outcome.NO_DATA, silent=71.0))),
    (Signal.STARTING, "no run", lambda facts: _status(facts, run=None)),
    (Signal.WINDOW_CLOSED, "before a step", lambda facts: _status(replace(facts, opening=CLOSED), step=1)),
    (Signal.WINDOW_CLOSED, "between two targets", lambda facts: replace(_at(facts, 50), opening=CLOSED)),
    (Signal.WINDOW_CLOSED, "before a phase", lambda facts: replace(_coming(facts, NEXT), opening=CLOSED)),
    (Signal.SCHEDULED, "later", lambda facts: _coming(facts, NEXT, start=NOW + 60)),
    (Signal.SCHEDULED, "the first phase", lambda facts: _first(facts, start=NOW + 60)),
    (Signal.SCHEDULED, "without steps", lambda facts: _coming(facts, REST, start=NOW + 60)),
    (
        Signal.SCHEDULED,
        "before its preflight opens",
        lambda facts: _coming(facts, NEXT, start=NOW + 3601, preflight=_preflight("a")),
    ),
    (
        Signal.SCHEDULED,
        "moved",
        lambda facts: _status(
            _coming(facts, NEXT, start=NOW - 60), moves=(Move(phase="next", start=NOW + 60, why="late"),)
        ),
    ),
    (
        Signal.PREFLIGHT_MOVED,
        "not ready",
        lambda facts: _coming(facts, NEXT, start=NOW, preflight=_preflight("a", late=MOVES)),
    ),
    (
        Signal.PREFLIGHT_LATE,
        "not ready",
        lambda facts: _coming(facts, NEXT, start=NOW, preflight=_preflight("a")),
    ),
    (
        Signal.PREFLIGHT_LATE,
        "moved as often as it may be",
        lambda facts: _status(
            _coming(facts, NEXT, preflight=_preflight("a", late=MOVES)),
            moves=(Move(phase="next", start=NOW, times=2),),
        ),
    ),
    (
        Signal.PREFLIGHT_OPEN,
        "not ready",
        lambda facts: _coming(facts, NEXT, start=NOW + 3600, preflight=_preflight("a")),
    ),
    (
        Signal.PREFLIGHT_OPEN,
        "not approved",
        lambda facts: _coming(facts, NEXT, start=NOW + 60, preflight=_preflight(approval="vp")),
    ),
    (
        Signal.PREFLIGHT_OPEN,
        "ready before its time",
        lambda facts: _coming(facts, NEXT, start=NOW + 60, preflight=_preflight()),
    ),
    (
        Signal.PREFLIGHT_OPEN,
        "alerts that would not arrive",
        lambda facts: _seen(_coming(facts, REST, start=NOW + 60, preflight=_preflight()), alerting="no watchdog"),
    ),
    (
        Signal.PREFLIGHT_OPEN,
        "a raise that would be refused",
        lambda facts: _view(_coming(facts, NEXT, start=NOW + 60, preflight=_preflight()), unwritable="forbidden"),
    ),
    (Signal.NOT_READY, "no endpoint", lambda facts: _at(facts, 0, canary_ready=0)),
    (Signal.NOT_READY, "unknown endpoints", lambda facts: _at(facts, 0, canary_ready=None)),
    (Signal.NOT_READY, "stable not asked for", lambda facts: _at(facts, 0)),
    (Signal.NOT_READY, "the next phase's endpoints", lambda facts: _beside(facts, canary_ready=0)),
    (Signal.NOT_READY, "the next phase's stable not asked for", _beside),
    (Signal.NOT_READY, "the next phase's drift", lambda facts: _beside(facts, weight=20)),
    (Signal.NOT_READY, "the next phase's problem", lambda facts: _beside(facts, problem="no such route")),
    (
        Signal.NOT_READY,
        "unproven before the next phase",
        lambda facts: _coming(_guardrail(facts, Outcome.UNDECIDED), NEXT),
    ),
    (Signal.NOT_IN_FORCE, "open intent", lambda facts: _status(facts, intent=_intent("raise"))),
    (Signal.NEXT_TARGET, "below the step", lambda facts: _at(facts, 50)),
    (Signal.STEP_UNDECIDED, "too long", lambda facts: replace(_guardrail(facts, Outcome.UNDECIDED), dwelt=90.0)),
    (
        Signal.STEP_UNDECIDED,
        "one of two targets",
        lambda facts: replace(_also(facts, judged(Outcome.UNDECIDED, target="west")), dwelt=90.0),
    ),
    (Signal.STEP_NOT_DONE, "unproven", lambda facts: _guardrail(facts, Outcome.UNDECIDED)),
    (Signal.STEP_NOT_DONE, "too soon", lambda facts: replace(facts, dwelt=29.9)),
    (Signal.STEP_NOT_DONE, "not in force", lambda facts: replace(facts, dwelt=None)),
    (Signal.STEP_NOT_DONE, "judges nothing", lambda facts: replace(facts, judged=())),
    (Signal.STEP_APPROVAL, "of the last step", _approvals_wanted),
    (Signal.STEP_APPROVAL, "of a step", lambda facts: _status(_approvals_wanted(facts), step=1)),
    (Signal.STEP_DONE, "passed", lambda facts: _status(facts, step=1)),
    (
        Signal.STEP_DONE,
        "approved",
        lambda facts: _status(
            _approvals_wanted(facts), step=1, approvals=(ApprovalRecord(of="ramp/1", by="jo", at=NOW - 1),)
        ),
    ),
    (
        Signal.GATE_MOVED,
        "fail that extends",
        lambda facts: _also(_gate(facts, on_fail=EXTENDS), judged(Outcome.FAIL, gate=True, on_fail="extend")),
    ),
    (
        Signal.GATE_MOVED,
        "undecided that reschedules",
        lambda facts: _gate_undecided(_gate(facts, on_undecided=MOVES)),
    ),
    (
        Signal.GATE_MOVED,
        "silence that extends",
        lambda facts: _also(
            _gate(facts, on_no_data=EXTENDS), judged(Outcome.NO_DATA, gate=True, silent=71.0, on_no_data="extend")
        ),
    ),
    (
        Signal.GATE_MOVED,
        "deliverables that extend",
        lambda facts: _gate(_phase(facts, deliverables=("notes",)), on_fail=EXTENDS),
    ),
    (
        Signal.ESCALATED,
        "undecided",
        lambda facts: _gate_undecided(_gate(facts, on_undecided=Planned("escalate"))),
    ),
    (
        Signal.ESCALATED,
        "after its extension",
        lambda facts: _status(
            _gate_undecided(_gate(facts, on_undecided=replace(EXTENDS, then="escalate"))),
            gate=GateStatus(used={"undecided": 1}),
        ),
    ),
    (Signal.GATE_FAILED, "fail", lambda facts: _also(facts, judged(Outcome.FAIL, gate=True))),
    (Signal.GATE_UNDECIDED, "too long", lambda facts: replace(_gate_undecided(facts), dwelt=90.0)),
    (
        Signal.DELIVERABLES_MISSING,
        "all else passes",
        lambda facts: _gate(_phase(facts, deliverables=("notes",)), on_fail=HOLDS),
    ),
    (
        Signal.DELIVERABLES_MISSING,
        "between two judgements",
        lambda facts: replace(_seen(_phase(facts, deliverables=("notes",)), gate_judged_at=NOW - 59), cadence=60.0),
    ),
    (Signal.GATE_OPEN, "undecided", _gate_undecided),
    (
        Signal.GATE_OPEN,
        "passed since the raise alone",
        lambda facts: _gate_judged(facts, judged(Outcome.PASS, gate=True, phase_n=500.0)),
    ),
    (Signal.GATE_OPEN, "nothing judged", _gate_judged),
    (Signal.GATE_OPEN, "before its time", lambda facts: _gate(facts, after=3600.0)),
    (Signal.GATE_OPEN, "before its instant", lambda facts: _gate(facts, at=NOW + 1)),
    (
        Signal.GATE_OPEN,
        "put off",
        lambda facts: _status(facts, gate=GateStatus(due_at=NOW + 60, used={"undecided": 1})),
    ),
    (
        Signal.GATE_OPEN,
        "deliverables that put it off, before it is judged again",
        lambda facts: replace(
            _seen(_gate(_phase(facts, deliverables=("notes",)), on_fail=EXTENDS), gate_judged_at=NOW - 59), cadence=60.0
        ),
    ),
    (Signal.GATE_APPROVAL, "wanted", lambda facts: _gate(facts, approval="vp")),
    (
        Signal.PHASE_PASSED,
        "another follows",
        lambda facts: replace(_plan_with(facts, phases=(*PLAN.phases, NEXT)), following=NEXT),
    ),
    (Signal.PHASE_PASSED, "the traffic goes back", lambda facts: _plan_with(facts, on_success="return")),
    (Signal.PHASE_BEGINS, "the next", lambda facts: _coming(facts, NEXT)),
    (Signal.PHASE_BEGINS, "at its time", lambda facts: _coming(facts, NEXT, start=NOW)),
    (
        Signal.PHASE_BEGINS,
        "ready",
        lambda facts: _status(
            _coming(facts, NEXT, start=NOW, preflight=_preflight("a", approval="vp")),
            done=("next/a",),
            approvals=(ApprovalRecord(of="next/preflight", at=NOW - 1),),
        ),
    ),
    (Signal.PHASE_ENTERED, "without steps", lambda facts: _coming(facts, REST)),
    (Signal.NOT_RETURNED, "not known", _returns),
    (Signal.NOT_RETURNED, "no pod", lambda facts: _returns(facts, versions={})),
    (Signal.NOT_RETURNED, "another revision", lambda facts: _returns(facts, versions={"v2": 2, "v1": 1})),
    (
        Signal.NOT_RETURNED,
        "unproven",
        lambda facts: _returns(_guardrail(facts, Outcome.UNDECIDED), versions={"v2": 2}),
    ),
    (Signal.RETURN, "all pods", lambda facts: _returns(facts, versions={"v2": 3})),
    (Signal.RETURN, "no traffic", lambda facts: _phase(_status(_at(_returns(facts), 0), step=0), steps=())),
    (Signal.LAUNCH_PASSED, "nothing else", lambda facts: facts),
]

# Two rungs whose conditions contradict one another cannot meet.
CANNOT_MEET = {
    (Signal.REVISION_CHANGED, Signal.REVISION_CONTINUES): "one wants a phase that restarts, the other one that goes on",
    (Signal.WINDOW_CLOSED, Signal.SCHEDULED): "a window is told of when nothing else is waited for",
    (Signal.SCHEDULED, Signal.PREFLIGHT_MOVED): "one wants a start to come, the other one that is over",
    (Signal.PREFLIGHT_MOVED, Signal.PREFLIGHT_LATE): "a plan has one outcome for what is not ready",
    (Signal.NOT_READY, Signal.NOT_IN_FORCE): "one wants an open intent, the other none",
    (Signal.STEP_DONE, Signal.GATE_MOVED): "one wants the last step, the other one before it",
    (Signal.GATE_UNDECIDED, Signal.DELIVERABLES_MISSING): "deliverables are asked for when nothing is undecided",
    (Signal.PHASE_PASSED, Signal.PHASE_BEGINS): "one wants the phase to be open, the other that it is passed",
}


def strongest(ladder: Ladder, facts: Facts) -> Signal | None:
    """What a ladder makes of the facts."""
    return next((signal for signal, rung in ladder if rung(facts) is not None), None)


def ways(signal: Signal) -> list[Change]:
    """The changes that make a rung hold."""
    return [change for wanted, _, change in WAYS if wanted is signal]


def meetings(upper: Signal, lower: Signal) -> list[Facts]:
    """Facts of which both rungs hold, and none above them."""
    rungs = dict(LADDER)
    order = [signal for signal, _ in LADDER]
    above = [rungs[signal] for signal in order[: order.index(upper)]]
    found = []
    for first in ways(upper):
        for second in ways(lower):
            for facts in (first(second(passed())), second(first(passed()))):
                both = rungs[upper](facts) is not None and rungs[lower](facts) is not None
                if both and all(rung(facts) is None for rung in above):
                    found.append(facts)
    return found


ORDER = list(Signal)
NEIGHBOURS = {pair: meetings(*pair) for pair in pairwise(ORDER)}
ALONE = [(signal, change(passed())) for signal, _, change in WAYS]


def faults_of(ladder: Ladder) -> Iterator[str]:
    """What is wrong with a ladder, by the facts of this file."""
    for (upper, lower), found in NEIGHBOURS.items():
        yield from (f"{upper} over {lower}" for facts in found if strongest(ladder, facts) is not upper)
    yield from (f"{signal} alone" for signal, facts in ALONE if strongest(ladder, facts) is not signal)


@pytest.mark.parametrize(("signal", "change"), [pytest.param(s, c, id=f"{s}-{name}") for s, name, c in WAYS])
def test_every_rung_holds_alone(signal: Signal, change: Change) -> None:
    facts = change(passed())
    seen, reason = read_signal(facts)
    assert seen is signal
    assert str(reason)


def test_every_rung_has_a_way_to_hold() -> None:
    assert {signal for signal, _, _ in WAYS} == {signal for signal, _ in LADDER} == set(Signal)


def test_the_ladder_stands_in_the_order_in_which_the_signals_are_named() -> None:
    assert [signal for signal, _ in LADDER] == ORDER


@pytest.mark.parametrize(("upper", "lower"), list(pairwise(ORDER)), ids=str)
def test_of_two_neighbours_the_upper_wins(upper: Signal, lower: Signal) -> None:
    found = NEIGHBOURS[upper, lower]
    assert bool(found) is ((upper, lower) not in CANNOT_MEET)
    for facts in found:
        assert read_signal(facts)[0] is upper


def _does(signal: Signal, *actions: Action) -> bool:
    return any(TRANSITIONS[signal][state][0] in actions for state in (State.PROGRESSING, State.JUDGING, State.HELD))


def _stops(signal: Signal) -> bool:
    """Whether it only keeps a running launch from going on."""
    return TRANSITIONS[signal][State.PROGRESSING][1] is State.HELD


def test_what_lowers_stands_above_what_stops_and_that_above_what_raises() -> None:
    # The return after success is the last thing of all; that it is under way stands with what lowers.
    lowering = (Action.RETREAT, Action.WITHDRAW, Action.RETURN)
    lowers = [place for place, signal in enumerate(ORDER) if _does(signal, *lowering) and signal is not Signal.RETURN]
    # A plan that cannot be read has no revision that could have changed.
    stops = [place for place, signal in enumerate(ORDER) if _stops(signal) and signal is not Signal.PLAN_INVALID]
    assert max(lowers) < min(stops)
    first_raise = min(place for place, signal in enumerate(ORDER) if _does(signal, Action.RAISE, Action.SUCCEED))
    of_a_phase = (
        Signal.STEP_UNDECIDED,
        Signal.ESCALATED,
        Signal.GATE_FAILED,
        Signal.GATE_UNDECIDED,
        Signal.DELIVERABLES_MISSING,
    )
    at_each_tick = [place for place in stops if ORDER[place] not in of_a_phase]
    assert max(at_each_tick) < first_raise
    # Undecided and gate stand above the raise, or the pass, that they keep from happening.
    assert ORDER.index(Signal.STEP_UNDECIDED) < ORDER.index(Signal.STEP_DONE)
    assert max(ORDER.index(signal) for signal in of_a_phase) < ORDER.index(Signal.PHASE_PASSED)


def test_people_are_asked_when_all_that_is_measured_has_passed() -> None:
    before = (Signal.STEP_UNDECIDED, Signal.STEP_NOT_DONE)
    assert max(map(ORDER.index, before)) < ORDER.index(Signal.STEP_APPROVAL) < ORDER.index(Signal.STEP_DONE)
    gate = (Signal.GATE_MOVED, Signal.ESCALATED, Signal.GATE_FAILED, Signal.GATE_UNDECIDED, Signal.GATE_OPEN)
    assert max(map(ORDER.index, gate)) < ORDER.index(Signal.GATE_APPROVAL) < ORDER.index(Signal.PHASE_PASSED)


# Mutants: whatever is done to the ladder, the facts of this file notice.


def swapped(upper: Signal, lower: Signal) -> Ladder:
    """The ladder with two rungs changed for one another."""
    rungs, other = dict(LADDER), {upper: lower, lower: upper}
    return [(other.get(signal, signal), rungs[other.get(signal, signal)]) for signal, _ in LADDER]


def without(signal: Signal) -> Ladder:
    """The ladder with a rung taken out."""
    return [rung for rung in LADDER if rung[0] is not signal]


def always(signal: Signal) -> Ladder:
    """The ladder with a rung that holds whatever is seen."""
    return [(name, (lambda _: "always") if name is signal else rung) for name, rung in LADDER]


def test_the_ladder_has_no_fault() -> None:
    assert list(faults_of(LADDER)) == []


@pytest.mark.parametrize("pair", [pair for pair in pairwise(ORDER) if pair not in CANNOT_MEET], ids=str)
def test_any_two_neighbours_swapped_are_noticed(pair: tuple[Signal, Signal]) -> None:
    assert next(faults_of(swapped(*pair)))


@pytest.mark.parametrize("signal", list(Signal), ids=str)
def test_any_rung_left_out_is_noticed(signal: Signal) -> None:
    assert next(faults_of(without(signal)))


@pytest.mark.parametrize("signal", list(Signal)[:-1], ids=str)
def test_any_rung_that_always_holds_is_noticed(signal: Signal) -> None:
    assert next(faults_of(always(signal)))


@pytest.fixture(scope="module")
def together() -> set[frozenset[Signal]]:
    """The rungs that hold at once, of any two ways laid over one another."""
    one_each = [ways(signal)[0] for signal in ORDER]
    laid = (upper(lower(passed())) for upper, lower in permutations(one_each, 2))
    return {frozenset(signal for signal, rung in LADDER if rung(facts) is not None) for facts in laid}


@pytest.mark.parametrize("signal", list(Signal), ids=str)
def test_any_rung_moved_to_where_others_are_decided_is_noticed(
    together: set[frozenset[Signal]], signal: Signal
) -> None:
    def strongest_in(order: list[Signal], held: frozenset[Signal]) -> Signal:
        return next(each for each in order if each in held)

    rest = [each for each in ORDER if each is not signal]
    for place in (0, ORDER.index(Signal.HOLD_ASKED), ORDER.index(Signal.STARTING), len(rest)):
        moved = [*rest[:place], signal, *rest[place:]]
        assert moved == ORDER or any(strongest_in(moved, held) is not strongest_in(ORDER, held) for held in together)


# Facts that do not make a rung hold


def test_a_stop_of_the_fleet_says_who_why_and_until_when_and_lapses() -> None:
    stop = Stop("incident 7", "ann", NOW + 60)
    facts = _seen(_status(passed(), step=1), stop=stop)
    words = "all raises are stopped by ann until Nov 14 22:14: incident 7"
    assert read_signal(facts) == (Signal.FLEET_STOPPED, words)
    assert read_signal(_seen(facts, stop=replace(stop, until=NOW)))[0] is Signal.STEP_DONE


def test_a_guardrail_that_is_not_enforced_has_no_consequence() -> None:
    shown = judged(Outcome.FAIL, enforce=False, on_fail="rollback")
    assert read_signal(_also(passed(), shown))[0] is Signal.LAUNCH_PASSED


def test_a_silence_has_no_consequence_before_its_time() -> None:
    facts = _also(passed(), judged(Outcome.NO_DATA, silent=70.0))
    assert read_signal(facts)[0] is Signal.STEP_NOT_DONE


def test_a_silence_that_nobody_listened_to_has_no_consequence() -> None:
    facts = _also(passed(), judged(Outcome.NO_DATA, silent=9999.0, on_no_data="rollback"))
    assert read_signal(_seen(facts, watched=70.0))[0] is Signal.STEP_NOT_DONE
    assert read_signal(_seen(facts, watched=71.0))[0] is Signal.BREACH


def test_a_gate_has_no_consequence_before_it_is_due() -> None:
    failed = _gate_judged(passed(), judged(Outcome.FAIL, gate=True, on_fail="rollback"))
    assert read_signal(replace(failed, dwelt=29.0))[0] is Signal.STEP_NOT_DONE
    assert read_signal(_status(failed, step=1))[0] is Signal.STEP_DONE
    assert read_signal(_gate(failed, at=NOW + 1))[0] is Signal.GATE_OPEN
    assert read_signal(_gate(failed, at=NOW))[0] is Signal.BREACH


def test_a_gate_has_no_consequence_between_two_looks_of_its_monitoring() -> None:
    failed = _gate_judged(passed(), judged(Outcome.FAIL, gate=True, on_fail="rollback"))
    looked = replace(_seen(failed, gate_judged_at=NOW - 59), cadence=60.0)
    assert read_signal(looked)[0] is Signal.GATE_OPEN
    assert read_signal(_seen(looked, gate_judged_at=NOW - 60))[0] is Signal.BREACH
    # A clock that was set back is no reason not to look.
    assert read_signal(_seen(looked, gate_judged_at=NOW + 9))[0] is Signal.BREACH


def test_a_gate_without_data_pauses_the_launch_between_two_looks_of_its_monitoring_too() -> None:
    silent = judged(Outcome.NO_DATA, gate=True, silent=99.0)
    looked = replace(_seen(_gate_judged(passed(), silent), gate_judged_at=NOW - 59), cadence=60.0)
    assert read_signal(looked)[0] is Signal.BLIND
    retreats = _gate_judged(looked, replace(silent, on_no_data="rollback"))
    assert read_signal(retreats)[0] is Signal.GATE_OPEN
    assert read_signal(_seen(retreats, gate_judged_at=NOW - 60))[0] is Signal.BREACH
    assert read_signal(_gate(looked, at=NOW + 1))[0] is Signal.GATE_OPEN


def test_a_gate_that_is_passed_is_not_judged_again() -> None:
    failed = _gate_judged(passed(), judged(Outcome.FAIL, gate=True, on_fail="rollback"))
    assert read_signal(_coming(failed, NEXT))[0] is Signal.PHASE_BEGINS


def test_a_gate_is_put_off_only_as_often_as_its_plan_says() -> None:
    undecided = _gate_undecided(_gate(passed(), on_undecided=EXTENDS))
    assert read_signal(undecided)[0] is Signal.GATE_MOVED
    used = _status(undecided, gate=GateStatus(used={"undecided": 1}))
    assert read_signal(used)[0] is Signal.GATE_OPEN
    assert read_signal(replace(used, dwelt=90.0))[0] is Signal.GATE_UNDECIDED
    other = _status(undecided, gate=GateStatus(used={"fail": 9}))
    assert read_signal(other)[0] is Signal.GATE_MOVED


def test_of_two_findings_the_fail_puts_the_gate_off() -> None:
    facts = _gate_undecided(_gate(passed(), on_undecided=MOVES, on_fail=EXTENDS))
    failed = _also(facts, judged(Outcome.FAIL, gate=True, on_fail="extend"))
    found = gate_move(failed)
    assert found is not None
    assert (found.which, found.outcome) == ("fail", EXTENDS)
    found = gate_move(facts)
    assert found is not None
    assert (found.which, found.outcome) == ("undecided", MOVES)


def test_a_breach_after_the_watch_is_over_has_no_consequence() -> None:
    over = _status(passed(), state=State.SUCCEEDED, ended_at=NOW - 3601)
    assert read_signal(_also(over, judged(Outcome.FAIL, on_fail="rollback")))[0] is Signal.RUN_OVER


def test_an_undecided_step_waits_three_times_its_for() -> None:
    waiting = _guardrail(passed(), Outcome.UNDECIDED)
    assert read_signal(replace(waiting, dwelt=89.9))[0] is Signal.STEP_NOT_DONE
    assert read_signal(replace(waiting, dwelt=90.0))[0] is Signal.STEP_UNDECIDED


def test_an_undecided_step_without_for_waits_half_an_hour() -> None:
    free = plan(phases=[{**GATED, "steps": [{"weight": 5}, {"weight": 30}]}]).phases[0]
    waiting = replace(_guardrail(passed(), Outcome.UNDECIDED), phase=free)
    assert read_signal(replace(waiting, dwelt=1799.0))[0] is Signal.STEP_NOT_DONE
    assert read_signal(replace(waiting, dwelt=1800.0))[0] is Signal.STEP_UNDECIDED


def test_a_weight_on_its_way_may_be_the_old_or_the_new_one() -> None:
    way = _status(passed(), intent=_intent("raise"))
    old = _seen(_at(way, 50), intent_fate="unknown")
    assert read_signal(old)[0] is Signal.NOT_IN_FORCE
    assert read_signal(_view(old, weight=300))[0] is Signal.NOT_IN_FORCE
    assert read_signal(_view(old, weight=100))[0] is Signal.DRIFT
    assert read_signal(_seen(old, intent_fate="written"))[0] is Signal.DRIFT


def test_a_deletion_that_nothing_waits_for_changes_nothing() -> None:
    assert read_signal(_seen(passed(), deleting=True))[0] is Signal.LAUNCH_PASSED


def test_a_breach_of_one_target_twice_is_of_one_target() -> None:
    twice = _also(_west_broken(passed()), judged(Outcome.FAIL, target="west", on_fail="rollback", alone=True))
    signal, reason = read_signal(twice)
    assert signal is Signal.WITHDRAWN
    assert str(reason).startswith("west is taken out of this run: ")


def test_a_target_that_was_taken_out_breaks_nothing_again() -> None:
    west = TargetStatus(name="west", withdrawn="errors")
    facts = _status(_west_broken(passed()), targets=(*passed().status.targets, west))
    assert read_signal(facts)[0] is not Signal.WITHDRAWN
    # The last one that is left takes the whole launch with it.
    last = _also(facts, judged(Outcome.FAIL, on_fail="rollback", alone=True))
    assert read_signal(last)[0] is Signal.BREACH


def test_a_breach_of_every_target_ends_the_run() -> None:
    both = _also(_west_broken(passed()), judged(Outcome.FAIL, on_fail="rollback", alone=True))
    assert read_signal(both)[0] is Signal.BREACH


def test_a_closed_window_keeps_nothing_from_happening_that_raises_nothing() -> None:
    closed = replace(passed(), opening=CLOSED)
    assert read_signal(closed)[0] is Signal.LAUNCH_PASSED
    assert read_signal(_gate_undecided(closed))[0] is Signal.GATE_OPEN
    assert read_signal(_coming(closed, REST))[0] is Signal.PHASE_ENTERED
    assert read_signal(_status(closed, intent=_intent("raise")))[0] is Signal.NOT_IN_FORCE
    assert read_signal(_returns(closed, versions={"v2": 3}))[0] is Signal.RETURN
    assert read_signal(_also(closed, judged(Outcome.FAIL, on_fail="rollback")))[0] is Signal.BREACH


def test_a_closed_window_is_told_of_when_people_have_done_what_is_theirs() -> None:
    closed = replace(passed(), opening=CLOSED)
    waits = _coming(closed, NEXT, start=NOW, preflight=_preflight("a"))
    assert read_signal(waits)[0] is Signal.PREFLIGHT_LATE
    signal, reason = read_signal(_status(waits, done=("next/a",)))
    assert signal is Signal.WINDOW_CLOSED
    assert str(reason) == "no raise now: outside the windows; opens Nov 14 22:14"


def test_a_launch_far_from_its_start_does_not_look_at_its_route() -> None:
    far = _view(_first(passed(), start=NOW + 60), problem="no such route", weight=20)
    assert read_signal(far)[0] is Signal.SCHEDULED
    assert read_signal(_seen(far, now=NOW + 60))[0] is Signal.ROUTE_UNUSABLE


def test_a_preflight_names_everything_that_it_waits_for() -> None:
    facts = _coming(passed(), NEXT, start=NOW + 60, preflight=_preflight("a", "b", approval="vp"))
    facts = _status(_seen(_view(facts, unwritable="forbidden"), alerting="no watchdog"), done=("next/b", "ramp/a"))
    reason = str(read_signal(facts)[1])
    assert reason == (
        "preflight of phase next waits for checklist: a (annotate done); "
        "the approval of vp (annotate approve=next/preflight); alerts would not arrive: no watchdog; "
        "target main: a dry run of the raise was refused: forbidden"
    )


def _granted(facts: Facts, place: str, **changes: Any) -> Facts:
    grant = {"phase": "ramp", "place": place, "step": facts.status.step, "by": "jo", "at": NOW - 1, **changes}
    return _status(facts, grant=Grant.model_validate(grant))


def test_a_step_is_left_by_hand_where_all_that_is_missing_is_proof_or_time_or_a_person() -> None:
    step = _status(passed(), step=1)
    for open_step in (_guardrail(step, Outcome.UNDECIDED), replace(step, dwelt=1.0), _approvals_wanted(step)):
        signal, reason = read_signal(_granted(open_step, "step"))
        assert (signal, str(reason)) == (Signal.STEP_DONE, "step 1 of 2 is left by hand by jo")
        assert read_signal(_granted(open_step, "last"))[0] is Signal.STEP_DONE
        for elsewhere in ({"step": 2}, {"phase": "next"}):
            assert read_signal(_granted(open_step, "step", **elsewhere))[0] is not Signal.STEP_DONE


def test_what_is_granted_passes_no_breach_no_hold_no_silence_and_no_window() -> None:
    step = _granted(_status(passed(), step=1), "step")
    stops: list[tuple[Facts, Signal]] = [
        (_also(step, judged(Outcome.FAIL, on_fail="rollback")), Signal.BREACH),
        (_also(step, judged(Outcome.FAIL)), Signal.HELD_BREACH),
        (replace(step, heard=Heard(hold=Override("hold", "d"))), Signal.HOLD_ASKED),
        (_also(step, judged(Outcome.NO_DATA, silent=71.0)), Signal.BLIND),
        (_also(step, judged(Outcome.NO_DATA, silent=1.0)), Signal.STEP_NOT_DONE),
        (replace(step, opening=CLOSED), Signal.WINDOW_CLOSED),
        (_view(step, weight=20), Signal.DRIFT),
    ]
    for facts, signal in stops:
        assert read_signal(facts)[0] is signal


def test_a_gate_is_passed_by_hand() -> None:
    waits = _gate(_gate_undecided(_phase(passed(), deliverables=("notes",))), approval="vp")
    waits = replace(_plan_with(waits, phases=(*PLAN.phases, NEXT)), following=NEXT)
    signal, reason = read_signal(_granted(waits, "gate"))
    assert (signal, str(reason)) == (Signal.PHASE_PASSED, "phase ramp is passed by hand by jo")
    assert read_signal(_granted(waits, "gate", phase="next"))[0] is not Signal.PHASE_PASSED
    assert read_signal(_granted(_also(waits, judged(Outcome.FAIL, on_fail="rollback")), "gate"))[0] is Signal.BREACH


def test_a_start_is_granted_by_hand() -> None:
    for waits in (
        _coming(passed(), NEXT, start=NOW + 60),
        _coming(passed(), NEXT, start=NOW, preflight=_preflight("a", approval="vp")),
        _coming(passed(), NEXT, start=NOW + 60, preflight=_preflight("a", late=MOVES)),
    ):
        assert read_signal(_granted(waits, "start", phase="next"))[0] is Signal.PHASE_BEGINS
        assert read_signal(_granted(waits, "start"))[0] is not Signal.PHASE_BEGINS
        blind = replace(waits, opening=CLOSED)
        assert read_signal(_granted(blind, "start", phase="next"))[0] is Signal.WINDOW_CLOSED


def test_only_a_person_or_a_time_is_named_by_a_wait() -> None:
    said = {signal: str(read_signal(change(passed()))[1]) for signal, name, change in WAYS if name != "moved"}
    assert said[Signal.GATE_APPROVAL] == (
        "gate of phase ramp has passed and waits for the approval of vp (annotate approve=ramp/gate)"
    )
    assert "waits for the approval of lead (annotate approve=ramp/" in said[Signal.STEP_APPROVAL]
    assert said[Signal.DELIVERABLES_MISSING] == "gate of phase ramp: not done yet: notes (annotate done)"
    late = _status(_coming(passed(), NEXT, start=NOW - 60), moves=(Move(phase="next", start=NOW + 60, why="late"),))
    assert str(read_signal(late)[1]) == "phase next begins Nov 14 22:14 (late)"


def _reason(facts: Facts) -> str:
    return str(read_signal(facts)[1])


Track: TypeAlias = Literal["canary", "stable"]


def _answered(facts: Facts, *readings: tuple[str, Track, Reading]) -> Facts:
    """What was answered of errors, by target and track."""
    return _seen(facts, readings={_subject(target, track): reading for target, track, reading in readings})


def _subject(target: str, track: Track) -> Subject:
    return Subject(series=ERRORS, namespace="prod", target=target, service=target, revision="v2", track=track)


ROWS = Reading(int(NOW) - 20, int(NOW) - 10, (Row(NOW - 10, 100.0, 0.0),), ())
NONE = Reading(int(NOW) - 20, int(NOW) - 10)
FAULT = Reading(int(NOW) - 20, int(NOW) - 10, problem="Prometheus did not answer")


def test_the_first_raise_wants_endpoints_and_the_data_of_its_own_stable_track() -> None:
    first = _at(passed(), 0)
    assert "the canary has no ready endpoint; wait" in _reason(_at(passed(), 0, canary_ready=0))
    assert "the canary has no EndpointSlice that is known; wait" in _reason(_at(passed(), 0, canary_ready=None))
    not_asked = "target main: Prometheus is asked for the stable track with the next tick"
    assert _reason(first) == not_asked
    assert _reason(_answered(first, ("main", "canary", ROWS), ("west", "stable", ROWS))) == not_asked
    silent = _answered(first, ("main", "stable", NONE), ("west", "stable", ROWS))
    assert _reason(silent) == "target main: errors of the stable track has no samples"
    broken = _answered(first, ("main", "stable", FAULT))
    assert _reason(broken) == "target main: errors of the stable track: Prometheus did not answer"
    assert read_signal(_answered(first, ("main", "stable", ROWS)))[0] is Signal.NEXT_TARGET


def test_a_wait_says_how_long_it_still_is_and_for_what() -> None:
    assert _reason(replace(passed(), dwelt=10.0)) == "step 2 of 2 at 30%: 20s to go, all criteria pass so far"
    assert _reason(_gate(passed(), at=NOW + 90)) == "gate of phase ramp opens in 1m30s"
    assert _reason(_gate(passed(), after=3600.0)) == "gate of phase ramp opens in 53m20s"
    pods = _returns(passed(), versions={"v2": 2, "v1": 1, "": 3})
    assert _reason(pods) == ("traffic goes back to stable when its pods run v2: target main: 3 of no version, 1 of v1")
