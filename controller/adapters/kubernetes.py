"""The Kubernetes API server as the cluster: launches and routes watched, statuses and weights written.

The official client loads configuration and signs requests; list, watch and errors are handled here, because its
informer has no time-outs, no back-off and no notion of being synced. Every request has a connect and a read time-out
and no hidden retries: a write that was sent twice could not be told from somebody else's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import random
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from kubernetes.client.api_client import ApiClient
from kubernetes.client.configuration import Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.incluster_config import (
    SERVICE_CERT_FILENAME,
    SERVICE_HOST_ENV_NAME,
    SERVICE_TOKEN_FILENAME,
    InClusterConfigLoader,
)
from kubernetes.config.kube_config import load_kube_config
from pydantic import ValidationError
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, InsecureRequestWarning

from controller.adapters import events, objects
from controller.adapters.asking import Asking
from controller.adapters.routes import gateway
from controller.adapters.watching import Cache, Document, ExpiredError, Followed, Pace
from controller.core import world
from controller.core.events import Event
from controller.core.series import RecordedForm
from controller.core.spec import GROUP, PLURAL, VERSION
from controller.core.terms import Terms
from controller.core.world import FINALIZER, Launch, LaunchKey, Route, RouteKey, RoutePatch
from controller.errors import (
    AdapterError,
    ConflictError,
    NotFoundError,
    NotLeadingError,
    RefusedError,
    UnansweredError,
)

FIELD_MANAGER = "auto-advance"
MAX_ANSWER_BYTES = 256 * 1024 * 1024
MAX_EVENT_BYTES = 16 * 1024 * 1024
_CHUNK = 65536
_JSON_PATCH = "application/json-patch+json"
_MERGE_PATCH = "application/merge-patch+json"
_JSON = "application/json"
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_RENEWED_AT_MOST_EACH_S = 30.0

# everything by which the official client, and urllib3 beneath it, say that there was no usable answer
_TRANSPORT = (HTTPError, http.client.HTTPException, OSError)


@dataclass(frozen=True, slots=True)
class _Path:
    """Where the objects of one kind are found in the API."""

    group: str
    version: str
    plural: str
    selector: str = ""

    def of(self, namespace: str, name: str = "") -> str:
        """The path of one object, of a namespace's list, or of the list of all namespaces."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        parts += ["namespaces", quote(namespace, safe="")] if namespace else []
        parts += [self.plural, *([quote(name, safe="")] if name else [])]
        return "/" + "/".join(parts)


_LAUNCHES = _Path(GROUP, VERSION, PLURAL)
_SLICES = _Path("discovery.k8s.io", "v1", "endpointslices", selector=objects.SERVICE_LABEL)
_ROUTES = {kind: _Path(gateway.GROUP, gateway.VERSION, plural) for kind, plural in gateway.PLURALS.items()}
_WORKLOADS = {kind: _Path(objects.WORKLOAD_GROUP, "v1", plural) for kind, plural in objects.WORKLOADS.items()}
_PODS = _Path("", "v1", "pods")
_EVENTS = _Path(events.GROUP, events.VERSION, events.PLURAL)
PODS_VALID_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """How to reach the API server, and how patient to be. All times in seconds.

    Without ``kubeconfig`` and ``context`` a pod uses its own service account; elsewhere KUBECONFIG or
    ``~/.kube/config`` counts. ``namespaces`` empty: all of them. ``proxy``: a URL; the environment's proxies are
    used only with ``proxy_from_environment``. ``request_timeout_s``, where it is not 0, is for connecting and for the
    answer's head together, in place of their own ones. ``connections``: how many are kept open for reads and writes;
    ``page_size``: how many objects one answer of a list holds. ``pods_each_s``: how often the pods of a namespace are
    listed at most, while somebody asks for them; what was listed counts for ``pods_valid_s``.
    """

    kubeconfig: str = ""
    context: str = ""
    namespaces: tuple[str, ...] = ()
    connect_timeout_s: float = 2.0
    read_timeout_s: float = 5.0
    request_timeout_s: float = 0.0
    list_timeout_s: float = 60.0
    watch_s: float = 30.0
    watch_silence_s: float = 5.0
    shortest_wait_s: float = 0.2
    longest_wait_s: float = 30.0
    connections: int = 32
    page_size: int = 500
    pods_each_s: float = 10.0
    pods_valid_s: float = PODS_VALID_SECONDS
    proxy: str = ""
    proxy_from_environment: bool = False


