"""A world in virtual time: one cluster held in memory, traffic that follows the live weights, and a clock to turn.

It speaks the Protocols of :mod:`controller.reconcile`, so that the very same round runs here as in the daemon.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import floor
from typing import Any

from controller.core.decide import Decision
from controller.core.evidence import grid
from controller.core.observation import Observation, TargetView
from controller.core.series import Reading, Row, Subject
from controller.core.status import Status
from controller.core.world import FINALIZER, Launch, LaunchKey, Route, RouteKey, RoutePatch, read_launch, read_route
from controller.errors import AdapterError, ConflictError, NotFoundError, RefusedError, UnansweredError
from controller.reconcile import Reconciler
from tests.invariants import Version

START = 1_700_000_000.0
SKEW = 5.0
"""Seconds between this machine's clock and Prometheus' from which an answer is no data."""
KEY = LaunchKey("shop", "shop")


class Crash(BaseException):
    """The process dies here; nothing catches it."""


@dataclass
class Clock:
    """Both clocks at once; ``step`` moves only the wall clock."""

    at: float = START
    step: float = 0.0

    def now(self) -> float:
        return self.at + self.step

    def steady(self) -> float:
        return self.at


@dataclass
class Service:
    """What one target's traffic is like. Lists hold (from, value) pairs in order of time.

    ``silent`` are spans without any sample, ``idle`` spans without any request to the canary.
    """

    per_second: float = 100.0
    canary_errors: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, 0.0)])
    stable_errors: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, 0.0)])
    weights: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, 0.0)])
    values: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, 0.0)])
    silent: list[tuple[float, float]] = field(default_factory=list)
    idle: list[tuple[float, float]] = field(default_factory=list)

    def total(self, track: str, until: float) -> tuple[int, int]:
        """All requests and all errors of a track since the start, whole numbers."""
        errors = self.canary_errors if track == "canary" else self.stable_errors
        edges = (at for at, _ in (*self.weights, *errors))
        pauses = (at for span in self.idle for at in span)
        cuts = sorted({START, until, *(at for at in (*edges, *pauses) if START < at < until)})
        requests = bad = 0.0
        for begin, end in pairwise(cuts):
            if track == "canary" and any(first <= begin < last for first, last in self.idle):
                continue
            share = _value(self.weights, begin)
            share = share if track == "canary" else 1 - share
            requests += self.per_second * share * (end - begin)
            bad += self.per_second * share * (end - begin) * _value(errors, begin)
        return floor(requests + 1e-6), floor(bad + 1e-6)


def _value(steps: list[tuple[float, float]], at: float) -> float:
    value = steps[0][1]
    for begin, following in steps:
        if begin <= at:
            value = following
    return value


class World:
    """Cluster, evidence and recorder in one; ``history`` is every version that an outsider saw of every object.

    ``templates`` are those of workloads, by kind and name; ``pods`` count the ready pods of a Service by their version.
    ``before_write`` and ``after_write`` let a test do harm at a numbered write; a write for which ``holds`` says so is
    kept by the network, which answers nothing, until :meth:`arrive`. While ``down`` is true the API does not answer.
    ``admit`` stands for an admission webhook: it may refuse a patch, or change what is stored.
    """

    def __init__(self, document: Mapping[str, Any], routes: list[dict[str, Any]]) -> None:
        self.clock = Clock()
        self.version = 1
        self.history: list[Version] = []
        self.documents: dict[tuple[str, str], dict[str, Any]] = {}
        self.down = False
        self.holds: Callable[[int, str], bool] = lambda number, kind: False
        self.in_flight: list[tuple[str, Callable[[], None]]] = []
        self.admit: Callable[[dict[str, Any]], None] = lambda document: None
        self.refused = 0
        self._parsed: dict[str, Launch] = {}
        self.launch_document = self._new(dict(document))
        for route in routes:
            self._new(route)
        self.services: dict[str, Service] = {}
        self.endpoints: dict[str, int | None] = {}
        self.templates: dict[tuple[str, str], str] = {}
        self.pods: dict[str, dict[str, int]] = {}
        self.problem_of_evidence = ""
        self.decisions: list[tuple[float, Decision]] = []
        self.told: Callable[[Observation, Decision], None] = lambda seen, decision: None
        self.failures: list[tuple[str, str]] = []
        self.raises: list[Decision] = []
        self.writes: list[tuple[float, str, str]] = []
        self.weights_seen: list[tuple[float, str, int]] = []
        self.before_write: Callable[[int, str], None] = lambda number, kind: None
        self.after_write: Callable[[int, str], None] = lambda number, kind: None
        self.reads = 0
        self._note_weights()

    # Arranging the world

    def _new(self, document: dict[str, Any]) -> dict[str, Any]:
        document = copy.deepcopy(document)
        metadata = document["metadata"]
        metadata.setdefault("namespace", KEY.namespace)
        metadata["uid"] = f"uid-{document['kind']}-{metadata['name']}-{self.version}"
        metadata["generation"] = 1
        metadata.setdefault("creationTimestamp", "2023-11-14T22:13:20Z")
        self.documents[document["kind"], metadata["name"]] = document
        self._touch(document)
        return document

    def _touch(self, document: dict[str, Any]) -> None:
        self.version += 1
        metadata = document["metadata"]
        metadata["resourceVersion"] = str(self.version)
        kept = copy.deepcopy(document)
        self.history.append(Version(self.clock.at, document["kind"], metadata["namespace"], metadata["name"], kept))

    def create(self, document: dict[str, Any]) -> dict[str, Any]:
        """Make an object, as a person does; returns it, live."""
        made = self._new(document)
        if made["kind"] == "Launch" and made["metadata"]["name"] == KEY.name:
            self.launch_document = made
        self._note_weights()
        return made

    def delete(self, kind: str, name: str) -> dict[str, Any]:
        """Delete an object, as a person does: with finalizers it only begins to go; returns what it was last."""
        document = self.documents[kind, name]
        if document["metadata"].get("finalizers"):
            document["metadata"].setdefault("deletionTimestamp", "2023-11-14T22:13:20Z")
            self._touch(document)
        else:
            self._remove(kind, name)
        return document

    def _remove(self, kind: str, name: str) -> None:
        gone = self.documents.pop((kind, name))
        self.version += 1
        self.history.append(Version(self.clock.at, kind, gone["metadata"]["namespace"], name, None))

    def touch_launch(self) -> None:
        """Write something to the launch that concerns nobody, as a chatty third party does."""
        metadata = self.launch_document["metadata"]
        metadata.setdefault("annotations", {})["example.com/beat"] = str(self.version)
        self._touch(self.launch_document)

    def annotate(
        self,
        key: LaunchKey | str = KEY.name,
        changes: Mapping[str, str | None] | None = None,
        **annotations: str | None,
    ) -> Launch:
        """Set (or with None remove) annotations of the launch, as a person does."""
        name = key if isinstance(key, str) else key.name
        document = self.documents.get(("Launch", name))
        if document is None:
            raise NotFoundError(name)
        metadata = document["metadata"]
        kept = metadata.setdefault("annotations", {})
        for verb, value in {**(changes or {}), **annotations}.items():
            if value is None:
                kept.pop(f"autoadvance.dev/{verb}", None)
            else:
                kept[f"autoadvance.dev/{verb}"] = value
        self._touch(document)
        return self._launch(document)

    def edit_spec(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Edit the plan, as a person does."""
        change(self.launch_document["spec"])
        self.launch_document["metadata"]["generation"] += 1
        self._touch(self.launch_document)

    def edit_route(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Edit a route, as a person does."""
        route = self._routes()[name]
        change(route)
        route["metadata"]["generation"] += 1
        self._touch(route)
        self._note_weights()

    def service(self, name: str) -> Service:
        return self.services.setdefault(name, Service())

    def backends(self, *pairs: tuple[str, int], route: str = "shop", rule: int = 0) -> None:
        """Give a rule these backends with these weights, as a person does."""

        def change(document: dict[str, Any]) -> None:
            listed = [{"name": name, "port": 80, "weight": weight} for name, weight in pairs]
            document["spec"]["rules"][rule]["backendRefs"] = listed

        self.edit_route(route, change)

    def status_of(self, name: str) -> Status:
        launch = self.launch(LaunchKey(KEY.namespace, name))
        assert launch is not None
        assert isinstance(launch.status, Status)
        return launch.status

    @property
    def status(self) -> Status:
        return self.status_of(KEY.name)

    @property
    def state(self) -> str:
        return self.status.state.value

    def weight(self, route: str = "shop") -> int:
        """The canary's live weight in thousandths."""
        (rule, *_) = self._routes()[route]["spec"]["rules"]
        weights = {"stable": 0, "canary": 0}
        for backend in rule["backendRefs"]:
            weights["stable" if backend["name"] in self._stable() else "canary"] += backend.get("weight", 1)
        return round(1000 * weights["canary"] / max(1, sum(weights.values())))

    def _stable(self) -> set[str]:
        """The Services that the plan has as stable now: two releases later it is the other one of the pair."""
        launches = [document for (kind, _), document in self.documents.items() if kind == "Launch"]
        return {
            target["stable"]["name"]
            for document in (launches or [self.launch_document])
            for target in document["spec"].get("targets", ())
        }

    def _routes(self) -> dict[str, dict[str, Any]]:
        return {name: document for (kind, name), document in self.documents.items() if kind != "Launch"}

    def _note_weights(self) -> None:
        for name in self._routes():
            weight = self.weight(name)
            steps = self.services.setdefault(name, Service()).weights if hasattr(self, "services") else []
            if steps and steps[-1][1] != weight / 1000:
                steps.append((self.clock.at, weight / 1000))
                self.weights_seen.append((self.clock.at, name, weight))

    # Cluster

    def start(self) -> None:
        """Nothing to follow."""

    def stop(self) -> None:
        """Nothing to end."""

    def synced(self) -> bool:
        return True

    def problem(self) -> str:
        return ""

    def launches(self) -> list[Launch]:
        return [self._launch(document) for (kind, _), document in self.documents.items() if kind == "Launch"]

    def launch(self, key: LaunchKey) -> Launch | None:
        document = self.documents.get(("Launch", key.name))
        return self._launch(document) if document else None

    def _launch(self, document: dict[str, Any]) -> Launch:
        name, version = document["metadata"]["name"], document["metadata"]["resourceVersion"]
        known = self._parsed.get(name)
        if known is None or known.resource_version != version:
            known = self._parsed[name] = read_launch(copy.deepcopy(document), known)
        return known

    def route(self, key: RouteKey) -> Route | None:
        document = self.documents.get((key.kind, key.name))
        return read_route(copy.deepcopy(document)) if document else None

    def ready_endpoints(self, namespace: str, service: str) -> int | None:
        return self.endpoints.get(service, 1)

    def template(self, namespace: str, kind: str, name: str) -> str | None:
        return self.templates.get((kind, name))

    def pod_versions(self, namespace: str, service: str, label: str) -> Mapping[str, int] | None:
        return self.pods.get(service)

    def subscribe(self, callback: Callable[[LaunchKey], None]) -> None:
        """Rounds are turned by hand."""

    def _answer(self) -> None:
        if self.down:
            raise UnansweredError("the API server does not answer")

    def read_launch(self, key: LaunchKey) -> Launch:
        self._answer()
        self.reads += 1
        launch = self.launch(key)
        if launch is None:
            raise NotFoundError(str(key))
        return launch

    def read_route(self, key: RouteKey) -> Route:
        self._answer()
        self.reads += 1
        route = self.route(key)
        if route is None:
            raise NotFoundError(str(key))
        return route

    def write_status(self, launch: Launch, status: Mapping[str, Any]) -> Launch:
        stored = copy.deepcopy(dict(status))

        def write() -> None:
            document = self.documents.get(("Launch", launch.key.name))
            if document is None:
                raise NotFoundError(str(launch.key))
            metadata = document["metadata"]
            if (metadata["uid"], metadata["resourceVersion"]) != (launch.uid, launch.resource_version):
                raise ConflictError(f"{launch.key} was changed")
            document["status"] = stored
            self._touch(document)

        self._send("status", write)
        return self.read_back(launch.key)

    def set_finalizer(self, launch: Launch, present: bool) -> Launch:
        name = launch.key.name
        outcome: list[Launch] = []

        def write() -> None:
            document = self.documents.get(("Launch", name))
            metadata = document["metadata"] if document is not None else {}
            if document is None or metadata["uid"] != launch.uid:
                if present:
                    raise NotFoundError(str(launch.key))
                outcome.append(replace(launch, finalized=False))
                return
            if metadata["resourceVersion"] != launch.resource_version:
                raise ConflictError(f"{launch.key} was changed")
            kept = [one for one in metadata.get("finalizers", ()) if one != FINALIZER]
            metadata["finalizers"] = [*kept, FINALIZER] if present else kept
            if metadata["finalizers"] or not metadata.get("deletionTimestamp"):
                self._touch(document)
                outcome.append(self._launch(document))
            else:
                self._remove("Launch", name)
                outcome.append(replace(launch, finalized=False))

        self._send("finalizer", write)
        return outcome[0]

    def read_back(self, key: LaunchKey) -> Launch:
        launch = self.launch(key)
        assert launch is not None
        return launch

    def patch_route(self, patch: RoutePatch, dry_run: bool = False) -> Route:
        place = patch.key.kind, patch.key.name

        def write() -> None:
            document = self.documents.get(place)
            if document is None:
                raise NotFoundError(str(patch.key))
            self._check(patch, document)
            wanted = copy.deepcopy(document)
            changed = False
            for edit in patch.edits:
                backend = wanted["spec"]["rules"][edit.rule]["backendRefs"][edit.backend]
                changed |= backend.get("weight") != edit.weight
                backend["weight"] = edit.weight
            wanted["metadata"].setdefault("annotations", {})["autoadvance.dev/epoch"] = patch.epoch
            wanted["metadata"]["generation"] += int(changed)
            self.admit(wanted)
            if dry_run:
                return
            document.clear()
            document.update(wanted)
            self._touch(document)
            self._note_weights()

        if dry_run:
            self._answer()
            write()
        else:
            self._send("route", write)
        return read_route(copy.deepcopy(self.documents[place]))

    def _send(self, kind: str, write: Callable[[], None]) -> None:
        number = len(self.writes)
        self.before_write(number, kind)
        self._answer()
        if self.holds(number, kind):
            self.in_flight.append((kind, write))
            raise UnansweredError("no answer came in time")
        self._store(kind, write)
        self.after_write(number, kind)

    def _store(self, kind: str, write: Callable[[], None]) -> None:
        try:
            write()
        except AdapterError:
            self.refused += 1
            raise
        self.writes.append((self.clock.at, kind, ""))

    def arrive(self) -> list[str]:
        """Let the writes that the network kept arrive now; says of each whether it was "stored" or "refused"."""
        outcomes = []
        for kind, write in self.in_flight:
            try:
                self._store(kind, write)
                outcomes.append("stored")
            except (ConflictError, NotFoundError, RefusedError):
                outcomes.append("refused")
        self.in_flight.clear()
        return outcomes

    def _check(self, patch: RoutePatch, document: dict[str, Any]) -> None:
        metadata = document["metadata"]
        rules = document["spec"]["rules"]
        for edit in patch.edits:
            backends = rules[edit.rule]["backendRefs"] if edit.rule < len(rules) else []
            if edit.backend >= len(backends) or backends[edit.backend]["name"] != edit.name:
                raise ConflictError(f"{patch.key} does not hold {edit.name} there")
        if metadata["uid"] != patch.uid or patch.resource_version not in (None, metadata["resourceVersion"]):
            raise ConflictError(f"{patch.key} was changed")

    # Evidence

    def gather(self, wanted: Mapping[Subject, int], now: float, deadline_s: float) -> dict[Subject, Reading]:
        return {subject: self._reading(subject, after, now) for subject, after in wanted.items()}

    def _reading(self, subject: Subject, after: int, now: float) -> Reading:
        series = subject.series
        through = grid(now - series.settle, series.interval)
        problem = self.problem_of_evidence
        if abs(self.clock.step) > SKEW:
            problem = f"Prometheus' clock and this one differ by {abs(self.clock.step):.0f}s"
        if problem:
            return Reading(after=after, through=after, problem=problem)
        if subject.past:
            return Reading(after=after, through=max(through, after))
        settled = tuple(self._rows(subject, range(after + series.interval, through + 1, series.interval)))
        newest = range(max(through, after) + series.interval, floor(now) + 1, series.interval)
        return Reading(
            after=after, through=max(through, after), settled=settled, tail=tuple(self._rows(subject, newest))
        )

    def _rows(self, subject: Subject, instants: range) -> Iterator[Row]:
        service, series = self.service(subject.service), subject.series
        for at in instants:
            newest = at - series.lag
            if any(begin < newest <= end for begin, end in service.silent) or newest <= START:
                continue
            if series.kind == "value":
                yield Row(float(at), 1.0, _value(service.values, newest))
                continue
            if subject.track == "canary" and not service.total("canary", newest)[0]:
                continue  # a canary that has never had a request has no series
            n, x = service.total(subject.track, newest)
            n_before, x_before = service.total(subject.track, max(START, newest - series.interval))
            yield Row(float(at), float(n - n_before), float(x - x_before))

    # Recorder

    def decided(self, key: LaunchKey, decision: Decision, seen: Observation) -> None:
        self.decisions.append((self.clock.at, decision))
        self.told(seen, decision)
        if decision.raises:
            self.raises.append(decision)

    def judged(self, key: LaunchKey, decision: Decision, views: tuple[TargetView, ...]) -> None:
        """The decisions are enough."""

    def rolled_back(self, key: LaunchKey, status: Status) -> None:
        """The history is enough."""

    def failed(self, key: LaunchKey | None, doing: str, error: BaseException) -> None:
        self.failures.append((doing, str(error)))

    def forgotten(self, key: LaunchKey) -> None:
        """Nothing is kept by name."""

    # Turning

    def reconciler(self, **options: Any) -> Reconciler:
        """A process that was just started. ``cluster`` is its view of the world, ``kind`` its class."""
        cluster = options.pop("cluster", self)
        kind: type[Reconciler] = options.pop("kind", Reconciler)
        return kind(cluster, self, self, self.clock, **options)

    def view(self) -> View:
        """The cluster as a process sees it whose watch may lag behind."""
        return View(self)

    def turn(self, reconciler: Reconciler, *, asked: bool = True) -> None:
        """One tick of one process."""
        launches = reconciler._cluster.launches()
        reconciler.forget_all_but([launch.key for launch in launches])
        looked = reconciler.look(launches)
        readings = reconciler.gather(looked, 5.0) if asked else {}
        for key in looked.seen:
            reconciler.settle(looked, key, readings, asked=asked)

    def run(
        self, reconciler: Reconciler, seconds: float, tick: float = 5.0, until: Callable[[], bool] | None = None
    ) -> None:
        """Ticks for so many seconds, or until something holds."""
        end = self.clock.at + seconds
        while self.clock.at < end:
            self.clock.at += tick
            self.turn(reconciler)
            if until is not None and until():
                return


class View:
    """One process' view of a world: its own cache, which hears of other writers only when it is told to.

    What the process itself reads or writes is in its cache at once, as in the adapters. While ``cut`` is true, no
    request of this process gets through.
    """

    def __init__(self, world: World) -> None:
        self.world, self.cut, self.frozen = world, False, False
        self._launches: dict[LaunchKey, Launch] = {}
        self._routes: dict[RouteKey, Route | None] = {}

    def start(self) -> None:
        """Nothing to follow."""

    def stop(self) -> None:
        """Nothing to end."""

    def synced(self) -> bool:
        return True

    def problem(self) -> str:
        return "the watch was cut" if self.frozen else ""

    def subscribe(self, callback: Callable[[LaunchKey], None]) -> None:
        """Rounds are turned by hand."""

    def launches(self) -> list[Launch]:
        if not self.frozen:
            self._launches = {launch.key: launch for launch in self.world.launches()}
        return list(self._launches.values())

    def launch(self, key: LaunchKey) -> Launch | None:
        self.launches()
        return self._launches.get(key)

    def route(self, key: RouteKey) -> Route | None:
        if not self.frozen or key not in self._routes:
            self._routes[key] = self.world.route(key)
        return self._routes[key]

    def ready_endpoints(self, namespace: str, service: str) -> int | None:
        return self.world.ready_endpoints(namespace, service)

    def template(self, namespace: str, kind: str, name: str) -> str | None:
        return self.world.template(namespace, kind, name)

    def pod_versions(self, namespace: str, service: str, label: str) -> Mapping[str, int] | None:
        return self.world.pod_versions(namespace, service, label)

    def _reach(self) -> None:
        if self.cut:
            raise UnansweredError("the API server cannot be reached from here")

    def read_launch(self, key: LaunchKey) -> Launch:
        self._reach()
        launch = self._launches[key] = self.world.read_launch(key)
        return launch

    def read_route(self, key: RouteKey) -> Route:
        self._reach()
        route = self._routes[key] = self.world.read_route(key)
        return route

    def write_status(self, launch: Launch, status: Mapping[str, Any]) -> Launch:
        self._reach()
        stored = self._launches[launch.key] = self.world.write_status(launch, status)
        return stored

    def annotate(self, key: LaunchKey, changes: Mapping[str, str | None]) -> Launch:
        self._reach()
        stored = self._launches[key] = self.world.annotate(key, changes)
        return stored

    def set_finalizer(self, launch: Launch, present: bool) -> Launch:
        self._reach()
        stored = self.world.set_finalizer(launch, present)
        if self.world.launch(launch.key) is None:
            self._launches.pop(launch.key, None)
        else:
            self._launches[launch.key] = stored
        return stored

    def patch_route(self, patch: RoutePatch, dry_run: bool = False) -> Route:
        self._reach()
        answer = self.world.patch_route(patch, dry_run)
        if not dry_run:
            self._routes[patch.key] = answer
        return answer


def answer_lost() -> None:
    """The write was done, its answer never came."""
    raise UnansweredError("the answer was lost")


def launch_document(**spec: Any) -> dict[str, Any]:
    """A plan of one target with three steps, changed as the keywords say."""
    return {
        "apiVersion": "autoadvance.dev/v1alpha1",
        "kind": "Launch",
        "metadata": {"name": KEY.name, "namespace": KEY.namespace},
        "spec": {
            "revision": "v2",
            "targets": [
                {
                    "name": "main",
                    "route": {"name": "shop"},
                    "stable": {"name": "shop-stable"},
                    "canary": {"name": "shop-canary"},
                }
            ],
            "phases": [
                {
                    "name": "ramp",
                    "steps": [{"weight": 5, "for": "2m"}, {"weight": 30, "for": "2m"}, {"weight": 100}],
                    "guardrails": [{"metric": "errors", "below": "2%"}],
                }
            ],
            **spec,
        },
    }


def route_document(name: str = "shop", stable: str = "shop-stable", canary: str = "shop-canary") -> dict[str, Any]:
    """A route with the pair, the canary at 0."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": KEY.namespace},
        "spec": {
            "parentRefs": [{"name": "gateway"}],
            "rules": [
                {
                    "backendRefs": [
                        {"name": stable, "port": 80, "weight": 100},
                        {"name": canary, "port": 80, "weight": 0},
                    ]
                }
            ],
        },
    }


def shop(**spec: Any) -> World:
    """The usual world: one launch, one route, traffic of 100 requests/s, everything good."""
    return World(launch_document(**spec), [route_document()])
