"""A stage for whole launches: real API server, real Prometheus, the daemon as a process, traffic that follows weights.

The observer has an identity of its own and sees every version of every Launch and route; what it saw is the history
that the invariants are checked on.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlencode

import requests
import yaml

from tests.invariants import Version
from tests.realparts.kube import ApiError, KubeApiserver
from tests.realparts.parts import ROOT
from tests.realparts.prometheus import Prometheus, config, file_sd, static, write_targets
from tests.realparts.server import free_port, http, wait_until

GROUP = "autoadvance.dev/v1alpha1"
ROUTES = "gateway.networking.k8s.io/v1"
RULES: tuple[dict[str, Any], ...] = tuple(
    next(yaml.safe_load_all((ROOT / "deploy" / "base" / "role.yaml").read_text(encoding="utf-8")))["rules"]
)
"""The rights that are shipped: no launch here has any others."""
OBSERVER_RULES: tuple[dict[str, Any], ...] = (
    {"apiGroups": ["autoadvance.dev"], "resources": ["launches"], "verbs": ["get", "list", "watch"]},
    {
        "apiGroups": ["gateway.networking.k8s.io"],
        "resources": ["httproutes", "grpcroutes"],
        "verbs": ["get", "list", "watch"],
    },
)
WATCHED = ((GROUP, "launches", "Launch"), (ROUTES, "httproutes", "HTTPRoute"), (ROUTES, "grpcroutes", "GRPCRoute"))
ROUTE_KINDS = ("HTTPRoute", "GRPCRoute")
STEP_S = 0.02
"""How finely the traffic is counted, in seconds."""


@dataclass
class Shop:
    """One service with two tracks: requests per second, the share of errors of each track, and the live weight."""

    name: str
    per_second: float = 100.0
    weight: float = 0.0
    canary_errors: float = 0.0
    stable_errors: float = 0.0
    canary_restarts: int = 0
    counts: dict[tuple[str, str], float] = field(default_factory=dict)

    def pass_time(self, seconds: float) -> None:
        """Count what happened in so many seconds."""
        for track, share, errors in (
            ("canary", self.weight, self.canary_errors),
            ("stable", 1 - self.weight, self.stable_errors),
        ):
            requests_made = self.per_second * share * seconds
            for code, part in (("200", 1 - errors), ("500", errors)):
                self.counts[track, code] = self.counts.get((track, code), 0.0) + requests_made * part


ALIVE: tuple[dict[str, Any], ...] = (
    {"alert": "Watchdog", "expr": "vector(1)", "labels": {"severity": "none"}},
    {"alert": "ClusterDown", "expr": "vector(0) > 1", "labels": {"severity": "critical"}},
)
"""What any Prometheus has that alerts are counted in: one that always fires, and something that could."""
LATENCY_EDGES = ("0.05", "0.2", "0.5", "+Inf")


class Traffic:
    """Counts requests of many services by their live weights, and lets Prometheus scrape them all as one target.

    Every request is as quick as the smallest edge. ``gauges`` are values besides, by the name of a metric. Each track has
    one pod, of which kube-state-metrics would tell the same.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.shops: dict[str, Shop] = {}
        self.gauges: dict[str, float] = {}
        self._after_scrape: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        traffic = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = traffic.scraped().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Scrapes are not worth a line."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._threads = [
            threading.Thread(target=self._server.serve_forever, daemon=True),
            threading.Thread(target=self._count, daemon=True),
        ]
        self._started = time.time()

    @property
    def address(self) -> str:
        """host:port to scrape."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def shop(self, name: str) -> Shop:
        """The service of that name."""
        with self._lock:
            return self.shops.setdefault(name, Shop(name))

    def after_scrape(self, change: Callable[[], None]) -> None:
        """Change something right after the next scrape, so that a whole interval of it lies before the one after."""
        with self._lock:
            self._after_scrape.append(change)

    def scraped(self) -> str:
        """What a scrape sees; then what waited for it happens."""
        text = self.exposition()
        with self._lock:
            changes, self._after_scrape = self._after_scrape, []
        for change in changes:
            change()
        return text

    def exposition(self) -> str:
        """Every counter, whole numbers, born at 0."""
        lines = [f"process_start_time_seconds {self._started}"]
        with self._lock:
            for shop in self.shops.values():
                for track in ("canary", "stable"):
                    for code in ("200", "500"):
                        labels = f'namespace="{self.namespace}",service="{shop.name}",track="{track}",code="{code}"'
                        count = int(shop.counts.get((track, code), 0.0) + 1e-6)
                        lines.append(f"http_requests_total{{{labels}}} {count}")
                        for edge in LATENCY_EDGES:
                            bucket = f'http_request_duration_seconds_bucket{{{labels},le="{edge}"}}'
                            lines.append(f"{bucket} {count}")
                lines += [line for track in ("canary", "stable") for line in self._pod(shop, track)]
            for name, value in self.gauges.items():
                lines.append(f'{name}{{namespace="{self.namespace}",service="learner"}} {value}')
        return "\n".join(lines) + "\n"

    def _pod(self, shop: Shop, track: str) -> Iterator[str]:
        pod = f'namespace="{self.namespace}",pod="{shop.name}-{track}"'
        restarts = shop.canary_restarts if track == "canary" else 0
        yield f'kube_pod_container_status_restarts_total{{{pod},uid="{shop.name}-{track}",container="app"}} {restarts}'
        yield f'kube_pod_created{{{pod},uid="{shop.name}-{track}"}} {self._started}'
        yield f'kube_pod_labels{{{pod},label_service="{shop.name}",label_track="{track}"}} 1'

    def _count(self) -> None:
        last = time.monotonic()
        while not self._stopping.wait(STEP_S):
            now = time.monotonic()
            with self._lock:
                for shop in self.shops.values():
                    shop.pass_time(now - last)
            last = now

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()


@dataclass(frozen=True)
class Seen:
    """One version of one object, when the observer saw it (Unix time)."""

    at: float
    type: str
    kind: str
    document: dict[str, Any]

    @property
    def name(self) -> str:
        """The object's name."""
        return str(self.document["metadata"]["name"])


