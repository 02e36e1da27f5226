"""Prometheus's range queries: an answer that can be trusted whole, or an error that says why not.

Speaks to everything that speaks Prometheus's HTTP API (Thanos, Mimir, VictoriaMetrics, ...). Nothing here hangs, grows
without bound, follows a redirect or retries behind the caller's back.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
import urllib3
from prometheus_api_client import PrometheusConnect
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.retry import Retry

from controller.adapters.retrying import retry_read
from controller.core.units import format_duration
from controller.errors import AdapterError, RefusedError, UnansweredError, UnusableError

_CHUNK = 64 * 1024
_LONGEST_ERROR = 64 * 1024
_LONGEST_QUOTE = 300
_COME_BACK_LATER = frozenset({408, 425, 429})
_WHOLE_AND_FRESH = {"partial_response": "false", "deny_partial_response": "1", "nocache": "1"}
"""What makes Thanos and VictoriaMetrics answer completely or not at all, and uncached; others ignore it."""


@dataclass(frozen=True, slots=True)
class PrometheusSettings:
    """How one Prometheus is reached. Files are read again for every request, so that they may be rotated.

    ``url`` may have a path (``https://mimir.example/prometheus``). ``headers`` are sent with every request (a tenant's),
    ``params`` become form fields of every query (``partial_response: "false"``). ``proxy`` is the URL of a proxy; the
    environment's proxies are never used. Times are seconds: ``connect_timeout`` for a connection, ``read_timeout``
    between two pieces of an answer, ``timeout`` for the whole of it. ``max_bytes`` bounds an answer, decompressed.
    ``max_skew`` is how far the server's clock may be from ours.

    Raises ValueError, naming the field, for values that contradict each other.
    """

    url: str = "http://127.0.0.1:9090"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    bearer_token_file: str = ""
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    proxy: str = field(default="", repr=False)
    connect_timeout: float = 2.0
    read_timeout: float = 5.0
    timeout: float = 5.0
    max_bytes: int = 64 * 1024 * 1024
    max_series: int = 100_000
    max_skew: float = 5.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("url: not an http or https URL; write for example http://prometheus.monitoring:9090")
        if parts.username is not None or parts.password is not None:
            raise ValueError("url: holds a user or a password; write them as username and password_file")
        try:
            _ = parts.port
        except ValueError:
            raise ValueError(
                "url: the port is no number up to 65535; write for example http://prometheus:9090"
            ) from None
        if parts.query or parts.fragment:
            raise ValueError("url: holds a query or a fragment; write query parameters as params")
        if bool(self.username) != bool(self.password_file):
            raise ValueError("username and password_file: only one of them is set; write both or none")
        if self.username and self.bearer_token_file:
            raise ValueError("bearer_token_file and username: both are set; write the one that the server wants")
        if self.key_file and not self.cert_file:
            raise ValueError("cert_file: missing beside key_file; write the file of the client certificate")
        for name, value in self.headers.items():
            if not (name.isascii() and value.isascii() and (name + value).isprintable()):
                raise ValueError(f"headers: {name!r} or its value is not printable ASCII; write it on one line")
        for name in ("connect_timeout", "read_timeout", "timeout", "max_bytes", "max_series", "max_skew"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: {getattr(self, name)} is out of range; write a number above 0")


class QueryRefusedError(RefusedError):
    """This query is refused, not the access: another one may be answered."""


class QueryUnusableError(UnusableError):
    """The answer to this query is unusable (warnings, too much of it); that to another may be fine."""


class AnsweredSeries(NamedTuple):
    """One series of an answer: its labels, and its values by instant in epoch milliseconds (NaN and Inf as they came).

    ``histogram``: it holds native histograms, which are no values.
    """

    labels: Mapping[str, str]
    values: Mapping[int, float]
    histogram: bool = False


class Answer(NamedTuple):
    """What a query gave: complete, without warnings, from a server whose clock agrees with ours.

    ``infos`` are Prometheus's remarks on the expression, which do not make the answer wrong.
    """

    series: tuple[AnsweredSeries, ...]
    infos: tuple[str, ...] = ()


class Prometheus:
    """One Prometheus. Safe to use from several threads; ``close`` ends its connections."""

    def __init__(self, settings: PrometheusSettings, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        session = requests.Session()
        session.trust_env = False  # no proxies, no netrc from the environment
        session.verify = settings.ca_file or True
        if settings.cert_file:
            session.cert = (settings.cert_file, settings.key_file) if settings.key_file else settings.cert_file
        if settings.proxy:
            session.proxies = {"http": settings.proxy, "https": settings.proxy}
        session.headers["User-Agent"] = "auto-advance"
        session.headers["Accept-Encoding"] = "gzip"
        self._secrets = _FileSecrets(settings)
        session.auth = self._secrets if settings.bearer_token_file or settings.username else None
        # The client's own query methods drop warnings, round the times to seconds and have no total deadline. It holds
        # the base URL, the headers and the session; the one query that is needed is sent through them in _ask.
        self._connect = PrometheusConnect(
            url=settings.url.rstrip("/"), headers=dict(settings.headers), retry=Retry(0, read=False), session=session
        )
        # In place of the adapter that the client has just mounted there: this one knows the deadline.
        session.mount(self._connect.url, _DeadlineAdapter(max_retries=Retry(0, read=False)))
        self._session = session
        parts = urlsplit(settings.url)
        self._name = f"Prometheus at {parts.netloc}{parts.path.rstrip('/')}"

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._connect.close()

    def query_range(self, expression: str, start: float, end: float, step: float, deadline: float) -> Answer:
        """The values of an expression at start, start + step, ... up to end (epoch seconds, whole milliseconds).

        ``deadline`` is an instant of ``time.monotonic``; the call returns or raises by then, tries included.

        Raises:
            UnansweredError: no connection, no answer in time, half an answer, 5xx, 429.
            RefusedError: the server refuses the access, or (QueryRefusedError) the expression; in its own words.
            UnusableError: a partial answer, clocks that differ, something that is no Prometheus; or
                (QueryUnusableError) warnings, too much.
        """
        form = {
            **_WHOLE_AND_FRESH,
            **self._settings.params,
            "query": expression,
            "start": f"{start:.3f}",
            "end": f"{end:.3f}",
            "step": f"{step:.3f}",
        }
        return self._answer(self._read_again("query_range", form, deadline))

    def samples(self, selector: str, span: float, at: float, deadline: float) -> Answer:
        """The stored samples of a plain selector in the ``span`` seconds up to ``at``, at the instants of their scrapes.

        ``deadline`` and errors are those of :meth:`query_range`.
        """
        form = {
            **_WHOLE_AND_FRESH,
            **self._settings.params,
            "query": f"{selector}[{round(span * 1000)}ms]",
            "time": f"{at:.3f}",
        }
        return self._answer(self._read_again("query", form, deadline))

    def kinds(self, metric: str, deadline: float) -> tuple[str, ...]:
        """What the scraped targets say the metric is: ``counter``, ``gauge``, ...; empty where they say nothing.

        ``deadline`` and errors are those of :meth:`query_range`.
        """
        form = {**self._settings.params, "metric": metric, "limit_per_metric": "20"}
        data = self._read_again("metadata", form, deadline, method="GET").get("data")
        entries = data.get(metric, []) if isinstance(data, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise UnusableError(f"{self._name} sent metadata that is none")
        return tuple(sorted({str(entry.get("type", "")) for entry in entries}))

    def alerting_rules(self, deadline: float) -> list[Any]:
        """The groups of alerting rules that it has loaded, as its API writes them; the alerts of each rule left out.

        ``deadline`` and errors are those of :meth:`query_range`.
        """
        form = {**self._settings.params, "type": "alert", "exclude_alerts": "true"}
        data = self._read_again("rules", form, deadline, method="GET").get("data")
        groups = data.get("groups") if isinstance(data, dict) else None
        if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
            raise UnusableError(f"{self._name} sent rules that are none")
        return groups

    def label_values(self, label: str, selector: str, since: float, deadline: float) -> tuple[str, ...]:
        """The values of a label in the series of a selector that there were since that instant (epoch seconds).

        ``deadline`` and errors are those of :meth:`query_range`.
        """
        form = {**self._settings.params, "match[]": selector, "start": f"{since:.3f}"}
        values = self._read_again(f"label/{label}/values", form, deadline, method="GET").get("data")
        if not isinstance(values, list):
            raise UnusableError(f"{self._name} sent values of a label that are none")
        return tuple(map(str, values))

    def _read_again(
        self, path: str, form: Mapping[str, str], deadline: float, *, method: str = "POST"
    ) -> dict[str, Any]:
        return retry_read(
            lambda: self._ask(method, path, form, deadline),
            deadline,
            worth=lambda error: not isinstance(error, _LaterError),
        )

    def _ask(self, method: str, path: str, form: Mapping[str, str], tick_deadline: float) -> dict[str, Any]:
        started = time.monotonic()
        deadline = min(tick_deadline, started + self._settings.timeout)
        remaining = deadline - started
        if remaining <= 0:
            raise UnansweredError(f"{self._name} was not asked: the time of this tick is over")
        _limits.deadline, _limits.pause = deadline, self._settings.read_timeout
        try:
            with self._session.request(
                method,  # where it may be: a form has no limit of length, and keeps parameters out of proxies' logs
                f"{self._connect.url}/api/v1/{path}",
                params=form if method == "GET" else None,
                data={**form, "timeout": f"{remaining:.3f}"} if method == "POST" else None,  # the server gives up too
                headers=self._connect.headers,
                timeout=(min(self._settings.connect_timeout, remaining), min(self._settings.read_timeout, remaining)),
                stream=True,
                allow_redirects=False,  # our headers are for this host alone
            ) as response:
                self._check_status(response)
                self._check_clock(response)
                body = self._read(response, self._settings.max_bytes)
        except AdapterError:
            raise
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, UnicodeError) as error:
            raise UnansweredError(self._failure(error, time.monotonic() - started)) from error
        return self._document(body)

    def _check_status(self, response: requests.Response) -> None:
        status = response.status_code
        if 200 <= status < 300:
            return
        if 300 <= status < 400:
            host = urlsplit(response.headers.get("Location", "")).netloc or "another path"
            raise UnusableError(f"{self._name} redirects to {host}, which is not followed; write the final URL")
        words = self._words(response)
        if status in _COME_BACK_LATER:
            raise _LaterError(f"{self._name} asks to come back later (HTTP {status}){words}")
        if status >= 500:
            raise UnansweredError(f"{self._name} failed (HTTP {status}){words}")
        if status in {400, 422}:
            raise QueryRefusedError(f"{self._name} refused the query (HTTP {status}){words}")
        if status in {401, 403}:
            raise RefusedError(
                f"{self._name} refused the access (HTTP {status}){words}; check its token or password file"
            )
        raise UnusableError(f"{self._name} answered HTTP {status}{words}; check the URL and its path")

    def _words(self, response: requests.Response) -> str:
        body = self._read(response, _LONGEST_ERROR, cut=True)
        try:
            words = str(json.loads(body)["error"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return ""
        words = " ".join(self._secrets.hide(words).split())
        return ": " + (words if len(words) <= _LONGEST_QUOTE else words[: _LONGEST_QUOTE - 3] + "...")

    def _check_clock(self, response: requests.Response) -> None:
        try:
            theirs = parsedate_to_datetime(response.headers["Date"]).timestamp()
        except (KeyError, ValueError, TypeError):
            return  # some proxies drop it; then there is nothing to compare
        # The header has no fraction; the instant lies anywhere in the second that it names.
        ours = self._clock()
        skew = max(theirs - ours, ours - (theirs + 1))
        if skew > self._settings.max_skew:
            raise UnusableError(
                f"clocks differ by {format_duration(skew)}: {self._name} says {response.headers['Date']}; set both by NTP"
            )

    def _read(self, response: requests.Response, limit: int, *, cut: bool = False) -> bytes:
        pieces: list[bytes] = []
        size = 0
        # The deadline is kept below, by _DeadlineReader: it holds for the status line and the headers as well.
        while piece := response.raw.read(_CHUNK, decode_content=True):
            size += len(piece)
            if size > limit:
                if cut:
                    break
                raise QueryUnusableError(
                    f"{self._name} sent more than {limit} bytes; ask for fewer series, or raise the limit (max_bytes)"
                )
            pieces.append(piece)
        return b"".join(pieces)

    def _document(self, body: bytes) -> dict[str, Any]:
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as error:
            if body.lstrip().startswith(b"{"):
                raise UnansweredError(f"{self._name} sent an answer that was cut in half") from error
            raise UnusableError(
                f"{self._name} sent no JSON ({_kind(body)}); is there a Prometheus behind the URL?"
            ) from error
        if not isinstance(document, dict) or document.get("status") != "success":
            words = document.get("error") if isinstance(document, dict) else None
            raise UnusableError(
                f"{self._name} answered without success: {self._secrets.hide(str(words))[:_LONGEST_QUOTE]}"
            )
        if warnings := document.get("warnings"):
            words = "; ".join(map(str, warnings)) if isinstance(warnings, list) else str(warnings)
            raise QueryUnusableError(
                f"{self._name} answered with warnings: {self._secrets.hide(words)[:_LONGEST_QUOTE]}"
            )
        if document.get("isPartial"):
            raise UnusableError(f"{self._name} gave a partial answer: some of its storage did not answer")
        return document

    def _answer(self, document: Mapping[str, Any]) -> Answer:
        data = document.get("data")
        if not isinstance(data, dict) or data.get("resultType") != "matrix" or not isinstance(data.get("result"), list):
            found = data.get("resultType") if isinstance(data, dict) else None
            raise UnusableError(f"{self._name} answered with a result of type {str(found)[:40]} instead of matrix")
        result = data["result"]
        if len(result) > self._settings.max_series:
            raise QueryUnusableError(
                f"{self._name} sent {len(result)} series, more than {self._settings.max_series}; "
                "aggregate more, or raise the limit (max_series)"
            )
        try:
            infos = document.get("infos")
            said = tuple(self._secrets.hide(str(info)) for info in infos) if isinstance(infos, list) else ()
            return Answer(tuple(map(_series, result)), said)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise UnusableError(f"{self._name} sent a series that is none: {type(error).__name__}") from error

    def _failure(self, error: Exception, took: float) -> str:
        """One sentence in our own words: the libraries' texts hold URLs, and with a proxy its password."""
        chain = _causes(error)
        for cause in chain:
            if isinstance(cause, _SecretFileError):
                return str(cause)
            if isinstance(cause, socket.gaierror | urllib3.exceptions.NameResolutionError):
                return f"{self._name}: the host's name cannot be resolved"
            if isinstance(cause, urllib3.exceptions.ProxyError):
                return f"{self._name} cannot be reached through the proxy"
            if isinstance(cause, ConnectionRefusedError):
                return f"{self._name} refuses the connection"
            if isinstance(cause, ssl.SSLError):
                reason = getattr(cause, "verify_message", "") or cause.reason or "handshake failed"
                return f"{self._name}: TLS: {self._secrets.hide(reason)[:_LONGEST_QUOTE]}"
            if isinstance(cause, http.client.IncompleteRead | urllib3.exceptions.IncompleteRead):
                return f"{self._name} sent an answer that was cut in half"
        # After the others: some of the library's errors are made of a time-out without being one.
        if any(isinstance(cause, requests.Timeout | urllib3.exceptions.TimeoutError | TimeoutError) for cause in chain):
            return f"{self._name} did not answer within {format_duration(took)}"
        last = chain[-1]
        if isinstance(last, OSError) and last.strerror:
            return f"{self._name} did not answer: {last.strerror}"
        if isinstance(last, OSError) and "TLS" in str(last):
            return f"{self._name}: ca_file, cert_file or key_file cannot be read"
        return f"{self._name} did not answer: {type(last).__name__}"


class _LaterError(UnansweredError):
    """The server is overloaded and said so; the next tick is soon enough."""


class _SecretFileError(OSError):
    """The file of a token or password cannot be read."""


class _FileSecrets(AuthBase):
    """Signs each request with what its file says now; hides that in texts."""

    def __init__(self, settings: PrometheusSettings) -> None:
        self._settings = settings
        self._known: frozenset[str] = frozenset(v for v in settings.headers.values() if len(v) >= 8)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._settings.bearer_token_file:
            header = f"Bearer {self._read('bearer_token_file')}"
        else:
            pair = f"{self._settings.username}:{self._read('password_file')}"
            header = "Basic " + b64encode(pair.encode()).decode()
        request.headers["Authorization"] = header
        return request

    def hide(self, text: str) -> str:
        for secret in self._known:
            text = text.replace(secret, "***")
        return text

    def _read(self, name: str) -> str:
        path = Path(getattr(self._settings, name))
        try:
            secret = path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise _SecretFileError(f"{name}: {path} cannot be read: {reason}") from error
        if not (secret.isascii() and secret.isprintable() and secret) and name == "bearer_token_file":
            raise _SecretFileError(f"{name}: {path} must hold one line of printable ASCII")
        self._known = frozenset({secret, *(v for v in self._settings.headers.values() if len(v) >= 8)})
        return secret


class _Limits(threading.local):
    """Of the request that this thread is in: its deadline (monotonic seconds) and the longest pause (seconds)."""

    deadline: float = 0.0
    pause: float = 0.0


_limits = _Limits()


class _DeadlineReader(io.RawIOBase):
    """A socket's bytes, none of them after the deadline.

    A socket's own timeout starts anew with every byte: a server that sends one a second would keep us for hours.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        remaining = _limits.deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the deadline of the request has passed")
        self._socket.settimeout(min(remaining, _limits.pause))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineFile:
    """Stands in for the socket where a response opens it for reading."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def makefile(self, *_mode: object) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self._socket), _CHUNK)


class _DeadlineResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **keywords: Any) -> None:
        super().__init__(_DeadlineFile(sock), *args, **keywords)  # type: ignore[arg-type]  # only makefile is used


