"""The daemon: builds the parts and lets them turn until a signal says stop."""

from __future__ import annotations

import gc
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from controller.adapters.alertmanager import ANSWER_VALID_SECONDS, AlertSender, DeliveryCheck
from controller.adapters.api_server import PODS_VALID_SECONDS, KubernetesSettings
from controller.adapters.events import EventWriter
from controller.adapters.files import Files
from controller.adapters.incidents import IncidentSources
from controller.adapters.kubernetes import Kubernetes
from controller.adapters.lease import KubernetesLease
from controller.adapters.ledger_file import LedgerFile
from controller.adapters.lock_file import LockFile
from controller.adapters.prometheus import Prometheus, PrometheusSettings
from controller.adapters.promql import Confinement
from controller.adapters.reached import alertmanagers
from controller.adapters.silences import SilenceCheck
from controller.backends import Backends
from controller.clock import SystemClock
from controller.core.alerts import alerts_of_decision, never_silenced
from controller.core.configuration import InvalidConfigurationError
from controller.core.decide import Decision
from controller.core.observation import TargetView
from controller.core.series import RecordedForm
from controller.core.terms import Terms
from controller.core.world import LaunchKey
from controller.errors import AdapterError
from controller.gather import Gatherer
from controller.health import HealthServer
from controller.inforce import InForce, Watching
from controller.leader import FOR_GOOD, Alone, Leader, Times
from controller.loop import Loop
from controller.ports import Cluster
from controller.reconcile import Reconciler
from controller.settings import Settings
from controller.telemetry import Telemetry, configure_logging
from controller.timed import TimedQueries, timed_cluster
from controller.tls import Certificates
from controller.webhook import Webhook

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


class DaemonRecorder(Telemetry):
    """Telemetry that also keeps the alerts of each launch up to date."""

    def __init__(self, sender: AlertSender | None) -> None:
        super().__init__()
        self.sender = sender
        self.silences: SilenceCheck | None = None

    def judged(self, key: LaunchKey, decision: Decision, views: tuple[TargetView, ...]) -> None:
        """Tell people, too, of what they have to hear of now."""
        super().judged(key, decision, views)
        if self.sender is None:
            return
        silenced = self.silences.since if self.silences is not None else never_silenced
        try:
            self.sender.publish(key, alerts_of_decision(key, decision, silenced))
        except Exception as error:  # noqa: BLE001 - what cannot be told must not keep a rollback from being written
            self.alert_failed(error)

    def forgotten(self, key: LaunchKey) -> None:
        """Tell nobody of it any more, either."""
        super().forgotten(key)
        if self.sender is not None:
            self.sender.publish(key, ())


