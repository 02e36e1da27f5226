"""A scripted exporter: many pods behind one HTTP server, a path per pod, with counts that are known at every instant.

``ScriptedPod`` is a pure function of time: lives with their events, from which the truth can be told afterwards.
``CountingPod`` is counted up by a test while it runs, such as by traffic that follows a route's weights.
The exporter keeps what it served to whom, so that a test knows the last thing a Prometheus can have seen of a pod.
"""

import bisect
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import parse_qs, urlsplit

STARTED = "process_start_time_seconds"


class Pod(Protocol):
    """Something to scrape."""

    def samples(self, at: float) -> Mapping[str, float] | None:
        """The value of every series (named as ``name{label="value"}``) at a Unix time; None when the scrape fails."""


@dataclass(frozen=True)
class Counter:
    """One series of a life: the Unix times of its events, in order.

    It is exported from the life's start when ``from_zero``, else from its first event; ``before`` are events of old.
    """

    series: str
    events: Sequence[float]
    from_zero: bool = True
    before: int = 0

    def value(self, at: float) -> int:
        return self.before + bisect.bisect_right(self.events, at)


@dataclass(frozen=True)
class Life:
    """One process of a pod, from its start to its death (Unix times); ``aged`` is how long before it truly started."""

    start: float
    end: float
    counters: Sequence[Counter]
    aged: float = 0.0


@dataclass(frozen=True)
class ScriptedPod:
    """A pod whose lives, events and failing scrapes (spans of Unix times) are fixed beforehand."""

    lives: Sequence[Life]
    failing: Sequence[tuple[float, float]] = ()

    def samples(self, at: float) -> Mapping[str, float] | None:
        life = self.life(at)
        if life is None or any(begin <= at < end for begin, end in self.failing):
            return None
        values: dict[str, float] = {STARTED: life.start - life.aged}
        values |= {c.series: c.value(at) for c in life.counters if c.from_zero or c.value(at)}
        return values

    def life(self, at: float) -> Life | None:
        """The process that runs at a Unix time."""
        return next((life for life in self.lives if life.start <= at < life.end), None)

    def truth(self, series: str, since: float = 0.0) -> int:
        """How many events of a series there are after a Unix time, in all lives, seen or not."""
        return sum(
            len(counter.events) - bisect.bisect_right(counter.events, since)
            for life in self.lives
            for counter in life.counters
            if counter.series == series
        )


@dataclass
class CountingPod:
    """A pod whose counters a test moves; every method may be called from any thread."""

    started: float = field(default_factory=time.time)
    failing: bool = False
    _values: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, series: str, amount: float = 1) -> None:
        """Count events; an amount of 0 only makes the series appear."""
        with self._lock:
            self._values[series] = self._values.get(series, 0) + amount

    def set(self, series: str, value: float) -> None:
        """Set a gauge, or a counter to what no counter should be (NaN, less than before)."""
        with self._lock:
            self._values[series] = value

    def restart(self) -> None:
        """A new process: every series is gone until it is counted again."""
        with self._lock:
            self._values.clear()
            self.started = time.time()

    def samples(self, at: float) -> Mapping[str, float] | None:
        with self._lock:
            return None if self.failing else {STARTED: self.started, **self._values}


@dataclass(frozen=True)
class Scrape:
    """One answer: when (Unix time), to whom, of which pod, and its samples; None for a refused one."""

    at: float
    reader: str
    pod: str
    samples: Mapping[str, float] | None


class Exporter:
    """The HTTP server: ``with Exporter() as exporter: exporter.pods["api-1"] = pod``.

    A pod is scraped at ``/<name>``; the query parameter ``reader`` tells several Prometheis apart in ``scrapes``, which
    are kept only when asked for, since a long test has many.
    """

    def __init__(self, *, keep_scrapes: bool = False) -> None:
        self.pods: dict[str, Pod] = {}
        self.scrapes: list[Scrape] = []
        self._keep_scrapes = keep_scrapes
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                exporter._answer(self)

            def log_message(self, *_: Any) -> None:
                """A scrape is no news."""

        # Port 0: the kernel chooses, nobody can take it in between.
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def address(self) -> str:
        """host:port, as a scrape target."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def target(self, pod: str, labels: Mapping[str, str]) -> dict[str, Any]:
        """A group of file or static discovery for one pod; its name is its ``instance``."""
        return {"targets": [self.address], "labels": {"__metrics_path__": f"/{pod}", "instance": pod, **labels}}

    def last_served(self, reader: str, pod: str, *, until: float = float("inf")) -> Mapping[str, float]:
        """The last samples that a reader got of a pod, up to a Unix time; empty if none."""
        served = (s.samples for s in reversed(self.scrapes) if (s.reader, s.pod) == (reader, pod) and s.at <= until)
        return next((samples for samples in served if samples is not None), {})

    def served(self, reader: str, pod: str) -> list[Scrape]:
        """The scrapes of a pod that succeeded, in order."""
        return [s for s in self.scrapes if (s.reader, s.pod) == (reader, pod) and s.samples is not None]

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        name = url.path.strip("/")
        pod, at = self.pods.get(name), time.time()
        samples = pod.samples(at) if pod else None
        if self._keep_scrapes:
            reader = parse_qs(url.query).get("reader", [""])[0]
            self.scrapes.append(Scrape(at, reader, name, samples))
        body = "".join(f"{series} {value!r}\n" for series, value in (samples or {}).items()).encode()
        request.send_response(200 if samples is not None else 503)
        request.send_header("Content-Type", "text/plain; version=0.0.4")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
