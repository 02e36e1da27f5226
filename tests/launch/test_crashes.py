"""kill -9 at every write of a launch and at random moments: the outcome is the same, no step twice and none skipped.

A proxy numbers the daemon's writes. Many launches run side by side, each with a namespace, a daemon and a proxy of its
own, on one API server and one Prometheus.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pytest

from tests.adapters.faulty_proxy import Exchange, Fault, FaultyProxy, drop_answer
from tests.invariants import raises, violations
from tests.launch.stage import Daemon, Ground, Stage, stage
from tests.realparts.kube import KubeApiserver

SIDE_BY_SIDE = 8
"""How many launches run at once: the daemons' starts are what two cores are busy with."""
GOOD = ({"weight": 20, "for": "2s"}, {"weight": 100})
BAD = ({"weight": 30, "for": "1h"}, {"weight": 100})
PER_SECOND = 400.0
"""So much that a step is proven good well before it counts as undecided for too long."""
TICK = "500ms"
QUIET_S = 2.0
"""How long nothing may be written once a launch is over: several ticks."""
DELIVERED_S = 0.01
"""How long after an answer was sent on the daemon dies: it has read it by then, and may have begun what follows."""
CUTS = ("killed before it", "killed after it", "answer lost", "answer lost and killed")


class Supervised:
    """A daemon behind a proxy, started again whenever it was killed."""

    def __init__(self, on: Stage, proxy: FaultyProxy) -> None:
        arguments = on.arguments(tick=TICK, kubeconfig=proxy.kubeconfig("controller"))
        self.daemon = Daemon(on.folder, arguments)
        self.kills = 0
        self._died = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def kill(self, _: Exchange | None = None) -> None:
        """End it at once; it is started again."""
        self.kills += 1
        self.daemon.kill9()
        self._died.set()

    def _supervise(self) -> None:
        while self._died.wait() and not self._over.is_set():
            self._died.clear()
            self.daemon.start()

    def __enter__(self) -> Self:
        self.daemon.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._died.set()
        self._thread.join(60)
        self.daemon.kill9()


def _fault(cut: str, run: Supervised) -> Fault:
    if cut == "killed before it":
        return Fault(cut, before=run.kill, forward=False, drop=True)
    if cut == "killed after it":
        return Fault(cut, after=lambda _: threading.Timer(DELIVERED_S, run.kill).start())
    if cut == "answer lost":
        return drop_answer()
    return Fault(cut, after=run.kill, drop=True)


@contextlib.contextmanager
def _run(kube: KubeApiserver, ground: Ground, folder: Path) -> Iterator[tuple[Stage, FaultyProxy, Supervised]]:
    folder.mkdir()
    with stage(kube, folder, ground=ground) as on, FaultyProxy(kube, folder) as proxy:
        run = Supervised(on, proxy)
        yield on, proxy, run


def _play(
    kube: KubeApiserver, ground: Ground, folder: Path, *, bad: bool, strike: tuple[int, str] | None
) -> tuple[list[str], int]:
    """One launch with at most one fault: what is wrong with it, and how many writes it took."""
    with _run(kube, ground, folder) as (on, proxy, run):
        on.traffic.shop("shop").per_second = PER_SECOND
        on.serve("shop")
        if strike is not None:
            proxy.when("WRITE", "", _fault(strike[1], run), write=strike[0])
        on.create("shop", steps=BAD if bad else GOOD)
        if bad:
            on.traffic.shop("shop").canary_errors = 0.3
        with run:
            wrong = _outcome(on, proxy, bad=bad)
            if strike is not None and (run.kills == 0) == ("killed" in strike[1]):
                wrong.append(f"the daemon was killed {run.kills} times")
        writes = sum(exchange.write > 0 for exchange in proxy.exchanges)
        return [f"write {strike}: {fault}; log: {run.daemon.log}" for fault in wrong], writes


def _outcome(on: Stage, proxy: FaultyProxy, *, bad: bool) -> list[str]:
    wrong = []
    try:
        on.observer.wait_for_state("shop", "RolledBack" if bad else "Succeeded", seconds=240)
        known = proxy.count("WRITE")
        on.observer.stays("shop", 0 if bad else 1000, seconds=QUIET_S)
    except (TimeoutError, AssertionError) as error:
        return [str(error)]
    # One: a daemon that has just started tells once that the run is over.
    if proxy.count("WRITE") > known + 1:
        wrong.append(f"{proxy.count('WRITE') - known} writes after its end")
    expected = [0, 300, 0] if bad else [0, 200, 1000]
    if on.observer.weights("shop") != expected:
        wrong.append(f"weights {on.observer.weights('shop')} instead of {expected}")
    history = on.observer.versions()
    raised = len(raises(history, on.namespace, "shop"))
    if raised != (1 if bad else 2):
        wrong.append(f"{raised} raises")
    return wrong + violations(history, on.namespace, "shop")


def _play_all(
    kube: KubeApiserver, ground: Ground, folder: Path, *, bad: bool, strikes: Sequence[tuple[int, str]]
) -> list[str]:
    def one(strike: tuple[int, str]) -> list[str]:
        number, cut = strike
        return _play(kube, ground, folder / f"{number}-{CUTS.index(cut)}", bad=bad, strike=strike)[0]

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        return [fault for faults in pool.map(one, strikes) for fault in faults]


@pytest.mark.parametrize("bad", [False, True], ids=["good", "bad"])
def test_a_fault_at_any_write_leaves_the_outcome_as_it_is(
    kube: KubeApiserver, tmp_path: Path, ground: Ground, *, bad: bool
) -> None:
    wrong, writes = _play(kube, ground, tmp_path / "reference", bad=bad, strike=None)
    assert wrong == []
    # Start, the first raise with its dry run; then another raise and the end, or intent, patch and done of the retreat.
    # On a busy machine it may also write what it waits for, once or so.
    always = 8 if bad else 9
    assert writes >= always
    strikes = [(number, cut) for number in range(1, always + 1) for cut in CUTS]
    assert _play_all(kube, ground, tmp_path, bad=bad, strikes=strikes) == []


def test_kill_9_every_few_seconds_changes_no_outcome(kube: KubeApiserver, tmp_path: Path, ground: Ground) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    dice = random.Random(seed)
    first = {"weight": 20, "for": "3s"}
    with _run(kube, ground, tmp_path / "run") as (on, _, run):
        on.create("good", steps=(first, {"weight": 30, "for": "3s"}, {"weight": 100}))
        on.create("bad", steps=(first, {"weight": 30, "for": "1h"}, {"weight": 100}))

        def over(_: list[Any]) -> bool:
            if on.observer.weights("bad")[-1:] == [300]:
                on.traffic.shop("bad").canary_errors = 0.3
            return _state(on, "good") == "Succeeded" and _state(on, "bad") == "RolledBack"

        with run:
            for _ in range(40):
                try:
                    on.observer.wait(over, seconds=dice.uniform(1.5, 5.0), what="both ends")
                    break
                except TimeoutError:
                    run.kill()
            # Where starting takes as long as the next blow, what is left comes in peace.
            on.observer.wait(over, seconds=240, what="both ends")
        told = f"seed {seed}, {run.kills} kills"
        assert on.observer.weights("good") == [0, 200, 300, 1000], told
        assert on.observer.weights("bad") == [0, 200, 300, 0], told
        for name in ("good", "bad"):
            assert violations(on.observer.versions(), on.namespace, name) == [], told


def _state(on: Stage, name: str) -> str:
    versions = [seen for seen in on.observer.history if seen.kind == "Launch" and seen.name == name]
    return str((versions[-1].document.get("status") or {}).get("state")) if versions else ""
