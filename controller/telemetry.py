"""Decisions become log lines, metrics and Events. Sole importer of structlog and prometheus_client."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol, TextIO, get_args

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from controller.core.decide import LONGEST_MESSAGE, Decision
from controller.core.events import (
    Event,
    checkpoint_criteria,
    checkpoint_sentence,
    event_of_rollback,
    events_of,
    in_lines,
)
from controller.core.evidence import Outcome
from controller.core.observation import Observation, TargetView
from controller.core.overrides import VERBS
from controller.core.signals import Signal
from controller.core.status import UNDER_WAY, OverrideRecord, State, Status
from controller.core.transitions import Action
from controller.core.units import FULL_WEIGHT, format_weight, parse_duration
from controller.core.world import LaunchKey
from controller.errors import AdapterError, ConflictError, NotFoundError, RefusedError, UnansweredError, UnusableError

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

PREFIX = "autoadvance"
LONGEST_LINE = 8 * 1024
"""Bytes of criteria in one line of the log; a container runtime cuts lines at 16 KiB."""
QUIET_SECONDS = 60.0
"""The same failure of the same launch is logged at most this often."""
DOINGS = (
    "deciding",
    "electing",
    "fencing a raise",
    "gathering",
    "looking",
    "lowering the canary",
    "reading its status",
    "reading silences",
    "recording the retreat",
    "sending alerts",
    "storing the intent to retreat",
    "storing why the retreat is stuck",
    "writing",
    "writing events",
)
"""What can fail and is tried again; each is counted from 0."""
WRITES = ("route", "dry run", "status", "launch")
"""What is written: weights, the trial of a raise, a Launch's status, a Launch's finalizer."""
OUTCOMES: dict[type[AdapterError], str] = {
    ConflictError: "conflict",
    NotFoundError: "gone",
    RefusedError: "refused",
    UnansweredError: "unanswered",
    UnusableError: "unusable",
}
_OVER = (State.ROLLED_BACK, State.SUCCEEDED)


def configure_logging(*, json: bool | None = None, level: str = "info", stream: TextIO | None = None) -> None:
    """One line per event: JSON where no person reads it, coloured text on a terminal; ``json`` None: find out."""
    stream = stream or sys.stderr
    if json is None:
        json = not stream.isatty()
    renderer: Any = (
        structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=stream.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )


@dataclass(slots=True)
class _Latest:
    """What was last seen of one launch, and what was counted since this process knows it. Instants are epoch seconds."""

    decision: Decision
    views: tuple[TargetView, ...]
    at: float
    since: float
    actions: dict[Action, int] = field(default_factory=lambda: dict.fromkeys(Action, 0))
    drifts: int = 0


class _Launches(Collector):
    """What was last seen and decided of each launch, rendered when somebody asks for it."""

    def __init__(self) -> None:
        self._latest: dict[LaunchKey, _Latest] = {}
        self._lock = threading.Lock()

    def keep(self, key: LaunchKey, decision: Decision, views: tuple[TargetView, ...]) -> None:
        now, since = time.time(), _since(decision)
        with self._lock:
            known = self._latest.get(key)
            if known is None:
                self._latest[key] = _Latest(decision, views, now, since)
                return
            # Status remembers ten decisions; who has looked on for longer knows better.
            same = known.decision.status.state is decision.status.state
            known.since = min(known.since, since) if same else since
            known.decision, known.views, known.at = decision, views, now

    def count(self, key: LaunchKey, decision: Decision) -> None:
        with self._lock:
            known = self._latest.get(key)
            if known is not None:
                known.actions[decision.action] += 1
                known.drifts += decision.signal is Signal.DRIFT

    def drop(self, key: LaunchKey) -> None:
        with self._lock:
            self._latest.pop(key, None)

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            latest = [(key, known, dict(known.actions), known.drifts) for key, known in self._latest.items()]
        yield from _of_launches(latest)
        yield from _of_criteria((key, known.decision) for key, known, _, _ in latest)


_LAUNCH = ["namespace", "launch"]
_TARGET = [*_LAUNCH, "target"]
_CRITERION = [*_TARGET, "criterion"]


def _gauge(name: str, text: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels)


def _of_launches(latest: Iterable[tuple[LaunchKey, _Latest, dict[Action, int], int]]) -> Iterator[Metric]:
    state = _gauge("launch_state", "1 for the state in which the launch is.", [*_LAUNCH, "state"])
    since = _gauge("launch_state_since_timestamp_seconds", "Since when the launch is in its state.", _LAUNCH)
    reason = _gauge("launch_reason", "1 for why the launch is where it is, or held.", [*_LAUNCH, "reason"])
    age = _gauge("launch_last_evaluation_timestamp_seconds", "When the launch was last decided upon.", _LAUNCH)
    step = _gauge("launch_step", "The running step, counted from 1; 0 before the first.", [*_LAUNCH, "phase"])
    begun = _gauge(
        "launch_step_started_timestamp_seconds", "Since when the running step's weights are in force.", _LAUNCH
    )
    planned = _gauge("launch_step_planned_duration_seconds", "How long the running step is to last at least.", _LAUNCH)
    desired = _gauge("launch_desired_weight_ratio", "The canary's share as the launch left it, or intends it.", _TARGET)
    observed = _gauge("launch_observed_weight_ratio", "The canary's share as the route says.", _TARGET)
    decided = CounterMetricFamily(
        f"{PREFIX}_launch_decisions", "Decisions on the launch, by what was done.", labels=[*_LAUNCH, "action"]
    )
    drifts = CounterMetricFamily(
        f"{PREFIX}_launch_drifts", "Times that the route got a weight that the launch did not set.", labels=_LAUNCH
    )
    for key, known, actions, drifted in latest:
        status, labels = known.decision.status, [key.namespace, key.name]
        for possible in State:
            state.add_metric([*labels, possible.value], float(status.state is possible))
        since.add_metric(labels, known.since)
        if why := status.hold.reason if status.hold else status.reason:
            reason.add_metric([*labels, why], 1.0)
        age.add_metric(labels, known.at)
        if status.phase:
            step.add_metric([*labels, status.phase], status.step)
        if status.state in UNDER_WAY and status.step:
            begun.add_metric(labels, _step_begun(known))
            planned.add_metric(labels, _step_lasts(status))
        intended = status.intent.weights if status.intent else {}
        for item in status.targets:
            desired.add_metric([*labels, item.name], intended.get(item.name, item.weight) / FULL_WEIGHT)
        for view in known.views:
            if view.weight is not None:
                observed.add_metric([*labels, view.name], view.weight / FULL_WEIGHT)
        for action, number in actions.items():
            decided.add_metric([*labels, action.name.lower().replace("_", " ")], number)
        drifts.add_metric(labels, drifted)
    yield from (state, since, reason, age, step, begun, planned, desired, observed, decided, drifts)


def _of_criteria(decisions: Iterable[tuple[LaunchKey, Decision]]) -> Iterator[Metric]:
    verdict = _gauge("criterion_verdict", "1 for the verdict that the criterion has now.", [*_CRITERION, "verdict"])
    requests = _gauge("criterion_requests", "Requests (or samples) that the verdict rests on.", _CRITERION)
    bad = _gauge("criterion_bad_requests", "Bad ones among them.", _CRITERION)
    value = _gauge("criterion_value", "What was measured: a share of bad requests, or a bare value.", _CRITERION)
    limit = _gauge("criterion_limit", "The limit: a share of bad requests, or a bare value.", _CRITERION)
    newest = _gauge(
        "criterion_last_sample_timestamp_seconds", "The newest instant that the verdict rests on.", _CRITERION
    )
    for key, decision in decisions:
        shown = {(item.verdict.target, item.verdict.criterion.key): item.verdict for item in decision.verdicts}
        for (name, criterion), said in shown.items():
            place = [key.namespace, key.name, name, criterion]
            for outcome in Outcome:
                verdict.add_metric([*place, outcome.value], float(said.outcome is outcome))
            requests.add_metric(place, said.n)
            bad.add_metric(place, said.x)
            if said.value is not None and isfinite(said.value):
                value.add_metric(place, said.value)
            limit.add_metric(place, said.criterion.limit)
            if said.as_of:
                newest.add_metric(place, said.as_of)
    yield from (verdict, requests, bad, value, limit, newest)


def _since(decision: Decision) -> float:
    """Since when the launch is in its state (epoch seconds), as far back as its status remembers."""
    status = decision.status
    if status.state in _OVER and status.ended_at is not None:
        return status.ended_at
    since = decision.at
    for record in reversed(status.decisions):
        if record.state != status.state.value:
            break
        since = record.at
    return since


def _step_begun(known: _Latest) -> float:
    """When the step's weights came into force (epoch seconds); while they have not, when they were decided."""
    status = known.decision.status
    times = [target.in_force_at for target in status.targets if target.weight and not target.withdrawn]
    force = [at for at in times if at is not None]
    if force and len(force) == len(times):
        return max(force)
    return status.decisions[-1].at if status.decisions else known.since


