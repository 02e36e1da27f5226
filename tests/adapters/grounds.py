"""The two clusters as tests stand on them: objects come, change and go by another hand than the code under test's."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import yaml

from controller.adapters.api_server import KubernetesSettings
from controller.adapters.files import Files
from controller.adapters.kubernetes import Kubernetes
from controller.core.world import LaunchKey, RouteKey
from controller.ports import Cluster
from tests.realparts.kube import ApiError, KubeApiserver
from tests.realparts.server import wait_until

Document = dict[str, Any]
DEADLINE_S = 60.0


class Ground(Protocol):
    """A cluster, and a person who works on it."""

    namespace: str

    def cluster(self) -> Cluster:
        """A new adapter on it, not started."""

    def create(self, document: Document) -> None:
        """Adds an object."""

    def edit(self, kind: str, name: str, change: Callable[[Document], None]) -> None:
        """Changes an object: its manifest as a person sees it, without what the server adds."""

    def delete(self, kind: str, name: str) -> None:
        """Removes an object, which is gone at once."""

    def begin_to_delete(self, kind: str, name: str) -> None:
        """Removes an object that has finalizers, and goes only with the last of them."""

    def exists(self, kind: str, name: str) -> bool:
        """Whether the object is there, be it on its way out."""

    def raw(self, kind: str, name: str) -> Document:
        """The manifest as it is stored, without what the server adds."""

    def raw_status(self, name: str) -> Document:
        """The stored status of a launch."""


class FolderGround:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.namespace = "shop"

    def cluster(self) -> Cluster:
        return Files(self.folder, scan_s=0.05)

    def path(self, kind: str, name: str) -> Path:
        return self.folder / f"{kind.lower()}-{name}.yaml"

    def create(self, document: Document) -> None:
        document = {**document, "metadata": {**document["metadata"], "namespace": self.namespace}}
        self._save(self.path(document["kind"], document["metadata"]["name"]), document)

    def edit(self, kind: str, name: str, change: Callable[[Document], None]) -> None:
        document = self.raw(kind, name)
        change(document)
        self._save(self.path(kind, name), document)

    def delete(self, kind: str, name: str) -> None:
        self.path(kind, name).unlink()

    def begin_to_delete(self, kind: str, name: str) -> None:
        self.edit(kind, name, lambda document: document["metadata"].update(deletionTimestamp="2025-11-01T14:00:00Z"))

    def exists(self, kind: str, name: str) -> bool:
        return self.path(kind, name).exists()

    def raw(self, kind: str, name: str) -> Document:
        document: Document = yaml.safe_load(self.path(kind, name).read_text())
        return document

    def raw_status(self, name: str) -> Document:
        record = json.loads((self.folder / ".status" / f"{self.namespace}.{name}.json").read_text())
        status: Document = record["status"]
        return status

    def _save(self, path: Path, document: Document) -> None:
        temporary = path.with_suffix(".new")
        temporary.write_text(yaml.safe_dump(document, sort_keys=False))
        temporary.replace(path)


class KubeGround:
    def __init__(self, kube: KubeApiserver, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace

    def cluster(self) -> Cluster:
        return Kubernetes(self.settings())

    def settings(self, **changes: Any) -> KubernetesSettings:
        kubeconfig = changes.pop("kubeconfig", None) or str(self.kube.kubeconfig("admin"))
        return KubernetesSettings(kubeconfig=kubeconfig, namespaces=(self.namespace,), **changes)

    def path(self, kind: str, name: str = "") -> str:
        group = {
            "Launch": "apis/autoadvance.dev/v1alpha1",
            "EndpointSlice": "apis/discovery.k8s.io/v1",
            "HTTPRoute": "apis/gateway.networking.k8s.io/v1",
            "GRPCRoute": "apis/gateway.networking.k8s.io/v1",
            "Pod": "api/v1",
        }
        base = f"/{group.get(kind, 'apis/apps/v1')}/namespaces/{self.namespace}"
        return f"{base}/{kind.lower()}{'e' * (kind == 'Launch')}s" + (f"/{name}" if name else "")

    def create(self, document: Document) -> None:
        self.kube.call("POST", self.path(document["kind"]), document, fieldValidation="Strict")

    def edit(self, kind: str, name: str, change: Callable[[Document], None]) -> None:
        def once() -> bool:
            document = self.kube.call("GET", self.path(kind, name))
            change(document)
            try:
                self.kube.call("PUT", self.path(kind, name), document)
            except ApiError as error:
                if error.code == 409:
                    return False
                raise
            return True

        wait_until(once, deadline_s=DEADLINE_S, what=f"an edit of {kind} {name}")

    def delete(self, kind: str, name: str) -> None:
        # without a kubelet nobody else would end a pod's time of grace
        self.kube.call("DELETE", self.path(kind, name), gracePeriodSeconds="0")

    def begin_to_delete(self, kind: str, name: str) -> None:
        self.delete(kind, name)

    def exists(self, kind: str, name: str) -> bool:
        try:
            self.kube.call("GET", self.path(kind, name))
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return True

    def raw(self, kind: str, name: str) -> Document:
        document: Document = self.kube.call("GET", self.path(kind, name))
        document.pop("status", None)
        for added in ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"):
            document["metadata"].pop(added, None)
        return document

    def raw_status(self, name: str) -> Document:
        document = self.kube.call("GET", self.path("Launch", name))
        status: Document = document.get("status", {})
        return status


@contextmanager
def running(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, started and synced."""
    cluster.start()
    try:
        wait_until(cluster.synced, deadline_s=DEADLINE_S, what="the first lists")
        yield cluster
    finally:
        cluster.stop()


