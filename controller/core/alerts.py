"""Which alerts should be firing for a launch now: a pure function of its status, so a restart forgets none.

Each alarm of the status is one alert for each role that has to hear of it: the first at once, the next ones when nobody
has answered in time. All instants follow from when the alarm began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from types import MappingProxyType
from typing import Literal, NamedTuple

from controller.core.alarms import (
    APPROVAL_WANTED,
    DRIFT,
    GATE_FAILED,
    HELD,
    NEWS_SECONDS,
    NO_DATA,
    NOT_READY,
    PLAN_INVALID,
    ROLLED_BACK,
    ROUTE_CONTESTED,
    TARGET_ROLLED_BACK,
    over_at,
)
from controller.core.decide import Decision
from controller.core.plan import Contact
from controller.core.report import with_evidence
from controller.core.signals import Signal
from controller.core.status import Alarm, State, Status
from controller.core.units import format_weight
from controller.core.world import LaunchKey

ROLLED_BACK_SECONDS = NEWS_SECONDS
"""A rollback is told for this long after it ended; the state stays, the news does not."""

Severity = Literal["info", "warning", "critical"]
Identity = tuple[tuple[str, str], ...]
Silenced = Callable[[Identity], float | None]
"""Since when (epoch seconds) an alert is silenced in an Alertmanager; None: it is not."""

SEVERITIES: Mapping[str, Severity] = MappingProxyType(
    {
        HELD: "warning",
        ROLLED_BACK: "critical",
        TARGET_ROLLED_BACK: "critical",
        APPROVAL_WANTED: "info",
        GATE_FAILED: "critical",
        NO_DATA: "critical",
        DRIFT: "warning",
        ROUTE_CONTESTED: "warning",
        PLAN_INVALID: "warning",
        NOT_READY: "warning",
    }
)
"""Every kind of alert and how bad it is; part of its identity, so the same for all of a kind."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. What may change while it lasts (numbers, words, times) is never part of its identity.

    ``starts_at`` is epoch seconds. ``level`` counts the times at which more roles are told, from 1; 0 where
    the plan names none.
    """

    name: str
    severity: Severity
    key: LaunchKey
    starts_at: float
    summary: str
    description: str
    decision: str
    weights: str
    role: str = ""
    level: int = 0
    target: str = ""

    @property
    def labels(self) -> Mapping[str, str]:
        """What makes it this alert and no other."""
        labels = {
            "alertname": self.name,
            "severity": self.severity,
            "namespace": self.key.namespace,
            "launch": self.key.name,
            "component": "launch",
        }
        more = {"role": self.role, "level": str(self.level) if self.level else "", "target": self.target}
        return labels | {name: value for name, value in more.items() if value}

    @property
    def annotations(self) -> Mapping[str, str]:
        """What it says."""
        said = {
            "summary": self.summary,
            "description": self.description,
            "decision": self.decision,
            "weights": self.weights,
        }
        return {name: text for name, text in said.items() if text}

    @property
    def identity(self) -> Identity:
        """The labels in one order."""
        return tuple(sorted(self.labels.items()))


class Level(NamedTuple):
    """Who is told of an alarm, and so many seconds after it began."""

    role: str
    number: int
    after: float


def never_silenced(_: Identity) -> float | None:
    """Where nobody can silence anything."""
    return None


def alerts_of_decision(key: LaunchKey, decision: Decision, silenced: Silenced = never_silenced) -> tuple[Alert, ...]:
    """The complete set of alerts that should be firing for the launch once the decision is carried out.

    A decision's own status lacks its message and its record until it is stored; the alert does not wait for that.
    """
    status = decision.status
    if not status.alarms:
        return ()
    status = with_evidence(decision) if decision.decisive else status.model_copy(update={"message": decision.message})
    return alerts_of(key, status, decision.at, decision.contacts, silenced)


def alerts_of(
    key: LaunchKey,
    status: Status,
    now: float,
    contacts: tuple[Contact, ...] = (),
    silenced: Silenced = never_silenced,
) -> tuple[Alert, ...]:
    """The complete set of alerts that should be firing for the launch at ``now`` (epoch seconds)."""
    found: dict[Identity, Alert] = {}
    for alarm in status.alarms:
        if now >= over_at(alarm, status):
            continue
        for alert in _told(key, status, alarm, now, contacts, silenced):
            found.setdefault(alert.identity, alert)
    return tuple(found.values())


def levels(alarm: Alarm, contacts: tuple[Contact, ...]) -> tuple[Level, ...]:
    """Who is told of the alarm, in order; those who are told at the same time are of one level.

    An approval is wanted of its role, which takes the place of those who are told at once.
    """
    told = [(contact.role, contact.after) for contact in contacts]
    if alarm.role:
        told = [(alarm.role, 0.0), *((role, after) for role, after in told if after and role != alarm.role)]
    times = sorted({after for _, after in told})
    return tuple(Level(role, times.index(after) + 1, after) for role, after in told)


def _told(
    key: LaunchKey,
    status: Status,
    alarm: Alarm,
    now: float,
    contacts: tuple[Contact, ...],
    silenced: Silenced,
) -> Iterator[Alert]:
    """The alarm's alerts so far: whoever was told before somebody answered is told until it is over, nobody besides."""
    answered = inf if alarm.acknowledged_at is None else alarm.acknowledged_at
    told = levels(alarm, contacts) or (Level("", 0, 0.0),)
    for level in told:
        due = alarm.since + level.after
        if level.after and not (due <= now and due < answered):
            continue
        alert = _alert(key, status, alarm, level)
        yield alert
        since = silenced(alert.identity) if len(told) > 1 else None
        if since is not None:
            answered = min(answered, max(since, due))


