"""Status as it is stored and read: a decision with its evidence, conditions and words."""

from __future__ import annotations

import json
from typing import Any

from controller.core.bookkeeping import lowered
from controller.core.decide import LONGEST_MESSAGE, Decision
from controller.core.evidence import NOT_ASKED, Outcome, Verdict
from controller.core.fold_text import encode
from controller.core.status import Condition, CriterionStatus, DecisionRecord, State, Status, write_status
from controller.core.units import format_count, format_weight
from controller.core.words import measured, sentence

KEPT_DECISIONS = 10
LONGEST_RECORD = 256
LARGEST_STATUS = 32 * 1024
"""Bytes of JSON."""
FEW_TARGETS = 8


def with_evidence(decision: Decision) -> Status:
    """The decision's status with its verdicts and folds written out, as it is stored."""
    shown: dict[tuple[str, str], CriterionStatus] = {}
    for item in decision.verdicts:
        shown[item.verdict.target, item.verdict.criterion.key] = scored(item.verdict)
    status, message = decision.status, decision.message
    if all(item.verdict.problem == NOT_ASKED for item in decision.verdicts):
        shown.clear()
    update: dict[str, Any] = {
        "message": message,
        "criteria": tuple(shown.values()) or status.criteria,
        "folds": {key: encode(fold) for key, fold in decision.folds.items()},
    }
    if decision.decisive:
        record = DecisionRecord(
            id=decision.id,
            at=decision.at,
            signal=decision.signal.value,
            state=status.state.value,
            phase=status.phase,
            step=status.step,
            weights=_record_weights(status),
            message=message[:LONGEST_RECORD],
        )
        update["sequence"] = status.sequence + 1
        update["decisions"] = (*status.decisions, record)[-KEPT_DECISIONS:]
    return _bounded(presented(status.model_copy(update=update), decision.at))


def scored(verdict: Verdict) -> CriterionStatus:
    """What a verdict found: value, limit, counts, and one sentence."""
    return CriterionStatus(
        target=verdict.target,
        criterion=verdict.criterion.key,
        verdict=verdict.outcome.value,
        value=measured(verdict),
        limit=verdict.criterion.limit_text,
        requests=format_count(verdict.n),
        bad=format_count(verdict.x),
        sentence=sentence(verdict),
        as_of=float(verdict.as_of) if verdict.as_of else None,
    )


def _record_weights(status: Status) -> dict[str, int]:
    """The weights that the decision sets; where it sets none, those that stand, if they are few."""
    if status.intent is not None:
        return status.intent.weights
    few = status.targets if len(status.targets) <= FEW_TARGETS else ()
    return {target.name: target.weight for target in few}


def _bounded(status: Status) -> Status:
    """The status within its bound: what people can read elsewhere (metrics, logs) goes first, never the folds."""
    failing = tuple(item for item in status.criteria if item.verdict != Outcome.PASS.value)
    reductions: tuple[dict[str, Any], ...] = (
        {
            "criteria": tuple(
                item if item in failing else item.model_copy(update={"sentence": ""}) for item in status.criteria
            )
        },
        {"decisions": status.decisions[-3:], "checkpoints": status.checkpoints[-FEW_TARGETS:]},
        {"criteria": tuple(item if item in failing else _bare(item) for item in status.criteria)},
        {"decisions": status.decisions[-1:], "checkpoints": status.checkpoints[-1:]},
        {"criteria": failing[:FEW_TARGETS]},
        {"criteria": failing[:1]},
    )
    if len(status.folds) <= FEW_TARGETS:
        return status
    for reduction in reductions:
        if len(json.dumps(write_status(status), separators=(",", ":"))) <= LARGEST_STATUS:
            break
        status = status.model_copy(update=reduction)
    return status


def _bare(item: CriterionStatus) -> CriterionStatus:
    """The verdict alone, and as of when."""
    return item.model_copy(update=dict.fromkeys(("value", "limit", "requests", "bad", "sentence"), ""))


def retreated(status: Status, now: float) -> Status:
    """The status after every weight of the open intent to lower was seen where it should be."""
    return presented(lowered(status, now), now)


def presented(status: Status, now: float) -> Status:
    """The status with the parts that are only there to be read."""
    return status.model_copy(
        update={
            "weight": _weights_in_words(status),
            "next": _next(status),
            "conditions": _conditions(status, now, status.observed_generation),
        }
    )


def _weights_in_words(status: Status) -> str:
    if len(status.targets) == 1:
        return format_weight(status.targets[0].weight)
    return ", ".join(f"{target.name} {format_weight(target.weight)}" for target in status.targets)


def _next(status: Status) -> str:
    """What comes next, in a few words."""
    if status.intent is not None:
        listed = ", ".join(f"{name} {format_weight(weight)}" for name, weight in status.intent.weights.items())
        return f"{status.intent.kind} to {listed}"
    if status.hold is not None:
        return "retry, when the cause is gone"
    words = {
        State.ROLLED_BACK: "a new revision, or retry",
        State.SUCCEEDED: "a new revision",
        State.INVALID: "a plan without faults",
        State.HELD: "goes on when the cause is gone",
        State.AWAITING_APPROVAL: "goes on when what is asked for is given",
    }
    return words.get(status.state) or _next_place(status)


def _next_place(status: Status) -> str:
    if status.run is None or not status.phase:
        return "the first phase"
    if status.phase_started_at is None:
        return f"phase {status.phase}"
    if status.gate is not None and status.gate.passed_at is not None:
        return f"what follows phase {status.phase}"
    phase: dict[str, Any] = (status.run.stands_on.get("phases") or [{}])[0]
    steps = phase.get("steps") or ()
    if status.step < len(steps):
        return f"phase {status.phase}, step {status.step + 1} of {len(steps)}"
    return f"gate of phase {status.phase}" if phase.get("gate") else f"the end of phase {status.phase}"


def _conditions(status: Status, now: float, generation: int) -> tuple[Condition, ...]:
    """Conditions for ``kubectl wait`` and kstatus: Ready is true when nothing is left to do."""
    stalled = status.state in (State.HELD, State.INVALID, State.ROLLED_BACK)
    over = status.state in (State.SUCCEEDED, State.ROLLED_BACK)
    wanted = {
        "Ready": status.state is State.SUCCEEDED,
        "Reconciling": not over and not stalled,
        "Stalled": stalled,
        "Succeeded": status.state is State.SUCCEEDED,
    }
    before = {condition.type: condition for condition in status.conditions}
    made = []
    for kind, truth in wanted.items():
        value = "True" if truth else "False"
        old = before.get(kind)
        since = old.last_transition_time if old is not None and old.status == value else now
        made.append(
            Condition.model_validate(
                {
                    "type": kind,
                    "status": value,
                    "reason": status.reason or "Pending",
                    # What is asked for is Ready's; the others say the same, and status has a bound.
                    "message": status.message[: LONGEST_MESSAGE if kind == "Ready" else LONGEST_RECORD],
                    "last_transition_time": since,
                    "observed_generation": generation,
                }
            )
        )
    return tuple(made)
