"""From the end of the leader to the first write of the next, on everything real, with the shipped times."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.table import Figure
from tests.launch.replicas import Pair
from tests.launch.stage import Ground, stage
from tests.realparts.kube import KubeApiserver

WITHIN_S = 60.0


@contextlib.contextmanager
def _pairs() -> Iterator[Callable[[int], contextlib.AbstractContextManager[Pair]]]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        root = Path(folder)
        for part in ("kube", "ground"):
            (root / part).mkdir()
        with KubeApiserver(root / "kube") as kube, Ground(root / "ground") as ground:
            kube.install_crds()

            @contextlib.contextmanager
            def one(number: int) -> Iterator[Pair]:
                place = root / str(number)
                place.mkdir()
                with stage(kube, place, ground=ground) as on:
                    yield Pair(on, tick="1s")

            yield one


def failover(runs: int) -> Iterator[Figure]:
    """A fresh pair each time: a kill, and a clean stop."""
    killed, stopped, mixed = [], [], 0
    with _pairs() as pair:
        for number in range(runs):
            with pair(2 * number) as both:
                both.on.serve("two")
                both.decides(both.leader, "one")
                at = time.monotonic()
                both.leader.daemon.kill9()
                killed.append(both.decides(both.follower, "two", WITHIN_S) - at)
                mixed += len(both.wrong("one", "two"))
            with pair(2 * number + 1) as both:
                both.on.serve("two")
                both.decides(both.leader, "one")
                at = time.monotonic()
                both.leader.signal(signal.SIGTERM)
                stopped.append(both.decides(both.follower, "two", WITHIN_S) - at)
                mixed += len(both.wrong("one", "two"))
    yield Figure("failover, leader killed, to the next decision, tick 1s", "s", killed, "every one <= 15")
    yield Figure("failover, leader stopped cleanly, to the next decision, tick 1s", "s", stopped, "median <= 2")
    yield Figure("writes of two leaders that mix, failover", "faults", [mixed], "0")
