"""The Lease of the elector, in the API server; its requests share no connection, and no wait, with any others.

Each is sent once: a renewal that the client repeats by itself would come back as a conflict with ourselves.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from controller.adapters.api_server import Api, KubernetesSettings, ResourcePath
from controller.errors import ConflictError, NotFoundError
from controller.ports import Lease

_LEASES = ResourcePath("coordination.k8s.io", "v1", "leases")
_RELEASED_S = 1
"""What a Lease without a holder says of its duration where it was given back, as other electors do; 0 is refused."""


class KubernetesLease:
    """One Lease, of one elector; its methods are called from one thread.

    ``lease_s`` is what the Lease says of how long it counts, ``request_s`` how long one request may take in all.
    ``wall`` gives epoch seconds, for the instants in the Lease that people read.

    Raises RefusedError when the configuration cannot be used.
    """

    def __init__(
        self,
        settings: KubernetesSettings,
        namespace: str,
        name: str,
        *,
        lease_s: float,
        request_s: float,
        wall: Callable[[], float],
    ) -> None:
        self._lease_s, self._wall = max(2, round(lease_s)), wall
        self._namespace, self._name = namespace, name
        self._what = f"Lease {namespace}/{name}"
        # The body of so short an answer comes with its head.
        own = dataclasses.replace(settings, request_timeout_s=request_s, read_timeout_s=request_s, connections=1)
        self._api = Api(own)
        self._document: Mapping[str, Any] = {}

    def read(self) -> Lease | None:
        """The Lease afresh; None: there is none. Raises RefusedError or UnansweredError."""
        try:
            return self._keep(self._api.get(_LEASES.of(self._namespace, self._name), self._what))
        except NotFoundError:
            return None

    def create(self) -> Lease:
        """Makes it, held by nobody. Raises ConflictError where there is one, else RefusedError or UnansweredError."""
        document = {
            "apiVersion": f"{_LEASES.group}/{_LEASES.version}",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {"leaseDurationSeconds": self._lease_s, "leaseTransitions": 0},
        }
        return self._keep(self._api.post(_LEASES.of(self._namespace), document, self._what))

    def write(self, known: Lease, holder: str, transitions: int) -> Lease:
        """Puts this holder into it, or gives it back (empty), if it is still the version known; the rest stays.

        Raises ConflictError, NotFoundError, RefusedError or UnansweredError.
        """
        if (self._document.get("metadata") or {}).get("resourceVersion") != known.version:
            raise ConflictError(f"{self._what}: another version of it was read since")
        document = copy.deepcopy(dict(self._document))
        spec = document["spec"] = dict(document.get("spec") or {})
        now = _instant(self._wall())
        if now == spec.get("renewTime"):
            # A write that changes nothing makes no version: where the wall clock stands still nobody would see it renewed.
            now = _instant(self._wall() + 2e-6)
        if holder and (spec.get("holderIdentity") != holder or "acquireTime" not in spec):
            spec["acquireTime"] = now
        spec |= {
            "holderIdentity": holder,
            "renewTime": now,
            "leaseTransitions": transitions,
            "leaseDurationSeconds": self._lease_s if holder else _RELEASED_S,
        }
        return self._keep(self._api.put(_LEASES.of(self._namespace, self._name), document, self._what))

    def holds(self) -> bool:
        """Only the API server knows; the elector counts the time."""
        return True

    def close(self) -> None:
        """Closes its connection."""
        self._api.close()

    def _keep(self, document: Mapping[str, Any]) -> Lease:
        self._document = document
        spec = document.get("spec") or {}
        holder = str(spec.get("holderIdentity") or "")
        return Lease(
            version=str(document["metadata"]["resourceVersion"]),
            holder=holder,
            transitions=int(spec.get("leaseTransitions") or 0),
            released=not holder and spec.get("leaseDurationSeconds") == _RELEASED_S,
        )


def _instant(at: float) -> str:
    """Always with its microseconds: a whole second without them is refused."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