class Kubernetes:
    """A cluster behind an API server; all methods may be called from several threads.

    ``may_write`` is asked right before each request that changes something; where it says no, nothing is sent and
    NotLeadingError is raised.

    Raises RefusedError when the configuration cannot be used.
    """

    def __init__(
        self,
        settings: KubernetesSettings,
        on_problem: Callable[[str], None] | None = None,
        recorded: RecordedForm | None = None,
        may_write: Callable[[], bool] | None = None,
        terms: Callable[[], Terms] | None = None,
    ) -> None:
        self._settings = settings
        self._on_problem = on_problem
        self._recorded = recorded
        self._terms = terms
        self._stopped = threading.Event()
        self._rereading = threading.Lock()
        self._api = _Api(settings, may_write)
        self._watching = _Api(settings)  # its connections are cut by stop(), those of writes are not
        self._listeners: list[Callable[[LaunchKey], None]] = []
        self._followed: list[Followed[Any, Any]] = []
        self._launches: dict[str, Cache[LaunchKey, Launch]] = {}
        self._routes: dict[tuple[str, str], Cache[RouteKey, Route]] = {}
        self._slices: dict[str, _Endpoints] = {}
        self._workloads: dict[tuple[str, str], Cache[tuple[str, str], _Template]] = {}
        self._following_workloads: list[Followed[Any, Any]] = []  # those that somebody asked for; none is waited for
        self._templates_asked: set[tuple[str, str, str]] = set()
        self._launches_as_of = object()  # another one with each change
        self._naming: tuple[object, dict[tuple[str, str, str], list[LaunchKey]]] = (None, {})
        self._turn = threading.Lock()
        self._running = False
        self._pods = Asking(
            "reads pods",
            self._list_pods,
            fresh_s=settings.pods_each_s,
            valid_s=settings.pods_valid_s,
            on_failure=on_problem,
        )
        self._pod_labels: dict[str, set[str]] = {}
        for namespace in settings.namespaces or ("",):
            self._follow_namespace(namespace)

    def _follow_namespace(self, namespace: str) -> None:
        launches = self._launches[namespace] = Cache[LaunchKey, Launch](_version)
        self._follow(_LAUNCHES, namespace, launches, _launch_key, self._read_launch, self._launch_changed)
        for kind, path in _ROUTES.items():
            routes = self._routes[kind, namespace] = Cache[RouteKey, Route](_version)
            key_of, read = _route_reader(kind)
            # clusters without GRPCRoute are common; a cluster without HTTPRoute has nothing for us to do
            self._follow(path, namespace, routes, key_of, read, optional=kind == "GRPCRoute")
        slices = self._slices[namespace] = _Endpoints(Cache[tuple[str, str], _Slice](lambda one: one.version))
        self._follow(_SLICES, namespace, slices.cache, _place_of, _slice, slices.changed)

    def _follow(
        self,
        path: _Path,
        namespace: str,
        cache: Cache[Any, Any],
        key_of: Callable[[Document], Any],
        read: Callable[[Document, Any], Any],
        changed: Callable[[Any, Any, Any], None] | None = None,
        *,
        optional: bool = False,
    ) -> None:
        self._followed.append(self._follower(path, namespace, cache, key_of, read, changed, optional=optional))

    def _follower(
        self,
        path: _Path,
        namespace: str,
        cache: Cache[Any, Any],
        key_of: Callable[[Document], Any],
        read: Callable[[Document, Any], Any],
        changed: Callable[[Any, Any, Any], None] | None,
        *,
        optional: bool = False,
    ) -> Followed[Any, Any]:
        return Followed(
            path.plural + (f" in {namespace}" if namespace else ""),
            _ApiFeed(self._watching, self._settings, path, namespace),
            cache,
            key_of,
            read,
            changed=changed,
            on_problem=self._on_problem,
            optional=optional,
            shortest_wait_s=self._settings.shortest_wait_s,
            longest_wait_s=self._settings.longest_wait_s,
        )

    def start(self) -> None:
        """Begins to list and watch, in threads of its own; :meth:`synced` says when the view is whole."""
        with self._turn:
            self._running = True
        for followed in self._followed:
            followed.start(self._answers_again)

    def stop(self) -> None:
        """Ends the watches within 2 seconds, cutting what they read; a write in another thread is not disturbed."""
        with self._turn:
            self._running = False
        self._stopped.set()
        followers = [*self._followed, *self._following_workloads]
        for followed in followers:
            followed.stop()
        self._pods.stop()
        self._watching.cut()
        deadline = time.monotonic() + 1.5
        for followed in followers:
            followed.join(deadline - time.monotonic())
        self._pods.join(deadline - time.monotonic())
        self._watching.close()
        self._api.close()

    def read_again(self) -> None:
        """Brings the caches up to lists that are made now, without waiting for what the watches bring.

        Raises AdapterError where a list cannot be read; the other caches are up to date then.
        """
        failed: AdapterError | None = None
        for followed in [*self._followed, *self._following_workloads]:
            try:
                followed.read_again()
            except AdapterError as error:
                failed = error
        if failed is not None:
            raise failed

    def read_plans_anew(self) -> None:
        """The terms have changed: every plan is read with the new ones, in a thread of its own, until that is done."""
        threading.Thread(target=self._read_plans_anew, name="read plans anew", daemon=True).start()

    def _read_plans_anew(self) -> None:
        pace = Pace(self._settings.shortest_wait_s, self._settings.longest_wait_s)
        with self._rereading:  # who comes second reads with the newest terms, too
            for namespace, cache in self._launches.items():
                while not self._stopped.is_set():
                    try:
                        documents, _ = _ApiFeed(self._watching, self._settings, _LAUNCHES, namespace).list()
                        for document in documents:
                            self._read_plan_anew(cache, document)
                        break
                    except AdapterError as error:
                        if self._on_problem is not None:
                            self._on_problem(f"plans are not read with the new configuration yet: {error}")
                        self._stopped.wait(pace.next_wait_s())

    def _read_plan_anew(self, cache: Cache[LaunchKey, Launch], document: Document) -> None:
        try:
            key = _launch_key(document)
            after = self._read_launch(document, None)
        except (KeyError, TypeError, ValueError):
            return  # the watch says of it that it cannot be read
        before = cache.read_anew(key, after)
        if before is not None:
            self._launch_changed(key, before, after)

    def synced(self) -> bool:
        """Every list was read once; before that the caches are no answer."""
        return all(followed.synced for followed in self._followed)

    def problem(self) -> str:
        """Empty, or why the view may be old."""
        followers = [*self._followed, *self._following_workloads]
        return "; ".join(filter(None, (followed.problem() for followed in followers)))

    def launches(self) -> list[Launch]:
        """All launches, from the cache."""
        return [launch for cache in self._launches.values() for launch in cache.values()]

    def launch(self, key: LaunchKey) -> Launch | None:
        """One launch, from the cache."""
        cache = _of_namespace(self._launches, key.namespace)
        return cache.get(key) if cache is not None else None

    def route(self, key: RouteKey) -> Route | None:
        """One route, from the cache."""
        cache = self._route_cache(key)
        return cache.get(key) if cache is not None else None

    def ready_endpoints(self, namespace: str, service: str) -> int | None:
        """How many endpoints of a Service are ready, from the cache; None where no EndpointSlice tells."""
        endpoints = _of_namespace(self._slices, namespace)
        return endpoints.ready(namespace, service) if endpoints is not None else None

    def template(self, namespace: str, kind: str, name: str) -> str | None:
        """What the pods of a workload are made from, as 16 hex digits; None: not known (yet), or it is not there.

        The first question for a kind begins a list and a watch of it.
        """
        if kind not in _WORKLOADS:
            return None
        cache = self._workloads.get((kind, "")) or self._workloads.get((kind, namespace))
        if cache is None:
            cache = self._follow_workloads(kind, namespace)
        if cache is None:
            return None
        self._templates_asked.add((kind, namespace, name))
        found = cache.get((namespace, name))
        return found.digest if found is not None else None

    def _follow_workloads(self, kind: str, namespace: str) -> Cache[tuple[str, str], _Template] | None:
        followed_in = "" if "" in self._launches else namespace
        with self._turn:
            known = self._workloads.get((kind, followed_in))
            if known is not None or not self._running or followed_in not in self._launches:
                return known
            cache = self._workloads[kind, followed_in] = Cache[tuple[str, str], _Template](lambda one: one.version)

            def changed(key: tuple[str, str], before: _Template | None, after: _Template | None) -> None:
                if (before and before.digest) != (after and after.digest):
                    self._template_changed(kind, *key)

            follower = self._follower(_WORKLOADS[kind], followed_in, cache, _place_of, _template, changed)
            self._following_workloads.append(follower)
            follower.start(self._answers_again)
            return cache

    def pod_versions(self, namespace: str, service: str, label: str) -> Mapping[str, int] | None:
        """How many ready pods behind a Service carry each value of a label ("" where it is missing); None: not known.

        Their labels are read beside, and only after a question, so the first one is answered by None. None too where a
        ready endpoint is no pod that was read.
        """
        endpoints = _of_namespace(self._slices, namespace)
        behind = endpoints.pods(namespace, service) if endpoints is not None else None
        if behind is None:
            return None
        with self._turn:
            self._pod_labels.setdefault(namespace, set()).add(label)
        pods = self._pods.ask(namespace)
        return objects.count_versions(behind, pods, label) if pods is not None else None

    def _list_pods(self, namespace: str) -> dict[bytes, dict[str, str]]:
        with self._turn:
            labels = set(self._pod_labels.get(namespace, ()))
        documents, _ = _ApiFeed(self._watching, self._settings, _PODS, namespace, _METADATA_ONLY).list()
        return objects.labels_of_pods(documents, labels)

    def subscribe(self, callback: Callable[[LaunchKey], None]) -> None:
        """Calls back, from a watch's thread, when a launch came, went or changed in more than its status.

        Or when the template of a workload that it names has changed, if that was asked for before.
        """
        self._listeners.append(callback)

    def read_launch(self, key: LaunchKey) -> Launch:
        """The launch afresh.

        Raises NotFoundError, RefusedError or UnansweredError.
        """
        return self._keep_launch(self._api.get(_LAUNCHES.of(key.namespace, key.name), f"Launch {key}"))

    def read_route(self, key: RouteKey) -> Route:
        """The route afresh.

        Raises NotFoundError, RefusedError or UnansweredError.
        """
        return self._keep_route(key, self._api.get(_ROUTES[key.kind].of(key.namespace, key.name), str(key)))

    def write_status(self, launch: Launch, status: Mapping[str, Any]) -> Launch:
        """Replaces the status if the launch is still the one that was read; returns what was stored.

        Raises ConflictError when it is not, NotFoundError when it is gone, else RefusedError or UnansweredError.
        """
        write = {"op": "add", "path": "/status", "value": dict(status)}
        return self._keep_launch(self._patch_launch(launch, [write], "status", "/status"))

    def _patch_launch(
        self, launch: Launch, writes: list[dict[str, Any]], part: str, subresource: str = ""
    ) -> dict[str, Any]:
        """The object after a patch of the very version given. Raises ConflictError when it is not that any more."""
        path = _LAUNCHES.of(launch.key.namespace, launch.key.name)
        what = f"Launch {launch.key}: {part}"
        tests = [
            {"op": "test", "path": "/metadata/uid", "value": launch.uid},
            {"op": "test", "path": "/metadata/resourceVersion", "value": launch.resource_version},
        ]
        try:
            return self._api.patch(path + subresource, [*tests, *writes], what)
        except _UnprocessableError as refusal:
            # a failed test and a refused value have the same code; nothing was written in either case
            try:
                now = self._api.get(path, what)
            except UnansweredError as error:
                raise ConflictError(f"{what} was not written, and why is not known: {error}") from refusal
            if _identity(now) != (launch.uid, launch.resource_version):
                self._keep_launch(now)
                raise ConflictError(f"{what}: somebody else changed the launch in between") from refusal
            raise

    def annotate(self, key: LaunchKey, changes: Mapping[str, str | None]) -> Launch:
        """Sets (or with None removes) annotations of ours, named without their prefix, and touches nothing else.

        Raises NotFoundError, RefusedError (also for what is no name or text) or UnansweredError.
        """
        # a merge patch adds the map where it is missing, and needs no read before
        body = {"metadata": {"annotations": objects.full_names(key, changes)}}
        path = _LAUNCHES.of(key.namespace, key.name)
        return self._keep_launch(self._api.patch(path, body, f"Launch {key}: annotations"))

    def set_finalizer(self, launch: Launch, present: bool) -> Launch:  # noqa: FBT001 - the Protocol's
        """Lets our finalizer be there, or not, if the launch is still the one that was read; returns what was stored.

        A launch that is being deleted vanishes with its last finalizer; that, and that it is gone already, is no error.
        Raises ConflictError when somebody else changed it, NotFoundError when it is gone and should be kept, else
        RefusedError or UnansweredError.
        """
        what = f"Launch {launch.key}: finalizer"
        gone = dataclasses.replace(launch, finalized=False)
        try:
            now = self._api.get(_LAUNCHES.of(launch.key.namespace, launch.key.name), what)
            uid, version = _identity(now)
            if uid != launch.uid and not present:
                return gone
            if (uid, version) != (launch.uid, launch.resource_version):
                self._keep_launch(now)
                raise ConflictError(f"{what}: somebody else changed the launch in between")
            finalizers: list[str] = (now.get("metadata") or {}).get("finalizers") or []
            if (FINALIZER in finalizers) == present:
                return self._keep_launch(now)
            stored = self._patch_launch(launch, _finalizing(finalizers, present=present), "finalizer")
        except NotFoundError:
            if present:
                raise
            return gone
        if launch.deleting and finalizers == [FINALIZER]:
            return gone  # the watch tells that it went; to keep what was answered could bring it back
        return self._keep_launch(stored)

    def write_event(self, event: Event) -> None:
        """Stores an Event about a launch; that it is stored already is no error: it was sent before.

        Of one that has happened again, how often is written into it. Raises NotFoundError, RefusedError or UnansweredError.
        """
        what = f"Launch {event.key}: event {event.reason}"
        if event.times > 1:
            series = {"series": events.series_of(event)}
            with contextlib.suppress(NotFoundError):  # the API server keeps Events for an hour or so
                self._api.patch(_EVENTS.of(event.key.namespace, event.name), series, what)
                return
        launch = self.launch(event.key)
        document = events.event_document(event, launch.uid if launch is not None else "")
        with contextlib.suppress(ConflictError):
            self._api.post(_EVENTS.of(event.key.namespace), document, what)

    def patch_route(self, patch: RoutePatch, dry_run: bool = False) -> Route:  # noqa: FBT001, FBT002 - the Protocol's
        """Changes exactly what the patch says if everything it tests still holds; returns what was stored.

        Raises ConflictError when a test fails, NotFoundError when the route is gone, else RefusedError or
        UnansweredError.
        """
        path = _ROUTES[patch.key.kind].of(patch.key.namespace, patch.key.name)
        what = str(patch.key)
        known = self.route(patch.key)
        annotated = known is None or known.annotated
        for _ in range(3):
            try:
                stored = self._api.patch(path, gateway.operations(patch, annotated=annotated), what, dry_run=dry_run)
            except _UnprocessableError as refusal:
                try:
                    now = self._api.get(path, what)
                except UnansweredError as error:
                    raise ConflictError(f"{what} was not written, and why is not known: {error}") from refusal
                route = self._keep_route(patch.key, now)
                difference = gateway.difference(patch, now)
                if difference:
                    raise ConflictError(difference) from refusal
                if route.annotated == annotated:
                    raise
                annotated = not annotated
            else:
                return self._keep_route(patch.key, stored, cache=not dry_run)
        raise ConflictError(f"{what}: its annotations are being added and removed all the time")

    def _read_launch(self, document: Document, before: Launch | None) -> Launch:
        return world.read_launch(document, before, self._recorded, self._terms() if self._terms is not None else None)

    def _keep_launch(self, document: Document) -> Launch:
        self._launches_as_of = object()
        key = _launch_key(document)
        launch = self._read_launch(document, self.launch(key))
        cache = _of_namespace(self._launches, key.namespace)
        if cache is not None:
            cache.put(key, launch)
        return launch

    def _keep_route(self, key: RouteKey, document: Document, *, cache: bool = True) -> Route:
        route = world.read_route({**document, "kind": key.kind})
        kept = self._route_cache(key)
        if cache and kept is not None:
            kept.put(key, route)
        return route

    def _route_cache(self, key: RouteKey) -> Cache[RouteKey, Route] | None:
        return self._routes.get((key.kind, "")) or self._routes.get((key.kind, key.namespace))

    def _launch_changed(self, key: LaunchKey, before: Launch | None, after: Launch | None) -> None:
        self._launches_as_of = object()
        if before is not None and after is not None and _without_status(before) == _without_status(after):
            return
        self._tell(key)

    def _template_changed(self, kind: str, namespace: str, name: str) -> None:
        place = (kind, namespace, name)
        if place not in self._templates_asked:
            return
        as_of = self._launches_as_of
        made_as_of, naming = self._naming
        if made_as_of is not as_of:  # made once for many changes: the first list of a kind brings all of them
            naming = {}
            for launch in self.launches():
                for named_kind, named in objects.workloads_of(launch):
                    naming.setdefault((named_kind, launch.key.namespace, named), []).append(launch.key)
            self._naming = (as_of, naming)
        for key in naming.get(place, ()):
            self._tell(key)

    def _tell(self, key: LaunchKey) -> None:
        for listener in list(self._listeners):
            try:
                listener(key)
            except Exception as error:  # noqa: BLE001 - the fault of one listener is not the others'
                if self._on_problem is not None:
                    self._on_problem(f"a listener for launches failed ({type(error).__name__}: {error})")

    def _answers_again(self) -> None:
        for followed in [*self._followed, *self._following_workloads]:
            followed.hurry()


