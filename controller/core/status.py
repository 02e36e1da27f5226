"""What a Launch's status holds: where it stands, why, and what it needs to go on after a restart.

All state that matters between two ticks is here (or is the route's weights); memory only holds what can be
computed again from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError

from controller.core.spec import Model
from controller.core.units import FULL_WEIGHT, format_instant, format_weight, parse_instant


def _weight(value: object) -> int:
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.endswith("%"):
        weight = float(value[:-1]) * 10
        if 0 <= weight <= FULL_WEIGHT:
            return round(weight)
    raise ValueError("not a weight such as 5%")


StoredInstant = Annotated[
    float,
    BeforeValidator(lambda value: value if isinstance(value, float) else parse_instant(value)),
    PlainSerializer(format_instant, return_type=str),
]
StoredWeight = Annotated[int, BeforeValidator(_weight), PlainSerializer(format_weight, return_type=str)]


class State(StrEnum):
    """The states of a launch that this engine knows."""

    PENDING = "Pending"
    SCHEDULED = "Scheduled"
    AWAITING_APPROVAL = "AwaitingApproval"
    PROGRESSING = "Progressing"
    JUDGING = "Judging"
    HELD = "Held"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"
    SUCCEEDED = "Succeeded"
    INVALID = "Invalid"


UNDER_WAY = (State.PROGRESSING, State.JUDGING, State.HELD, State.SCHEDULED, State.AWAITING_APPROVAL)
"""The states of a run that may go on."""


class Intent(Model):
    """A change of weights that was decided and is not known to be done.

    A ``retreat`` ends the run, a ``withdraw`` takes single targets out of it, a ``return`` gives the traffic back to
    the stable Service after success: all three lower.
    """

    id: str
    kind: Literal["raise", "retreat", "withdraw", "return"]
    phase: str
    step: int
    weights: dict[str, StoredWeight]
    epoch: int
    at: StoredInstant


class TargetStatus(Model):
    """One traffic split: the weight that is known to be set, and since when it was in force (absent: not yet).

    ``withdrawn`` is why it was taken out of this run; empty: it was not.
    """

    name: str
    weight: StoredWeight = 0
    in_force_at: StoredInstant | None = None
    withdrawn: str = ""


class Run(Model):
    """What this run stands on, kept so that an edited plan changes nothing by surprise.

    ``stands_on`` is a Launch spec reduced to the targets, the metrics and the running phase. ``templates`` are the pod
    templates of the workloads, by target. ``passed`` are phases that need not be run again.
    """

    number: int
    revision: str
    started_at: StoredInstant
    stands_on: dict[str, Any]
    templates: dict[str, str] = Field(default_factory=dict)
    passed: tuple[str, ...] = ()


class Hold(Model):
    """A hold that lasts until somebody says otherwise."""

    reason: str
    message: str
    since: StoredInstant


class GateStatus(Model):
    """The running phase's gate: when it is judged if that was moved, how often by what, and since when it is passed."""

    due_at: StoredInstant | None = None
    used: dict[str, int] = Field(default_factory=dict)
    passed_at: StoredInstant | None = None


class Move(Model):
    """A phase that begins at another time than the plan says: its new start, and by how many seconds its times moved.

    ``times`` is how often it was moved because it was not ready.
    """

    phase: str
    start: StoredInstant | None = None
    by: float = 0.0
    times: int = 0
    why: str = ""


class ApprovalRecord(Model):
    """An approval that is in force: of what (``ramp/gate``), by whom. ``proven``: everything measured had passed."""

    of: str
    by: str = ""
    at: StoredInstant
    proven: bool = False


class Grant(Model):
    """What may be passed by hand, once: the wait for the start, a step, a gate, or every step up to the last."""

    phase: str
    place: Literal["start", "step", "gate", "last"]
    step: int = 0
    by: str = ""
    at: StoredInstant


class CheckpointScore(Model):
    """What a checkpoint found, as three numbers of criteria; all of them 0: it was missed, or nothing was judged."""

    phase: str
    after: str
    taken_at: StoredInstant
    passed: int
    undecided: int
    failed: int


class PhaseSummary(Model):
    """One phase of the run that began.

    ``holds`` is how often it was held, waits for people and what its gate said left out; ``forgiven`` of them were
    before the evidence began anew.
    """

    name: str
    started_at: StoredInstant
    passed_at: StoredInstant | None = None
    holds: int = 0
    forgiven: int = 0