class _Watch:
    """One watch that another thread may end: the connection is ours, so that it can be broken in the middle of a wait."""

    def __init__(self, kube: KubeApiserver, path: str, version: str) -> None:
        tls = ssl.create_default_context(cafile=str(kube.ca_file))
        self._connection = HTTPSConnection("127.0.0.1", kube.port, timeout=330, context=tls)
        query = {"watch": "true", "timeoutSeconds": "300", "allowWatchBookmarks": "true", "resourceVersion": version}
        self._target = f"{path}?{urlencode(query)}"
        self._headers = {"Authorization": f"Bearer {kube.token('observer')}"}

    def events(self) -> Iterator[dict[str, Any]]:
        """What happens, until the server or :meth:`end` ends it. Raises OSError, HTTPException."""
        try:
            self._connection.request("GET", self._target, headers=self._headers)
            answer = self._connection.getresponse()
            while answer.status == 200 and (line := answer.readline()):
                yield json.loads(line)
        finally:
            self._connection.close()

    def end(self) -> None:
        """Break the connection."""
        opened = self._connection.sock
        if opened is not None:
            with contextlib.suppress(OSError):
                # the plain socket's: another thread is reading the TLS one
                socket.socket.shutdown(opened, socket.SHUT_RDWR)


class Observer:
    """Watches launches and routes of a namespace with its own identity, and lets the traffic follow the weights."""

    def __init__(self, kube: KubeApiserver, namespace: str, traffic: Traffic | None = None) -> None:
        self._kube, self._namespace, self._traffic = kube, namespace, traffic
        self.history: list[Seen] = []
        self.changed = threading.Condition()
        self._stopping = threading.Event()
        self._watches: dict[str, _Watch] = {}
        self._threads = [
            threading.Thread(target=self._watch, args=(group, plural, kind), daemon=True)
            for group, plural, kind in WATCHED
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for watch in list(self._watches.values()):
            watch.end()
        for thread in self._threads:
            thread.join(5)

    def _watch(self, group: str, plural: str, kind: str) -> None:
        path = f"/apis/{group}/namespaces/{self._namespace}/{plural}"
        version = ""
        while not self._stopping.is_set():
            # The server may be stopped by the test: the observer waits for it and goes on where it was.
            with contextlib.suppress(OSError, HTTPException, ApiError, ValueError):
                version = version or self._list(path, kind)
                watch = self._watches[plural] = _Watch(self._kube, path, version)
                for event in watch.events():
                    if event["type"] == "ERROR":
                        version = ""
                        break
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        self._saw(Seen(time.time(), event["type"], kind, event["object"]))
                    if self._stopping.is_set():
                        return
            self._stopping.wait(0.2)

    def _list(self, path: str, kind: str) -> str:
        listed = self._kube.call("GET", path, identity="observer")
        # The items of a list do not say what they are.
        about = {"apiVersion": listed["apiVersion"], "kind": kind}
        for document in listed["items"]:
            self._saw(Seen(time.time(), "LISTED", kind, {**about, **document}))
        return str(listed["metadata"]["resourceVersion"])

    def versions(self) -> list[Version]:
        """The history in the order in which the server stored it, each version once."""
        stored: dict[int, Version] = {}
        for seen in list(self.history):
            metadata = seen.document["metadata"]
            gone = seen.type == "DELETED"
            version = Version(seen.at, seen.kind, metadata["namespace"], seen.name, None if gone else seen.document)
            stored.setdefault(int(metadata["resourceVersion"]), version)
        return [stored[number] for number in sorted(stored)]

    def _saw(self, seen: Seen) -> None:
        if seen.kind in ROUTE_KINDS and self._traffic is not None:
            self._traffic.shop(seen.name).weight = weight_of(seen.document) / 1000
        with self.changed:
            self.history.append(seen)
            self.changed.notify_all()

    def wait(self, holds: Callable[[list[Seen]], Any], *, seconds: float, what: str) -> Any:
        """Wait until something holds of the history. Raises TimeoutError, with the last status seen."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while True:
                found = holds(self.history)
                if found:
                    return found
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"{what} did not come within {seconds:g} s; last: {self._last()}")
                self.changed.wait(min(left, 1.0))

    def never(self, happens: Callable[[list[Seen]], Any], *, seconds: float, what: str) -> None:
        """Watch for so long that something does not happen. Raises AssertionError when it does."""
        try:
            found = self.wait(happens, seconds=seconds, what=what)
        except TimeoutError:
            return
        raise AssertionError(f"{what}: {found}")

    def stays(self, route: str, weight: int, *, seconds: float) -> None:
        """Watch for so long that a route keeps this weight (thousandths). Raises AssertionError."""

        def another(history: list[Seen]) -> list[int]:
            weights = [weight_of(one.document) for one in history if one.kind in ROUTE_KINDS and one.name == route]
            return [] if weights[-1] == weight else weights[-1:]

        self.never(another, seconds=seconds, what=f"route {route} left {weight / 10:g}%")

    def _last(self) -> str:
        launches = [seen for seen in self.history if seen.kind == "Launch"]
        status = launches[-1].document.get("status") or {} if launches else {}
        return f"{status.get('state')} {status.get('weight')}: {status.get('message')}"

    def wait_for_state(self, name: str, *states: str, seconds: float) -> Seen:
        """Wait until the launch's newest version is in one of these states."""

        def newest(history: list[Seen]) -> Seen | None:
            versions = [seen for seen in history if seen.kind == "Launch" and seen.name == name]
            status = (versions[-1].document.get("status") or {}) if versions else {}
            return versions[-1] if status.get("state") in states else None

        found: Seen = self.wait(newest, seconds=seconds, what=f"launch {name} in {' or '.join(states)}")
        self._catch_up()
        return found

    def _catch_up(self) -> None:
        """Wait until the routes that are stored now were seen: each kind comes by a watch of its own."""
        for group, plural, kind in WATCHED[1:]:
            listed = self._kube.call("GET", f"/apis/{group}/namespaces/{self._namespace}/{plural}", identity="observer")
            stored = {item["metadata"]["resourceVersion"] for item in listed["items"]}

            def seen_all(history: list[Seen], stored: set[str] = stored) -> bool:
                return stored <= {seen.document["metadata"]["resourceVersion"] for seen in history}

            self.wait(
                seen_all,
                seconds=60,
                what=f"every stored {kind}",
            )

    def wait_for_weight(self, route: str, weight: int, *, seconds: float, since: int = 0) -> Seen:
        """Wait until the route was seen with this weight (thousandths), in the history from ``since`` on."""

        def reached(history: list[Seen]) -> Seen | None:
            return next(
                (
                    seen
                    for seen in history[since:]
                    if seen.kind in ROUTE_KINDS and seen.name == route and weight_of(seen.document) == weight
                ),
                None,
            )

        found: Seen = self.wait(reached, seconds=seconds, what=f"weight {weight / 10:g}% of route {route}")
        return found

    def weights(self, route: str) -> list[int]:
        """The weights of a route in the order in which they were seen, repeats left out."""
        weights: list[int] = []
        for seen in list(self.history):
            if seen.kind in ROUTE_KINDS and seen.name == route:
                weight = weight_of(seen.document)
                if not weights or weights[-1] != weight:
                    weights.append(weight)
        return weights


def weight_of(route: Mapping[str, Any]) -> int:
    """The canary's share in thousandths, of the first rule with several backends: its second one is the canary."""
    for rule in route["spec"]["rules"]:
        weights = [backend.get("weight", 1) for backend in rule.get("backendRefs", ())[:2]]
        if len(weights) == 2:
            return round(1000 * weights[1] / sum(weights)) if sum(weights) else 0
    return 0


class Daemon:
    """``auto-advance run`` as a process, its log in a file."""

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str],
        *,
        environment: dict[str, str] | None = None,
        program: Sequence[str] = (sys.executable, "-m", "controller"),
    ) -> None:
        self._folder, self._arguments = folder, tuple(arguments)
        self._environment = environment or {}
        self._program = tuple(program)
        self.port = free_port()
        self.log = folder / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it is ready when :meth:`wait_ready` returns."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self._program,
                    "run",
                    *self._arguments,
                    f"--listen=127.0.0.1:{self.port}",
                    "--log-format=json",
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment},
            )

    def wait_ready(self, seconds: float = 90.0) -> None:
        """Wait until /readyz says so."""
        wait_until(self.ready, deadline_s=seconds, what=f"the daemon to be ready: {self.tail()}")

    def ready(self) -> bool:
        """Whether /readyz answers 200."""
        return self._get("/readyz") == 200

    def live(self) -> bool:
        """Whether /livez answers 200."""
        return self._get("/livez") == 200

    def _get(self, path: str) -> int:
        try:
            return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=2).status_code
        except requests.RequestException:
            return 0

    def metrics(self) -> str:
        """The text of /metrics."""
        with http() as session:
            return session.get(f"http://127.0.0.1:{self.port}/metrics", timeout=60).text

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-2000:] if self.log.exists() else ""

    @property
    def pid(self) -> int:
        """The process' id."""
        assert self.process is not None
        return self.process.pid

    def kill9(self) -> None:
        """End it at once."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(60)

    def terminate(self) -> int:
        """Ask it to end: its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill9()


