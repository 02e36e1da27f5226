"""A whole launch on everything real: a good canary, and one that turns bad at 30 %."""

from __future__ import annotations

from pathlib import Path

from tests.launch.stage import stage
from tests.realparts.kube import KubeApiserver


def test_a_good_canary_passes_every_step_in_order_and_ends_at_100(kube: KubeApiserver, tmp_path: Path) -> None:
    with stage(kube, tmp_path) as on:
        on.create("shop")
        on.daemon().wait_ready()
        on.observer.wait_for_state("shop", "Succeeded", seconds=90)
        assert on.observer.weights("shop") == [0, 200, 300, 1000]


def test_a_canary_that_turns_bad_at_30_percent_is_at_0_soon_and_never_rises_again(
    kube: KubeApiserver, tmp_path: Path
) -> None:
    with stage(kube, tmp_path) as on:
        on.create("shop")
        on.daemon().wait_ready()
        on.observer.wait_for_weight("shop", 300, seconds=90)
        on.traffic.shop("shop").canary_errors = 0.2
        on.observer.wait_for_state("shop", "RolledBack", seconds=30)
        assert on.observer.weights("shop") == [0, 200, 300, 0]