def _version(value: Launch | Route) -> str:
    return value.resource_version


def _without_status(launch: Launch) -> tuple[object, ...]:
    return launch.uid, launch.generation, dict(launch.annotations), launch.deleting


def _identity(document: Document) -> tuple[str, str]:
    metadata = document.get("metadata") or {}
    return str(metadata.get("uid")), str(metadata.get("resourceVersion"))


def _finalizing(finalizers: list[str], *, present: bool) -> list[dict[str, Any]]:
    """The operations that add our finalizer to these, or take it away; they hold only while the list is this one."""
    path = "/metadata/finalizers"
    if not present:
        place = f"{path}/{finalizers.index(FINALIZER)}"
        return [{"op": "test", "path": place, "value": FINALIZER}, {"op": "remove", "path": place}]
    if finalizers:
        return [{"op": "add", "path": f"{path}/-", "value": FINALIZER}]
    return [{"op": "test", "path": path, "value": None}, {"op": "add", "path": path, "value": [FINALIZER]}]


def _of_namespace(parts: Mapping[str, Any], namespace: str) -> Any:
    """What follows that namespace: the one for all namespaces, or its own, or None."""
    return parts.get("") or parts.get(namespace)


def _launch_key(document: Document) -> LaunchKey:
    return LaunchKey(document["metadata"]["namespace"], document["metadata"]["name"])


