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
    """The decision that it carries out."""
    kind: Literal["raise", "retreat", "withdraw", "return"]
    """`raise`, `retreat`, `withdraw` or `return`; the last three lower."""
    phase: str
    """The phase that it belongs to."""
    step: int
    """The step that it leads to, counted from 1."""
    weights: dict[str, StoredWeight]
    """The canary's weight that each target is to have."""
    epoch: int
    """The writer that decided it; a later one takes no write of an earlier one for its own."""
    at: StoredInstant
    """When it was decided."""


class TargetStatus(Model):
    """One traffic split: the weight that is known to be set, and since when it was in force (absent: not yet).

    ``withdrawn`` is why it was taken out of this run; empty: it was not.
    """

    name: str
    """The target's name in the plan."""
    weight: StoredWeight = 0
    """The canary's weight that is known to be set."""
    in_force_at: StoredInstant | None = None
    """Since when every gateway has it in force; absent until then."""
    withdrawn: str = ""
    """Why it was taken out of this run; empty where it was not."""


class Run(Model):
    """What this run stands on, kept so that an edited plan changes nothing by surprise.

    ``stands_on`` is a Launch spec reduced to the targets, the metrics and the running phase. ``templates`` are the pod
    templates of the workloads, by target. ``passed`` are phases that need not be run again.
    """

    number: int
    """Counts the runs of this launch, from 1."""
    revision: str
    """The revision that this run launches."""
    started_at: StoredInstant
    """When it began."""
    stands_on: dict[str, Any]
    """The plan that it stands on: targets, metrics and the running phase, as they were when it began."""
    templates: dict[str, str] = Field(default_factory=dict)
    """What the pods of each target's workload were made from, as a digest."""
    passed: tuple[str, ...] = ()
    """Phases that need not be run again."""


class Hold(Model):
    """A hold that lasts until somebody says otherwise."""

    reason: str
    """The signal that holds."""
    message: str
    """Why, in a sentence."""
    since: StoredInstant
    """Since when."""


class GateStatus(Model):
    """The running phase's gate: when it is judged if that was moved, how often by what, and since when it is passed."""

    due_at: StoredInstant | None = None
    """When it is judged, where that was moved."""
    used: dict[str, int] = Field(default_factory=dict)
    """How often an outcome of the gate was used up: extensions, by what called for them."""
    passed_at: StoredInstant | None = None
    """When it passed."""


class Move(Model):
    """A phase that begins at another time than the plan says: its new start, and by how many seconds its times moved.

    ``times`` is how often it was moved because it was not ready.
    """

    phase: str
    """The phase that was moved."""
    start: StoredInstant | None = None
    """When it begins now."""
    by: float = 0.0
    """By how many seconds its times moved."""
    times: int = 0
    """How often it was moved because it was not ready."""
    why: str = ""
    """Who moved it and why, or what made it late."""


class ApprovalRecord(Model):
    """An approval that is in force: of what (``ramp/gate``), by whom. ``proven``: everything measured had passed."""

    of: str
    """What was approved, such as `ramp/gate`."""
    by: str = ""
    """Who approved, as far as it was said."""
    at: StoredInstant
    """When."""
    proven: bool = False
    """Whether everything measured had passed by then."""


class Grant(Model):
    """What may be passed by hand, once: the wait for the start, a step, a gate, or every step up to the last."""

    phase: str
    """The phase that may go on."""
    place: Literal["start", "step", "gate", "last"]
    """What may be passed: the wait for its `start`, its `step`, its `gate`, or every step up to the `last`."""
    step: int = 0
    """The step that may be left, counted from 1."""
    by: str = ""
    """Who granted it, as far as it was said."""
    at: StoredInstant
    """When."""


class CheckpointScore(Model):
    """What a checkpoint found, as three numbers of criteria; all of them 0: it was missed, or nothing was judged."""

    phase: str
    """The phase that it was taken in."""
    after: str
    """How long after the phase's start it was due."""
    taken_at: StoredInstant
    """When it was taken."""
    passed: int
    """How many criteria passed."""
    undecided: int
    """How many were undecided."""
    failed: int
    """How many failed."""


class PhaseSummary(Model):
    """One phase of the run that began.

    ``holds`` is how often it was held, waits for people and what its gate said left out; ``forgiven`` of them were
    before the evidence began anew.
    """

    name: str
    """The phase's name."""
    started_at: StoredInstant
    """When it began."""
    passed_at: StoredInstant | None = None
    """When it passed; absent until then."""
    holds: int = 0
    """How often it was held."""
    forgiven: int = 0
    """How many of those holds were before its evidence began anew."""


class CriterionStatus(Model):
    """One criterion of one target, as of the last write."""

    target: str
    """The target that was judged."""
    criterion: str
    """What was judged: metric and limit, as a key."""
    verdict: str
    """`pass`, `fail`, `undecided` or `no data`, in the words of the verdict."""
    value: str = ""
    """What was measured."""
    limit: str = ""
    """What it was measured against."""
    requests: str = ""
    """How many events it stands on."""
    bad: str = ""
    """How many of them were bad."""
    sentence: str = ""
    """All of that in one sentence."""
    as_of: StoredInstant | None = None
    """As of when."""


class OverrideRecord(Model):
    """One override that was seen: ``value`` is a digest of its text; ``present`` ends when it was seen absent."""

    verb: str
    """What was said: the annotation's name without its prefix."""
    value: str
    """A digest of the annotation's text."""
    run: int
    """The run in which it was heard."""
    outcome: Literal["accepted", "refused", "expired"]
    """`accepted`, `refused` or `expired`."""
    message: str
    """Why it was refused, or what it was about."""
    by: str = ""
    """Who said it, as far as it was said."""
    at: StoredInstant
    """When it was heard."""
    present: bool = True
    """Whether the annotation is still there."""


