"""What people are told of a decision beside the launch itself: one Event for it, for each override, for a checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from controller.core.decide import Decision
from controller.core.evidence import Outcome
from controller.core.facts import TakenCheckpoint
from controller.core.faults import listed
from controller.core.report import scored
from controller.core.signals import Signal
from controller.core.status import CheckpointScore, CriterionStatus, State, Status
from controller.core.units import format_instant
from controller.core.world import LaunchKey

LONGEST_NOTE = 1024
"""Bytes of UTF-8, the decision's id included; the API server takes no more."""
LARGEST_CHECKPOINT = 128 * 1024
"""Bytes of JSON that an Event carries of a checkpoint; the API server takes 256 KiB of annotations."""
DECISION, CHECKPOINT = "decision", "checkpoint"
"""The annotations of an Event, without our prefix: the decision's id, and a checkpoint's whole record as JSON."""

CHECKPOINT_TAKEN = "CheckpointTaken"

_ALARMING = frozenset({State.HELD, State.ROLLING_BACK, State.ROLLED_BACK, State.INVALID})
_NEW_REVISION = frozenset({Signal.REVISION_CHANGED.value, Signal.NEW_REVISION.value})
"""A new revision takes the old one's traffic away as part of the plan."""
_WORST_FIRST = (Outcome.FAIL.value, Outcome.NO_DATA.value, Outcome.UNDECIDED.value, Outcome.PASS.value)
_SENTENCE, _REASON = 2048, 128


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a launch at ``at`` (epoch seconds), said in one sentence that ends with the decision.

    ``reason`` and ``action`` are single words in CamelCase. ``annotations`` are ours, without their prefix. ``times`` is
    how often it has happened by ``latest`` (epoch seconds); the name stays that of the first time.
    """

    key: LaunchKey
    at: float
    decision: str
    reason: str
    action: str
    note: str
    warning: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)
    times: int = 1
    latest: float = 0.0

    @property
    def subject(self) -> tuple[LaunchKey, str, str, str]:
        """What it is about: a decision that is tried again is told of again, by other numbers."""
        return self.key, self.decision, self.reason, self.action

    @property
    def name(self) -> str:
        """A name of its own, and the same one however often it is written."""
        what = "\n".join((*map(str, self.subject), format_instant(self.at)))
        return f"{self.key.name[:200].rstrip('-.')}.{hashlib.sha256(what.encode('utf-8', 'replace')).hexdigest()[:16]}"


def events_of(key: LaunchKey, decision: Decision) -> tuple[Event, ...]:
    """What a decision that was recorded tells people: what they asked for first, then it, then its checkpoint."""
    told = [
        _event(
            key,
            decision,
            reason=f"Override{record.outcome.capitalize()}",
            action=record.verb.capitalize(),
            said=f"{record.verb}{f' by {record.by}' if record.by else ''} {record.outcome}: {record.message}",
            warning=record.outcome != "accepted",
        )
        for record in decision.news
        if record.present
    ]
    told.append(
        _event(
            key,
            decision,
            reason=decision.signal.value,
            action=_camel(decision.action.name),
            said=decision.message,
            warning=decision.status.state in _ALARMING and decision.signal.value not in _NEW_REVISION,
        )
    )
    if decision.checkpoint is not None:
        told.append(
            _event(
                key,
                decision,
                reason=CHECKPOINT_TAKEN,
                action="TakeCheckpoint",
                said=checkpoint_sentence(decision.checkpoint, decision.status),
                warning=decision.checkpoint.score.failed > 0,
                annotations={CHECKPOINT: _as_json(decision.checkpoint)},
            )
        )
    return tuple(told)


def event_of_rollback(key: LaunchKey, status: Status, now: float) -> Event:
    """That every canary was seen at 0, as of ``now`` (epoch seconds), after the newest decision of the status."""
    newest = status.decisions[-1] if status.decisions else None
    identity = newest.id if newest else ""
    return Event(
        key=key,
        at=now,
        decision=identity,
        reason=State.ROLLED_BACK.value,
        action="RecordRetreat",
        note=_note(f"every canary is at 0%: {status.message or (newest.message if newest else '')}", identity),
        warning=status.reason not in _NEW_REVISION,
        annotations={DECISION: identity},
    )


def checkpoint_sentence(taken: TakenCheckpoint, status: Status) -> str:
    """What a checkpoint found, the worst first. ``status`` is the one after it, which knows of those that were missed."""
    score = taken.score
    criteria = checkpoint_criteria(taken)
    found = (
        f"{score.passed} passed, {score.undecided} undecided, {score.failed} failed" if criteria else "nothing judged"
    )
    missed = [each.after for each in _missed(score, status)]
    before = f"; {listed(missed, 'and')} before it missed" if missed else ""
    said = "; ".join(each.sentence for each in criteria)
    return f"checkpoint {score.after} of phase {score.phase}: {found}{before}{f': {said}' if said else ''}"


def checkpoint_criteria(taken: TakenCheckpoint) -> tuple[CriterionStatus, ...]:
    """The checkpoint's full record: each criterion of each target once, the worst first."""
    each = {(item.verdict.target, item.verdict.criterion.key): item.verdict for item in taken.judged}
    told = [scored(verdict) for verdict in each.values()]
    return tuple(sorted(told, key=lambda one: _WORST_FIRST.index(one.verdict)))


