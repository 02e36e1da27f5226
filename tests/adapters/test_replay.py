"""Folding tick by tick what a real Prometheus says equals folding it all at once afterwards, to the last bit.

The pods restart, die, and are born with their first error; one scrape fails; an old pod is found late.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from controller.adapters.prometheus import Prometheus as Adapter
from controller.adapters.prometheus import PrometheusSettings
from controller.core.evidence import Criterion, Fold
from controller.core.fold_text import decode, encode
from controller.core.series import Reading, Series, Subject
from controller.core.verdicts import advance, begin, in_force, judge
from controller.gather import Gatherer
from tests.adapters.exporter import Counter, Exporter, Life, ScriptedPod
from tests.realparts.fixtures import PrometheusFactory
from tests.realparts.prometheus import config, file_sd, write_targets

OK, BAD = 'http_requests_total{code="200"}', 'http_requests_total{code="500"}'
RATIO = Series(
    "ratio",
    "failures",
    bad='http_requests_total{service="{{service}}",code=~"5.."}',
    total='http_requests_total{service="{{service}}"}',
    interval=1,
    settle=8.0,  # a machine that is busy for some seconds stores its scrapes that much later
)
CRITERION = Criterion(
    key="failures below 5%",
    series=RATIO,
    limit=0.05,
    side="below",
    certainty=0.99,
    window=60.0,
    min_requests=0,
    min_bad=3,
    limit_text="5%",
)
SUBJECT = Subject(RATIO, namespace="shop", target="main", service="checkout", revision="v2")
TICKS = 24


def _life(start: float, end: float, *, born: bool, aged: float = 0.0) -> Life:
    spread = [start + 0.05 * k for k in range(int((end - start) / 0.05))]
    failed = [start + 0.7 + 0.9 * k for k in range(int((end - start) / 0.9))]
    return Life(start, end, [Counter(OK, spread), Counter(BAD, failed, from_zero=not born)], aged)


def _pods(zero: float) -> dict[str, tuple[ScriptedPod, float]]:
    """Each pod with the instant at which it is found."""
    far = zero + 3600
    restarts = [_life(zero - 5, zero + 6, born=False), _life(zero + 6.5, zero + 14, born=True)]
    return {
        "steady": (ScriptedPod([_life(zero - 5, zero + 60, born=False)], failing=[(zero + 8, zero + 9.2)]), 0.0),
        "restarts": (ScriptedPod([*restarts, _life(zero + 14.5, zero + 60, born=True)]), 0.0),
        "dies": (ScriptedPod([_life(zero - 5, zero + 10, born=True)]), 0.0),
        "old": (ScriptedPod([_life(zero - 5, far, born=False, aged=9000)]), zero + 11),
    }


@pytest.mark.parametrize("version", ["2", "3"])
def test_replay_equals_live_bit_for_bit(
    version: Literal["2", "3"], prometheus_factory: PrometheusFactory, tmp_path: Path
) -> None:
    targets = tmp_path / "targets.json"
    write_targets(targets, [])
    prometheus = prometheus_factory(version=version, config=config([file_sd("shop", targets)]))
    zero = time.time() + 8
    pods = _pods(zero)
    labels = {"namespace": "shop", "service": "checkout", "track": "canary"}
    with Exporter() as exporter:
        for name, (pod, _) in pods.items():
            exporter.pods[name] = pod

        def find(at: float) -> None:
            found = [exporter.target(name, labels) for name, (_, since) in pods.items() if since <= at]
            write_targets(targets, found)

        find(0.0)
        patient = PrometheusSettings(url=prometheus.url, timeout=60.0, read_timeout=60.0)
        gatherer = Gatherer(Adapter(patient))
        late = threading.Timer(zero + 11 - time.time(), find, (zero + 11,))
        late.start()
        try:
            start = begin(CRITERION, zero, 3600)
            live = start = in_force(CRITERION, start, zero)
            checkpoint = encode(live)
            ticks = threading.Event()
            tails = 0
            for tick in range(TICKS):
                ticks.wait(max(0.0, zero + 9 + tick - time.time()))
                now = time.time()
                reading = gatherer.gather({SUBJECT: live.last}, now, 60.0)[SUBJECT]
                assert reading.problem == ""
                live = _advance(live, reading)
                tails += judge(CRITERION, "main", live, reading, now).as_of > live.newest
                if tick == TICKS // 2:
                    checkpoint = encode(live)
            replayed = _replay(gatherer, start, live.last)
            rest = _replay(gatherer, decode(checkpoint), live.last)
        finally:
            late.cancel()
            gatherer.close()
    assert live.x > 20
    assert tails > TICKS // 2
    assert encode(replayed) == encode(live)
    assert encode(rest) == encode(live)


def _advance(fold: Fold, reading: Reading) -> Fold:
    return advance(CRITERION, fold, reading.settled, reading.through)


def _replay(gatherer: Gatherer, fold: Fold, until: int) -> Fold:
    """The same rows asked again from the beginning, in as many pieces as the gatherer wants."""
    while fold.last < until:
        reading = gatherer.gather({SUBJECT: fold.last}, until + RATIO.settle + 0.5, 60.0)[SUBJECT]
        assert reading.problem == ""
        assert reading.through > fold.last
        fold = _advance(fold, replace(reading, tail=()))
    return fold
