"""Decisions become log lines, metrics and Events. Sole importer of structlog and prometheus_client."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
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
from controller.core.signals import Signal
from controller.core.status import State, Status
from controller.core.units import FULL_WEIGHT, format_weight
from controller.core.world import LaunchKey

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

PREFIX = "autoadvance"
LONGEST_LINE = 8 * 1024
"""Bytes of criteria in one line of the log; a container runtime cuts lines at 16 KiB."""
QUIET_SECONDS = 60.0
"""The same failure of the same launch is logged at most this often."""


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


class _Launches(Collector):
    """What was last seen and decided of each launch, rendered when somebody asks for it."""

    def __init__(self) -> None:
        self._latest: dict[LaunchKey, tuple[Decision, tuple[TargetView, ...], float]] = {}
        self._lock = threading.Lock()

    def keep(self, key: LaunchKey, decision: Decision, views: tuple[TargetView, ...]) -> None:
        with self._lock:
            self._latest[key] = decision, views, time.time()

    def drop(self, key: LaunchKey) -> None:
        with self._lock:
            self._latest.pop(key, None)

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        launch = ["namespace", "launch"]
        target, criterion = [*launch, "target"], [*launch, "target", "criterion"]

        def gauge(name: str, text: str, labels: list[str]) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels)

        state = gauge("launch_state", "1 for the state in which the launch is.", [*launch, "state"])
        age = gauge("launch_last_evaluation_timestamp_seconds", "When the launch was last decided upon.", launch)
        desired = gauge(
            "launch_desired_weight_ratio", "The canary's share as the launch left it, or intends it.", target
        )
        observed = gauge("launch_observed_weight_ratio", "The canary's share as the route says.", target)
        verdict = gauge("criterion_verdict", "1 for the verdict that the criterion has now.", [*criterion, "verdict"])
        requests = gauge("criterion_requests", "Requests (or samples) that the verdict rests on.", criterion)
        bad = gauge("criterion_bad_requests", "Bad ones among them.", criterion)
        limit = gauge("criterion_limit", "The limit: a share of bad requests, or a bare value.", criterion)
        with self._lock:
            latest = list(self._latest.items())
        for key, (decision, views, at) in latest:
            labels = [key.namespace, key.name]
            for possible in State:
                state.add_metric([*labels, possible.value], float(decision.status.state is possible))
            age.add_metric(labels, at)
            intended = decision.status.intent.weights if decision.status.intent else {}
            for item in decision.status.targets:
                desired.add_metric([*labels, item.name], intended.get(item.name, item.weight) / FULL_WEIGHT)
            for view in views:
                if view.weight is not None:
                    observed.add_metric([*labels, view.name], view.weight / FULL_WEIGHT)
            shown = {(item.verdict.target, item.verdict.criterion.key): item.verdict for item in decision.verdicts}
            for (name, criterion_key), said in shown.items():
                place = [*labels, name, criterion_key]
                for outcome in Outcome:
                    verdict.add_metric([*place, outcome.value], float(said.outcome is outcome))
                requests.add_metric(place, said.n)
                bad.add_metric(place, said.x)
                limit.add_metric(place, said.criterion.limit)
        yield from (state, age, desired, observed, verdict, requests, bad, limit)


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
        self.decisions = Counter(
            f"{PREFIX}_decisions", "Decisions that changed something.", ["signal"], registry=self.registry
        )
        for signal in Signal:
            self.decisions.labels(signal.value)
        self.overrides = Counter(f"{PREFIX}_overrides", "Overrides heard.", ["verb", "outcome"], registry=self.registry)
        self.failures = Counter(
            f"{PREFIX}_failures", "Things that did not work and are tried again.", ["doing"], registry=self.registry
        )
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
        self.alert_failures = Counter(
            f"{PREFIX}_alert_failures", "Alerts that an Alertmanager did not take.", registry=self.registry
        )

    def decided(self, key: LaunchKey, decision: Decision, seen: Observation) -> None:
        """Log lines with the decision's id, the counters, Events and ledger; ``seen`` is what it was made from."""
        self.decisions.labels(decision.signal.value).inc()
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
