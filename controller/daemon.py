"""The daemon: builds the parts and lets them turn until a signal says stop."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Callable
from typing import Protocol

from controller.adapters.alertmanager import ANSWER_VALID_SECONDS, AlertSender, DeliveryCheck
from controller.adapters.events import EventWriter
from controller.adapters.files import Files
from controller.adapters.kubernetes import PODS_VALID_SECONDS, Kubernetes, KubernetesSettings
from controller.adapters.ledger_file import LedgerFile
from controller.adapters.prometheus import Prometheus
from controller.adapters.promql import Confinement
from controller.adapters.reached import prometheus_settings
from controller.clock import SystemClock
from controller.core.alerts import alerts_of_decision
from controller.core.decide import Decision
from controller.core.observation import TargetView
from controller.core.series import RecordedForm
from controller.core.world import LaunchKey
from controller.errors import AdapterError
from controller.gather import Gatherer
from controller.health import HealthServer
from controller.loop import Loop
from controller.ports import Cluster
from controller.reconcile import Reconciler
from controller.settings import Settings
from controller.telemetry import Telemetry, configure_logging

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


class _Recorder(Telemetry):
    """Telemetry that also keeps the alerts of each launch up to date."""

    def __init__(self, sender: AlertSender | None) -> None:
        super().__init__()
        self.sender = sender

    def judged(self, key: LaunchKey, decision: Decision, views: tuple[TargetView, ...]) -> None:
        super().judged(key, decision, views)
        if self.sender is not None:
            self.sender.publish(key, alerts_of_decision(key, decision))

    def forgotten(self, key: LaunchKey) -> None:
        super().forgotten(key)
        if self.sender is not None:
            self.sender.publish(key, ())


def run(settings: Settings) -> int:
    """Build the parts and turn until a signal says stop; the exit code."""
    configure_logging(json=settings.log_json, level=settings.log_level)
    clock = SystemClock()
    recorder = _Recorder(None)
    if settings.alertmanagers:
        recorder.sender = AlertSender(
            settings.alertmanagers,
            external_url=settings.external_url,
            clock=clock.now,
            on_failure=recorder.alert_failed,
        )
    delivery = DeliveryCheck(
        settings.alertmanagers,
        watchdog=settings.alertmanager_watchdog,
        # It is asked once a tick.
        valid=max(ANSWER_VALID_SECONDS, 3 * settings.tick),
    )
    recorded = RecordedForm(settings.recorded_interval, settings.recorded_settle, settings.recorded_offset)
    try:
        cluster = _cluster(settings, recorded, lambda problem: recorder.note("cluster", problem=problem))
    except AdapterError as error:
        _say(" ".join(str(error).split()))  # YAML's errors span lines
        return EXIT_USAGE
    ledger = None
    if settings.decision_log:
        try:
            recorder.ledger = ledger = LedgerFile(settings.decision_log, recorder.records_were_dropped)
        except AdapterError as error:
            _say(f"--decision-log: {error}")
            return EXIT_USAGE
    events = None
    if isinstance(cluster, Kubernetes):
        recorder.events = events = EventWriter(cluster.write_event, recorder.event_dropped)
    gatherer = Gatherer(Prometheus(prometheus_settings(settings)), confinement=Confinement(enforced=settings.confine))
    loop = Loop(
        cluster,
        lambda background: Reconciler(
            cluster,
            gatherer,
            recorder,
            clock,
            recorded=recorded,
            route_settle=settings.route_settle,
            background=background,
            alerting=delivery,
        ),
        recorder,
        clock,
        tick=settings.tick,
        workers=settings.workers,
    )
    try:
        health = HealthServer(*settings.listen, stuck=loop.stuck, unready=loop.unready, metrics=recorder.exposition)
    except OSError as error:
        _say(f"--listen {settings.listen[0]}:{settings.listen[1]}: {error.strerror}")
        return EXIT_USAGE
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.stop())
    health.start()
    if recorder.sender is not None:
        recorder.sender.start()
    recorder.note("started", listen=f"{settings.listen[0]}:{health.port}", tick=settings.tick)
    gc.collect()
    gc.freeze()
    try:
        ended = loop.run()
    finally:
        gatherer.close()
        _stop_all(delivery, ledger, events, recorder.sender)
        health.stop()
    recorder.note("stopped", clean=ended)
    return EXIT_OK if ended else EXIT_FAILED


class _Stopping(Protocol):
    def stop(self) -> None: ...


def _stop_all(*parts: _Stopping | None) -> None:
    """At the same time: each takes a while where what it writes to hangs."""
    threads = [threading.Thread(target=part.stop, name="stop", daemon=True) for part in parts if part is not None]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _say(problem: str) -> None:
    sys.stderr.write(f"auto-advance run: {problem}\n")


def _cluster(settings: Settings, recorded: RecordedForm, on_problem: Callable[[str], None]) -> Cluster:
    if settings.folder is not None:
        return Files(settings.folder, on_problem=on_problem, recorded=recorded)
    return Kubernetes(
        KubernetesSettings(
            kubeconfig=settings.kubeconfig,
            context=settings.context,
            namespaces=settings.namespaces,
            connections=max(32, 4 * settings.workers),
            pods_valid_s=max(PODS_VALID_SECONDS, 3 * settings.tick),
        ),
        on_problem=on_problem,
        recorded=recorded,
    )