def in_lines(criteria: Iterable[CriterionStatus], largest: int) -> Iterator[list[dict[str, object]]]:
    """The criteria as data for so many lines that the JSON of none has more than about ``largest`` bytes; one at least."""
    line: list[dict[str, object]] = []
    room = largest
    for data in map(_data, criteria):
        size = len(_compact(data))
        if line and size > room:
            yield line
            line, room = [], largest
        line.append(data)
        room -= size
    yield line


def _missed(score: CheckpointScore, status: Status) -> Sequence[CheckpointScore]:
    """The checkpoints that were due before this one, and that nobody was there to take."""
    return [each for each in status.checkpoints if each.taken_at == score.taken_at and each.after != score.after]


def _as_json(taken: TakenCheckpoint) -> str:
    """The whole record; of what does not fit, the best is left out and its number said."""
    score = taken.score
    record: dict[str, object] = {
        "phase": score.phase,
        "after": score.after,
        "takenAt": format_instant(score.taken_at),
        "passed": score.passed,
        "undecided": score.undecided,
        "failed": score.failed,
    }
    criteria = checkpoint_criteria(taken)
    kept = next(iter(in_lines(criteria, LARGEST_CHECKPOINT - 8 * 1024)))
    left_out = {"criteriaLeftOut": len(criteria) - len(kept)} if len(kept) < len(criteria) else {}
    return _compact(record | {"criteria": kept} | left_out)


def _data(criterion: CriterionStatus) -> dict[str, object]:
    data: dict[str, object] = criterion.model_dump(by_alias=True, mode="json", exclude_none=True)
    return data | {"sentence": criterion.sentence[:_SENTENCE]}


def _event(
    key: LaunchKey,
    decision: Decision,
    *,
    reason: str,
    action: str,
    said: str,
    warning: bool,
    annotations: Mapping[str, str] | None = None,
) -> Event:
    return Event(
        key=key,
        at=decision.at,
        decision=decision.id,
        reason=reason[:_REASON],
        action=action[:_REASON],
        note=_note(said, decision.id),
        warning=warning,
        annotations={DECISION: decision.id, **(annotations or {})},
    )


def _note(said: str, identity: str) -> str:
    """The sentence, cut to fit, and the decision's id."""
    end = f" (decision {identity})" if identity else ""
    room = LONGEST_NOTE - len(end.encode())
    text = said.encode("utf-8", "replace")
    if len(text) > room:
        text = text[: room - len("…".encode())].decode("utf-8", "ignore").encode() + "…".encode()
    return text.decode() + end


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _compact(data: object) -> str:
    return json.dumps(data, separators=(",", ":"))
