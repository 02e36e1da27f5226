"""What there is to see of the demo's launch, read where anybody could read it: files, /metrics, Alertmanager."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import requests
from prometheus_client.parser import text_string_to_metric_families

from controller.core.status import DecisionRecord, State, Status, UnreadableStatusError, read_status
from demo.envoy import Change
from demo.parts import Parts
from demo.traffic import Seen, Traffic
from tests.realparts.server import http

NAMESPACE, NAME = "demo", "shop"
_ALERTS_EACH_S = 1.0
_FULL = 1000


@dataclass(frozen=True, slots=True)
class CriterionNow:
    """One criterion as /metrics has it: `limit` is a share of bad requests."""

    name: str
    verdict: str
    requests: float
    bad: float
    limit: float

    @property
    def share(self) -> float | None:
        """The bad share, None without requests."""
        return self.bad / self.requests if self.requests else None


@dataclass(frozen=True, slots=True)
class StepNow:
    """One step of the plan: its weight in percent, and when the route had it first (seconds since the start)."""

    weight: float
    reached: float | None


@dataclass(frozen=True, slots=True)
class AlertNow:
    """One alert as Alertmanager gives it back; `starts_at` in epoch seconds."""

    name: str
    severity: str
    summary: str
    description: str
    starts_at: float


@dataclass(frozen=True, slots=True)
class Scene:
    """One look. `elapsed` and `failing_since` are seconds since the start, `canary` the live share (0 to 1)."""

    began: float
    elapsed: float
    status: Status
    canary: float
    changes: tuple[Change, ...]
    criteria: tuple[CriterionNow, ...]
    steps: tuple[StepNow, ...]
    decisions: tuple[DecisionRecord, ...]
    traffic: Seen
    alerts: tuple[AlertNow, ...]
    failing_since: float | None
    problem: str

    @property
    def succeeded(self) -> bool:
        """The launch is over and all traffic is the canary's."""
        return self.status.state is State.SUCCEEDED and self.canary == 1.0

    @property
    def rolled_back(self) -> bool:
        """The launch is over and no traffic is the canary's."""
        return self.status.state is State.ROLLED_BACK and self.canary == 0.0

    @property
    def why(self) -> str:
        """Why the launch stands where it does; status is only written now and then, /metrics is of now."""
        if self.problem:
            return self.problem
        if self.status.state is not State.PROGRESSING or not self.status.step or not self.criteria:
            return self.status.message or "starting"
        if self.status.intent is not None:
            return self.status.next
        open_ones = [criterion.name for criterion in self.criteria if criterion.verdict != "pass"]
        if open_ones:
            return f"waits for the proof of: {', '.join(open_ones)}"
        return "every guardrail passes; the step's time is not over yet"

    def since_start(self, at: float) -> float:
        """An instant (epoch seconds) as seconds since the start."""
        return at - self.began


class Observer:
    """Looks at everything; `failing_at` is set (epoch seconds) by whoever makes the canary fail."""

    def __init__(self, parts: Parts, traffic: Traffic, steps: tuple[float, ...]) -> None:
        self._parts, self._traffic, self._steps = parts, traffic, steps
        self._began = time.time()
        self._session = http()
        self._decisions: dict[str, DecisionRecord] = {}
        self._status = Status()
        self._alerts: tuple[AlertNow, ...] = ()
        self._alerts_at = 0.0
        self._limits: dict[str, float] = {}
        self.failing_at: float | None = None

    def look(self) -> Scene:
        """The scene of now; what cannot be read is as it was."""
        now = time.time()
        self._status = self._read_status()
        self._decisions |= {record.id: record for record in self._status.decisions}
        if now - self._alerts_at >= _ALERTS_EACH_S:
            self._alerts, self._alerts_at = self._read_alerts(), now
        changes = self._parts.follower.changes
        return Scene(
            began=self._began,
            elapsed=now - self._began,
            status=self._status,
            canary=changes[-1].canary if changes else 0.0,
            changes=changes,
            criteria=self._criteria(),
            steps=tuple(StepNow(weight, self._reached(weight, changes)) for weight in self._steps),
            decisions=tuple(self._decisions.values()),
            traffic=self._traffic.seen(),
            alerts=self._alerts,
            failing_since=None if self.failing_at is None else self.failing_at - self._began,
            problem=self._parts.follower.problem,
        )

    def _reached(self, percent: float, changes: tuple[Change, ...]) -> float | None:
        return next((change.at - self._began for change in changes if change.canary * 100 >= percent - 1e-9), None)

    def _read_status(self) -> Status:
        try:
            kept = json.loads((self._parts.manifests / ".status" / f"{NAMESPACE}.{NAME}.json").read_text())
            return read_status(kept.get("status") or {})
        except (OSError, ValueError, UnreadableStatusError):
            return self._status  # not written yet

    def _criteria(self) -> tuple[CriterionNow, ...]:
        """As judged now; once the launch was rolled back nothing is judged any more, and status has the proof."""
        now = self._read_criteria()
        self._limits |= {criterion.name: criterion.limit for criterion in now}
        if self._status.state not in (State.ROLLING_BACK, State.ROLLED_BACK):
            return now
        return tuple(
            CriterionNow(
                name=kept.criterion,
                verdict=kept.verdict,
                requests=float(kept.requests.replace(",", "")),
                bad=float(kept.bad.replace(",", "")),
                limit=self._limits.get(kept.criterion, 0.0),
            )
            for kept in self._status.criteria
        )

    def _read_criteria(self) -> tuple[CriterionNow, ...]:
        try:
            answer = self._session.get(f"{self._parts.daemon.url}/metrics", timeout=1)
            answer.raise_for_status()
        except requests.RequestException:
            return ()
        numbers: dict[str, dict[str, float]] = {}
        verdicts: dict[str, str] = {}
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                name = sample.labels.get("criterion", "")
                if not name or not sample.name.startswith("autoadvance_criterion_"):
                    continue
                if sample.name.endswith("_verdict"):
                    if sample.value:
                        verdicts[name] = sample.labels["verdict"]
                else:
                    numbers.setdefault(name, {})[sample.name.removeprefix("autoadvance_criterion_")] = sample.value
        return tuple(
            CriterionNow(
                name=name,
                verdict=verdicts.get(name, ""),
                requests=found.get("requests", 0.0),
                bad=found.get("bad_requests", 0.0),
                limit=found.get("limit", 0.0),
            )
            for name, found in sorted(numbers.items())
        )

    def _read_alerts(self) -> tuple[AlertNow, ...]:
        try:
            found: list[dict[str, Any]] = self._parts.alertmanager.alerts(launch=NAME, namespace=NAMESPACE)
        except requests.RequestException:
            return self._alerts
        return tuple(_alert(one) for one in found)


def _alert(one: Mapping[str, Any]) -> AlertNow:
    return AlertNow(
        name=one["labels"].get("alertname", ""),
        severity=one["labels"].get("severity", ""),
        summary=one["annotations"].get("summary", ""),
        description=one["annotations"].get("description", ""),
        starts_at=datetime.fromisoformat(one["startsAt"]).timestamp(),
    )
