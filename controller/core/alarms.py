"""What people have to hear of, decided with everything else and kept in status: each alarm, and since when it is so.

An alarm is of one kind, and of one target or role where there is one. Where a kind says more than that the launch is
held, people are told that kind instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from types import MappingProxyType

from controller.core.evidence import NOT_ASKED, Outcome
from controller.core.facts import Facts, consequence, too_long_without_data
from controller.core.overrides import Override
from controller.core.plan import Phase
from controller.core.schedule import coming_since, not_ready_at
from controller.core.signals import (
    Signal,
    all_looked_at,
    drifted,
    gate_move,
    plan_invalid,
    preflight_missing,
)
from controller.core.status import UNDER_WAY, Alarm, DecisionRecord, State, Status
from controller.core.words import Reason, sentence

HELD = "LaunchHeld"
ROLLED_BACK = "LaunchRolledBack"
TARGET_ROLLED_BACK = "LaunchTargetRolledBack"
APPROVAL_WANTED = "LaunchApprovalWanted"
GATE_FAILED = "LaunchGateFailed"
NO_DATA = "LaunchNoData"
DRIFT = "LaunchDrift"
ROUTE_CONTESTED = "LaunchRouteContested"
PLAN_INVALID = "LaunchPlanInvalid"
NOT_READY = "LaunchNotReady"

NEWS_SECONDS = 3600.0
"""What is over (a rollback, a date that was moved) is told for so long; the state stays, the news does not."""
CONTEST_SECONDS = 600.0
CONTEST_TIMES = 3
"""A weight that was found changed so often in that many seconds is put back and forth."""
LONGEST_MESSAGE = 512
MOST_ALARMS = 80
FEW_ALARMS = 8
SHORT_MESSAGE = 96
"""The messages of more than a few alarms (of targets, that is) are cut to this, so that they have room in status."""
LONGEST_NAME = 253

KINDS: Mapping[Signal, str] = MappingProxyType(
    {Signal.GATE_FAILED: GATE_FAILED, Signal.ESCALATED: GATE_FAILED, Signal.DELIVERABLES_MISSING: GATE_FAILED}
)
"""What a hold is told as where that is not ``LaunchHeld``."""
_TOLD_APART = frozenset(
    {
        Signal.PLAN_INVALID,
        Signal.ROUTE_CLAIMED,
        Signal.DRIFT,
        Signal.FLEET_STOPPED,
        Signal.HOLD_ASKED,
        Signal.BLIND,
        Signal.PREFLIGHT_LATE,
    }
)
"""Holds that end with their cause, which is found without them."""
_PUT_OFF: Mapping[str, str] = MappingProxyType({"fail": GATE_FAILED, "noData": NO_DATA})
_NEWS = (Signal.GATE_MOVED.value, Signal.PREFLIGHT_MOVED.value, Signal.WITHDRAWN.value)
"""What has happened and is not so any longer, but people have to hear of it."""
_OVER = frozenset({State.ROLLING_BACK, State.ROLLED_BACK})
_AS_PLANNED = (Signal.REVISION_CHANGED.value, Signal.DELETED.value)
"""Retreats that are part of the plan."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a tick has come to: its signal, its reason in words, the decision's id if it is recorded."""

    signal: Signal
    reason: Reason
    decision: str


