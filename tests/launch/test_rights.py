"""All that a plan may ask of the cluster, with no more rights than the documents say: what is read, asked and written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.core.world import FINALIZER
from tests.adapters.grounds import pod_document, slice_of_pods, workload_document
from tests.invariants import violations
from tests.launch.stage import GROUP, Ground, Seen, Stage, launch_document, stage
from tests.realparts.fixtures import AlertmanagerFactory, PrometheusFactory
from tests.realparts.kube import KubeApiserver
from tests.realparts.prometheus import config

VERSION = "app.kubernetes.io/version"
DEADLINE_S = 120.0
RULES = {"groups": [{"name": "always", "rules": [{"alert": "Watchdog", "expr": "vector(1)"}]}]}


def _plan() -> dict[str, Any]:
    document = launch_document(
        "shop", steps=({"weight": 20, "for": "2s"}, {"weight": 100}), onSuccess="return", onDelete="reset"
    )
    document["spec"]["phases"][0]["preflight"] = {"approval": {"role": "lead"}}
    document["spec"]["targets"][0]["canary"]["workload"] = {"name": "shop-canary"}
    return document


def _says(*words: str) -> Callable[[list[Seen]], Any]:
    """Whether the newest status of the launch has all of these words."""

    def said(history: list[Seen]) -> bool:
        launches = [seen for seen in history if seen.kind == "Launch"]
        message = (launches[-1].document.get("status") or {}).get("message", "") if launches else ""
        return all(word in message for word in words)

    return said


def _set(on: Stage, group: str, plural: str, name: str, change: dict[str, Any]) -> None:
    path = f"{group}/namespaces/{on.namespace}/{plural}/{name}"
    on.kube.call("PATCH", path, change, content_type="application/merge-patch+json")


def _approve(on: Stage, number: int) -> None:
    on.annotate("shop", approve=json.dumps({"value": "ramp/preflight", "by": "ada", "id": f"go-{number}"}))


def test_a_launch_that_asks_for_everything_gets_it_with_the_rights_that_are_documented(
    kube: KubeApiserver,
    tmp_path: Path,
    ground: Ground,
    alertmanager_factory: AlertmanagerFactory,
    prometheus_factory: PrometheusFactory,
) -> None:
    alertmanager = alertmanager_factory()
    with stage(kube, tmp_path, ground=ground) as on:
        on.traffic.shop("shop").per_second = 400.0
        on.serve("shop")
        on.kube.apply(
            [
                workload_document(name="shop-canary"),
                pod_document("stable-a", **{VERSION: "v1"}),
                slice_of_pods("shop-stable-1", "shop-stable", "stable-a"),
                _plan(),
            ],
            namespace=on.namespace,
        )
        daemon = on.daemon(tick="500ms", alertmanager=alertmanager.url)

        on.observer.wait(_says("alerts would not arrive"), seconds=DEADLINE_S, what="the preflight to be asked for")
        on.observer.stays("shop", 0, seconds=2)
        _approve(on, 1)
        on.observer.wait(
            _says(f"{alertmanager.address} does not show the alert that always fires"),
            seconds=DEADLINE_S,
            what="the watchdog to be missed",
        )
        on.observer.stays("shop", 0, seconds=2)
        rules = tmp_path / "watchdog.json"
        rules.write_text(json.dumps(RULES))
        prometheus_factory(config=config(rule_files=[rules], alertmanagers=[alertmanager.address]))

        on.observer.wait_for_weight("shop", 1000, seconds=DEADLINE_S)
        on.observer.wait(_says("traffic goes back"), seconds=DEADLINE_S, what="the traffic to be about to go back")
        on.observer.stays("shop", 1000, seconds=5)
        _set(on, "/api/v1", "pods", "stable-a", {"metadata": {"labels": {VERSION: "v2"}}})
        on.observer.wait_for_state("shop", "Succeeded", seconds=DEADLINE_S)
        assert on.observer.weights("shop") == [0, 200, 1000, 0]

        container = {"name": "shop", "image": "shop:2"}
        _set(
            on,
            "/apis/apps/v1",
            "deployments",
            "shop-canary",
            {"spec": {"template": {"spec": {"containers": [container]}}}},
        )
        on.observer.wait(_says("waits for the approval of lead"), seconds=DEADLINE_S, what="the next run")
        since = len(on.observer.history)
        _approve(on, 2)
        on.observer.wait_for_weight("shop", 200, seconds=DEADLINE_S, since=since)
        launch = f"/apis/{GROUP}/namespaces/{on.namespace}/launches/shop"
        assert on.kube.call("GET", launch)["metadata"]["finalizers"] == [FINALIZER]
        on.kube.call("DELETE", launch)
        gone = on.observer.wait(
            lambda history: [seen for seen in history if seen.type == "DELETED"], seconds=DEADLINE_S, what="the end"
        )
        assert [seen.name for seen in gone] == ["shop"]
        assert on.observer.weights("shop")[-1] == 0
        assert violations(on.observer.versions(), on.namespace, "shop") == []
        assert "forbidden" not in daemon.log.read_text().lower()
