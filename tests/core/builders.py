"""Small builders for the tests of the core: plans, observations, and a course that a launch runs in virtual time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import floor
from typing import Any

from controller.core.criteria import resolve
from controller.core.decide import Decision, decide
from controller.core.evidence import Criterion, Fold, grid
from controller.core.observation import IntentFate, Observation, TargetView
from controller.core.plan import InvalidPlanError, Plan, parse, stood_on
from controller.core.questions import questions
from controller.core.report import retreated, with_evidence
from controller.core.series import Hour, Reading, RecordedForm, Row, Series, Subject
from controller.core.spec import GateCriterion
from controller.core.status import State, Status, read_status, write_status
from controller.core.terms import Stop

NOW = 1_700_000_000.0
INTERVAL = 10
ERRORS = Series("recorded", "errors", interval=INTERVAL, settle=10.0, lag=5.0)


def criterion(**changes: Any) -> Criterion:
    """Errors below 0.5 %, with the defaults of a plan."""
    usual = Criterion(
        key="errors below 0.5%",
        series=ERRORS,
        limit=0.005,
        side="below",
        certainty=0.99,
        window=60.0,
        min_requests=0,
        min_bad=3,
        limit_text="0.5%",
    )
    return replace(usual, **changes)


def resolved(**fields: object) -> Criterion:
    """The criterion of a gate as a plan would have it."""
    return resolve(GateCriterion.model_validate(fields), {}, RecordedForm())


def target(name: str = "main", stable: str = "", canary: str = "") -> dict[str, Any]:
    """A target of a plan; its route and service bear its name."""
    return {
        "name": name,
        "route": {"name": name},
        "stable": {"name": stable or f"{name}-stable"},
        "canary": {"name": canary or f"{name}-canary"},
    }


def ramp(name: str = "ramp", **changes: Any) -> dict[str, Any]:
    """A phase of two steps of half a minute, guarded by errors."""
    phase = {
        "name": name,
        "steps": [{"weight": 5, "for": "30s"}, {"weight": 30, "for": "30s"}],
        "guardrails": [{"metric": "errors", "below": "2%"}],
        **changes,
    }
    return {key: value for key, value in phase.items() if value is not None}


def document(**spec: Any) -> dict[str, Any]:
    """A Launch of one target and one phase, changed as the keywords say."""
    return {
        "apiVersion": "autoadvance.dev/v1alpha1",
        "kind": "Launch",
        "metadata": {"name": "shop", "namespace": "prod"},
        "spec": {"revision": "v2", "targets": [target()], "phases": [ramp()], **spec},
    }


@lru_cache(maxsize=256)
def _parsed(text: str) -> Plan:
    return parse(json.loads(text))


@lru_cache(maxsize=256)
def _stood_on(text: str) -> Plan:
    return stood_on("prod", "shop", json.loads(text))


def plan(**spec: Any) -> Plan:
    """The plan of :func:`document`."""
    return _parsed(json.dumps(document(**spec)))


def invalid() -> InvalidPlanError:
    """What a plan with a fault gives."""
    try:
        parse(document(phases=[]))
    except InvalidPlanError as error:
        return error
    raise AssertionError("a plan without phases has a fault")


def running_of(status: Status) -> Plan | None:
    """What the run stands on, read from its status as a restarted process would."""
    if status.run is None:
        return None
    try:
        return _stood_on(json.dumps(status.run.stands_on))
    except InvalidPlanError:
        return None


Traffic = Callable[[Subject, float], tuple[float, float] | None]
"""The events of a subject in the row at an instant: all and bad ones; None: there is no row."""


def good(subject: Subject, at: float) -> tuple[float, float] | None:
    """A thousand requests a row, all good."""
    return 1000.0, 0.0


def bad(subject: Subject, at: float) -> tuple[float, float] | None:
    """A canary that fails each fifth request."""
    return 1000.0, 200.0 if subject.track == "canary" else 0.0


def silent(subject: Subject, at: float) -> tuple[float, float] | None:
    """No row at all."""
    return None


def thin(subject: Subject, at: float) -> tuple[float, float] | None:
    """So few requests that nothing can be proven."""
    return 1.0, 0.0


@dataclass
class Course:
    """One launch that is decided again and again; what it decides is done at once, unless ``carried_out`` is false."""

    plan: Plan | InvalidPlanError
    status: Status = field(default_factory=Status)
    now: float = NOW
    live: dict[str, int] = field(default_factory=dict)
    folds: Mapping[str, Fold] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    traffic: Traffic = good
    past: tuple[Hour, ...] = ()
    problem: str = ""
    asked: bool = True
    accepted: bool | None = True
    canary_ready: int | None = 2
    stable_ready: int | None = 2
    route_problem: str = ""
    claimed_by: str = ""
    fate: IntentFate = "none"
    intent_since: float = 0.0
    carried_out: bool = True
    through_json: bool = False
    generation: int = 1
    templates: dict[str, str] = field(default_factory=dict)
    versions: dict[str, int] | None = None
    unwritable: str = ""
    stop: Stop | None = None
    alerting: str = ""
    deleting: bool = False
    guarded: bool = False
    gate_judged_at: float | None = None
    history: list[Decision] = field(default_factory=list)

    def observe(self) -> Observation:
        """What is seen now, with the readings that the core asks for."""
        running = running_of(self.status)
        targets = running.targets if running else self.plan.targets if isinstance(self.plan, Plan) else ()
        seen = Observation(
            now=self.now,
            namespace="prod",
            name="shop",
            generation=self.generation,
            plan=self.plan,
            running=running,
            status=self.status,
            annotations=dict(self.annotations),
            targets=tuple(self._view(one.name) for one in targets),
            epoch=1,
            folds=dict(self.folds),
            intent_age=self.now - self.intent_since,
            intent_fate=self.fate if self.status.intent else "none",
            claimed_by=self.claimed_by,
            deleting=self.deleting,
            guarded=self.guarded,
            alerting=self.alerting,
            gate_judged_at=self.gate_judged_at,
            stop=self.stop,
        )
        if not self.asked:
            return seen
        return replace(seen, readings={one: self._reading(one, after) for one, after in questions(seen).items()})

    def _view(self, name: str) -> TargetView:
        weight = self.live.get(name, 0)
        return TargetView(
            name=name,
            weight=None if self.route_problem else weight,
            problem=self.route_problem,
            takes_traffic=weight > 0,
            accepted=self.accepted,
            canary_ready=self.canary_ready,
            stable_ready=self.stable_ready,
            template=self.templates.get(name, ""),
            versions=self.versions,
            unwritable=self.unwritable,
        )

    def _reading(self, subject: Subject, after: int) -> Reading:
        series = subject.series
        through = max(grid(self.now - series.settle, series.interval), after)
        if self.problem:
            return Reading(after, through, problem=self.problem)
        if subject.past:
            return Reading(after, through, hours=self.past)
        settled = self._rows(subject, range(after + series.interval, through + 1, series.interval))
        tail = self._rows(subject, range(through + series.interval, floor(self.now) + 1, series.interval))
        return Reading(after, through, settled, tail)

    def _rows(self, subject: Subject, instants: range) -> tuple[Row, ...]:
        counts = ((at, self.traffic(subject, float(at))) for at in instants)
        return tuple(Row(float(at), *count) for at, count in counts if count is not None)

    def decide(self) -> Decision:
        """The decision now, not carried out."""
        return decide(self.observe())

    def tick(self, seconds: float = 10.0) -> Decision:
        """One tick, ``seconds`` after the one before, carried out."""
        self.now = round(self.now + seconds, 3)
        decision = self.decide()
        self.history.append(decision)
        self._carry_out(decision)
        return decision

    def _carry_out(self, decision: Decision) -> None:
        opened = decision.status.intent is not None and decision.status.intent != self.status.intent
        stored = with_evidence(decision)
        if decision.decisive or self.status.run is not None:
            self.status = read_status(write_status(stored)) if self.through_json else stored
        self.folds = decision.folds
        self.gate_judged_at = decision.gate_judged_at
        if opened:
            self.intent_since, self.fate = self.now, "unknown"
        if not self.carried_out:
            return
        self.live.update(decision.weights)
        if opened:
            self.fate = "written"
        intent = self.status.intent
        lowered = intent is not None and all(self.live.get(name, 0) <= to for name, to in intent.weights.items())
        if decision.lowers and lowered and not decision.withheld:
            self.status = retreated(self.status, self.now)

    def run(self, ticks: int, seconds: float = 10.0) -> list[Decision]:
        """So many ticks."""
        return [self.tick(seconds) for _ in range(ticks)]

    def until(self, state: State | str, ticks: int = 400) -> Decision:
        """Ticks until the launch is in that state."""
        for _ in range(ticks):
            decision = self.tick()
            if self.status.state == state:
                return decision
        raise AssertionError(f"not {state} after {ticks} ticks, but {self.status.state}: {self.status.message}")

    def until_weight(self, weight: int, name: str = "main", ticks: int = 400) -> Decision:
        """Ticks until a weight is recorded as in force."""
        for _ in range(ticks):
            decision = self.tick()
            if any((one.name, one.weight) == (name, weight) for one in self.status.targets):
                return decision
        raise AssertionError(f"not at {weight} after {ticks} ticks: {self.status.state}: {self.status.message}")

    @property
    def raises(self) -> list[dict[str, int]]:
        """The weights that were raised to, in order."""
        return [dict(decision.weights) for decision in self.history if decision.raises]


def course(**spec: Any) -> Course:
    """A launch of that plan which nobody has looked at yet."""
    return Course(plan(**spec))
