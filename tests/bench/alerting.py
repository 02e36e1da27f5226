"""How long the loop's part of telling people takes, whatever the Alertmanagers do."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from controller.adapters.alertmanager import AlertSender
from controller.adapters.silences import SilenceCheck
from controller.core.alarms import HELD
from controller.core.alerts import alerts_of
from controller.core.plan import Contact
from controller.core.status import Alarm, State, Status
from controller.core.world import LaunchKey
from controller.daemon import DaemonRecorder
from controller.reconcile import Reconciler
from controller.telemetry import configure_logging
from tests.bench.table import Figure
from tests.virtual.world import World, launch_document, route_document

LAUNCHES = 200
CONTACTS = (Contact("on-call"), Contact("eng-lead", 600.0), Contact("vp", 1800.0))


def telling() -> Iterator[Figure]:
    """A round of 200 held launches, each of which three roles are told: without an Alertmanager, and with two that hang."""
    yield _round("telling of 200 launches, no Alertmanager", hang=0)
    yield _round("telling of 200 launches, both Alertmanagers hang", hang=2)
    yield _turns("tick of a held launch, no Alertmanager", hang=0)
    yield _turns("tick of a held launch, both Alertmanagers hang", hang=2)


def _round(name: str, hang: int) -> Figure:
    now = time.time()
    alarm = Alarm(kind=HELD, reason="StepUndecided", message="undecided for 30m", since=now - 7200)
    status = Status(state=State.HELD, alarms=(alarm,))
    keys = [LaunchKey("prod", f"launch-{number}") for number in range(LAUNCHES)]
    times = []
    with _telling(hang) as (sender, silences):
        for _ in range(50):
            started = time.perf_counter()
            for key in keys:
                sender.publish(key, alerts_of(key, status, now, CONTACTS, silences.since))
            times.append((time.perf_counter() - started) * 1e3)
    return Figure(name, "ms", times, "the same with and without")


def _turns(name: str, hang: int) -> Figure:
    """Whole ticks of the daemon's own parts: look, ask, decide, tell, write; in virtual time, against a made-up cluster."""
    configure_logging(level="error")
    contacts = [{"role": "on-call"}, {"role": "eng-lead", "after": "10m"}, {"role": "vp", "after": "30m"}]
    world = World(launch_document(contacts=contacts), [route_document()])
    times = []
    with _telling(hang) as (sender, silences):
        recorder = DaemonRecorder(sender)
        recorder.silences = silences
        process = Reconciler(world, world, recorder, world.clock)
        world.run(process, 60, tick=10)
        world.annotate(hold="looking")
        world.run(process, 3600, tick=10)
        for _ in range(300):
            world.clock.at += 10
            started = time.perf_counter()
            world.turn(process)
            times.append((time.perf_counter() - started) * 1e3)
        if not sender.firing():
            raise RuntimeError("the launch is not held, so nothing was measured")
    return Figure(name, "ms", times, "the same with and without")


@contextmanager
def _telling(hang: int) -> Iterator[tuple[AlertSender, SilenceCheck]]:
    """What tells so many Alertmanagers, which take connections and never answer."""
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(hang)]
        urls = [f"http://127.0.0.1:{one.getsockname()[1]}" for one in silent]
        sender = AlertSender(urls, external_url="http://localhost", on_failure=lambda _error: None)
        silences = SilenceCheck(urls, sender.firing)
        sender.start()
        stack.callback(sender.stop)
        stack.callback(silences.stop)
        yield sender, silences
