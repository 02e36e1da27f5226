"""A cluster behind an API server as a person at a terminal uses it: some requests, nothing is followed."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.kube_config import list_kube_config_contexts
from urllib3.exceptions import HTTPError

from controller.adapters.api_server import Api, ApiFeed, KubernetesSettings, ResourcePath
from controller.adapters.configuration_file import STOP_KEY, changed_stop
from controller.adapters.kubernetes import LAUNCHES, Kubernetes
from controller.core import world
from controller.core.terms import Stop
from controller.core.world import Launch, LaunchKey
from controller.errors import AdapterError, ConflictError, RefusedError, UnansweredError

_CONFIGMAPS = ResourcePath("", "v1", "configmaps")
_TRIES = 5
_REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_NAMESPACE_OF_THE_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class ApiDesk:
    """Reads launches and leaves words for them, as whoever the kubeconfig says; ``namespace`` is its context's.

    Raises RefusedError when the configuration cannot be used.
    """

    def __init__(self, kubeconfig: str = "", context: str = "") -> None:
        self._settings = KubernetesSettings(kubeconfig=kubeconfig, context=context)
        self._api = _Asking(self._settings)
        self.namespace = _namespace(kubeconfig, context)

    def launches(self, namespace: str) -> list[Launch]:
        """The launches of a namespace, or of all of them (empty), by namespace and name. Raises AdapterError."""
        documents, _ = ApiFeed(self._api, self._settings, LAUNCHES, namespace).list()
        found = [world.read_launch(document) for document in documents]
        return sorted(found, key=lambda launch: (launch.key.namespace, launch.key.name))

    def launch(self, key: LaunchKey) -> Launch:
        """One launch, afresh. Raises AdapterError."""
        return world.read_launch(self._api.get(LAUNCHES.of(key.namespace, key.name), f"Launch {key}"))

    def annotate(self, key: LaunchKey, changes: Mapping[str, str | None]) -> Launch:
        """Set (or with None remove) annotations of ours, named without their prefix. Raises AdapterError."""
        cluster = Kubernetes(self._settings)
        try:
            return cluster.annotate(key, changes)
        finally:
            cluster.stop()

    def edit_stop(self, namespace: str, name: str, stop: Stop | None) -> bool:
        """Write the stop into its key of that ConfigMap, or (None) take the key away; whether that changed something.

        Compare-and-swap on the version. Raises ConflictError where somebody else keeps writing it, else AdapterError.
        """
        path, what = _CONFIGMAPS.of(namespace, name), f"ConfigMap {namespace}/{name}"
        for _ in range(_TRIES):
            found = self._api.get(path, what)
            version = str((found.get("metadata") or {}).get("resourceVersion") or "")
            writes = _writes(found, stop)
            if not writes:
                return False
            try:
                self._api.patch(
                    path, [{"op": "test", "path": "/metadata/resourceVersion", "value": version}, *writes], what
                )
            except ConflictError:
                continue
            except RefusedError:
                # A failed test and a refused value have the same code.
                now = self._api.get(path, what)
                if str((now.get("metadata") or {}).get("resourceVersion") or "") == version:
                    raise
            else:
                return True
        raise ConflictError(f"{what}: somebody else keeps writing it; try again")

    def user(self) -> str:
        """Whom the API server sees; the user of this machine where it does not say."""
        try:
            return self._api.user()
        except AdapterError:
            pass  # some clusters do not let people ask
        try:
            return getpass.getuser()
        except (OSError, KeyError):
            return ""

    def close(self) -> None:
        """Closes its connections."""
        self._api.close()


def _writes(configmap: Mapping[str, Any], stop: Stop | None) -> list[dict[str, Any]]:
    """The operations that bring the stop into the ConfigMap; none where it is as it should be."""
    data = configmap.get("data")
    known = (data or {}).get(STOP_KEY)
    after = changed_stop(known, stop)
    # Whoever made the key from a file that is no text: it is mounted all the same, and stops all raises.
    binary = STOP_KEY in (configmap.get("binaryData") or {})
    writes: list[dict[str, Any]] = [{"op": "remove", "path": f"/binaryData/{STOP_KEY}"}] if binary else []
    if after is None and known is not None:
        writes.append({"op": "remove", "path": f"/data/{STOP_KEY}"})
    elif after is not None and data is None:
        writes.append({"op": "add", "path": "/data", "value": {STOP_KEY: after}})
    elif after != known:
        writes.append({"op": "add", "path": f"/data/{STOP_KEY}", "value": after})
    return writes


class _Asking(Api):
    """The controller's requests, and the one that asks who it is that asks."""

    def user(self) -> str:
        """The name of the user. Raises AdapterError."""
        what = "who you are"
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        timeouts = (self._settings.connect_timeout_s, self._settings.read_timeout_s)
        body: dict[str, Any] = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            _, address, signed, _, _ = self._client.param_serialize(
                "POST", _REVIEWS, header_params=headers, auth_settings=["BearerToken"]
            )
            response = self._client.call_api("POST", address, signed, body, _request_timeout=timeouts).response
        except (ApiException, ConfigException, HTTPError, OSError) as error:
            raise UnansweredError(f"{what}: no answer") from error
        if not 200 <= response.status <= 299:
            raise self._error(response, what)
        status = self._document(response, what).get("status") or {}
        return str((status.get("userInfo") or {}).get("username") or "")


def contexts(kubeconfig: str) -> list[tuple[str, str]]:
    """The contexts of the kubeconfig, each with the name of its cluster; none where it cannot be read."""
    try:
        known, _ = list_kube_config_contexts(_chosen(kubeconfig))  # type: ignore[no-untyped-call]  # no types there
    except (ConfigException, OSError):
        return []
    return [(str(one.get("name")), str((one.get("context") or {}).get("cluster") or "")) for one in known]


def _chosen(kubeconfig: str) -> str:
    return kubeconfig or os.environ.get("KUBECONFIG", "") or str(Path.home() / ".kube" / "config")


def _namespace(kubeconfig: str, context: str) -> str:
    """The namespace of the context, else of the pod, else ``default``: what kubectl takes."""
    try:
        known, current = list_kube_config_contexts(_chosen(kubeconfig))  # type: ignore[no-untyped-call]  # no types there
    except (ConfigException, OSError):
        try:
            return _NAMESPACE_OF_THE_POD.read_text(encoding="utf-8").strip() or "default"
        except OSError:
            return "default"
    named: Mapping[str, Any] = next((one for one in known if one.get("name") == context), current)
    return str((named.get("context") or {}).get("namespace") or "default")
