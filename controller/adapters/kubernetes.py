"""The Kubernetes API server as the cluster: launches and routes watched, statuses and weights written."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controller.adapters import events, objects
from controller.adapters.api_server import (
    Api,
    ApiFeed,
    KubernetesSettings,
    ResourcePath,
    UnprocessableError,
)
from controller.adapters.asking import Asking
from controller.adapters.routes import gateway
from controller.adapters.watching import Cache, Document, Followed, Pace
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
    UnansweredError,
)

_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

LAUNCHES = ResourcePath(GROUP, VERSION, PLURAL)
_SLICES = ResourcePath("discovery.k8s.io", "v1", "endpointslices", selector=objects.SERVICE_LABEL)
_ROUTES = {kind: ResourcePath(gateway.GROUP, gateway.VERSION, plural) for kind, plural in gateway.PLURALS.items()}
_WORKLOADS = {kind: ResourcePath(objects.WORKLOAD_GROUP, "v1", plural) for kind, plural in objects.WORKLOADS.items()}
_PODS = ResourcePath("", "v1", "pods")
_EVENTS = ResourcePath(events.GROUP, events.VERSION, events.PLURAL)


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
        self._api = Api(settings, may_write)
        self._watching = Api(settings)  # its connections are cut by stop(), those of writes are not
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
        self._follow(LAUNCHES, namespace, launches, _launch_key, self._read_launch, self._launch_changed)
        for kind, path in _ROUTES.items():
            routes = self._routes[kind, namespace] = Cache[RouteKey, Route](_version)
            key_of, read = _route_reader(kind)
            # clusters without GRPCRoute are common; a cluster without HTTPRoute has nothing for us to do
            self._follow(path, namespace, routes, key_of, read, optional=kind == "GRPCRoute")
        slices = self._slices[namespace] = _Endpoints(Cache[tuple[str, str], _Slice](lambda one: one.version))
        self._follow(_SLICES, namespace, slices.cache, _place_of, _slice, slices.changed)

    def _follow(
        self,
        path: ResourcePath,
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
        path: ResourcePath,
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
            ApiFeed(self._watching, self._settings, path, namespace),
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
                        documents, _ = ApiFeed(self._watching, self._settings, LAUNCHES, namespace).list()
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
        documents, _ = ApiFeed(self._watching, self._settings, _PODS, namespace, _METADATA_ONLY).list()
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
        return self._keep_launch(self._api.get(LAUNCHES.of(key.namespace, key.name), f"Launch {key}"))

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
        path = LAUNCHES.of(launch.key.namespace, launch.key.name)
        what = f"Launch {launch.key}: {part}"
        tests = [
            {"op": "test", "path": "/metadata/uid", "value": launch.uid},
            {"op": "test", "path": "/metadata/resourceVersion", "value": launch.resource_version},
        ]
        try:
            return self._api.patch(path + subresource, [*tests, *writes], what)
        except UnprocessableError as refusal:
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
        path = LAUNCHES.of(key.namespace, key.name)
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
            now = self._api.get(LAUNCHES.of(launch.key.namespace, launch.key.name), what)
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
            except UnprocessableError as refusal:
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