def standing(facts: Facts, before: Status, status: Status, place: Place, asked: Iterable[str]) -> Status:
    """The status with the alarms that are standing at the facts' instant, those that go on since they began.

    ``before`` is the status that was read, ``status`` the one to be written. ``asked`` names the approvals that are
    wanted now.
    """
    now = facts.seen.now
    # Those of this process' last decision could perhaps not be stored; what was stored says who has acknowledged.
    known = {_place(alarm): alarm for alarm in (*facts.seen.alarms, *facts.status.alarms)}
    found: dict[tuple[str, str, str], Alarm] = {}
    for alarm in _Standing(facts, before, status, place, known).all(asked):
        found.setdefault(_place(alarm), alarm)
    contested = ROUTE_CONTESTED, "", ""
    drifts = tuple(at for at in status.drifts if 0 <= now - at <= CONTEST_SECONDS)
    drift = found.get((DRIFT, "", ""))
    if drift is not None and (DRIFT, "", "") not in known and before.reason != Signal.DRIFT.value:
        drifts = (*drifts, now)[-CONTEST_TIMES:]
    if len(drifts) >= CONTEST_TIMES and status.state in UNDER_WAY and contested not in found:
        found.pop((DRIFT, "", ""), None)
        message = f"the canary's weight was changed by others {CONTEST_TIMES} times within 10 minutes"
        latest = f": {drift.message}" if drift is not None else ""
        found[contested] = _alarm(ROUTE_CONTESTED, "Contested", message + latest, now, place.decision)
    alarms = tuple(_going_on(alarm, known.get(key)) for key, alarm in found.items())[:MOST_ALARMS]
    if len(alarms) > FEW_ALARMS:
        alarms = tuple(each.model_copy(update={"message": each.message[:SHORT_MESSAGE]}) for each in alarms)
    if not (alarms or drifts or status.alarms or status.drifts):
        return status
    return status.model_copy(update={"alarms": alarms, "drifts": drifts})


def other_alarms(before: Status, after: Status) -> bool:
    """Whether the alarms are not those that are stored: numbers in their words aside."""
    return [_known_of(alarm) for alarm in before.alarms] != [_known_of(alarm) for alarm in after.alarms]


def over_at(alarm: Alarm, status: Status) -> float:
    """When the alarm is no news any more (epoch seconds); infinite: it is told for as long as it lasts."""
    if alarm.kind == ROLLED_BACK:
        ended = status.ended_at if status.state is State.ROLLED_BACK else None
        return inf if ended is None else ended + NEWS_SECONDS
    return alarm.since + NEWS_SECONDS if alarm.reason in _NEWS else inf


def acknowledged(status: Status, override: Override, now: float) -> Status:
    """The status in which everything that is told has been heard by somebody."""
    heard = {"acknowledged_at": now, "acknowledged_by": override.by[:LONGEST_NAME]}
    alarms = (alarm if alarm.acknowledged_at is not None else alarm.model_copy(update=heard) for alarm in status.alarms)
    return status.model_copy(update={"alarms": tuple(alarms)})


def _by_hand(alarm: Alarm, override: Override) -> Alarm:
    """What somebody has asked for is in somebody's hands: it is told, and nobody has to answer."""
    return alarm.model_copy(update={"acknowledged_at": alarm.since, "acknowledged_by": override.by[:LONGEST_NAME]})


def _place(alarm: Alarm) -> tuple[str, str, str]:
    return alarm.kind, alarm.target, alarm.role


def _known_of(alarm: Alarm) -> tuple[object, ...]:
    return (*_place(alarm), alarm.reason, alarm.since, alarm.acknowledged_at)


def _alarm(
    kind: str, reason: str, message: Reason, since: float, decision: str, *, target: str = "", role: str = ""
) -> Alarm:
    return Alarm(
        kind=kind,
        target=target,
        role=role,
        reason=reason,
        message=str(message)[:LONGEST_MESSAGE],
        since=since,
        decision=decision,
    )


def _going_on(alarm: Alarm, before: Alarm | None) -> Alarm:
    """The alarm since it began: for another reason it is another one, which nobody has acknowledged."""
    if before is None or before.reason != alarm.reason:
        return alarm
    return before.model_copy(update={"message": alarm.message or before.message})