def launch_document(
    name: str,
    *,
    steps: Sequence[dict[str, Any]] = ({"weight": 20, "for": "10s"}, {"weight": 30, "for": "10s"}, {"weight": 100}),
    below: str = "5%",
    settle: str = "2s",
    kind: str = "HTTPRoute",
    **spec: Any,
) -> dict[str, Any]:
    """A Launch over raw counters with an interval of a second."""
    selector = 'http_requests_total{service="{{service}}"'
    return {
        "apiVersion": GROUP,
        "kind": "Launch",
        "metadata": {"name": name},
        "spec": {
            "revision": "v2",
            "targets": [
                {
                    "name": "main",
                    "route": {"name": name, "kind": kind},
                    "stable": {"name": f"{name}-stable"},
                    "canary": {"name": f"{name}-canary"},
                }
            ],
            "metrics": [
                {
                    "name": "failures",
                    "interval": "1s",
                    "settle": settle,
                    "ratio": {"bad": f'{selector},code=~"5.."}}', "total": f"{selector}}}"},
                }
            ],
            "phases": [
                {
                    "name": "ramp",
                    "steps": [dict(step) for step in steps],
                    "guardrails": [{"metric": "failures", "below": below}],
                }
            ],
            **spec,
        },
    }


def route_document(name: str, kind: str = "HTTPRoute") -> dict[str, Any]:
    """A route with the pair, the canary at 0."""
    return {
        "apiVersion": ROUTES,
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "rules": [
                {
                    "backendRefs": [
                        {"name": f"{name}-stable", "port": 80, "weight": 100},
                        {"name": f"{name}-canary", "port": 80, "weight": 0},
                    ]
                }
            ]
        },
    }