def run(settings: Settings) -> int:
    """Build the parts and turn until a signal says stop; the exit code."""
    configure_logging(json=settings.log_json, level=settings.log_level)
    clock = SystemClock()
    recorder = DaemonRecorder(None)
    recorded = RecordedForm(settings.recorded_interval, settings.recorded_settle, settings.recorded_offset)
    try:
        inforce = InForce(settings, recorded, recorder)
    except InvalidConfigurationError as error:
        for fault in error.faults:
            _say(f"--config {settings.config}: {fault}")
        return EXIT_USAGE
    places = alertmanagers(settings, inforce.configuration)
    if places:
        recorder.sender = AlertSender(
            places,
            external_url=settings.external_url,
            runbook_url=settings.runbook_url,
            clock=clock.now,
            on_failure=recorder.alert_failed,
            on_sent=recorder.alerts_were_sent,
        )
        recorder.silences = SilenceCheck(
            places,
            recorder.sender.firing,
            clock=clock.now,
            on_failure=lambda error: recorder.failed(None, "reading silences", error),
        )
    delivery = DeliveryCheck(
        places,
        watchdog=settings.alertmanager_watchdog,
        # It is asked once a tick.
        valid=max(ANSWER_VALID_SECONDS, 3 * settings.tick),
    )
    try:
        leader = _leader(settings, clock, recorder)
        cluster = _cluster(
            settings,
            recorded,
            lambda problem: recorder.note("cluster", problem=problem),
            leader.may_write,
            lambda: inforce.terms,
        )
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

    def asking(_name: str, reached: PrometheusSettings, confined: Confinement) -> _Backend:
        source = Prometheus(reached)
        gatherer = Gatherer(TimedQueries(source, recorder.queried), confinement=confined)
        incidents = IncidentSources(
            gatherer,
            source,
            places,
            watchdog=settings.alertmanager_watchdog,
            clock=clock.now,
            resend=settings.alertmanager_resend,
            on_failure=lambda problem: recorder.note("incidents", problem=problem),
            valid=max(ANSWER_VALID_SECONDS, 3 * settings.tick),
        )
        return _Backend(source, gatherer, incidents)

    evidence = Backends(asking, inforce.backends, inforce.confinement)
    written = timed_cluster(cluster, recorder.wrote)
    recorder.serves(
        tick=settings.tick,
        alertmanagers=len(set(places)),
        in_sync=lambda: cluster.synced() and not cluster.problem(),
        leading=leader.leading,
    )
    loop = Loop(
        cluster,
        lambda background: Reconciler(
            written,
            evidence,
            recorder,
            clock,
            recorded=recorded,
            route_settle=settings.route_settle,
            background=background,
            alerting=delivery,
            fleet=lambda: inforce.fleet,
        ),
        recorder,
        clock,
        tick=settings.tick,
        workers=settings.workers,
        leadership=leader if settings.elect else None,
        read_again=cluster.read_again if isinstance(cluster, Kubernetes) else None,
    )
    leader.on_lead = loop.wake
    webhook = None
    if settings.webhook_token_file or settings.webhook_client_ca_file:
        webhook = Webhook(
            Path(settings.webhook_token_file) if settings.webhook_token_file else None,
            cluster.launches,
            loop.look_soon,
            lambda problem: recorder.note("webhook", problem=problem),
            certificate=bool(settings.webhook_client_ca_file),
        )
    certificates = None
    if settings.listen_cert_file:
        try:
            certificates = Certificates(
                settings.listen_cert_file, settings.listen_key_file, settings.webhook_client_ca_file
            )
        except OSError as error:
            _say(f"--listen-cert-file, --listen-key-file or --webhook-client-ca-file cannot be used: {error}")
            return EXIT_USAGE
    try:
        health = HealthServer(
            *settings.listen,
            stuck=loop.stuck,
            unready=loop.unready,
            metrics=recorder.exposition,
            webhook=webhook,
            certificates=certificates,
        )
    except OSError as error:
        _say(f"--listen {settings.listen[0]}:{settings.listen[1]}: {error.strerror}")
        return EXIT_USAGE
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.stop())
    health.start()
    if recorder.sender is not None:
        recorder.sender.start()
    watching = None
    if settings.config is not None:
        plans_anew = cluster.read_plans_anew if isinstance(cluster, Kubernetes) else _nothing
        watching = Watching(inforce, evidence, plans_anew, loop.wake_all, clock.now, recorder, each=settings.tick)
        watching.start()
    recorder.note("started", listen=f"{settings.listen[0]}:{health.port}", tick=settings.tick)
    gc.collect()
    gc.freeze()
    leader.start()
    ended = False
    try:
        ended = loop.run()
    finally:
        # Events are the last that is written. Where a write is still on its way, the Lease runs out by itself.
        _stop_all(events)
        leader.stop(release=ended)
        _stop_all(watching, evidence, delivery, recorder.silences, ledger, recorder.sender)
        health.stop()
    recorder.note("stopped", clean=ended)
    return EXIT_OK if ended else EXIT_FAILED


class _Backend:
    """One Prometheus of the daemon: the readings, and the incidents beside them."""

    def __init__(self, source: Prometheus, gatherer: Gatherer, incidents: IncidentSources) -> None:
        self._source, self._gatherer, self._incidents = source, gatherer, incidents
        self.gather = incidents.gather

    def stop(self) -> None:
        self._gatherer.close()
        self._incidents.stop()
        self._source.close()


def _nothing() -> None:
    """A folder looks by itself for what plans are read with."""


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


def _cluster(
    settings: Settings,
    recorded: RecordedForm,
    on_problem: Callable[[str], None],
    may_write: Callable[[], bool],
    terms: Callable[[], Terms],
) -> Cluster:
    if settings.folder is not None:
        return Files(settings.folder, on_problem=on_problem, recorded=recorded, may_write=may_write, terms=terms)
    return Kubernetes(
        _kubernetes_settings(settings), on_problem=on_problem, recorded=recorded, may_write=may_write, terms=terms
    )


def _kubernetes_settings(settings: Settings) -> KubernetesSettings:
    return KubernetesSettings(
        kubeconfig=settings.kubeconfig,
        context=settings.context,
        namespaces=settings.namespaces,
        # A write that was begun at the last moment has ended, or was given up, when the next process may begin.
        connect_timeout_s=Times().request,
        connections=max(32, 4 * settings.workers),
        pods_valid_s=max(PODS_VALID_SECONDS, 3 * settings.tick),
    )


def _leader(settings: Settings, clock: SystemClock, recorder: Telemetry) -> Leader | Alone:
    if not settings.elect:
        return Alone()
    identity = f"{os.environ.get('POD_NAME') or socket.gethostname()}_{secrets.token_hex(4)}"
    if settings.folder is not None:
        return Leader(LockFile(settings.folder), identity, clock.steady, recorder, times=FOR_GOOD)
    times = Times()
    lease = KubernetesLease(
        _kubernetes_settings(settings),
        settings.lease_namespace,
        settings.lease_name,
        lease_s=times.lease,
        request_s=times.request,
        wall=clock.now,
    )
    return Leader(lease, identity, clock.steady, recorder, times=times)
