"""An Envoy that follows the HTTPRoute and the EndpointSlices of the folder, without a restart.

Envoy watches a folder of its own for discovery files (routes and endpoints); the follower writes them anew, by an atomic
rename, whenever a manifest changes. It stands in for a gateway's controller.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

SERVICE_LABEL = "kubernetes.io/service-name"
_POLL_S = 0.05
_TYPES = "type.googleapis.com/envoy"


def cluster_name(namespace: str, backend: str) -> str:
    """The cluster of a backend called SERVICE-TRACK, named as the recording rules for Envoy want it."""
    service, _, track = backend.rpartition("-")
    return f"{namespace}/{service}/{track}"


def bootstrap(listen_port: int, discovery: Path, clusters: tuple[str, ...]) -> dict[str, Any]:
    """Envoy's static part: one listener, and one cluster per backend; what changes comes out of files."""
    manager = {
        "@type": f"{_TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "shop",
        "rds": {"route_config_name": "shop", "config_source": _from_file(discovery, "routes.json")},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    connection_manager = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {
        "node": {"id": "demo", "cluster": "demo"},
        "stats_flush_on_admin": True,  # or latencies would lag behind counts by up to five seconds
        "static_resources": {
            "listeners": [
                {
                    "name": "shop",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": listen_port}},
                    "filter_chains": [{"filters": [connection_manager]}],
                }
            ],
            "clusters": [
                {
                    "name": name,
                    "type": "EDS",
                    "connect_timeout": "1s",
                    "eds_cluster_config": {"eds_config": _from_file(discovery, _endpoints_file(name))},
                }
                for name in clusters
            ],
        },
    }


def _from_file(folder: Path, name: str) -> dict[str, Any]:
    source = {"path": str(folder / name), "watched_directory": {"path": str(folder)}}
    return {"path_config_source": source, "resource_api_version": "V3"}


@dataclass(frozen=True, slots=True)
class Change:
    """The weights that Envoy was given, by backend, at an instant (epoch seconds)."""

    at: float
    weights: Mapping[str, int]

    @property
    def canary(self) -> float:
        """The canary's share of the traffic, 0 to 1."""
        total = sum(self.weights.values())
        return (
            sum(weight for name, weight in self.weights.items() if name.endswith("-canary")) / total if total else 0.0
        )


class Follower:
    """Turns the folder's route and endpoints into Envoy's discovery files, from a thread of its own."""

    def __init__(self, folder: Path, discovery: Path) -> None:
        self._folder, self._discovery = folder, discovery
        self._changes: list[Change] = []
        self._signature: dict[str, tuple[int, int, int]] = {}
        self._version = 0
        self._problem = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    @property
    def changes(self) -> tuple[Change, ...]:
        """Every split that Envoy was given, oldest first."""
        return tuple(self._changes)

    @property
    def problem(self) -> str:
        """Why a manifest cannot be followed at the moment; empty while all can."""
        return self._problem

    def start(self) -> None:
        """Write the files once and go on in the background. Raises ValueError for manifests that cannot be followed."""
        self._follow()
        if self._problem:
            raise ValueError(self._problem)
        self._thread.start()

    def stop(self) -> None:
        """Stop following."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def clusters(self) -> tuple[str, ...]:
        """The names of the clusters that the routes lead to now."""
        documents = self._documents()
        return tuple(
            dict.fromkeys(
                cluster_name(_namespace(route), reference["name"])
                for route in _of_kind(documents, "HTTPRoute")
                for rule in route["spec"]["rules"]
                for reference in rule["backendRefs"]
            )
        )

    def _run(self) -> None:
        while not self._stop.wait(_POLL_S):
            self._follow()

    def _follow(self) -> None:
        try:
            signature = {
                path.name: (stat.st_mtime_ns, stat.st_size, stat.st_ino)
                for path in sorted(self._folder.glob("*.yaml"))
                for stat in [path.stat()]
            }
            if signature == self._signature:
                return
            documents = self._documents()
            routes = _of_kind(documents, "HTTPRoute")
            for assignment in _endpoints(documents):
                self._write(_endpoints_file(assignment["cluster_name"]), assignment)
            self._write("routes.json", _route_configuration(routes))
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            # A half-saved file: Envoy keeps what it has until the next look.
            self._problem = f"the route cannot be followed: {' '.join(str(error).split())}"
            return
        self._signature, self._problem = signature, ""
        weights = {
            reference["name"]: int(reference.get("weight", 1))
            for route in routes
            for rule in route["spec"]["rules"]
            for reference in rule["backendRefs"]
        }
        if not self._changes or self._changes[-1].weights != weights:
            self._changes.append(Change(time.time(), weights))

    def _documents(self) -> list[dict[str, Any]]:
        return [
            document
            for path in sorted(self._folder.glob("*.yaml"))
            for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
            if isinstance(document, dict)
        ]

    def _write(self, name: str, resource: dict[str, Any]) -> None:
        self._version += 1
        fresh = self._discovery / f"{name}.new"
        fresh.write_text(json.dumps({"version_info": str(self._version), "resources": [resource]}))
        fresh.rename(self._discovery / name)


def _endpoints_file(cluster: str) -> str:
    """Envoy takes one cluster's endpoints per file."""
    return f"endpoints-{cluster.replace('/', '.')}.json"


def _of_kind(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in documents if document.get("kind") == kind]


def _namespace(document: Mapping[str, Any]) -> str:
    return str(document["metadata"].get("namespace", "default"))


def _endpoints(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    assignments = []
    for piece in _of_kind(documents, "EndpointSlice"):
        port = int(piece["ports"][0]["port"])
        addresses = [
            address
            for endpoint in piece["endpoints"]
            if endpoint.get("conditions", {}).get("ready", True)
            for address in endpoint["addresses"]
        ]
        ends = [
            {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}}
            for address in addresses
        ]
        assignments.append(
            {
                "@type": f"{_TYPES}.config.endpoint.v3.ClusterLoadAssignment",
                "cluster_name": cluster_name(_namespace(piece), piece["metadata"]["labels"][SERVICE_LABEL]),
                "endpoints": [{"lb_endpoints": ends}],
            }
        )
    return assignments


def _route_configuration(routes: list[dict[str, Any]]) -> dict[str, Any]:
    hosts = [
        {
            "name": route["metadata"]["name"],
            "domains": route["spec"].get("hostnames") or ["*"],
            "routes": [
                {"match": match, **_action(_namespace(route), rule["backendRefs"])}
                for rule in route["spec"]["rules"]
                for match in _matches(rule)
            ],
        }
        for route in routes
    ]
    return {"@type": f"{_TYPES}.config.route.v3.RouteConfiguration", "name": "shop", "virtual_hosts": hosts}


def _matches(rule: Mapping[str, Any]) -> list[dict[str, str]]:
    paths = [match.get("path", {}) for match in rule.get("matches") or [{}]]
    return [{"path" if path.get("type") == "Exact" else "prefix": str(path.get("value", "/"))} for path in paths]


def _action(namespace: str, references: list[dict[str, Any]]) -> dict[str, Any]:
    weights = {cluster_name(namespace, item["name"]): int(item.get("weight", 1)) for item in references}
    if not sum(weights.values()):
        return {"direct_response": {"status": 500}}  # as the Gateway API says of a rule whose weights are all 0
    clusters = [{"name": name, "weight": weight} for name, weight in weights.items()]
    return {"route": {"weighted_clusters": {"clusters": clusters}}}
