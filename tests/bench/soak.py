"""``python -m tests.bench.soak --minutes 10``: a bad day, and what the daemon takes of the machine and of the API server.

Prometheus and the API server are stopped, frozen and started at random, watches are cut, a launch gets a new revision
now and then. Everything that could pile up is counted each minute: it must stay as it was at the start.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.adapters.faulty_proxy import FaultyProxy
from tests.bench.table import Figure
from tests.launch.stage import GROUP, Daemon, Stage, stage
from tests.realparts.kube import ApiError, KubeApiserver
from tests.realparts.server import wait_until

STAYING = ("first", "second", "third")
RAMPED = "ramped"
CALM_S = 15.0
"""How long nothing is done to anybody before the first sample and before the last one."""
QUIET_S = 8.0
"""Shorter than between two renewals of the watches."""
SETTLED_S = 120.0


@dataclass(frozen=True)
class Sample:
    """What the daemon took, from the sample before it to this one where it is a rate.

    ``minute`` is since the start; memory is in MiB; lines and requests are per minute and per second.
    """

    minute: float
    doing: str
    memory: float
    threads: int
    sockets: int
    lines_per_minute: float
    requests_per_second: float

    def __str__(self) -> str:
        return (
            f"{self.minute:5.1f} min  {self.memory:6.1f} MiB  {self.threads:3d} threads  {self.sockets:3d} sockets  "
            f"{self.lines_per_minute:6.1f} log lines/min  {self.requests_per_second:6.2f} API requests/s  {self.doing}"
        )


class _Meter:
    """Reads the daemon's process, its log, and what passed through its proxy."""

    def __init__(self, daemon: Daemon, proxy: FaultyProxy) -> None:
        self._daemon, self._proxy = daemon, proxy
        self._process = psutil.Process(daemon.pid)
        self._started = self._at = time.monotonic()
        self._lines, self._requests = self._logged(), len(proxy.exchanges)

    def _logged(self) -> int:
        return self._daemon.log.read_bytes().count(b"\n")

    def sample(self, doing: str) -> Sample:
        """Count, and start the rates anew."""
        now, lines, requests = time.monotonic(), self._logged(), len(self._proxy.exchanges)
        passed = max(now - self._at, 1e-3)
        sample = Sample(
            minute=(now - self._started) / 60,
            doing=doing,
            memory=self._process.memory_info().rss / 2**20,
            threads=self._process.num_threads(),
            sockets=len(self._process.net_connections("all")),
            lines_per_minute=60 * (lines - self._lines) / passed,
            requests_per_second=(requests - self._requests) / passed,
        )
        self._at, self._lines, self._requests = now, lines, requests
        return sample

    def wait_quiet(self) -> None:
        """Until nothing was logged and asked for a while. Raises TimeoutError where that never comes."""
        before, since = (-1, -1), 0.0

        def quiet() -> bool:
            nonlocal before, since
            now = self._logged(), len(self._proxy.exchanges)
            if now != before:
                before, since = now, time.monotonic()
            return time.monotonic() - since > QUIET_S

        wait_until(quiet, deadline_s=4 * SETTLED_S, what=f"{QUIET_S:g} quiet seconds: {self._daemon.tail()}")


class _BadDay(threading.Thread):
    """Hurts one thing after the other until it is told to stop, and leaves everything running."""

    def __init__(self, on: Stage, proxy: FaultyProxy, seed: int) -> None:
        super().__init__(name="bad day", daemon=True)
        self._on, self._proxy = on, proxy
        self._dice = random.Random(seed)
        self._over = threading.Event()
        self.done: list[str] = []
        self._harms: tuple[tuple[str, Callable[[float], None]], ...] = (
            ("Prometheus stopped", self._stop_prometheus),
            ("Prometheus frozen", self._freeze_prometheus),
            ("API server stopped", self._stop_api),
            ("API server frozen", self._freeze_api),
            ("watches cut", lambda _: proxy.cut()),
            ("new revision", self._revise),
        )

    def run(self) -> None:
        """One harm after the other; each at least once where there is time, then at random."""
        queue = list(self._harms)
        self._dice.shuffle(queue)
        while not self._over.is_set():
            name, harm = queue.pop() if queue else self._dice.choice(self._harms)
            self.done.append(name)
            harm(self._dice.uniform(1.0, 8.0))
            self._over.wait(self._dice.uniform(1.0, 8.0))

    def end(self) -> None:
        """Let the harm under way end."""
        self._over.set()
        self.join(120)

    def _stop_prometheus(self, seconds: float) -> None:
        with self._on.prometheus.stopped():
            self._over.wait(seconds)

    def _freeze_prometheus(self, seconds: float) -> None:
        with self._on.prometheus.paused():
            self._over.wait(seconds)

    def _stop_api(self, seconds: float) -> None:
        self._on.kube.kill9()  # in order it would wait for the watches to end
        self._over.wait(seconds)
        self._on.kube.start()

    def _freeze_api(self, seconds: float) -> None:
        with self._on.kube.paused():
            self._over.wait(seconds)

    def _revise(self, _: float) -> None:
        path = f"/apis/{GROUP}/namespaces/{self._on.namespace}/launches/{RAMPED}"
        body = {"spec": {"revision": f"v{len(self.done) + 2}"}}
        with contextlib.suppress(ApiError, OSError):
            self._on.kube.call("PATCH", path, body, content_type="application/merge-patch+json")


