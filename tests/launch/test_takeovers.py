"""Two hundred takeovers on the real API server, seen by an observer: the writes of two leaders never mix."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.launch.contender import TIMES, contend
from tests.launch.replicas import RULES as LEASE_RULES
from tests.launch.stage import GROUP, OBSERVER_RULES, RULES, launch_document
from tests.realparts.kube import ApiError, KubeApiserver

TAKEOVERS = 200
SIDE_BY_SIDE = 8
"""Leases at once, each with two processes that want it."""
WITHIN_S = 60.0


class _Writers:
    """Who wrote each Launch, in the order in which the server stored it; once for all that one wrote in a row."""

    def __init__(self, kube: KubeApiserver, namespace: str) -> None:
        self._kube, self._path = kube, f"/apis/{GROUP}/namespaces/{namespace}/launches"
        self.of: dict[str, list[str]] = {}
        self.writes = 0
        self.changed = threading.Condition()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(self._now(),), daemon=True)
        self._thread.start()

    def _now(self) -> str:
        return str(self._kube.call("GET", self._path, identity="observer")["metadata"]["resourceVersion"])

    def _watch(self, version: str) -> None:
        while not self._over.wait(0.05):
            with contextlib.suppress(OSError, ApiError, ValueError):
                version = version or self._now()
                for event in self._kube.watch(self._path, seconds=20, resourceVersion=version):
                    if event["type"] == "ERROR":  # what happened meanwhile is not seen; that it went on is
                        version = ""
                        break
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        self._saw(event["object"]["metadata"]["name"], event["object"].get("status") or {})
                    if self._over.is_set():
                        return

    def _saw(self, name: str, status: dict[str, object]) -> None:
        writer = str(status.get("message") or "")
        with self.changed:
            known = self.of.setdefault(name, [])
            self.writes += bool(writer)
            if writer and known[-1:] != [writer]:
                known.append(writer)
                self.changed.notify_all()

    def another(self, name: str, number: int, seconds: float) -> str:
        """Wait until so many have written in turn: the last of them; empty where that takes longer."""
        with self.changed:
            came = self.changed.wait_for(lambda: len(self.of.get(name, ())) >= number, seconds)
            return self.of[name][-1] if came else ""

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join(30)


class _Contest:
    """One Launch, its Lease, and two processes that want it."""

    def __init__(self, kube: KubeApiserver, writers: _Writers, namespace: str, name: str, notes: Path) -> None:
        self._writers, self._name = writers, name
        self._arguments = (str(kube.kubeconfig("controller")), namespace, name, str(notes))
        self._context = multiprocessing.get_context("forkserver")
        self._processes: dict[str, BaseProcess] = {}
        self._dice = random.Random(name)

    def play(self, takeovers: int) -> None:
        """Strike whoever leads until so many took over."""
        try:
            for number in range(1, takeovers + 2):
                leader = self._processes[self._leader(number)]
                self._fill()  # or nobody is there to take over
                time.sleep(self._dice.uniform(0.0, 0.4))
                self._strike(leader)
                if self._dice.random() < 0.2:
                    self._strike(self._dice.choice(list(self._processes.values())), seconds=0.3)
        finally:
            for process in self._processes.values():
                process.kill()
                process.join(10)

    def _leader(self, number: int) -> str:
        """Whoever is the so manieth to write; those that gave up by themselves meanwhile are replaced."""
        until = time.monotonic() + WITHIN_S
        while time.monotonic() < until:
            self._fill()
            if leader := self._writers.another(self._name, number, 1.0):
                return leader
        alive = [identity for identity, process in self._processes.items() if process.is_alive()]
        wrote = self._writers.of.get(self._name)
        raise TimeoutError(f"{self._name}: nobody took over within {WITHIN_S:g}s; {alive} are there, {wrote} wrote")

    def _fill(self) -> None:
        alive = [process for process in self._processes.values() if process.is_alive()]
        for _ in range(2 - len(alive)):
            identity = secrets.token_hex(6)
            process = self._context.Process(target=contend, args=(identity, *self._arguments), daemon=True)
            process.start()
            self._processes[identity] = process

    def _strike(self, process: BaseProcess, seconds: float = 0.0) -> None:
        """Kill it, ask it to leave, or stop it for longer than its lease counts; for some seconds only where they are given."""
        assert process.pid is not None
        with contextlib.suppress(ProcessLookupError):
            number = self._dice.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP))
            number = signal.SIGSTOP if seconds else number
            os.kill(process.pid, number)
            if number == signal.SIGSTOP:
                time.sleep(seconds or TIMES.lease + self._dice.uniform(0.5, 1.5))
                os.kill(process.pid, signal.SIGCONT)


@contextlib.contextmanager
def _watched(kube: KubeApiserver, namespace: str) -> Iterator[_Writers]:
    writers = _Writers(kube, namespace)
    try:
        yield writers
    finally:
        writers.end()


def test_in_two_hundred_takeovers_no_write_of_two_leaders_overlaps(
    kube: KubeApiserver, namespace: str, tmp_path: Path
) -> None:
    multiprocessing.get_context("forkserver").set_forkserver_preload(["tests.launch.contender"])
    kube.grant("controller", [*RULES, *LEASE_RULES], namespace=namespace)
    kube.grant("observer", OBSERVER_RULES, namespace=namespace)
    names = [f"contest-{number}" for number in range(SIDE_BY_SIDE)]
    kube.apply([launch_document(name) for name in names], namespace=namespace)
    notes = tmp_path / "refused"
    notes.touch()
    with _watched(kube, namespace) as writers, ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        contests = [_Contest(kube, writers, namespace, name, notes) for name in names]
        for played in [pool.submit(contest.play, TAKEOVERS // SIDE_BY_SIDE) for contest in contests]:
            played.result()
    takeovers = sum(len(of) - 1 for of in writers.of.values())
    print(f"{takeovers} takeovers, {writers.writes} writes, {len(notes.read_text().split())} refused")
    assert takeovers >= TAKEOVERS
    back = {name: [one for one in of if of.count(one) > 1] for name, of in writers.of.items()}
    assert not any(back.values()), f"they wrote again after another had written: {back}"