class CriterionStatus(Model):
    """One criterion of one target, as of the last write."""

    target: str
    criterion: str
    verdict: str
    value: str = ""
    limit: str = ""
    requests: str = ""
    bad: str = ""
    sentence: str = ""
    as_of: StoredInstant | None = None


class OverrideRecord(Model):
    """One override that was seen: ``value`` is a digest of its text; ``present`` ends when it was seen absent."""

    verb: str
    value: str
    run: int
    outcome: Literal["accepted", "refused", "expired"]
    message: str
    by: str = ""
    at: StoredInstant
    present: bool = True


class DecisionRecord(Model):
    """One of the last decisions."""

    id: str
    at: StoredInstant
    signal: str
    state: str
    phase: str
    step: int
    weights: dict[str, StoredWeight]
    message: str


class Alarm(Model):
    """What people are told of for as long as it lasts, and since when; ``reason`` is a signal, or the approval wanted.

    ``decision`` is the id of the newest recorded decision when it began. Another reason is another alarm: it begins anew.
    """

    kind: str
    target: str = ""
    role: str = ""
    reason: str = ""
    message: str = ""
    since: StoredInstant
    decision: str = ""
    acknowledged_at: StoredInstant | None = None
    acknowledged_by: str = ""


class Condition(Model):
    """A Kubernetes condition."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    last_transition_time: StoredInstant
    observed_generation: int


class Bursts(Model):
    """How much more than by chance the stable tracks' bad events vary, by target and metric, as of when it was measured.

    Only what is above 1. The evidence of what begins from then on is divided by it.
    """

    at: StoredInstant
    factors: dict[str, str] = Field(default_factory=dict)


class Status(Model):
    """The whole status. ``step`` counts from 1; 0 is before the phase's first raise. ``epoch`` fences writers.

    ``window`` says whether traffic may be raised at all now, why, and until when; empty where the plan has no rule.
    ``drifts`` are the newest instants at which a route began to have another weight than the launch left it at.
    """

    observed_generation: int = 0
    state: State = State.PENDING
    reason: str = ""
    message: str = ""
    next: str = ""
    weight: str = ""
    window: str = ""
    epoch: int = 0
    sequence: int = 0
    run: Run | None = None
    phase: str = ""
    phase_started_at: StoredInstant | None = None
    step: int = 0
    ended_at: StoredInstant | None = None
    targets: tuple[TargetStatus, ...] = ()
    intent: Intent | None = None
    hold: Hold | None = None
    gate: GateStatus | None = None
    grant: Grant | None = None
    moves: tuple[Move, ...] = ()
    approvals: tuple[ApprovalRecord, ...] = ()
    done: tuple[str, ...] = ()
    checkpoints_taken: int = 0
    checkpoints: tuple[CheckpointScore, ...] = ()
    phases: tuple[PhaseSummary, ...] = ()
    criteria: tuple[CriterionStatus, ...] = ()
    folds: dict[str, str] = Field(default_factory=dict)
    bursts: Bursts | None = None
    overrides: tuple[OverrideRecord, ...] = ()
    decisions: tuple[DecisionRecord, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    drifts: tuple[StoredInstant, ...] = ()
    conditions: tuple[Condition, ...] = ()


class UnreadableStatusError(Exception):
    """The status is not one that this version can have written; the message names the first fault."""


def read_status(document: Mapping[str, Any]) -> Status:
    """The typed status of a Launch; an empty document is a launch that was never looked at.

    Raises:
        UnreadableStatusError: a field is unknown or has a value of the wrong form.
    """
    try:
        return Status.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise UnreadableStatusError(
            f"status.{path}: {first['msg']}; remove the status of the launch to start it again from the beginning"
        ) from error


def write_status(status: Status) -> dict[str, Any]:
    """The status as JSON-ready data, without empty fields."""
    document: dict[str, Any] = status.model_dump(by_alias=True, mode="json", exclude_none=True)
    for entry in document["criteria"]:
        for name in ("value", "limit", "requests", "bad", "sentence"):
            if entry[name] == "":
                del entry[name]
    return {name: value for name, value in document.items() if value not in ("", [], {}, ())}