def launch_document(name: str = "shop", **metadata: Any) -> Document:
    """The smallest plan."""
    return {
        "apiVersion": "autoadvance.dev/v1alpha1",
        "kind": "Launch",
        "metadata": {"name": name, **metadata},
        "spec": {
            "revision": "v2",
            "targets": [
                {"name": "main", "route": {"name": name}, "stable": {"name": "stable"}, "canary": {"name": "canary"}}
            ],
            "phases": [
                {
                    "name": "ramp",
                    "steps": [{"weight": 5, "for": "10m"}, {"weight": 100}],
                    "guardrails": [{"metric": "errors", "below": "1%"}],
                }
            ],
        },
    }


def route_document(
    name: str = "shop", kind: str = "HTTPRoute", stable: int | None = 100, canary: int | None = 0, **metadata: Any
) -> Document:
    """A route with two rules, the first between stable and canary; None leaves a weight out."""
    match: Mapping[str, Any] = (
        {"headers": [{"name": "beta", "value": "1"}]}
        if kind == "GRPCRoute"
        else {
            "path": {"type": "PathPrefix", "value": "/"},
            "headers": [{"type": "Exact", "name": "beta", "value": "1"}],
        }
    )
    headers = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x", "value": "1"}]}}
    pair = [_backend("stable", stable), {**_backend("canary", canary), "filters": [headers]}]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name, **metadata},
        "spec": {
            "rules": [
                {"backendRefs": [*pair, _backend("audit", 0)]},
                {"matches": [dict(match)], "backendRefs": [_backend("canary", 1)]},
            ]
        },
    }


def workload_document(kind: str = "Deployment", name: str = "canary", image: str = "shop:1") -> Document:
    """A workload as small as the API lets it be."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": dict(labels)},
                "spec": {"containers": [{"name": "shop", "image": image, "env": [{"name": "MODE", "value": "a"}]}]},
            },
        },
    }


def pod_document(name: str, **labels: str) -> Document:
    """A pod as small as the API lets it be."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": "shop", "image": "shop:1"}]},
    }


def slice_of_pods(name: str, service: str, *pods: str, unready: tuple[str, ...] = (), family: str = "IPv4") -> Document:
    """An EndpointSlice whose endpoints are these pods, first the ready ones."""
    document = slice_document(name, service, len(pods), unready=len(unready), family=family)
    for endpoint, pod in zip(document["endpoints"], (*pods, *unready), strict=True):
        endpoint["targetRef"] = {"kind": "Pod", "name": pod}
    return document


def slice_document(name: str, service: str, ready: int, *, unready: int = 0, family: str = "IPv4") -> Document:
    """An EndpointSlice with that many endpoints."""
    prefix = "10.0.0." if family == "IPv4" else "fd00::"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": family,
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": [f"{prefix}{number + 1}"], "conditions": {"ready": number < ready}}
            for number in range(ready + unready)
        ],
    }


def launch_key(ground: Ground, name: str = "shop") -> LaunchKey:
    return LaunchKey(ground.namespace, name)


def route_key(ground: Ground, name: str = "shop", kind: str = "HTTPRoute") -> RouteKey:
    return RouteKey(kind, ground.namespace, name)


def _backend(name: str, weight: int | None) -> Document:
    return {"name": name, "port": 80} | ({} if weight is None else {"weight": weight})