def _route_reader(kind: str) -> tuple[Callable[[Document], RouteKey], Callable[[Document, Route | None], Route]]:
    def key_of(document: Document) -> RouteKey:
        return RouteKey(kind, document["metadata"]["namespace"], document["metadata"]["name"])

    def read(document: Document, before: Route | None) -> Route:  # noqa: ARG001 - a route has nothing to keep
        return world.read_route({**document, "kind": kind})

    return key_of, read


def _place_of(document: Document) -> tuple[str, str]:
    return document["metadata"]["namespace"], document["metadata"]["name"]


@dataclass(frozen=True, slots=True)
class _Template:
    version: str
    digest: str


def _template(document: Document, before: _Template | None) -> _Template:  # noqa: ARG001 - see Followed
    return _Template(document["metadata"]["resourceVersion"], objects.template_hash(document))


@dataclass(frozen=True, slots=True)
class _Slice:
    """``pods`` are those of the ready endpoints, as :func:`objects.pods_behind` has them."""

    version: str
    service: str
    family: str
    ready: int
    pods: bytes | None


def _slice(document: Document, before: _Slice | None) -> _Slice:  # noqa: ARG001 - see Followed
    metadata = document["metadata"]
    ready = objects.ready_endpoints(document)
    return _Slice(
        version=metadata["resourceVersion"],
        service=(metadata.get("labels") or {}).get(objects.SERVICE_LABEL, ""),
        family=document.get("addressType") or "",
        ready=len(ready),
        pods=objects.pods_behind(ready),
    )


