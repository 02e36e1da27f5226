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

from controller.adapters.kubernetes import _LAUNCHES, Kubernetes, KubernetesSettings, _Api, _ApiFeed
from controller.core import world
from controller.core.world import Launch, LaunchKey
from controller.errors import AdapterError, UnansweredError

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
        documents, _ = _ApiFeed(self._api, self._settings, _LAUNCHES, namespace).list()
        found = [world.read_launch(document) for document in documents]
        return sorted(found, key=lambda launch: (launch.key.namespace, launch.key.name))

    def launch(self, key: LaunchKey) -> Launch:
        """One launch, afresh. Raises AdapterError."""
        return world.read_launch(self._api.get(_LAUNCHES.of(key.namespace, key.name), f"Launch {key}"))

    def annotate(self, key: LaunchKey, changes: Mapping[str, str | None]) -> Launch:
        """Set (or with None remove) annotations of ours, named without their prefix. Raises AdapterError."""
        cluster = Kubernetes(self._settings)
        try:
            return cluster.annotate(key, changes)
        finally:
            cluster.stop()

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


class _Asking(_Api):
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


def _namespace(kubeconfig: str, context: str) -> str:
    """The namespace of the context, else of the pod, else ``default``: what kubectl takes."""
    chosen = kubeconfig or os.environ.get("KUBECONFIG", "") or str(Path.home() / ".kube" / "config")
    try:
        contexts, current = list_kube_config_contexts(chosen)  # type: ignore[no-untyped-call]  # no types there
    except (ConfigException, OSError):
        try:
            return _NAMESPACE_OF_THE_POD.read_text(encoding="utf-8").strip() or "default"
        except OSError:
            return "default"
    named: Mapping[str, Any] = next((one for one in contexts if one.get("name") == context), current)
    return str((named.get("context") or {}).get("namespace") or "default")