class _HTTPConnection(HTTPConnection):
    response_class = _DeadlineResponse


class _HTTPSConnection(HTTPSConnection):
    response_class = _DeadlineResponse


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class _DeadlineAdapter(HTTPAdapter):
    _pools: Mapping[str, type[HTTPConnectionPool]] = {"http": _HTTPPool, "https": _HTTPSPool}

    def init_poolmanager(self, *args: Any, **keywords: Any) -> None:
        super().init_poolmanager(*args, **keywords)
        self.poolmanager.pool_classes_by_scheme = dict(self._pools)

    def proxy_manager_for(self, *args: Any, **keywords: Any) -> Any:
        manager = super().proxy_manager_for(*args, **keywords)
        manager.pool_classes_by_scheme = dict(self._pools)
        return manager


def _series(found: Mapping[str, Any]) -> AnsweredSeries:
    if not isinstance(found["metric"], dict):
        raise TypeError("labels that are no mapping")
    values = {round(instant * 1000): float(value) for instant, value in found.get("values", ())}
    return AnsweredSeries(found["metric"], values, "histograms" in found)


def _kind(body: bytes) -> str:
    start = body[:200].lstrip().lower()
    if not start:
        return "an empty answer"
    return "HTML" if start.startswith(b"<") else "something else"


def _causes(error: BaseException) -> list[BaseException]:
    """The error and all that it was made of, the innermost last; the libraries keep them in different places."""
    chain: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop(0)
        if current is None or any(current is seen for seen in chain):
            continue
        chain.append(current)
        waiting += [
            item for item in (*current.args, getattr(current, "reason", None)) if isinstance(item, BaseException)
        ]
        waiting += [current.__cause__, current.__context__]
    return chain
