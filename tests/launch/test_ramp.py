"""A whole launch on everything real: good canaries, bad ones, and what people say by annotation."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.invariants import violations
from tests.launch.proof import proving_sample
from tests.launch.stage import ROUTE_KINDS, Ground, Seen, Stage, launch_document, stage, weight_of
from tests.realparts.kube import KubeApiserver

QUICK = ({"weight": 20, "for": "3s"}, {"weight": 100})
STAYS = ({"weight": 20, "for": "1h"}, {"weight": 100})


def test_a_good_canary_passes_every_step_in_order_and_ends_at_100(
    kube: KubeApiserver, tmp_path: Path, ground: Ground
) -> None:
    with stage(kube, tmp_path, ground=ground) as on:
        on.create("shop", steps=({"weight": 20, "for": "5s"}, {"weight": 30, "for": "5s"}, {"weight": 100}))
        on.daemon().wait_ready()
        on.observer.wait_for_state("shop", "Succeeded", seconds=90)
        assert on.observer.weights("shop") == [0, 200, 300, 1000]
        assert violations(on.observer.versions(), on.namespace, "shop") == []


@pytest.mark.alone
def test_a_canary_that_turns_bad_at_30_percent_is_at_0_within_a_tick_and_half_a_second_of_the_proof(
    kube: KubeApiserver, tmp_path: Path, ground: Ground
) -> None:
    names = ("first", "second", "third")
    steps = ({"weight": 20, "for": "3s"}, {"weight": 30, "for": "1h"}, {"weight": 100})
    with stage(kube, tmp_path, ground=ground) as on:
        on.create(*names, steps=steps)
        on.daemon(tick="1s").wait_ready()
        for name in names:
            on.observer.wait_for_weight(name, 300, seconds=60)
        took = {}
        for place, name in enumerate(names):
            # Each at another moment of the tick and of the scrape.
            _wait_for_second(0.35 * place)
            on.traffic.shop(name).canary_errors = 0.2
            since = len(on.observer.history)
            zero = on.observer.wait_for_weight(name, 0, seconds=30, since=since)
            took[name] = zero.at - proving_sample(on, name)
        assert max(took.values()) <= 1.5, f"seconds from the proof to weight 0: {took}"
        for name in names:
            on.observer.wait_for_state(name, "RolledBack", seconds=10)
        on.observer.never(_any_raised(on), seconds=4, what="a canary rose after its proof")
        for name in names:
            assert on.observer.weights(name) == [0, 200, 300, 0]
            assert violations(on.observer.versions(), on.namespace, name) == []


def _wait_for_second(fraction: float) -> None:
    """Until the clock's second has come to this fraction."""
    time.sleep((fraction - time.time()) % 1.0)


def _any_raised(on: Stage) -> Callable[[list[Seen]], Seen | None]:
    """Whether any route gives a canary traffic from now on."""
    since = len(on.observer.history)

    def raised(history: list[Seen]) -> Seen | None:
        later = (seen for seen in history[since:] if seen.kind in ROUTE_KINDS)
        return next((seen for seen in later if weight_of(seen.document)), None)

    return raised


def test_a_grpc_route_is_ramped_like_an_http_route_and_two_targets_one_after_the_other(
    kube: KubeApiserver, tmp_path: Path, ground: Ground
) -> None:
    with stage(kube, tmp_path, ground=ground) as on:
        on.create("calls", kind="GRPCRoute", steps=QUICK)
        on.serve("east", "west")
        on.kube.apply([_two_targets("both", "east", "west")], namespace=on.namespace)
        on.daemon().wait_ready()
        on.observer.wait_for_state("calls", "Succeeded", seconds=60)
        on.observer.wait_for_state("both", "Succeeded", seconds=60)
        assert on.observer.weights("calls") == [0, 200, 1000]
        assert on.observer.weights("east") == [0, 200, 1000]
        assert on.observer.weights("west") == [0, 200, 1000]
        history = on.observer.versions()
        for name in ("calls", "both"):
            assert violations(history, on.namespace, name) == []
        order = [
            (version.name, weight)
            for version in history
            if version.kind == "HTTPRoute" and version.document and (weight := weight_of(version.document))
        ]
        assert order == [("east", 200), ("west", 200), ("east", 1000), ("west", 1000)]


def _two_targets(name: str, *services: str) -> dict[str, Any]:
    document = launch_document(name, steps=QUICK)
    document["spec"]["targets"] = [
        {
            "name": service,
            "service": service,
            "route": {"name": service},
            "stable": {"name": f"{service}-stable"},
            "canary": {"name": f"{service}-canary"},
        }
        for service in services
    ]
    return document


def test_one_bad_target_of_two_takes_both_canaries_to_0(kube: KubeApiserver, tmp_path: Path, ground: Ground) -> None:
    with stage(kube, tmp_path, ground=ground) as on:
        on.serve("east", "west")
        on.kube.apply([_two_targets("both", "east", "west")], namespace=on.namespace)
        on.traffic.shop("west").canary_errors = 0.3
        on.daemon().wait_ready()
        on.observer.wait_for_state("both", "RolledBack", seconds=60)
        assert on.observer.weights("east") == [0, 200, 0]
        assert on.observer.weights("west") == [0, 200, 0]
        assert violations(on.observer.versions(), on.namespace, "both") == []


@pytest.mark.alone
def test_annotations_hold_roll_back_and_retry_within_a_second_though_prometheus_hangs(
    kube: KubeApiserver, tmp_path: Path
) -> None:
    with stage(kube, tmp_path) as on:
        on.create("held", steps=QUICK)
        on.create("dropped", steps=STAYS)
        on.create("dropped-blind", steps=STAYS)
        on.create("held-blind", steps=STAYS)
        on.annotate("held", hold="wait for me")
        on.daemon(tick="1s").wait_ready()
        for name in ("dropped", "dropped-blind", "held-blind"):
            on.observer.wait_for_weight(name, 200, seconds=60)
        on.observer.wait_for_state("held", "Held", seconds=5)
        assert on.observer.weights("held") == [0]

        assert _seconds_until_0(on, "dropped") <= 1.0
        with on.prometheus.paused():
            # One that has been waiting for Prometheus for a while, in the middle of a tick.
            time.sleep(2.5)
            assert _seconds_until_0(on, "dropped-blind") <= 1.0
            asked = time.time()
            on.annotate("held-blind", hold="not now")
            held = on.observer.wait_for_state("held-blind", "Held", seconds=5)
            assert held.at - asked <= 1.0
            on.observer.stays("held-blind", 200, seconds=2)
        for name in ("dropped", "dropped-blind"):
            on.observer.wait_for_state(name, "RolledBack", seconds=10)

        on.annotate("held", hold=None)
        on.observer.wait_for_state("held", "Succeeded", seconds=60)
        assert on.observer.weights("held") == [0, 200, 1000]
        on.annotate("dropped", rollback=None, retry="fixed it")
        on.observer.wait(lambda _: on.observer.weights("dropped") == [0, 200, 0, 200], seconds=60, what="a second run")
        for name in ("held", "dropped", "dropped-blind", "held-blind"):
            assert violations(on.observer.versions(), on.namespace, name) == []


def _seconds_until_0(on: Stage, name: str) -> float:
    """From just before the annotation is sent to weight 0 seen by the observer."""
    since, asked = len(on.observer.history), time.time()
    on.annotate(name, rollback="it smells")
    return on.observer.wait_for_weight(name, 0, seconds=20, since=since).at - asked
