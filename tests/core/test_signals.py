"""Every rung of the ladder holds by itself, and of every two neighbours the upper one wins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeAlias

import pytest

from controller.core.evidence import Outcome, Verdict
from controller.core.observation import Observation, TargetView
from controller.core.overrides import Heard, Override
from controller.core.plan import Plan, standing
from controller.core.signals import LADDER, Facts, Judged, Rung, Signal, read_signal
from controller.core.status import Hold, Intent, Run, State, Status, TargetStatus
from controller.core.transitions import TRANSITIONS, Action
from tests.core.builders import NOW, criterion, invalid, plan, ramp

Ladder: TypeAlias = Sequence[tuple[Signal, Rung]]

GATED = ramp(gate={"criteria": [{"metric": "errors", "below": "1%"}]})
PLAN = plan(phases=[GATED])
QUIET = Heard(hold=None, rollback=None, retry=None, records=(), news=())


def judged(outcome: Outcome, *, gate: bool = False, **changes: Any) -> Judged:
    """A verdict that is fresh, and complete where it passes; ``silent`` is seconds without a row."""
    verdict = Verdict(
        criterion=criterion(key="gate" if gate else "guardrail"),
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
        heard=QUIET,
        weights={"main": 300},
        dwelt=40.0,
        in_phase=400.0,
    )


# One small change of the facts for each way in which a rung can come to hold. Each touches as little as it can, so that
# two of them can be laid over one another.


def _status(facts: Facts, **changes: Any) -> Facts:
    return replace(facts, status=facts.status.model_copy(update=changes))


def _view(facts: Facts, **changes: Any) -> Facts:
    views = tuple(replace(view, **changes) for view in facts.seen.targets)
    return replace(facts, seen=replace(facts.seen, targets=views))


def _at(facts: Facts, weight: int, **changes: Any) -> Facts:
    return replace(_view(facts, weight=weight, takes_traffic=weight > 0, **changes), weights={"main": weight})


def _also(facts: Facts, item: Judged) -> Facts:
    return replace(facts, judged=(*facts.judged, item))


def _guardrail(facts: Facts, outcome: Outcome) -> Facts:
    return replace(facts, judged=(judged(outcome), *(item for item in facts.judged if item.gate)))


def _gate(facts: Facts, *items: Judged) -> Facts:
    return replace(facts, judged=(*(item for item in facts.judged if not item.gate), *items))


def _planned(facts: Facts, changed: Plan) -> Facts:
    return replace(facts, plan=changed, seen=replace(facts.seen, plan=changed))


def _gate_undecided(facts: Facts) -> Facts:
    return _gate(facts, judged(Outcome.UNDECIDED, gate=True))


def _gate_rolls_back(facts: Facts) -> Facts:
    strict = plan(phases=[{**GATED, "gate": {**GATED["gate"], "onUndecided": "rollback"}}])
    return replace(_gate_undecided(facts), phase=strict.phases[0], dwelt=90.0)


def _intent(kind: str) -> Intent:
    return Intent.model_validate(
        {"id": "1-7", "kind": kind, "phase": "ramp", "step": 2, "weights": {"main": 300}, "epoch": 1, "at": NOW - 3}
    )


def _edited(facts: Facts) -> Facts:
    other = replace(PLAN.phases[0], digest="another")
    return replace(facts, seen=replace(facts.seen, running=replace(PLAN, phases=(other,))))


NEW = replace(PLAN, revision="v3")
TWO_PHASES = plan(phases=[GATED, ramp("next", steps=[{"weight": 100}])])


def _beside(facts: Facts, **changes: Any) -> Facts:
    """A second target, which only the next phase moves."""
    both = (PLAN.targets[0], replace(PLAN.targets[0], name="west"))
    following = replace(TWO_PHASES.phases[1], targets=("main", "west"))
    view = TargetView("west", **{"weight": 0, "accepted": True, "canary_ready": 2, "stable_ready": 2, **changes})
    facts = _planned(facts, replace(PLAN, targets=both, phases=(*PLAN.phases, following)))
    return replace(facts, seen=replace(facts.seen, targets=(*facts.seen.targets, view)))


Change: TypeAlias = Callable[[Facts], Facts]

WAYS: list[tuple[Signal, str, Change]] = [
    (
        Signal.ROLLBACK_ASKED,
        "annotation",
        lambda facts: replace(facts, heard=replace(QUIET, rollback=Override("rollback", "d"), hold=facts.heard.hold)),
    ),
    (Signal.BREACH, "fail", lambda facts: _also(facts, judged(Outcome.FAIL, on_fail="rollback"))),
    (
        Signal.BREACH,
        "silence that rolls back",
        lambda facts: _also(facts, judged(Outcome.NO_DATA, silent=99.0, on_no_data="rollback")),
    ),
    (
        Signal.BREACH,
        "gate that rolls back",
        lambda facts: _gate(facts, judged(Outcome.FAIL, gate=True, on_fail="rollback")),
    ),
    (Signal.BREACH, "gate undecided too long", _gate_rolls_back),
    (
        Signal.BREACH,
        "while it is watched after success",
        lambda facts: _also(
            _status(facts, state=State.SUCCEEDED, ended_at=NOW - 1), judged(Outcome.FAIL, on_fail="rollback")
        ),
    ),
    (Signal.LOWERING, "open", lambda facts: _status(facts, intent=_intent("retreat"))),
    (
        Signal.PLAN_INVALID,
        "faults",
        # The plan that was valid before stays in the facts, to lay this over a change of revision.
        lambda facts: replace(facts, seen=replace(facts.seen, plan=invalid())),
    ),
    (Signal.REVISION_CHANGED, "with traffic", lambda facts: _at(_planned(facts, NEW), 300)),
    (Signal.NEW_REVISION, "without traffic", lambda facts: _at(_planned(facts, NEW), 0)),
    (
        Signal.NEW_REVISION,
        "after success, the other way round",
        lambda facts: _status(
            _planned(
                facts,
                replace(NEW, targets=tuple(replace(t, stable=t.canary, canary=t.stable) for t in NEW.targets)),
            ),
            state=State.SUCCEEDED,
            ended_at=NOW - 9,
        ),
    ),
    (
        Signal.NOT_SWAPPED,
        "after success",
        lambda facts: _status(_planned(facts, NEW), state=State.SUCCEEDED, ended_at=NOW - 9),
    ),
    (Signal.RUN_OVER, "succeeded", lambda facts: _status(facts, state=State.SUCCEEDED, ended_at=NOW - 9)),
    (Signal.RUN_OVER, "rolled back", lambda facts: _status(facts, state=State.ROLLED_BACK)),
    (Signal.PLAN_CHANGED, "running phase edited", _edited),
    (
        Signal.PLAN_CHANGED,
        "running phase gone",
        lambda facts: _planned(facts, replace(PLAN, phases=(replace(PLAN.phases[0], name="other"),))),
    ),
    (
        Signal.PLAN_CHANGED,
        "standing unreadable",
        lambda facts: replace(facts, seen=replace(facts.seen, running=None)),
    ),
    (
        Signal.ROUTE_CLAIMED,
        "by an older launch",
        lambda facts: replace(facts, seen=replace(facts.seen, claimed_by="prod/older")),
    ),
    (Signal.ROUTE_UNUSABLE, "problem", lambda facts: _view(facts, problem="no such route")),
    (Signal.DRIFT, "another weight", lambda facts: _view(facts, weight=310)),
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
    (Signal.BLIND, "silence", lambda facts: _also(facts, judged(Outcome.NO_DATA, silent=71.0))),
    (Signal.STARTING, "no run", lambda facts: _status(facts, run=None)),
    (Signal.NOT_READY, "no endpoint", lambda facts: _at(facts, 0, canary_ready=0)),
    (Signal.NOT_READY, "unknown endpoints", lambda facts: _at(facts, 0, canary_ready=None)),
    (Signal.NOT_READY, "stable not asked for", lambda facts: _at(facts, 0)),
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
    (Signal.STEP_DONE, "passed", lambda facts: _status(facts, step=1)),
    (Signal.STEP_DONE, "phase begins", lambda facts: _status(facts, step=0)),
    (Signal.GATE_FAILED, "fail", lambda facts: _also(facts, judged(Outcome.FAIL, gate=True))),
    (Signal.GATE_UNDECIDED, "too long", lambda facts: replace(_gate_undecided(facts), dwelt=90.0)),
    (Signal.GATE_OPEN, "undecided", _gate_undecided),
    (
        Signal.GATE_OPEN,
        "passed since the raise alone",
        lambda facts: _gate(facts, judged(Outcome.PASS, gate=True, phase_n=500.0)),
    ),
    (
        Signal.GATE_OPEN,
        "before its time",
        lambda facts: replace(
            facts, phase=plan(phases=[{**GATED, "gate": {**GATED["gate"], "after": "1h"}}]).phases[0]
        ),
    ),
    (Signal.NEXT_NOT_READY, "endpoints", lambda facts: _beside(facts, canary_ready=0)),
    (Signal.NEXT_NOT_READY, "stable not asked for", _beside),
    (Signal.NEXT_NOT_READY, "drift", lambda facts: _beside(facts, weight=20)),
    (Signal.NEXT_NOT_READY, "problem", lambda facts: _beside(facts, problem="no such route")),
    (Signal.PHASE_PASSED, "another follows", lambda facts: _planned(facts, TWO_PHASES)),
    (Signal.LAUNCH_PASSED, "nothing else", lambda facts: facts),
]

# Two rungs whose conditions contradict one another cannot meet.
CANNOT_MEET = {
    (Signal.NOT_READY, Signal.NOT_IN_FORCE): "one wants an open intent, the other none",
    (Signal.STEP_DONE, Signal.GATE_FAILED): "one wants the last step, the other one before it",
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
    lowers = [place for place, signal in enumerate(ORDER) if _does(signal, Action.RETREAT)]
    # A plan that cannot be read has no revision that could have changed.
    stops = [place for place, signal in enumerate(ORDER) if _stops(signal) and signal is not Signal.PLAN_INVALID]
    assert max(lowers) < min(stops)
    first_raise = min(place for place, signal in enumerate(ORDER) if _does(signal, Action.RAISE, Action.SUCCEED))
    at_each_tick = [place for place in stops if ORDER[place] not in (Signal.STEP_UNDECIDED, Signal.GATE_FAILED)]
    at_each_tick = [place for place in at_each_tick if ORDER[place] is not Signal.GATE_UNDECIDED]
    assert max(at_each_tick) < first_raise
    # Undecided and gate stand right above the raise that they keep from happening.
    assert ORDER.index(Signal.STEP_UNDECIDED) < ORDER.index(Signal.STEP_DONE)
    assert ORDER.index(Signal.GATE_UNDECIDED) < ORDER.index(Signal.PHASE_PASSED)
    assert ORDER.index(Signal.GATE_FAILED) < ORDER.index(Signal.PHASE_PASSED)


def swapped(upper: Signal, lower: Signal) -> Ladder:
    """The ladder with two rungs changed for one another."""
    rungs, other = dict(LADDER), {upper: lower, lower: upper}
    return [(other.get(signal, signal), rungs[other.get(signal, signal)]) for signal, _ in LADDER]


def without(signal: Signal) -> Ladder:
    """The ladder with a rung taken out."""
    return [rung for rung in LADDER if rung[0] is not signal]


def test_the_ladder_has_no_fault() -> None:
    assert list(faults_of(LADDER)) == []


@pytest.mark.parametrize("pair", [pair for pair in pairwise(ORDER) if pair not in CANNOT_MEET], ids=str)
def test_any_two_neighbours_swapped_are_noticed(pair: tuple[Signal, Signal]) -> None:
    assert next(faults_of(swapped(*pair)))


@pytest.mark.parametrize("signal", list(Signal), ids=str)
def test_any_rung_left_out_is_noticed(signal: Signal) -> None:
    assert next(faults_of(without(signal)))


# Facts that do not make a rung hold


def test_a_guardrail_that_is_not_enforced_has_no_consequence() -> None:
    shown = judged(Outcome.FAIL, enforce=False, on_fail="rollback")
    assert read_signal(_also(passed(), shown))[0] is Signal.LAUNCH_PASSED


def test_a_silence_has_no_consequence_before_its_time() -> None:
    facts = _also(passed(), judged(Outcome.NO_DATA, silent=70.0))
    assert read_signal(facts)[0] is Signal.STEP_NOT_DONE


def test_a_gate_has_no_consequence_before_it_is_due() -> None:
    failed = _gate(passed(), judged(Outcome.FAIL, gate=True, on_fail="rollback"))
    assert read_signal(replace(failed, dwelt=29.0))[0] is Signal.STEP_NOT_DONE
    assert read_signal(_status(failed, step=1))[0] is Signal.STEP_DONE


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
    old = replace(_at(way, 50), seen=replace(_at(way, 50).seen, intent_fate="unknown"))
    assert read_signal(old)[0] is Signal.NOT_IN_FORCE
    assert read_signal(_view(old, weight=300))[0] is Signal.NOT_IN_FORCE
    assert read_signal(_view(old, weight=100))[0] is Signal.DRIFT
    written = replace(old, seen=replace(old.seen, intent_fate="written"))
    assert read_signal(written)[0] is Signal.DRIFT
