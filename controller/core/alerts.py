"""Which alerts should be firing for a launch now: a pure function of its status, so a restart forgets none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from controller.core.decide import Decision
from controller.core.report import with_evidence
from controller.core.signals import Signal
from controller.core.status import DecisionRecord, State, Status
from controller.core.units import format_weight
from controller.core.world import LaunchKey

HELD = "LaunchHeld"
ROLLED_BACK = "LaunchRolledBack"
TARGET_ROLLED_BACK = "LaunchTargetRolledBack"
ROLLED_BACK_SECONDS = 3600.0
"""A rollback is told for this long after it ended; the state stays, the news does not."""

Severity = Literal["warning", "critical"]
Identity = tuple[tuple[str, str], ...]

_ROLLBACK = frozenset({State.ROLLING_BACK.value, State.ROLLED_BACK.value})
_HOLD = frozenset({State.HELD.value})


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. What may change while it lasts (numbers, words, times) is never part of its identity.

    ``starts_at`` is epoch seconds.
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
        more = {"role": self.role, "target": self.target}
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


def alerts_of_decision(key: LaunchKey, decision: Decision) -> tuple[Alert, ...]:
    """The complete set of alerts that should be firing for the launch once the decision is carried out.

    A decision's own status lacks its message and its record until it is stored; the alert does not wait for that.
    """
    status = decision.status
    if status.state not in (State.HELD, State.ROLLING_BACK, State.ROLLED_BACK) and not _withdrawn(status):
        return ()
    status = with_evidence(decision) if decision.decisive else status.model_copy(update={"message": decision.message})
    return alerts_of(key, status, decision.at)


def alerts_of(key: LaunchKey, status: Status, now: float) -> tuple[Alert, ...]:
    """The complete set of alerts that should be firing for the launch at ``now`` (epoch seconds)."""
    if status.state in (State.ROLLING_BACK, State.ROLLED_BACK):
        return _rolled_back(key, status, now)
    taken_out = tuple(_target_rolled_back(key, status, now))
    return (_held(key, status, now), *taken_out) if status.state is State.HELD else taken_out


def _withdrawn(status: Status) -> frozenset[str]:
    """The targets that were taken out of the run."""
    return frozenset(target.name for target in status.targets if target.withdrawn)


def _target_rolled_back(key: LaunchKey, status: Status, now: float) -> Iterator[Alert]:
    """One alert for each target that was taken out lately, told like a rollback."""
    left = set(_withdrawn(status))
    for record in reversed(status.decisions):
        if record.signal != Signal.WITHDRAWN.value or now - record.at > ROLLED_BACK_SECONDS:
            continue
        for name in sorted(left.intersection(record.weights)):
            left.discard(name)
            yield Alert(
                name=TARGET_ROLLED_BACK,
                severity="critical",
                key=key,
                starts_at=record.at,
                summary=f"Target {name} of launch {key} was taken out of the run ({record.signal})",
                description=record.message,
                decision=record.id,
                weights=_weights(status),
                target=name,
            )


def _held(key: LaunchKey, status: Status, now: float) -> Alert:
    first = _first_of_newest(status, _HOLD)
    hold = status.hold
    since = hold.since if hold else first.at if first else now
    return Alert(
        name=HELD,
        severity="critical" if hold and hold.reason == Signal.ESCALATED.value else "warning",
        key=key,
        starts_at=since,
        summary=f"Launch {key} is held at {status.weight or '0%'} ({hold.reason if hold else status.reason})",
        description=hold.message if hold else status.message,
        decision=first.id if first else "",
        weights=_weights(status),
    )


def _rolled_back(key: LaunchKey, status: Status, now: float) -> tuple[Alert, ...]:
    first = _first_of_newest(status, _ROLLBACK)
    cause = first.signal if first else status.reason
    if cause in (Signal.REVISION_CHANGED.value, Signal.DELETED.value):
        return ()  # the traffic is taken away as part of the plan
    ended = status.ended_at if status.state is State.ROLLED_BACK else None
    if ended is not None and now - ended > ROLLED_BACK_SECONDS:
        return ()
    since = first.at if first else status.intent.at if status.intent else ended if ended is not None else now
    done = "was rolled back" if status.state is State.ROLLED_BACK else "is being rolled back"
    alert = Alert(
        name=ROLLED_BACK,
        severity="critical",
        key=key,
        starts_at=since,
        summary=f"Launch {key} {done} ({cause})",
        description=status.message or (first.message if first else ""),
        decision=first.id if first else "",
        weights=_weights(status),
    )
    return (alert,)


def _first_of_newest(status: Status, states: frozenset[str]) -> DecisionRecord | None:
    """The decision with which the newest unbroken stay in these states began, as far back as status remembers."""
    first = None
    for record in reversed(status.decisions):
        if record.state not in states:
            break
        first = record
    return first


def _weights(status: Status) -> str:
    """The canary's weight of each target, the one it is going to where a change is under way."""
    coming = status.intent.weights if status.intent else {}
    listed = ((target.name, coming.get(target.name, target.weight)) for target in status.targets)
    return ", ".join(f"{name} {format_weight(weight)}" for name, weight in listed)