def soak(kube: KubeApiserver, folder: Path, seconds: float, seed: int, *, every_s: float = 60.0) -> list[Sample]:
    """So many seconds of a bad day between two calm moments; the first sample is of the first, the last of the last.

    Raises TimeoutError where a launch does not go on afterwards.
    """
    with stage(kube, folder) as on, FaultyProxy(kube, folder) as proxy:
        on.create(*STAYING, steps=({"weight": 20, "for": "12h"}, {"weight": 100}))
        on.create(RAMPED, steps=({"weight": 20, "for": "4s"}, {"weight": 30, "for": "12h"}, {"weight": 100}))
        daemon = on.daemon(tick="1s", kubeconfig=proxy.kubeconfig("controller"))
        daemon.wait_ready()
        for name in STAYING:
            on.observer.wait_for_weight(name, 200, seconds=SETTLED_S)
        on.observer.wait_for_weight(RAMPED, 300, seconds=SETTLED_S)
        meter = _Meter(daemon, proxy)
        _pass(CALM_S)
        samples = [meter.sample("calm")]
        bad = _BadDay(on, proxy, seed)
        bad.start()
        end, told = time.monotonic() + seconds, 0
        while (left := end - time.monotonic()) > 0:
            _pass(min(every_s, left))
            happened = bad.done[told:]
            told += len(happened)
            samples.append(meter.sample(", ".join(happened)))
        bad.end()
        wait_until(daemon.ready, deadline_s=SETTLED_S, what=f"the daemon to be ready again: {daemon.tail()}")
        for name, weight in (*((name, 200) for name in STAYING), (RAMPED, 300)):
            wait_until(
                lambda name=name, weight=weight: on.observer.weights(name)[-1] == weight,  # type: ignore[misc]
                deadline_s=2 * SETTLED_S,
                what=f"{name} at {weight / 10:g}%: {on.status(name).get('message')}",
            )
        meter.wait_quiet()  # what the last harm left to mend is mended soon on one machine, late on another
        _pass(CALM_S)
        meter.sample("")  # what came before the calm is not of it
        _pass(CALM_S)
        samples.append(meter.sample("calm"))
        return samples


def _pass(seconds: float) -> None:
    """Time passes; there is nothing to wait for."""
    time.sleep(seconds)


def figures(minutes: float, seed: int | None = None) -> Iterator[Figure]:
    """The samples of a bad day as rows of the bench's table; prints each sample and the seed."""
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    print(f"soak of {minutes:g} min, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        (folder / "kube").mkdir()
        with KubeApiserver(folder / "kube") as kube:
            kube.install_crds()
            samples = soak(kube, folder, 60 * minutes, seed)
    for sample in samples:
        print(sample, flush=True)
    yield Figure(f"{minutes:g} bad minutes: memory", "MiB", [sample.memory for sample in samples], "flat")
    yield Figure("bad minutes: threads", "threads", [float(sample.threads) for sample in samples], "flat")
    yield Figure("bad minutes: sockets", "sockets", [float(sample.sockets) for sample in samples], "flat")
    yield Figure("bad minutes: log", "lines/min", [sample.lines_per_minute for sample in samples], "bounded")
    yield Figure("bad minutes: API requests", "requests/s", [sample.requests_per_second for sample in samples], "<= 5")


def main() -> None:
    """Print the samples and how the first and the last differ."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the bad day lasts (default 10)")
    parser.add_argument("--seed", type=int, help="to have the same day again; default: another one each time")
    chosen = parser.parse_args()
    for figure in figures(chosen.minutes, chosen.seed):
        print(f"{figure.name}: {figure.values[0]:.4g} at the start, {figure.values[-1]:.4g} at the end {figure.unit}")


if __name__ == "__main__":
    main()