class DecisionRecord(Model):
    """One of the last decisions."""

    id: str
    """Its id, as logs and events name it."""
    at: StoredInstant
    """When it was made."""
    signal: str
    """What it was made on."""
    state: str
    """The state that it led to."""
    phase: str
    """The phase at that time."""
    step: int
    """The step at that time."""
    weights: dict[str, StoredWeight]
    """The canary's weights that it set, or that stood."""
    message: str
    """It in a sentence."""


class Alarm(Model):
    """What people are told of for as long as it lasts, and since when; ``reason`` is a signal, or the approval wanted.

    ``decision`` is the id of the newest recorded decision when it began. Another reason is another alarm: it begins anew.
    """

    kind: str
    """What kind of alarm it is."""
    target: str = ""
    """The target that it is about; empty for all."""
    role: str = ""
    """The role that is told."""
    reason: str = ""
    """The signal that it lasts for, or the approval that is wanted."""
    message: str = ""
    """It in a sentence."""
    since: StoredInstant
    """Since when it lasts."""
    decision: str = ""
    """The newest recorded decision when it began."""
    acknowledged_at: StoredInstant | None = None
    """When somebody answered; absent until then."""
    acknowledged_by: str = ""
    """Who answered, as far as it was said."""


class Condition(Model):
    """A Kubernetes condition."""

    type: str
    """`Ready`, `Reconciling`, `Stalled` or `Succeeded`."""
    status: Literal["True", "False", "Unknown"]
    """`True`, `False` or `Unknown`."""
    reason: str
    """The newest signal, in one word."""
    message: str
    """Why, in a sentence."""
    last_transition_time: StoredInstant
    """When its status changed last."""
    observed_generation: int
    """The generation of the launch that it is about."""


class Bursts(Model):
    """How much more than by chance the stable tracks' bad events vary, by target and metric, as of when it was measured.

    Only what is above 1. The evidence of what begins from then on is divided by it.
    """

    at: StoredInstant
    """As of when it was measured."""
    factors: dict[str, str] = Field(default_factory=dict)
    """The factor of each target and metric; those of 1 are left out."""


class Status(Model):
    """The whole status. ``step`` counts from 1; 0 is before the phase's first raise. ``epoch`` fences writers.

    ``window`` says whether traffic may be raised at all now, why, and until when; empty where the plan has no rule.
    ``drifts`` are the newest instants at which a route began to have another weight than the launch left it at.
    """

    observed_generation: int = 0
    """The newest generation of the launch that was looked at."""
    state: State = State.PENDING
    """Where it stands: Pending, Scheduled, AwaitingApproval, Progressing, Judging, Held, RollingBack, RolledBack,
    Succeeded or Invalid."""
    reason: str = ""
    """What put it there: the newest signal, in one word."""
    message: str = ""
    """Why it is there, in a sentence."""
    next: str = ""
    """What comes next."""
    weight: str = ""
    """The canary's weight, or that of each target."""
    window: str = ""
    """Whether traffic may be raised at all now, why, and until when; empty where the plan has no rule."""
    epoch: int = 0
    """Counts the controllers that took this launch over; it keeps a late write of an earlier one out."""
    sequence: int = 0
    """Counts the recorded decisions."""
    run: Run | None = None
    """What the newest run stands on; absent before the first."""
    phase: str = ""
    """The running phase."""
    phase_started_at: StoredInstant | None = None
    """When it began; absent before that."""
    step: int = 0
    """The step that it is at, counted from 1; 0 is before its first raise."""
    ended_at: StoredInstant | None = None
    """When the run ended; absent until then."""
    targets: tuple[TargetStatus, ...] = ()
    """The weight of each target, and since when it is in force."""
    intent: Intent | None = None
    """A change of weights that was decided and is not known to be done."""
    hold: Hold | None = None
    """What holds it until somebody says otherwise."""
    gate: GateStatus | None = None
    """The running phase's gate."""
    grant: Grant | None = None
    """What may be passed by hand, once."""
    moves: tuple[Move, ...] = ()
    """Phases that begin at another time than the plan says."""
    approvals: tuple[ApprovalRecord, ...] = ()
    """Approvals that are in force."""
    done: tuple[str, ...] = ()
    """What was ticked off, as `PHASE/ITEM`."""
    checkpoints_taken: int = 0
    """How many checkpoints of the running phase are over."""
    checkpoints: tuple[CheckpointScore, ...] = ()
    """What the newest checkpoints found."""
    phases: tuple[PhaseSummary, ...] = ()
    """The phases of this run that began."""
    criteria: tuple[CriterionStatus, ...] = ()
    """Each criterion of each target, as of the last write."""
    folds: dict[str, str] = Field(default_factory=dict)
    """The evidence of each criterion so far, for the controller alone."""
    bursts: Bursts | None = None
    """How much more than by chance the stable tracks' bad events vary."""
    overrides: tuple[OverrideRecord, ...] = ()
    """The annotations that were heard, and what became of them."""
    decisions: tuple[DecisionRecord, ...] = ()
    """The newest decisions that changed something."""
    alarms: tuple[Alarm, ...] = ()
    """What people are told of as long as it lasts."""
    drifts: tuple[StoredInstant, ...] = ()
    """When a route began to have another weight than the launch left it at; the newest."""
    conditions: tuple[Condition, ...] = ()
    """For `kubectl wait` and for tools: Ready, Reconciling, Stalled and Succeeded."""


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
