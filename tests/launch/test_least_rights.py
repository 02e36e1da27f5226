"""The shipped rights are enough, and none is too many: the API server's own audit log says which were used.

Whoever takes one away finds its name in the controller's log.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

from controller.adapters.api_server import KubernetesSettings
from controller.adapters.kubernetes import Kubernetes
from controller.core.events import Event
from controller.core.world import FINALIZER, LaunchKey
from controller.errors import RefusedError
from tests.adapters.grounds import pod_document, slice_of_pods, workload_document
from tests.deploy.rendered import Document, one, overlay, permissions
from tests.invariants import violations
from tests.launch.stage import GROUP, Ground, Stage, launch_document, stage
from tests.realparts.kube import IDENTITIES, KubeApiserver, service_account
from tests.realparts.server import wait_until

Right: TypeAlias = tuple[str, str, str]
"""Group, resource (with its subresource) and verb."""

SHIPPED = "system:serviceaccount:auto-advance:auto-advance"
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    # a watch is told when it starts: it ends much later
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "users": [SHIPPED]}, {"level": "None"}],
}
LACKING = 40
"""So many namespaces, at most, in each of which one right is missing."""
AT_ONCE = 3
DEADLINE_S = 120.0
WORKLOADS = {"deployments": "Deployment", "statefulsets": "StatefulSet", "daemonsets": "DaemonSet"}
VERSION = "app.kubernetes.io/version"

pytestmark = [pytest.mark.xdist_group("rights")]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApiserver]:
    """An API server of these tests alone, with what is shipped for the whole cluster; it writes down who asks what."""
    folder = tmp_path_factory.mktemp("audited")
    policy = folder / "policy.yaml"
    policy.write_text(yaml.safe_dump(AUDIT))
    accounts = {name: service_account(name, "auto-advance") for name in map(_lacking, range(LACKING))}
    arguments = [
        f"--audit-policy-file={policy}",
        f"--audit-log-path={folder / 'audit.log'}",
        "--audit-log-mode=blocking",
    ]
    with KubeApiserver(folder, identities={**IDENTITIES, **accounts}, arguments=arguments) as kube:
        kube.install_crds()
        # the policies let no other controller write a status than those that they are told of
        known = ", ".join(repr(account.user) for account in (IDENTITIES["controller"], *accounts.values()))
        kube.apply(json.loads(json.dumps(overlay("cluster-wide")).replace(f"'{SHIPPED}'", known)))
        yield kube


def _lacking(number: int) -> str:
    return f"lacks-{number}"


def _rights_used(kube: KubeApiserver) -> set[Right]:
    """What the shipped account asked for and was allowed."""
    used = set()
    for line in (kube.folder / "audit.log").read_text().splitlines():
        event = json.loads(line)
        if "objectRef" not in event or event["annotations"].get("authorization.k8s.io/decision") != "allow":
            continue
        at = event["objectRef"]
        resource = "/".join(filter(None, (at["resource"], at.get("subresource", ""))))
        used.add((at.get("apiGroup", ""), resource, event["verb"]))
    return used


def _quick(name: str, *, workload: str, **options: Any) -> Document:
    document = launch_document(name, steps=({"weight": 50, "for": "1s"}, {"weight": 100}), settle="1s", **options)
    document["spec"]["targets"][0]["canary"]["workload"] = {"kind": workload, "name": f"{name}-canary"}
    return document


def _create(on: Stage, name: str, *, workload: str = "Deployment", route: str = "HTTPRoute", **options: Any) -> None:
    on.traffic.shop(name).per_second = 400.0
    on.serve(name, kind=route)
    on.kube.apply(
        [
            workload_document(workload, name=f"{name}-canary"),
            pod_document(f"{name}-a", **{VERSION: "v2"}),
            slice_of_pods(f"{name}-stable-1", f"{name}-stable", f"{name}-a"),
            _quick(name, workload=workload, kind=route, **options),
        ],
        namespace=on.namespace,
    )


def test_launches_pass_with_what_is_shipped_and_every_right_of_it_was_used(
    audited: KubeApiserver, tmp_path: Path, ground: Ground
) -> None:
    with stage(audited, tmp_path, ground=ground, namespace=audited.create_namespace()) as on:
        _create(on, "shop", onSuccess="return", onDelete="reset")
        _create(on, "feed", workload="StatefulSet", route="GRPCRoute")
        _create(on, "node", workload="DaemonSet")
        config = tmp_path / "config.yaml"
        config.write_text(one(overlay("cluster-wide"), "ConfigMap")["data"]["config.yaml"])
        daemon = on.daemon(tick="500ms", namespace="", lease_namespace="auto-advance", config=str(config))
        for name in ("shop", "feed", "node"):
            on.observer.wait_for_state(name, "Succeeded", seconds=DEADLINE_S)
        assert on.observer.weights("shop") == [0, 500, 1000, 0]
        assert on.observer.weights("feed") == on.observer.weights("node") == [0, 500, 1000]
        launch = f"/apis/{GROUP}/namespaces/{on.namespace}/launches/shop"
        assert audited.call("GET", launch)["metadata"]["finalizers"] == [FINALIZER]
        audited.call("DELETE", launch)
        on.observer.wait(
            lambda history: [seen for seen in history if seen.type == "DELETED"], seconds=DEADLINE_S, what="the end"
        )
        _tell_again(audited.kubeconfig("controller"), LaunchKey(on.namespace, "feed"))
        granted = permissions(overlay("cluster-wide"))
        # the audit log is a moment behind where an Event or a watch is the last of what is asked
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: granted <= _rights_used(audited), deadline_s=30, what="every right to be used")
        assert _rights_used(audited) == granted
        assert daemon.terminate() == 0
        for name in ("shop", "feed", "node"):
            assert violations(on.observer.versions(), on.namespace, name) == []
        assert "forbidden" not in daemon.log.read_text().lower()


def _without(documents: list[Document], missing: Right, namespace: str) -> list[Document]:
    """The same objects in another namespace, one right taken away."""
    moved: list[Document] = json.loads(
        json.dumps(documents).replace('"namespace": "auto-advance"', f'"namespace": "{namespace}"')
    )
    for role in [document for document in moved if document["kind"] == "Role"]:
        role["rules"] = [
            {**rule, "apiGroups": [group], "resources": [resource], "verbs": [verb]}
            for rule in role["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
            if (group, resource, verb) != missing
        ]
    return moved


def _is_named(kube: KubeApiserver, folder: Path, ground: Ground, number: int, missing: Right) -> None:
    """Run a launch with this right missing until the log names it. Raises TimeoutError."""
    _, resource, verb = missing
    namespace = _lacking(number)
    folder.mkdir()
    kube.apply(
        [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
            *_without(
                [item for item in overlay("one-namespace") if item["kind"].startswith("Role")], missing, namespace
            ),
        ]
    )
    with stage(kube, folder, ground=ground, namespace=namespace) as on:
        route = "GRPCRoute" if resource == "grpcroutes" else "HTTPRoute"
        _create(
            on,
            "shop",
            route=route,
            workload=WORKLOADS.get(resource, "Deployment"),
            onSuccess="return",
            onDelete="reset",
        )
        flags = {"kubeconfig": str(kube.kubeconfig(namespace))}
        if resource == "leases":  # the others need not wait until a new Lease may be taken
            flags["lease_namespace"] = namespace
        words = f'cannot {verb} resource "{resource}"'
        if (resource, verb) == ("events", "patch"):
            with pytest.raises(RefusedError, match=words):
                _tell_again(kube.kubeconfig(namespace), LaunchKey(namespace, "shop"))
            return
        daemon = on.daemon(tick="500ms", **flags)
        try:
            wait_until(lambda: words in _said(daemon.log), deadline_s=DEADLINE_S, what=f"the log to say {words!r}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; {on.status('shop').get('message')}; {daemon.tail()}") from error


def _tell_again(kubeconfig: Path, key: LaunchKey) -> None:
    """An Event that happens again, as it is written of a decision that is tried for over a minute: too long to wait."""
    cluster = Kubernetes(KubernetesSettings(kubeconfig=str(kubeconfig), namespaces=(key.namespace,)))
    first = Event(key, time.time(), "1-1", "StepDone", "Raise", "on to 50%")
    cluster.write_event(first)
    cluster.write_event(replace(first, times=2, latest=first.at + 60))


def _said(log: Path) -> str:
    """The texts of the log's lines, as a person reads them."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{") and line.endswith("}")]
    return "\n".join(str(text) for line in lines for text in line.values())


def test_every_right_that_is_taken_away_is_named(audited: KubeApiserver, tmp_path: Path, ground: Ground) -> None:
    every = sorted(permissions(overlay("one-namespace")))
    assert len(every) <= LACKING
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = {
            missing: pool.submit(_is_named, audited, tmp_path / str(number), ground, number, missing)
            for number, missing in enumerate(every)
        }
    silent = {missing: str(run.exception())[:1500] for missing, run in runs.items() if run.exception() is not None}
    assert silent == {}
