"""A whole launch on everything real: good canaries, bad ones, and what people say by annotation."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.invariants import violations
from tests.launch.front import Front
from tests.launch.proof import proving_sample
from tests.launch.stage import ROUTE_KINDS, Ground, Seen, Stage, launch_document, stage, weight_of
from tests.realparts.kube import KubeApiserver
from tests.realparts.server import wait_until

QUICK = ({"weight": 20, "for": "3s"}, {"weight": 100})
SETTLE_S = 20
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


def test_a_canary_that_turns_bad_at_30_percent_is_at_0_before_the_proving_sample_has_settled(
    kube: KubeApiserver, tmp_path: Path, ground: Ground
) -> None:
    names = ("first", "second", "third")
    # An undecided step is held after three times its time, in which samples must settle.
    steps = ({"weight": 20, "for": "15s"}, {"weight": 30, "for": "1h"}, {"weight": 100})
    with stage(kube, tmp_path, ground=ground) as on:
        on.create(*names, steps=steps, settle=f"{SETTLE_S}s")
        on.daemon(tick="1s").wait_ready()
        for name in names:
            on.observer.wait_for_weight(name, 300, seconds=120)
        took: dict[str, float] = {}
        for place, name in enumerate(names):
            # Each at another moment of the tick and of the scrape.
            _wait_for_second(0.35 * place)
            on.traffic.shop(name).canary_errors = 0.2
            since = len(on.observer.history)
            zero = on.observer.wait_for_weight(name, 0, seconds=90, since=since)
            took[name] = zero.at - proving_sample(on, name)
        # How soon it is, `make bench` says; who waits for samples to settle cannot be sooner than this.
        assert max(took.values()) < SETTLE_S, f"seconds from the proof to weight 0: {took}"
        for name in names:
            on.observer.wait_for_state(name, "RolledBack", seconds=90)
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
        on.observer.wait_for_state("calls", "Succeeded", seconds=90)
        on.observer.wait_for_state("both", "Succeeded", seconds=90)
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
        on.observer.wait_for_state("both", "RolledBack", seconds=90)
        assert on.observer.weights("east") == [0, 200, 0]
        assert on.observer.weights("west") == [0, 200, 0]
        assert violations(on.observer.versions(), on.namespace, "both") == []


def test_annotations_hold_roll_back_and_retry_between_ticks_and_while_prometheus_hangs(
    kube: KubeApiserver, tmp_path: Path, ground: Ground
) -> None:
    with stage(kube, tmp_path, ground=ground) as on, Front(on.prometheus.url) as front:
        on.create("held", steps=QUICK)
        on.create("dropped", steps=STAYS)
        on.create("dropped-blind", steps=STAYS)
        on.create("held-blind", steps=STAYS)
        on.annotate("held", hold="wait for me")
        before = on.daemon(tick="1s")
        for name in ("dropped", "dropped-blind", "held-blind"):
            on.observer.wait_for_weight(name, 200, seconds=90)
        on.observer.wait_for_state("held", "Held", seconds=90)
        assert on.observer.weights("held") == [0]
        assert before.terminate() == 0

        # The ticks of this one are half a minute apart, and each asks: what it does with no new question, none has found.
        front.fault = "hanging"
        rare = on.daemon(tick="30s", prometheus=front.url, prometheus_timeout="60s")
        wait_until(lambda: front.asked, deadline_s=90, what="the first tick's question")
        _roll_back(on, "dropped-blind")
        assert front.given_up == 0, "it acted only when the question had ended that was under way"
        rare.wait_ready()
        asked = front.asked
        _roll_back(on, "dropped")
        on.annotate("held-blind", hold="not now")
        on.observer.wait_for_state("held-blind", "Held", seconds=60)
        assert front.asked == asked, "it acted only with the next tick"
        on.observer.stays("held-blind", 200, seconds=2)
        assert rare.terminate() == 0

        on.daemon(tick="1s")
        for name in ("dropped", "dropped-blind"):
            on.observer.wait_for_state(name, "RolledBack", seconds=90)
        on.annotate("held", hold=None)
        on.observer.wait_for_state("held", "Succeeded", seconds=90)
        assert on.observer.weights("held") == [0, 200, 1000]
        on.annotate("dropped", rollback=None, retry="fixed it")
        on.observer.wait(lambda _: on.observer.weights("dropped") == [0, 200, 0, 200], seconds=90, what="a second run")
        for name in ("held", "dropped", "dropped-blind", "held-blind"):
            assert violations(on.observer.versions(), on.namespace, name) == []


def _roll_back(on: Stage, name: str) -> None:
    """Say so, and wait for weight 0."""
    since = len(on.observer.history)
    on.annotate(name, rollback="it smells")
    on.observer.wait_for_weight(name, 0, seconds=60, since=since)