class _Endpoints:
    """Ready endpoints by Service, counted once where a pod has an address of each family."""

    def __init__(self, cache: Cache[tuple[str, str], _Slice]) -> None:
        self.cache = cache
        self._lock = threading.Lock()
        self._services: dict[tuple[str, str], dict[str, _Slice]] = {}

    def changed(self, key: tuple[str, str], before: _Slice | None, after: _Slice | None) -> None:
        namespace, name = key
        with self._lock:
            if before is not None and (after is None or after.service != before.service):
                of_service = self._services.get((namespace, before.service), {})
                of_service.pop(name, None)
                if not of_service:
                    self._services.pop((namespace, before.service), None)
            if after is not None:
                self._services.setdefault((namespace, after.service), {})[name] = after

    def ready(self, namespace: str, service: str) -> int | None:
        families: dict[str, int] = {}
        with self._lock:
            for one in self._services.get((namespace, service), {}).values():
                families[one.family] = families.get(one.family, 0) + one.ready
        return max(families.values(), default=None)

    def pods(self, namespace: str, service: str) -> list[bytes | None] | None:
        """What stands behind each slice of a Service; None where no slice tells."""
        with self._lock:
            slices = self._services.get((namespace, service))
            return [one.pods for one in slices.values()] if slices else None


class _UnprocessableError(RefusedError):
    """422: a failed test of a JSON patch, or a value that the schema refuses."""