@dataclass(frozen=True, slots=True)
class _Standing:
    facts: Facts
    before: Status
    status: Status
    place: Place
    known: Mapping[tuple[str, str, str], Alarm]

    def all(self, asked: Iterable[str]) -> Iterator[Alarm]:
        yield from self._rolled_back()
        yield from self._taken_out()
        if faults := plan_invalid(self.facts):
            yield self._alarm(PLAN_INVALID, Signal.PLAN_INVALID.value, faults)
        if self.status.state in _OVER:
            return
        yield from self._blind()
        if self.status.state is State.SUCCEEDED:
            return
        yield from self._route()
        yield from self._not_ready()
        yield from self._held()
        yield from self._approvals(asked)
        yield from self._put_off()

    @property
    def _lowering(self) -> bool:
        return self.facts.status.intent is not None and not self.facts.raising

    @property
    def _now(self) -> float:
        return self.facts.seen.now

    def _alarm(
        self,
        kind: str,
        reason: str,
        message: Reason,
        since: float | None = None,
        *,
        target: str = "",
        role: str = "",
    ) -> Alarm:
        at = self._now if since is None else since
        return _alarm(kind, reason, message, at, self.place.decision, target=target, role=role)

    def _news(self, kind: str, reason: str) -> Iterator[Alarm]:
        """What happened lately and is told for a while."""
        known = self.known.get((kind, "", ""))
        if known is not None and known.reason == reason and self._now < over_at(known, self.status):
            yield known

    def _rolled_back(self) -> Iterator[Alarm]:
        status = self.status
        if status.state not in _OVER:
            return
        ended = status.ended_at if status.state is State.ROLLED_BACK else None
        if ended is not None and self._now >= ended + NEWS_SECONDS:
            return
        known = self.known.get((ROLLED_BACK, "", ""))
        first = first_of_newest(self.before, frozenset(state.value for state in _OVER))
        cause = known.reason if known else first.signal if first else self.place.signal.value
        if cause in _AS_PLANNED:
            return
        since = first.at if first else ended
        alarm = self._alarm(ROLLED_BACK, cause, known.message if known else self.place.reason, since)
        override = self.facts.heard.rollback
        yield alarm if override is None else _by_hand(alarm, override)

    def _taken_out(self) -> Iterator[Alarm]:
        """One alarm for each target that was taken out of the run lately."""
        if self.status.state in _OVER:
            return
        earlier = {target.name for target in self.before.targets if target.withdrawn}
        records: dict[str, DecisionRecord] = {}
        for record in self.before.decisions:
            if record.signal == Signal.WITHDRAWN.value:
                records.update(dict.fromkeys(record.weights, record))
        for target in self.status.targets:
            if not target.withdrawn:
                continue
            known = self.known.get((TARGET_ROLLED_BACK, target.name, ""))
            told = records.get(target.name) if target.name in earlier else None
            if known is None and target.name in earlier and told is None:
                continue  # that was told already
            since = known.since if known else told.at if told else self._now
            if self._now >= since + NEWS_SECONDS:
                continue
            said: Reason = self.place.reason if self.place.signal is Signal.WITHDRAWN else ""
            message = known.message if known else told.message if told else said
            yield self._alarm(
                TARGET_ROLLED_BACK, Signal.WITHDRAWN.value, message or target.withdrawn, since, target=target.name
            )

    def _put_off(self) -> Iterator[Alarm]:
        """A gate that has failed, or had no data, and is judged again later."""
        move = gate_move(self.facts) if self.place.signal is Signal.GATE_MOVED else None
        for which, kind in _PUT_OFF.items():
            if move is not None and move.which == which:
                yield self._alarm(kind, Signal.GATE_MOVED.value, self.place.reason)
            else:
                yield from self._news(kind, Signal.GATE_MOVED.value)

    def _blind(self) -> Iterator[Alarm]:
        facts, known = self.facts, self.known.get((NO_DATA, "", ""))
        going_on = known is not None and known.reason == Signal.BLIND.value
        if not facts.watching:
            return
        silent = [
            judged
            for judged in facts.judged
            if judged.enforce and judged.verdict.outcome is Outcome.NO_DATA and (not judged.gate or facts.gate_due)
        ]
        if going_on and known is not None and silent and all(each.verdict.problem == NOT_ASKED for each in silent):
            yield known
            return
        for judged in silent:
            too_long = consequence(facts, judged) is not None or too_long_without_data(
                judged.verdict, facts.seen.watched
            )
            # A process that has just begun to listen has heard no long silence yet; the one before it has.
            if too_long or going_on:
                yield self._alarm(NO_DATA, Signal.BLIND.value, sentence(judged.verdict))
                return

    def _route(self) -> Iterator[Alarm]:
        other = self.facts.seen.claimed_by
        if other and self.place.signal is Signal.ROUTE_CLAIMED:
            yield self._alarm(ROUTE_CONTESTED, Signal.ROUTE_CLAIMED.value, self.place.reason)
        elif not other and not self._lowering and (drift := drifted(self.facts)):
            yield self._alarm(DRIFT, Signal.DRIFT.value, drift)

    def _not_ready(self) -> Iterator[Alarm]:
        """A phase that should have begun and waits for its preflight, or was put off for that."""
        facts, coming = self.facts, self.facts.coming
        if self.place.signal is Signal.PREFLIGHT_MOVED:
            yield self._alarm(NOT_READY, Signal.PREFLIGHT_MOVED.value, self.place.reason)
            return
        if coming is not None and coming.preflight is not None and not facts.raising and not facts.granted("start"):
            due = not_ready_at(coming, facts.status, coming_since(facts.status))
            known = self.known.get((NOT_READY, "", ""))
            going_on = known is not None and known.reason == Signal.PREFLIGHT_LATE.value
            if facts.seen.now >= due and (going_on or all_looked_at(facts)) and (missing := preflight_missing(facts)):
                words = f"phase {coming.name} was not ready at its start: waits for {'; '.join(missing)}"
                yield self._alarm(NOT_READY, Signal.PREFLIGHT_LATE.value, words)
                return
        yield from self._news(NOT_READY, Signal.PREFLIGHT_MOVED.value)

    def _held(self) -> Iterator[Alarm]:
        status, place = self.status, self.place
        if status.state is not State.HELD:
            return
        if status.hold is not None:
            yield self._hold(Signal(status.hold.reason), status.hold.message, status.hold.since)
        elif place.signal not in _TOLD_APART:
            first = first_of_newest(self.before, frozenset({State.HELD.value}))
            same = first is not None and self.before.reason == place.signal.value
            yield self._hold(place.signal, place.reason, first.at if first is not None and same else None)
        if (override := self.facts.heard.hold) is not None:
            yield _by_hand(self._alarm(HELD, Signal.HOLD_ASKED.value, f"hold asked{override.words}"), override)

    def _hold(self, signal: Signal, message: Reason, since: float | None) -> Alarm:
        return self._alarm(KINDS.get(signal, HELD), signal.value, message, since)

    def _approvals(self, asked: Iterable[str]) -> Iterator[Alarm]:
        facts, place = self.facts, self.place
        if self.status.state not in UNDER_WAY or facts.seen.deleting:
            return
        if not facts.asked:
            # Whether what is measured still passes is not known in such a round.
            yield from (
                alarm
                for alarm in self.known.values()
                if alarm.kind == APPROVAL_WANTED and not facts.approved(alarm.reason)
            )
            return
        for of in asked:
            phase, _, what = of.partition("/")
            where = facts.coming if what == "preflight" else facts.phase
            role = _role(where, what)
            grant = "start" if what == "preflight" else "gate" if what == "gate" else "step"
            if where is None or not role or facts.granted(grant):
                continue
            step = f"step {what} of phase {phase}" if what.isdecimal() else f"{what} of phase {phase}"
            words = f"{step} waits for the approval of {role} (annotate approve={of})"
            said: Reason = place.reason if place.signal in (Signal.STEP_APPROVAL, Signal.GATE_APPROVAL) else words
            yield self._alarm(APPROVAL_WANTED, of, said, role=role)


def _role(phase: Phase | None, what: str) -> str:
    """Whose approval that is."""
    if phase is None:
        return ""
    if what == "preflight":
        return phase.preflight.approval if phase.preflight else ""
    if what == "gate":
        return phase.gate.approval if phase.gate else ""
    return phase.steps[int(what) - 1].approval if what.isdecimal() else ""


def first_of_newest(status: Status, states: frozenset[str]) -> DecisionRecord | None:
    """The decision with which the newest unbroken stay in these states began, as far back as status remembers."""
    first = None
    for record in reversed(status.decisions):
        if record.state not in states:
            break
        first = record
    return first
