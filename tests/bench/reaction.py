"""From the first bad sample stored in Prometheus to weight 0 seen by an observer, on everything real."""

from __future__ import annotations

import contextlib
import random
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.bench.table import Figure
from tests.launch.stage import Daemon, Stage, stage, weight_of
from tests.realparts.kube import KubeApiserver
from tests.realparts.parts import ROOT
from tests.realparts.prometheus import config, static
from tests.realparts.server import wait_until

LIMIT = "0.2%"
STEPS = ({"weight": 30, "for": "1h"}, {"weight": 100})
RAISED_WITHIN_S = 120.0
LOWERED_WITHIN_S = 120.0


@contextlib.contextmanager
def _on_stage() -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        root = Path(folder)
        (root / "kube").mkdir()
        with KubeApiserver(root / "kube") as kube:
            kube.install_crds()
            with stage(kube, root) as on:
                yield on


def _turn_bad(on: Stage, names: Sequence[str]) -> None:
    """All of them fail from just after a scrape on, so that the first bad sample holds a whole second of it."""
    done = threading.Event()

    def fail() -> None:
        for name in names:
            on.traffic.shop(name).canary_errors = 0.2
        done.set()

    on.traffic.after_scrape(fail)
    done.wait(10)


def _first_bad(on: Stage, name: str) -> float:
    """The instant (Unix time) of the first stored sample that counts an error."""
    selector = f'http_requests_total{{service="{name}",track="canary",code="500"}}[10m]'
    (series,) = on.prometheus.query(selector)
    return next(float(at) for at, count in series["values"] if float(count) > 0)


def _lowered(on: Stage, name: str, since: int) -> float | None:
    for seen in on.observer.history[since:]:
        if seen.kind == "HTTPRoute" and seen.name == name and weight_of(seen.document) == 0:
            return seen.at
    return None


def _react(on: Stage, daemon: Daemon, names: Sequence[str], pause: float) -> tuple[list[float], int]:
    """Seconds of reaction of each launch, and how often a weight rose after the first bad sample."""
    daemon.start()
    daemon.wait_ready(60)
    for name in names:
        on.observer.wait_for_weight(name, 300, seconds=RAISED_WITHIN_S)
    time.sleep(pause)
    since = len(on.observer.history)
    _turn_bad(on, names)
    wait_until(
        lambda: all(_lowered(on, name, since) is not None for name in names),
        deadline_s=LOWERED_WITHIN_S,
        what=f"{len(names)} launches at 0%: {daemon.tail()}",
    )
    reactions, raised = [], 0
    for name in names:
        bad, zero = _first_bad(on, name), _lowered(on, name, since)
        assert zero is not None
        reactions.append(zero - bad)
        later = [seen for seen in on.observer.history if seen.at > zero and seen.kind == "HTTPRoute"]
        raised += sum(seen.name == name and weight_of(seen.document) > 0 for seen in later)
    daemon.kill9()
    return reactions, raised


def _clear(on: Stage, names: Sequence[str]) -> None:
    on.kube.delete_routes_and_launches(on.namespace)
    for name in names:
        on.traffic.shops.pop(name, None)


def one_launch(runs: int, ticks: Sequence[str]) -> Iterator[Figure]:
    """One launch at a time, raw counters, a fresh daemon each time so that every phase of tick and scrape occurs."""
    goals = {"1s": "median <= 0.6, worst <= 1.5", "250ms": "median <= 0.3, worst <= 0.75"}
    with _on_stage() as on:
        for tick in ticks:
            seconds, raised = [], 0
            for _ in range(runs):
                name = f"shop-{secrets.token_hex(3)}"
                on.create(name, steps=STEPS, below=LIMIT)
                daemon = Daemon(on.folder, on.arguments(tick=tick))
                time.sleep(random.random())
                reaction, rises = _react(on, daemon, [name], 4.0)
                seconds += reaction
                raised += rises
                _clear(on, [name])
            yield Figure(f"reaction, 1 launch, tick {tick}, raw counters", "s", seconds, goals.get(tick, ""))
            yield Figure(f"raised after the proof, 1 launch, tick {tick}", "raises", [raised], "0")


def many_launches(number: int, tick: str) -> Iterator[Figure]:
    """So many launches that all turn bad in the same second, with the daemon's default settings."""
    with _on_stage() as on:
        names = [f"shop-{index}" for index in range(number)]
        on.create(*names, steps=STEPS, below=LIMIT)
        reactions, raised = _react(on, Daemon(on.folder, on.arguments(tick=tick)), names, 15.0)
        yield Figure(f"reaction, {number} launches at once, tick {tick}", "s", reactions, f"every one <= {tick} + 1s")
        yield Figure(f"raised after the proof, {number} launches, tick {tick}", "raises", [raised], "0")


def recorded(runs: int) -> Iterator[Figure]:
    """The same from the recorded normal form with its defaults: rules of 10s with 5s of offset, tick 10s."""
    guardrail: dict[str, Any] = {"metric": "errors", "below": LIMIT}
    phases = [{"name": "ramp", "steps": list(STEPS), "guardrails": [guardrail]}]
    with _on_stage() as on:
        scrape = {**static("traffic", [on.traffic.address]), "honor_labels": True}
        document = config([scrape], rule_files=[ROOT / "rules" / "http.yaml"])
        on.prometheus.reconfigure(document)
        seconds = []
        for _ in range(runs):
            name = f"shop-{secrets.token_hex(3)}"
            on.create(name, phases=phases, metrics=[])
            time.sleep(25)
            seconds += _react(on, Daemon(on.folder, on.arguments(tick="10s")), [name], 40 + 10 * random.random())[0]
            _clear(on, [name])
        yield Figure("reaction, 1 launch, recorded normal form, all defaults", "s", seconds, "printed")


def said_by_hand(runs: int) -> Iterator[Figure]:
    """From the annotation to weight 0, and to the state Held, with Prometheus frozen, at the default tick."""
    with _on_stage() as on:
        seconds, holds = [], []
        for _ in range(runs):
            name, held = (f"shop-{secrets.token_hex(3)}" for _ in range(2))
            on.create(name, held, steps=STEPS, below=LIMIT)
            daemon = Daemon(on.folder, on.arguments(tick="10s"))
            daemon.start()
            for one in (name, held):
                on.observer.wait_for_weight(one, 300, seconds=RAISED_WITHIN_S)
            since = len(on.observer.history)
            with on.prometheus.paused():
                time.sleep(1 + 10 * random.random())
                asked = time.time()
                on.annotate(name, rollback="bench")
                seen = on.observer.wait_for_weight(name, 0, seconds=LOWERED_WITHIN_S, since=since)
                seconds.append(seen.at - asked)
                asked = time.time()
                on.annotate(held, hold="bench")
                holds.append(on.observer.wait_for_state(held, "Held", seconds=LOWERED_WITHIN_S).at - asked)
            daemon.kill9()
            _clear(on, [name, held])
        yield Figure("reaction to a rollback annotation, Prometheus hanging, tick 10s", "s", seconds, "<= 1")
        yield Figure("reaction to a hold annotation, Prometheus hanging, tick 10s", "s", holds, "<= 1")