class _Sockets:
    """The open sockets of one client, so that a read which hangs in another thread can be ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._cut = False

    def add(self, opened: socket.socket | None) -> None:
        if opened is None:
            return
        with self._lock:
            if self._cut:
                opened.close()
                raise OSError("stopped")
            self._open.add(opened)

    def cut(self) -> None:
        with self._lock:
            self._cut = True
            for opened in self._open:
                with contextlib.suppress(OSError):
                    # the plain socket's: that of a TLS socket drops its state under the reader's feet
                    socket.socket.shutdown(opened, socket.SHUT_RDWR)

    def pools(self) -> dict[str, type[HTTPConnectionPool]]:
        """Classes for urllib3 whose connections are listed here."""
        sockets = self

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                sockets.add(self.sock)

        class Secure(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                sockets.add(self.sock)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        return {"http": PlainPool, "https": SecurePool}


class _Api:
    """Requests with time-outs and without retries, and their answers as documents or as our errors."""

    def __init__(self, settings: KubernetesSettings, may_write: Callable[[], bool] | None = None) -> None:
        self._settings = settings
        self._may_write = may_write
        self._sockets = _Sockets()
        self._lock = threading.Lock()
        self._client = self._connect()
        self._renewed_at = -_RENEWED_AT_MOST_EACH_S

    def get(
        self,
        path: str,
        what: str,
        query: Mapping[str, str] | None = None,
        seconds: float = 0.0,
        accept: str = _JSON,
    ) -> dict[str, Any]:
        """One document, within the read time-out or that many seconds in all."""
        return self._document(self._send("GET", path, query or {}, None, what, accept=accept), what, seconds)

    def patch(
        self, path: str, body: list[dict[str, Any]] | dict[str, Any], what: str, *, dry_run: bool = False
    ) -> dict[str, Any]:
        """The object as it is after a patch: a list is a JSON patch, a mapping a merge patch."""
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        return self._document(self._send("PATCH", path, query, body, what), what)

    def post(self, path: str, body: dict[str, Any], what: str) -> dict[str, Any]:
        """The new object as it was stored."""
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        return self._document(self._send("POST", path, query, body, what), what)

    def put(self, path: str, body: Mapping[str, Any], what: str) -> dict[str, Any]:
        """The object as it is after it was replaced, if it was of the resourceVersion that the body says."""
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        return self._document(self._send("PUT", path, query, dict(body), what), what)

    @contextlib.contextmanager
    def stream(self, path: str, what: str, query: Mapping[str, str], silence_s: float) -> Iterator[Iterator[bytes]]:
        """An open answer as lines; a silence longer than that many seconds is an error."""
        response = self._send("GET", path, query, None, what, silence_s)
        try:
            yield _lines(response, what)
        finally:
            response.close()

    def cut(self) -> None:
        """Ends what other threads are reading, at once and for good."""
        self._sockets.cut()

    def close(self) -> None:
        """Closes idle connections."""
        self._client.close()  # type: ignore[no-untyped-call]  # the client is half typed

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: list[dict[str, Any]] | dict[str, Any] | None,
        what: str,
        read_timeout_s: float = 0.0,
        accept: str = _JSON,
    ) -> urllib3.BaseHTTPResponse:
        """The answer's head: its status was good, its body is still to be read."""
        url = path + ("?" + urlencode(query) if query else "")
        headers = {"Accept": accept}
        if body is not None:
            patched = _JSON_PATCH if isinstance(body, list) else _MERGE_PATCH
            headers["Content-Type"] = patched if method == "PATCH" else _JSON
        each = (self._settings.connect_timeout_s, read_timeout_s or self._settings.read_timeout_s)
        timeouts: float | tuple[float, float] = self._settings.request_timeout_s or each
        response: urllib3.BaseHTTPResponse | None = None
        for renewed in (False, True):
            client = self._client
            try:
                with self._lock:  # signing may renew a token
                    _, address, signed, _, _ = client.param_serialize(
                        method, url, header_params=dict(headers), auth_settings=["BearerToken"]
                    )
                if method != "GET" and self._may_write is not None and not self._may_write():
                    raise NotLeadingError(f"{what}: not written, because this process does not lead")
                response = client.call_api(method, address, signed, body, _request_timeout=timeouts).response
            except ValidationError as error:
                raise RefusedError(f"{what}: the client refuses the request: {error}") from error
            except (ApiException, ConfigException, *_TRANSPORT) as error:
                raise UnansweredError(f"{what}: {_reason(error)}") from error
            # a 401 was not carried out, so it may be sent again, once, with credentials read again
            if response.status != 401 or renewed or not self._renew(client):
                break
            response.close()
        assert response is not None
        if not 200 <= response.status <= 299:
            raise self._error(response, what)
        return response

    def _document(self, response: urllib3.BaseHTTPResponse, what: str, seconds: float = 0.0) -> dict[str, Any]:
        body = self._body(response, what, seconds)
        try:
            document = json.loads(body)
        except ValueError as error:
            raise UnansweredError(f"{what}: the answer is no JSON") from error
        if not isinstance(document, dict):
            raise UnansweredError(f"{what}: the answer is no object")
        return document

    def _body(self, response: urllib3.BaseHTTPResponse, what: str, seconds: float = 0.0) -> bytes:
        # a time-out of reads starts again with every byte, so a trickle needs a deadline of its own
        deadline = time.monotonic() + (seconds or self._settings.read_timeout_s)
        parts: list[bytes] = []
        size = 0
        try:
            while part := response.read1(_CHUNK):
                parts.append(part)
                size += len(part)
                if size > MAX_ANSWER_BYTES:
                    raise UnansweredError(f"{what}: the answer is larger than {MAX_ANSWER_BYTES >> 20} MiB")
                if time.monotonic() > deadline:
                    raise UnansweredError(f"{what}: the answer was not complete in time")
        except _TRANSPORT as error:
            response.close()
            raise UnansweredError(f"{what}: {_reason(error)}") from error
        except UnansweredError:
            response.close()
            raise
        response.release_conn()
        return b"".join(parts)

    def _error(self, response: urllib3.BaseHTTPResponse, what: str) -> AdapterError:
        status = response.status
        try:
            words = _message(self._body(response, what))
        except UnansweredError:
            words = ""
        said = f"the API server answered {status}" + (f": {words}" if words else "")
        kind: type[AdapterError] = RefusedError
        if status == 404:
            kind = NotFoundError
        elif status == 409:
            kind = ConflictError
        elif status == 410:
            kind = ExpiredError
        elif status == 422:
            kind = _UnprocessableError
        elif status in (408, 425, 429) or status >= 500:
            kind = UnansweredError
        return kind(f"{what}: {said}")

    def _connect(self) -> ApiClient:
        configuration = _configuration(self._settings)
        if not configuration.verify_ssl:
            # a kubeconfig that says so knows; one warning a request says nothing more
            urllib3.disable_warnings(InsecureRequestWarning)
        client = ApiClient(configuration)
        client.user_agent = FIELD_MANAGER
        client.rest_client.pool_manager.pool_classes_by_scheme = self._sockets.pools()
        return client

    def _renew(self, refused: ApiClient) -> bool:
        """Reads the credentials again after a 401; False when that was done a moment ago."""
        with self._lock:
            if self._client is not refused:
                return True
            if time.monotonic() - self._renewed_at < _RENEWED_AT_MOST_EACH_S:
                return False
            self._renewed_at = time.monotonic()
            try:
                self._client = self._connect()
            except RefusedError as error:
                # a token or a file that is just being written
                raise UnansweredError(str(error)) from error
        refused.close()  # type: ignore[no-untyped-call]  # the client is half typed
        return True