def _step_lasts(status: Status) -> float:
    """The ``for`` of the running step, seconds; 0: no longer than its proof takes."""
    phases: list[dict[str, Any]] = status.run.stands_on.get("phases") or [] if status.run else []
    steps: list[dict[str, Any]] = phases[0].get("steps") or [] if phases else []
    written = steps[status.step - 1].get("for") if 0 < status.step <= len(steps) else None
    return parse_duration(written) if written else 0.0


class Ledger(Protocol):
    """Where every decision is kept with what it was made from."""

    def record(self, seen: Observation, decision: Decision) -> None:
        """Keep it; returns at once."""


class Events(Protocol):
    """Where people look for what happened to an object."""

    def publish(self, told: Callable[[], Iterable[Event]]) -> None:
        """Have written what ``told`` returns, which is called in another thread; returns at once."""


class Telemetry:
    """The Recorder of the daemon. ``ledger`` and ``events``, where there are any, are told of every decision besides."""

    ledger: Ledger | None = None
    events: Events | None = None

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._log = structlog.get_logger()
        self._launches = _Launches()
        self.registry.register(self._launches)
        self._failed: dict[tuple[LaunchKey | None, str, str], float] = {}
        self._failed_lock = threading.Lock()
        self.decisions = Counter(
            f"{PREFIX}_decisions", "Decisions that changed something.", ["signal"], registry=self.registry
        )
        for signal in Signal:
            self.decisions.labels(signal.value)
        self.overrides = Counter(f"{PREFIX}_overrides", "Overrides heard.", ["verb", "outcome"], registry=self.registry)
        for verb in VERBS:
            for heard in get_args(OverrideRecord.model_fields["outcome"].annotation):
                self.overrides.labels(verb, heard)
        self.failures = Counter(
            f"{PREFIX}_failures", "Things that did not work and are tried again.", ["doing"], registry=self.registry
        )
        for doing in DOINGS:
            self.failures.labels(doing)
        self.queries = Counter(
            f"{PREFIX}_queries", "Queries to Prometheus, by how they ended.", ["outcome"], registry=self.registry
        )
        for ended in ("answered", "refused", "unanswered", "unusable"):
            self.queries.labels(ended)
        self.query_seconds = Histogram(
            f"{PREFIX}_query_duration_seconds",
            "How long one query to Prometheus took, tries included.",
            buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self.writes = Counter(
            f"{PREFIX}_writes",
            "Writes to the API server, by how they ended.",
            ["of", "outcome"],
            registry=self.registry,
        )
        self.write_seconds = Histogram(
            f"{PREFIX}_write_duration_seconds",
            "How long one write to the API server took.",
            ["of"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        for of in WRITES:
            self.write_seconds.labels(of)
            for ended in ("done", *OUTCOMES.values()):
                self.writes.labels(of, ended)
        self.tick_seconds = Histogram(
            f"{PREFIX}_tick_duration_seconds",
            "From the start of a tick to its last decision.",
            buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self.gather_seconds = Histogram(
            f"{PREFIX}_gather_duration_seconds",
            "How long Prometheus took to answer all questions of a tick.",
            buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self.ticks_missed = Counter(
            f"{PREFIX}_ticks_missed", "Ticks that found the one before still at work.", registry=self.registry
        )
        self.last_round = Gauge(
            f"{PREFIX}_last_evaluation_timestamp_seconds", "When a tick was last finished.", registry=self.registry
        )
        self.records_dropped = Counter(
            f"{PREFIX}_decision_records_dropped",
            "Decisions that did not come into the decision log.",
            registry=self.registry,
        )
        self.events_dropped = Counter(
            f"{PREFIX}_events_dropped", "Events that the API server did not take.", registry=self.registry
        )
        self.alerts_sent = Counter(
            f"{PREFIX}_alerts_sent", "Alerts that an Alertmanager took, each time.", registry=self.registry
        )
        self.alert_failures = Counter(
            f"{PREFIX}_alert_failures", "Alerts that an Alertmanager did not take.", registry=self.registry
        )
        self.alertmanagers = Gauge(
            f"{PREFIX}_alertmanagers", "How many Alertmanagers are told.", registry=self.registry
        )
        self.tick_interval = Gauge(
            f"{PREFIX}_tick_interval_seconds", "How often every launch is to be looked at.", registry=self.registry
        )
        self.in_sync = Gauge(
            f"{PREFIX}_cluster_in_sync", "1 while what is known of the cluster is up to date.", registry=self.registry
        )
        self.leader = Gauge(
            f"{PREFIX}_leader", "1 while this process is the one that decides and writes.", registry=self.registry
        )
        Gauge(f"{PREFIX}_start_time_seconds", "When the process began.", registry=self.registry).set_to_current_time()
        Gauge(f"{PREFIX}_build_info", "1; which version runs.", ["version"], registry=self.registry).labels(
            _version()
        ).set(1)
        self._about_configuration()

    def _about_configuration(self) -> None:
        self.config_successful = Gauge(
            f"{PREFIX}_config_last_reload_successful",
            "1 while the operator's configuration as it stands in its file is in force.",
            registry=self.registry,
        )
        self.config_successful.set(1)
        self.config_success_time = Gauge(
            f"{PREFIX}_config_last_reload_success_timestamp_seconds",
            "When the configuration that is in force was read.",
            registry=self.registry,
        )
        self.config_success_time.set_to_current_time()
        self.stopped = Gauge(
            f"{PREFIX}_fleet_stopped", "1 while the operator has stopped all raises.", registry=self.registry
        )

    def serves(
        self,
        *,
        tick: float,
        alertmanagers: int,
        in_sync: Callable[[], bool],
        leading: Callable[[], bool] = lambda: True,
    ) -> None:
        """The daemon begins: a round each ``tick`` seconds, alerts to so many, from a view that is in sync or not.

        ``leading`` says whether this process is the one of several that decides.
        """
        self.tick_interval.set(tick)
        self.alertmanagers.set(alertmanagers)
        self.in_sync.set_function(lambda: float(in_sync()))
        self.leader.set_function(lambda: float(leading()))

    def configured(self, *, problem: str, stop_problem: str = "") -> None:
        """An edit of the operator's configuration was taken over, or has faults and changes nothing.

        ``stop_problem``: what is wrong in the stop beside it, which stops all raises.
        """
        self.config_successful.set(not (problem or stop_problem))
        if problem:
            self._log.error("configuration has faults, the last good one stays in force", error=problem)
        if stop_problem:
            self._log.error("stop.yaml has faults, so all raises are stopped", error=stop_problem)
        if not (problem or stop_problem):
            self.config_success_time.set_to_current_time()
            self._log.info("configuration in force")

    def fleet_stopped(self, *, stopped: bool) -> None:
        """Whether the operator has stopped all raises."""
        self.stopped.set(stopped)

    def queried(self, seconds: float, error: AdapterError | None) -> None:
        """A query to Prometheus has ended."""
        self.queries.labels(_outcome(error, "answered")).inc()
        self.query_seconds.observe(seconds)

    def wrote(self, of: str, seconds: float, error: AdapterError | None) -> None:
        """A write has ended; ``of`` is one of WRITES."""
        self.writes.labels(of, _outcome(error, "done")).inc()
        self.write_seconds.labels(of).observe(seconds)

    def decided(self, key: LaunchKey, decision: Decision, seen: Observation) -> None:
        """Log lines with the decision's id, the counters, Events and ledger; ``seen`` is what it was made from."""
        self.decisions.labels(decision.signal.value).inc()
        self._launches.count(key, decision)
        for record in decision.news:
            if record.present:
                self.overrides.labels(record.verb, record.outcome).inc()
                self._log.info(
                    "override",
                    launch=str(key),
                    verb=record.verb,
                    outcome=record.outcome,
                    message=record.message,
                    by=record.by,
                )
        status = decision.status
        self._log.info(
            "decision",
            launch=str(key),
            id=decision.id,
            signal=decision.signal.value,
            action=decision.action.value,
            state=status.state.value,
            phase=status.phase,
            step=status.step,
            weights={name: format_weight(weight) for name, weight in decision.weights.items()},
            message=decision.message,
        )
        self._tell_of_checkpoint(key, decision)
        if self.ledger is not None:
            self.ledger.record(seen, decision)
        if self.events is not None:
            self.events.publish(lambda: events_of(key, decision))

    def _tell_of_checkpoint(self, key: LaunchKey, decision: Decision) -> None:
        """All that a checkpoint found, in as many lines as it takes."""
        taken = decision.checkpoint
        if taken is None:
            return
        score = taken.score
        parts = list(in_lines(checkpoint_criteria(taken), LONGEST_LINE))
        for number, criteria in enumerate(parts, 1):
            self._log.info(
                "checkpoint",
                launch=str(key),
                id=decision.id,
                phase=score.phase,
                after=score.after,
                passed=score.passed,
                undecided=score.undecided,
                failed=score.failed,
                message=checkpoint_sentence(taken, decision.status)[:LONGEST_MESSAGE],
                criteria=criteria,
                **({"part": number, "of": len(parts)} if len(parts) > 1 else {}),
            )

    def judged(self, key: LaunchKey, decision: Decision, views: tuple[TargetView, ...]) -> None:
        """Keep what the metrics show."""
        self._launches.keep(key, decision, views)

    def rolled_back(self, key: LaunchKey, status: Status) -> None:
        """One log line, and an Event."""
        self._log.warning("rolled back", launch=str(key), id=status.decisions[-1].id if status.decisions else "")
        if self.events is not None:
            ended = time.time() if status.ended_at is None else status.ended_at
            self.events.publish(lambda: (event_of_rollback(key, status, ended),))

    def failed(self, key: LaunchKey | None, doing: str, error: BaseException) -> None:
        """One log line per failure of a kind and a minute; every one is counted."""
        self.failures.labels(doing).inc()
        now = time.monotonic()
        place = key, doing, type(error).__name__
        with self._failed_lock:
            if now - self._failed.get(place, -QUIET_SECONDS) < QUIET_SECONDS:
                return
            self._failed = {old: at for old, at in self._failed.items() if now - at < QUIET_SECONDS}
            self._failed[place] = now
        self._log.warning("failed", launch=str(key) if key else "", doing=doing, error=str(error))

    def round_done(self, seconds: float, gather_seconds: float) -> None:
        """A tick was finished."""
        self.tick_seconds.observe(seconds)
        self.gather_seconds.observe(gather_seconds)
        self.last_round.set_to_current_time()

    def round_missed(self) -> None:
        """A tick found the one before still asking."""
        self.ticks_missed.inc()

    def alert_failed(self, error: BaseException) -> None:
        """An Alertmanager did not take what was sent."""
        self.alert_failures.inc()
        self.failed(None, "sending alerts", error)

    def alerts_were_sent(self, number: int) -> None:
        """An Alertmanager took so many alerts."""
        self.alerts_sent.inc(number)

    def event_dropped(self, error: BaseException) -> None:
        """An Event was given up."""
        self.events_dropped.inc()
        self.failed(None, "writing events", error)

    def records_were_dropped(self, number: int, why: str) -> None:
        """So many decisions did not come into the ledger."""
        self.records_dropped.inc(number)
        self._log.warning("decisions not recorded", number=number, error=why)

    def forgotten(self, key: LaunchKey) -> None:
        """The launch is gone, its series with it."""
        self._launches.drop(key)

    def note(self, event: str, **fields: object) -> None:
        """A line about the daemon itself."""
        self._log.info(event, **fields)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The metrics in the format that the scraper accepts, with its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


def _version() -> str:
    try:
        return metadata.version("auto-advance")
    except metadata.PackageNotFoundError:  # run from its sources
        return "unknown"


def _outcome(error: AdapterError | None, good: str) -> str:
    """How it ended, in one of a few words."""
    if error is None:
        return good
    return next((name for kind, name in OUTCOMES.items() if isinstance(error, kind)), "unanswered")