def _alert(key: LaunchKey, status: Status, alarm: Alarm, level: Level) -> Alert:
    under_way = alarm.kind == ROLLED_BACK and status.state is State.ROLLING_BACK
    said = [alarm.message, status.message if under_way and status.message != alarm.message else ""]
    return Alert(
        name=alarm.kind,
        severity=SEVERITIES[alarm.kind],
        key=key,
        starts_at=alarm.since + level.after,
        summary=_summary(key, status, alarm),
        description="; ".join(filter(None, said)),
        decision=alarm.decision,
        weights=_weights(status),
        role=level.role,
        level=level.number,
        target=alarm.target,
    )


def _summary(key: LaunchKey, status: Status, alarm: Alarm) -> str:
    """One line without numbers that go on: another one is sent at once."""
    weight = status.weight or "0%"
    phase = f" of phase {status.phase}" if status.phase else ""
    if alarm.kind == HELD:
        return f"Launch {key} is held at {weight} ({alarm.reason})"
    if alarm.kind == ROLLED_BACK:
        done = "was rolled back" if status.state is State.ROLLED_BACK else "is being rolled back"
        return f"Launch {key} {done} ({alarm.reason})"
    if alarm.kind == TARGET_ROLLED_BACK:
        return f"Target {alarm.target} of launch {key} was taken out of the run ({alarm.reason})"
    if alarm.kind == APPROVAL_WANTED:
        return f"Launch {key} waits for the approval {alarm.reason} of {alarm.role}"
    if alarm.kind == GATE_FAILED:
        then = "and is judged again later" if alarm.reason == Signal.GATE_MOVED.value else f"({alarm.reason})"
        return f"The gate{phase} of launch {key} has not passed {then}"
    if alarm.kind == NO_DATA:
        return f"Launch {key} at {weight} has had no data for too long"
    if alarm.kind == DRIFT:
        return f"Somebody else changed a weight of launch {key}"
    if alarm.kind == ROUTE_CONTESTED:
        claimed = alarm.reason == Signal.ROUTE_CLAIMED.value
        return (
            f"Launch {key} shares its route with {'another launch' if claimed else 'somebody who changes its weight'}"
        )
    if alarm.kind == PLAN_INVALID:
        return f"The plan of launch {key} has faults"
    moved = " and its start was moved" if alarm.reason == Signal.PREFLIGHT_MOVED.value else ""
    return f"Launch {key} was not ready at its start{moved}"


def _weights(status: Status) -> str:
    """The canary's weight of each target, the one it is going to where a change is under way."""
    coming = status.intent.weights if status.intent else {}
    listed = ((target.name, coming.get(target.name, target.weight)) for target in status.targets)
    return ", ".join(f"{name} {format_weight(weight)}" for name, weight in listed)