def slice_documents(name: str) -> Iterable[dict[str, Any]]:
    """EndpointSlices with one ready endpoint for each of the two Services."""
    for track in ("stable", "canary"):
        yield {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-{track}-1", "labels": {"kubernetes.io/service-name": f"{name}-{track}"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["192.0.2.10"], "conditions": {"ready": True}}],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        }


@dataclass
class Stage:
    """Everything that a launch test needs, started."""

    kube: KubeApiserver
    namespace: str
    prometheus: Prometheus
    traffic: Traffic
    observer: Observer
    folder: Path
    stack: contextlib.ExitStack

    def arguments(self, *, tick: str = "1s", **flags: str) -> list[str]:
        """The daemon's flags on this stage; ``flags`` are others, or take the place of these."""
        known = {
            "kubeconfig": str(self.kube.kubeconfig("controller")),
            "namespace": self.namespace,
            "prometheus": self.prometheus.url,
            "tick": tick,
            "route_settle": "500ms",
        }
        return [f"--{name.replace('_', '-')}={value}" for name, value in {**known, **flags}.items()]

    def daemon(self, *, tick: str = "1s", **flags: str) -> Daemon:
        """A started daemon, ended with the stage."""
        return self.stack.enter_context(Daemon(self.folder, self.arguments(tick=tick, **flags)))

    def create(self, *names: str, kind: str = "HTTPRoute", **options: Any) -> None:
        """Services with traffic, routes, endpoints, and a launch for each."""
        self.serve(*names, kind=kind)
        for name in names:
            self.kube.apply([launch_document(name, kind=kind, **options)], namespace=self.namespace)

    def serve(self, *names: str, kind: str = "HTTPRoute") -> None:
        """Services with traffic that Prometheus knows, routes and endpoints."""
        for name in names:
            self.traffic.shop(name)
            self.kube.apply([route_document(name, kind), *slice_documents(name)], namespace=self.namespace)
        for name in names:
            labels = f'namespace="{self.namespace}",service="{name}",track="stable",code="200"'
            self.prometheus.wait_for(f"http_requests_total{{{labels}}} > 0")

    def annotate(self, name: str, **annotations: str | None) -> None:
        """Set or remove annotations of a launch, as a person does."""
        body = {"metadata": {"annotations": {f"autoadvance.dev/{verb}": value for verb, value in annotations.items()}}}
        self.kube.call(
            "PATCH",
            f"/apis/{GROUP}/namespaces/{self.namespace}/launches/{name}",
            body,
            content_type="application/merge-patch+json",
        )

    def edit_route(
        self, name: str, change: Callable[[dict[str, Any]], None], kind: str = "HTTPRoute"
    ) -> dict[str, Any]:
        """Change a route as a person does with an editor; returns what was stored."""
        path = f"/apis/{ROUTES}/namespaces/{self.namespace}/{kind.lower()}s/{name}"
        document = self.kube.call("GET", path)
        change(document)
        return dict(self.kube.call("PUT", path, document))

    def status(self, name: str) -> dict[str, Any]:
        """The launch's status now."""
        path = f"/apis/{GROUP}/namespaces/{self.namespace}/launches/{name}"
        return dict(self.kube.call("GET", path).get("status") or {})


class Ground:
    """A Prometheus that stages side by side share; each brings its own traffic."""

    def __init__(self, folder: Path, *, version: Literal["2", "3", "any"] = "any") -> None:
        self._file = folder / "targets.json"
        self._groups: list[Mapping[str, Any]] = []
        self._lock = threading.Lock()
        write_targets(self._file, [])
        scrape = {**file_sd("traffic", self._file), "honor_labels": True}
        self.prometheus = Prometheus(folder, version=version, config=config([scrape]))

    @contextlib.contextmanager
    def scraping(self, traffic: Traffic) -> Iterator[None]:
        """Prometheus scrapes this traffic inside the block."""
        group = {"targets": [traffic.address]}
        with self._lock:
            self._groups.append(group)
            write_targets(self._file, self._groups)
        try:
            yield
        finally:
            with self._lock:
                self._groups.remove(group)
                write_targets(self._file, self._groups)

    def __enter__(self) -> Self:
        self.prometheus.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.prometheus.stop()


@contextlib.contextmanager
def stage(
    kube: KubeApiserver,
    folder: Path,
    *,
    version: Literal["2", "3", "any"] = "any",
    ground: Ground | None = None,
    rule_files: Sequence[Path] = (),
    namespace: str = "",
    alertmanagers: Sequence[str] = (),
) -> Iterator[Stage]:
    """A namespace with traffic, a Prometheus of its own or that of ``ground``, and an observer.

    Each Prometheus scrapes each second; one of its own evaluates ``rule_files`` as often, and then proves that it does,
    so that incidents can be counted. It tells ``alertmanagers`` (host:port) what fires. In a ``namespace`` that is
    there already, the controller has what rights it was given before.
    """
    with contextlib.ExitStack() as stack:
        given = bool(namespace)
        namespace = namespace or kube.create_namespace("launch")
        stack.callback(kube.delete_routes_and_launches, namespace)
        if not given:
            kube.grant("controller", RULES, namespace=namespace)
        kube.grant("observer", OBSERVER_RULES, namespace=namespace)
        traffic = stack.enter_context(Traffic(namespace))
        if ground is None:
            scrape = {**static("traffic", [traffic.address]), "honor_labels": True}
            (folder / "prometheus").mkdir(exist_ok=True)
            port, scrapes, rules = free_port(), [scrape], list(rule_files)
            if rules:
                scrapes.append(static("prometheus", [f"127.0.0.1:{port}"]))
                rules.append(folder / "alive.json")
                rules[-1].write_text(json.dumps({"groups": [{"name": "alive", "rules": ALIVE}]}))
            settings = config(scrapes, rule_files=rules, alertmanagers=alertmanagers)
            prometheus = stack.enter_context(
                Prometheus(folder / "prometheus", version=version, config=settings, port=port)
            )
        else:
            stack.enter_context(ground.scraping(traffic))
            prometheus = ground.prometheus
        observer = stack.enter_context(Observer(kube, namespace, traffic))
        yield Stage(kube, namespace, prometheus, traffic, observer, folder, stack)
