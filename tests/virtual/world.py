"""A world in virtual time: one cluster held in memory, traffic that follows the live weights, and a clock to turn.

It speaks the Protocols of :mod:`controller.reconcile`, so that the very same round runs here as in the daemon.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import floor
from typing import Any

from controller.core.decide import Decision
from controller.core.evidence import grid
from controller.core.observation import TargetView
from controller.core.series import Reading, Row, Subject
from controller.core.status import Status
from controller.core.world import Launch, LaunchKey, Route, RouteKey, RoutePatch, read_launch, read_route
from controller.errors import ConflictError, NotFoundError, UnansweredError
from controller.reconcile import Reconciler

START = 1_700_000_000.0
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
    """What one target's traffic is like. Lists hold (from, value) pairs in order of time."""

    per_second: float = 100.0
    canary_errors: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, 0.0)])
    stable_errors: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, 0.0)])
    weights: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, 0.0)])
    silent: list[tuple[float, float]] = field(default_factory=list)

    def total(self, track: str, until: float) -> tuple[int, int]:
        """All requests and all errors of a track since the start, whole numbers."""
        errors = self.canary_errors if track == "canary" else self.stable_errors
        cuts = sorted({START, until, *(at for at, _ in (*self.weights, *errors) if START < at < until)})
        requests = bad = 0.0
        for begin, end in zip(cuts, cuts[1:], strict=False):
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
    """Cluster, evidence and recorder in one; ``history`` is what an outsider saw of (time, target weights)."""

    def __init__(self, document: Mapping[str, Any], routes: list[dict[str, Any]]) -> None:
        self.clock = Clock()
        self.version = 1
        self.documents: dict[tuple[str, str], dict[str, Any]] = {}
        self.launch_document = self._new(dict(document))
        for route in routes:
            self._new(route)
        self.services: dict[str, Service] = {}
        self.endpoints: dict[str, int | None] = {}
        self.problem_of_evidence = ""
        self.decisions: list[tuple[float, Decision]] = []
        self.failures: list[tuple[str, str]] = []
        self.raises: list[Decision] = []
        self.writes: list[tuple[float, str, str]] = []
        self.weights_seen: list[tuple[float, str, int]] = []
        self.before_write: Callable[[int, str], None] = lambda number, kind: None
        self.after_write: Callable[[int, str], None] = lambda number, kind: None
        self.reads = 0
        self._stale: dict[tuple[str, str], dict[str, Any]] = {}
        self._note_weights()

    # Arranging the world

    def _new(self, document: dict[str, Any]) -> dict[str, Any]:
        document = copy.deepcopy(document)
        metadata = document["metadata"]
        metadata.setdefault("namespace", KEY.namespace)
        metadata["uid"] = f"uid-{document['kind']}-{metadata['name']}-{self.version}"
        metadata["generation"] = 1
        metadata["creationTimestamp"] = "2023-11-14T22:13:20Z"
        self.documents[document["kind"], metadata["name"]] = document
        self._touch(document)
        return document

    def _touch(self, document: dict[str, Any]) -> None:
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)

    def annotate(self, **annotations: str | None) -> None:
        """Set (or with None remove) annotations of the launch, as a person does."""
        metadata = self.launch_document["metadata"]
        kept = metadata.setdefault("annotations", {})
        for verb, value in annotations.items():
            if value is None:
                kept.pop(f"autoadvance.dev/{verb}", None)
            else:
                kept[f"autoadvance.dev/{verb}"] = value
        self._touch(self.launch_document)

    def edit_spec(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Edit the plan, as a person does."""
        change(self.launch_document["spec"])
        self.launch_document["metadata"]["generation"] += 1
        self._touch(self.launch_document)

    def edit_route(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Edit a route, as a person does."""
        route = self.documents["HTTPRoute", name]
        change(route)
        route["metadata"]["generation"] += 1
        self._touch(route)
        self._note_weights()

    def service(self, name: str) -> Service:
        return self.services.setdefault(name, Service())

    @property
    def status(self) -> Status:
        status = self.launch(KEY).status  # type: ignore[union-attr]
        assert isinstance(status, Status)
        return status

    @property
    def state(self) -> str:
        return self.status.state.value

    def weight(self, route: str = "shop") -> int:
        """The canary's live weight in thousandths."""
        (rule, *_) = self.documents["HTTPRoute", route]["spec"]["rules"]
        stable, canary = (backend.get("weight", 1) for backend in rule["backendRefs"][:2])
        return round(1000 * canary / (stable + canary))

    def _note_weights(self) -> None:
        for (kind, name), document in self.documents.items():
            if kind != "HTTPRoute" or len(document["spec"]["rules"][0]["backendRefs"]) < 2:
                continue
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
        return [read_launch(document) for (kind, _), document in self.documents.items() if kind == "Launch"]

    def launch(self, key: LaunchKey) -> Launch | None:
        document = self.documents.get(("Launch", key.name))
        return read_launch(copy.deepcopy(document)) if document else None

    def route(self, key: RouteKey) -> Route | None:
        document = self.documents.get((key.kind, key.name))
        return read_route(copy.deepcopy(document)) if document else None

    def ready_endpoints(self, namespace: str, service: str) -> int | None:
        return self.endpoints.get(service, 1)

    def subscribe(self, callback: Callable[[LaunchKey], None]) -> None:
        """Rounds are turned by hand."""

    def read_launch(self, key: LaunchKey) -> Launch:
        self.reads += 1
        launch = self.launch(key)
        if launch is None:
            raise NotFoundError(str(key))
        return launch

    def read_route(self, key: RouteKey) -> Route:
        self.reads += 1
        route = self.route(key)
        if route is None:
            raise NotFoundError(str(key))
        return route

    def write_status(self, launch: Launch, status: Mapping[str, Any]) -> Launch:
        with self._write("status"):
            document = self.documents["Launch", launch.key.name]
            metadata = document["metadata"]
            if (metadata["uid"], metadata["resourceVersion"]) != (launch.uid, launch.resource_version):
                raise ConflictError(f"{launch.key} was changed")
            document["status"] = copy.deepcopy(dict(status))
            self._touch(document)
        return self.read_back(launch.key)

    def read_back(self, key: LaunchKey) -> Launch:
        launch = self.launch(key)
        assert launch is not None
        return launch

    def patch_route(self, patch: RoutePatch, dry_run: bool = False) -> Route:
        document = self.documents.get((patch.key.kind, patch.key.name))
        if document is None:
            raise NotFoundError(str(patch.key))
        if dry_run:
            self._check(patch, document)
            return read_route(copy.deepcopy(document))
        with self._write("route"):
            self._check(patch, document)
            changed = False
            for edit in patch.edits:
                backend = document["spec"]["rules"][edit.rule]["backendRefs"][edit.backend]
                changed |= backend.get("weight") != edit.weight
                backend["weight"] = edit.weight
            document["metadata"].setdefault("annotations", {})["autoadvance.dev/epoch"] = patch.epoch
            document["metadata"]["generation"] += int(changed)
            self._touch(document)
            self._note_weights()
        return read_route(copy.deepcopy(document))

    def _check(self, patch: RoutePatch, document: dict[str, Any]) -> None:
        metadata = document["metadata"]
        names = [
            document["spec"]["rules"][edit.rule]["backendRefs"][edit.backend]["name"] == edit.name
            for edit in patch.edits
        ]
        same = patch.resource_version in (None, metadata["resourceVersion"])
        if metadata["uid"] != patch.uid or not same or not all(names):
            raise ConflictError(f"{patch.key} was changed")

    def _write(self, kind: str) -> _Write:
        return _Write(self, kind)

    # Evidence

    def gather(self, wanted: Mapping[Subject, int], now: float, deadline_s: float) -> dict[Subject, Reading]:
        return {subject: self._reading(subject, after, now) for subject, after in wanted.items()}

    def _reading(self, subject: Subject, after: int, now: float) -> Reading:
        series = subject.series
        through = grid(now - series.settle, series.interval)
        if self.problem_of_evidence:
            return Reading(after=after, through=after, problem=self.problem_of_evidence)
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
            n, x = service.total(subject.track, newest)
            n_before, x_before = service.total(subject.track, max(START, newest - series.interval))
            yield Row(float(at), float(n - n_before), float(x - x_before))

    # Recorder

    def decided(self, key: LaunchKey, decision: Decision) -> None:
        self.decisions.append((self.clock.at, decision))
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
        """A process that was just started."""
        return Reconciler(self, self, self, self.clock, **options)

    def turn(self, reconciler: Reconciler, *, asked: bool = True) -> None:
        """One tick of one process."""
        resting = [launch for launch in self.launches() if not reconciler.rests(launch.key)]
        looked = reconciler.look(resting)
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


class _Write:
    """Numbers the writes, and lets a test do harm before or after each."""

    def __init__(self, world: World, kind: str) -> None:
        self._world, self._kind = world, kind

    def __enter__(self) -> None:
        world = self._world
        world.before_write(len(world.writes), self._kind)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            world = self._world
            world.writes.append((world.clock.at, self._kind, ""))
            world.after_write(len(world.writes) - 1, self._kind)


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