class _ApiFeed:
    """LIST and WATCH of one kind, of one namespace or of all; lists are asked for in the form ``accept``."""

    def __init__(
        self, api: _Api, settings: KubernetesSettings, path: _Path, namespace: str, accept: str = _JSON
    ) -> None:
        self._api = api
        self._settings = settings
        self._accept = accept
        self._path = path.of(namespace)
        self._what = f"{path.plural}.{path.group}".rstrip(".")
        self._selector = {"labelSelector": path.selector} if path.selector else {}
        self._missing = f"the API server does not know {path.plural} of {path.group}/{path.version}; install their CRD"

    def list(self) -> tuple[Iterator[Document], str]:
        page = self._page("")
        return self._pages(page), str(page["metadata"]["resourceVersion"])

    def watch(self, resource_version: str) -> Iterator[tuple[str, Document]]:
        seconds = self._settings.watch_s * random.uniform(0.8, 1.0)  # noqa: S311 - watches should not end together
        query = {
            **self._selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, round(seconds))),
        }
        opened = contextlib.ExitStack()
        silence_s = seconds + self._settings.watch_silence_s
        try:
            lines = opened.enter_context(self._api.stream(self._path, self._what, query, silence_s))
        except NotFoundError as error:
            raise NotFoundError(self._missing) from error
        return self._events(opened, lines)

    def _events(self, opened: contextlib.ExitStack, lines: Iterator[bytes]) -> Iterator[tuple[str, Document]]:
        with opened:
            for line in lines:
                try:
                    event = json.loads(line)
                    kind, document = event["type"], event["object"]
                except (ValueError, TypeError, KeyError) as error:
                    raise UnansweredError(f"{self._what}: the watch sent what is no event") from error
                if kind == "ERROR":
                    raise ExpiredError(f"{self._what}: {document.get('message') or 'the watch ended with an error'}")
                yield kind, document

    def _pages(self, page: dict[str, Any]) -> Iterator[Document]:
        while True:
            yield from page.get("items") or ()
            following = page["metadata"].get("continue")
            if not following:
                return
            page = self._page(following)

    def _page(self, following: str) -> dict[str, Any]:
        query = {
            **self._selector,
            "limit": str(self._settings.page_size),
            **({"continue": following} if following else {}),
        }
        try:
            page = self._api.get(self._path, self._what, query, self._settings.list_timeout_s, self._accept)
        except NotFoundError as error:
            raise NotFoundError(self._missing) from error
        if not isinstance(page.get("metadata"), dict) or "resourceVersion" not in page["metadata"]:
            raise UnansweredError(f"{self._what}: the answer is no list")
        return page


