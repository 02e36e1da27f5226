"""What both clusters read of objects, and write into them, in the same way."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from controller.core.plan import Plan
from controller.core.status import Status
from controller.core.world import ANNOTATION_PREFIX, Launch, LaunchKey
from controller.errors import RefusedError

WORKLOADS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}
"""The kinds of workloads whose templates are read, and what they are called in a path of the API."""

WORKLOAD_GROUP = "apps"

SERVICE_LABEL = "kubernetes.io/service-name"

MAX_ANNOTATION_BYTES = 256 * 1024
"""Names and values of all annotations of one object together, as an API server counts them."""

_ANNOTATION = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_DIGEST_BYTES = 8


def full_names(key: LaunchKey, changes: Mapping[str, str | None]) -> dict[str, str | None]:
    """Changes of our annotations under their whole names.

    Raises RefusedError for what cannot be the name or the value of an annotation.
    """
    for name, value in changes.items():
        if not _ANNOTATION.fullmatch(name):
            raise RefusedError(
                f"Launch {key}: {name!r} cannot be the name of an annotation; write one of the verbs, without a prefix"
            )
        try:
            (value or "").encode()
        except UnicodeEncodeError as error:
            raise RefusedError(f"Launch {key}: annotation {name}: its value holds half a letter; write text") from error
    return {ANNOTATION_PREFIX + name: value for name, value in changes.items()}


def template_hash(document: Mapping[str, Any]) -> str:
    """What a workload's pods are made from, as 16 hex digits; a restart is a change of it, a scaling is not."""
    template = (document.get("spec") or {}).get("template")
    # some versions of the server say `creationTimestamp: null`, some say nothing
    text = json.dumps(_without_null(template), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _without_null(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_null(item) for key, item in value.items() if item is not None}
    return [_without_null(item) for item in value] if isinstance(value, list) else value


def workloads_of(launch: Launch) -> set[tuple[str, str]]:
    """Kind and name of every workload that the plan names, or what the run stands on."""
    named: set[tuple[str, str]] = set()
    if isinstance(launch.plan, Plan):
        workloads = (target.canary.workload for target in launch.plan.spec.targets)
        named |= {(workload.kind, workload.name) for workload in workloads if workload is not None}
    run = launch.status.run if isinstance(launch.status, Status) else None
    for target in (run.stands_on.get("targets") or ()) if run is not None else ():
        workload = (target.get("canary") or {}).get("workload")
        if workload:
            named.add((workload.get("kind") or "Deployment", workload.get("name") or ""))
    return named


def ready_endpoints(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The endpoints of an EndpointSlice that are ready; the API says of a missing condition: take it for ready."""
    return [
        endpoint
        for endpoint in document.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False
    ]


def pods_behind(ready: Iterable[Mapping[str, Any]]) -> bytes | None:
    """The pods of ready endpoints, each as a short digest, one after the other: many Services are kept in memory.

    None where an endpoint is no pod.
    """
    digests: list[bytes] = []
    for endpoint in ready:
        reference = endpoint.get("targetRef") or {}
        if reference.get("kind") != "Pod" or not (reference.get("uid") or reference.get("name")):
            return None
        # a pod of a StatefulSet comes back under its name, as another one
        digests.append(_digest(reference.get("uid") or reference["name"]))
    return b"".join(digests)


def labels_of_pods(pods: Iterable[Mapping[str, Any]], labels: Iterable[str]) -> dict[bytes, dict[str, str]]:
    """The values of some labels of each pod ("" where one is missing), to be found by both of its digests."""
    found: dict[bytes, dict[str, str]] = {}
    wanted = list(labels)
    for pod in pods:
        metadata = pod.get("metadata") or {}
        own = metadata.get("labels") or {}
        values = {label: str(own.get(label) or "") for label in wanted}
        for identity in (metadata.get("uid"), metadata.get("name")):
            if identity:
                found[_digest(identity)] = values
    return found


def count_versions(
    slices: Iterable[bytes | None], pods: Mapping[bytes, Mapping[str, str]], label: str
) -> dict[str, int] | None:
    """How many pods of a Service's slices carry each value of a label; None where that of any is not known."""
    counts: dict[str, int] = {}
    seen: set[bytes] = set()  # a pod with an address of each family is one pod
    for behind in slices:
        if behind is None:
            return None
        seen.update(behind[at : at + _DIGEST_BYTES] for at in range(0, len(behind), _DIGEST_BYTES))
    for digest in seen:
        value = pods.get(digest, {}).get(label)
        if value is None:
            return None
        counts[value] = counts.get(value, 0) + 1
    return counts


def _digest(identity: str) -> bytes:
    return hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