def _lines(response: urllib3.BaseHTTPResponse, what: str) -> Iterator[bytes]:
    rest = b""
    try:
        while part := response.read1(_CHUNK):
            *whole, rest = (rest + part).split(b"\n")
            yield from filter(None, whole)
            if len(rest) > MAX_EVENT_BYTES:
                raise UnansweredError(f"{what}: an event is larger than {MAX_EVENT_BYTES >> 20} MiB")
        if rest:
            yield rest
    except _TRANSPORT as error:
        raise UnansweredError(f"{what}: {_reason(error)}") from error


def _configuration(settings: KubernetesSettings) -> Configuration:
    """The official client's configuration.

    Raises RefusedError, with words for a person, when there is none that can be used.
    """
    # "" keeps the client from looking into the environment; a proxy of the kubeconfig still counts
    configuration = Configuration() if settings.proxy_from_environment else Configuration(proxy="", no_proxy="")
    chosen = settings.kubeconfig or os.environ.get("KUBECONFIG", "")
    source = "the pod's service account"
    try:
        if not chosen and not settings.context and os.environ.get(SERVICE_HOST_ENV_NAME):
            loader = InClusterConfigLoader(SERVICE_TOKEN_FILENAME, SERVICE_CERT_FILENAME)  # type: ignore[no-untyped-call]
            loader.load_and_set(configuration)  # type: ignore[no-untyped-call]  # the loaders have no types
        else:
            chosen = chosen or str(Path.home() / ".kube" / "config")
            source = f"the kubeconfig {chosen}"
            load_kube_config(  # type: ignore[no-untyped-call]  # the loaders have no types
                chosen, settings.context or None, configuration, persist_config=False
            )
    except Exception as error:
        # the loaders let pass whatever their parsers raise
        raise RefusedError(
            f"{source} cannot be used: {error}; name another with --kubeconfig or KUBECONFIG, or its --context"
        ) from error
    if settings.proxy:
        configuration.proxy = settings.proxy
    configuration.retries = False
    configuration.keep_alive = True
    configuration.connection_pool_maxsize = settings.connections
    return configuration


def _reason(error: Exception) -> str:
    """Why there was no answer, without the inner workings of the libraries."""
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return "no answer in time"
    if isinstance(error, urllib3.exceptions.NewConnectionError):  # which is also a ConnectTimeoutError
        cause = error.__cause__
        return f"no connection ({(cause.strerror if isinstance(cause, OSError) else None) or error})".lower()
    if isinstance(error, urllib3.exceptions.ConnectTimeoutError):
        return "no connection in time"
    if isinstance(error, ApiException):
        return " ".join(str(error.reason).split())
    causes = [error, error.__cause__, error.__context__, *error.args]
    words = next((cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror), "")
    return f"the connection broke ({words.lower()})" if words else "the connection broke"


def _message(body: bytes) -> str:
    """What a Status says, or the beginning of whatever else was answered."""
    try:
        document = json.loads(body)
        return str(document["message"])
    except (ValueError, TypeError, KeyError):
        return " ".join(body[:200].decode(errors="replace").split())
