"""Alerts out, over the v2 API, to every Alertmanager, never on the decision's path.

Each Alertmanager has a thread of its own: one that hangs delays neither a decision nor the others. What fires is sent
again and again (Alertmanager keeps nothing for longer than it was told), what was resolved is repeated for a while.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlencode, urlsplit

from controller.adapters.asking import Asking
from controller.core.alerts import Alert, Identity
from controller.core.observation import ALERTING_NOT_KNOWN
from controller.core.units import format_duration, format_instant
from controller.core.world import LaunchKey
from controller.errors import AdapterError, RefusedError, UnansweredError

RESEND_SECONDS = 60.0
LASTS_RESENDS = 4
"""A firing alert is said to last this many times the pause between two sends, as Prometheus itself does."""
REPEAT_RESOLVED_SECONDS = 300.0
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0
"""For a whole request once it is connected, however slowly the bytes trickle."""
FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 30.0
STOP_SECONDS = 1.0
SHORTEST_PAUSE = 1.0
"""The same alert is sent at most this often (seconds), however often it changes."""
MOST_AT_ONCE = 64
"""Alerts in one request; the rest follows in the next."""
WATCHDOG: Mapping[str, str] = MappingProxyType({"alertname": "Watchdog"})
"""The labels of the alert that Prometheus' usual rules let fire at all times."""
ASKED_EACH_SECONDS = 30.0
ANSWER_VALID_SECONDS = 90.0
RUNBOOKS = "docs/runbooks"
"""Where the pages of the alerts are found, below what they link to."""
_LONGEST_WORDS = 300
_LONGEST_ANSWER = 8 << 20
"""Bytes; an Alertmanager that keeps its silences for some days has thousands of them, of half a KiB each."""
_REFUSALS = frozenset({400, 422})


@dataclass(slots=True)
class _Standing:
    """One alert and how it stands: ``resolved_at`` (epoch seconds) is None while it fires.

    ``version`` changes with what must be told without waiting for the next resend.
    """

    alert: Alert
    version: int
    resolved_at: float | None = None


@dataclass(slots=True)
class _Board:
    """What every Alertmanager should know. ``changed`` guards it and wakes the outlets."""

    clock: Callable[[], float]
    repeat: float
    standing: dict[Identity, _Standing] = field(default_factory=dict)
    of_launch: dict[LaunchKey, set[Identity]] = field(default_factory=dict)
    versions: count[int] = field(default_factory=count)
    changed: threading.Condition = field(default_factory=threading.Condition)
    stopping: bool = False

    def forget_old(self) -> None:
        """Drop what was resolved long enough ago. Called under the lock."""
        now = self.clock()
        old = [
            identity
            for identity, standing in self.standing.items()
            if standing.resolved_at is not None and now - standing.resolved_at > self.repeat
        ]
        for identity in old:
            key = self.standing.pop(identity).alert.key
            self.of_launch[key].discard(identity)
            if not self.of_launch[key]:
                del self.of_launch[key]


@dataclass(frozen=True, slots=True)
class Access:
    """How one Alertmanager is reached: its URL, and the files that prove who asks, read again for every request.

    Either a bearer token, or a user with a password, or nothing.
    """

    url: str
    bearer_token_file: str = ""
    username: str = ""
    password_file: str = ""

    def header(self) -> dict[str, str]:
        """What is sent besides. Raises UnansweredError where a file cannot be read."""
        if not (self.bearer_token_file or self.username):
            return {}
        path = Path(self.bearer_token_file or self.password_file)
        try:
            secret = path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise UnansweredError(f"Alertmanager was not asked: {path} cannot be read: {reason}") from error
        if self.bearer_token_file:
            if not (secret and secret.isascii() and secret.isprintable()):
                raise UnansweredError(f"Alertmanager was not asked: {path} must hold one line of printable ASCII")
            return {"Authorization": f"Bearer {secret}"}
        return {"Authorization": f"Basic {base64.b64encode(f'{self.username}:{secret}'.encode()).decode()}"}


class AlertSender:
    """Keeps every Alertmanager told. All methods may be called from any thread; ``publish`` waits for nothing.

    ``external_url`` is what alerts link to, ``runbook_url`` the folder of their pages: without one, that of the
    ``external_url``. ``clock`` gives epoch seconds. ``on_failure`` is told, from other threads, of what an Alertmanager
    did not take, ``on_sent`` of how many alerts one took. ``resend``, ``repeat`` (of what is resolved) and ``timeout``
    (of a whole request) are seconds.
    """

    def __init__(
        self,
        urls: Sequence[str | Access],
        *,
        external_url: str,
        runbook_url: str = "",
        clock: Callable[[], float] = time.time,
        on_failure: Callable[[AdapterError], None],
        on_sent: Callable[[int], None] = lambda _: None,
        resend: float = RESEND_SECONDS,
        repeat: float = REPEAT_RESOLVED_SECONDS,
        timeout: float = ANSWER_SECONDS,
    ) -> None:
        self._board = _Board(clock, repeat)
        place = external_url.rstrip("/")
        links = _Links(place, runbook_url.rstrip("/") or f"{place}/{RUNBOOKS}")
        self._outlets = [
            _Outlet(Door(url, timeout), self._board, links, on_failure, on_sent, resend) for url in dict.fromkeys(urls)
        ]

    def start(self) -> None:
        """Begin to send."""
        for outlet in self._outlets:
            outlet.start()

    def stop(self) -> None:
        """Send what is new where that goes quickly; ends within about a second."""
        with self._board.changed:
            self._board.stopping = True
            self._board.changed.notify_all()
        deadline = time.monotonic() + STOP_SECONDS
        for outlet in self._outlets:
            outlet.join(max(0.0, deadline - time.monotonic()))

    def publish(self, key: LaunchKey, alerts: Iterable[Alert]) -> None:
        """Say what should be firing for this launch now: all of it; what is left out is resolved."""
        firing = {alert.identity: alert for alert in alerts}
        board = self._board
        with board.changed:
            known = board.of_launch.get(key, set())
            if not firing and not known:
                return
            news = False
            for identity, alert in firing.items():
                before = board.standing.get(identity)
                if before is None or before.resolved_at is not None:
                    board.standing[identity] = _Standing(alert, next(board.versions))
                    news = True
                    continue
                # Numbers move with every tick: they go out with the next resend, a new headline goes out at once.
                if before.alert.summary != alert.summary:
                    before.version = next(board.versions)
                    news = True
                before.alert = alert
            for identity in known - firing.keys():
                standing = board.standing[identity]
                if standing.resolved_at is None:
                    standing.resolved_at = max(board.clock(), standing.alert.starts_at)
                    standing.version = next(board.versions)
                    news = True
            board.of_launch[key] = known | firing.keys()
            if news:
                board.changed.notify_all()

    def firing(self) -> tuple[Identity, ...]:
        """What should be firing now, of all launches."""
        with self._board.changed:
            return tuple(name for name, standing in self._board.standing.items() if standing.resolved_at is None)


class DeliveryCheck:
    """Whether alerts get through: each Alertmanager answers, and shows the alert that always fires.

    It is looked at in a thread of its own, every 30 seconds at most and only while somebody asks. ``watchdog`` are the
    labels of that alert, which Alertmanager rather than Prometheus is asked for: there it has come the way that ours
    will go. ``timeout`` is seconds for the whole answer of one Alertmanager; what was seen counts for ``valid`` seconds.
    """

    def __init__(
        self,
        urls: Sequence[str | Access],
        *,
        watchdog: Mapping[str, str] = WATCHDOG,
        timeout: float = ANSWER_SECONDS,
        each: float = ASKED_EACH_SECONDS,
        valid: float = ANSWER_VALID_SECONDS,
    ) -> None:
        self._doors = [Door(url, timeout) for url in dict.fromkeys(urls)]
        self._watchdog = dict(watchdog)
        self._answers: Asking[None, str] = Asking(
            "asks Alertmanager", lambda _: self._look(), fresh_s=each, valid_s=valid
        )

    @property
    def configured(self) -> bool:
        """Whether there is any Alertmanager to tell."""
        return bool(self._doors)

    def problem(self) -> str:
        """Why alerts may not arrive, as it was last seen; empty when they do, and without any Alertmanager.

        Waits for nothing: until the first answer it says that nothing is known yet.
        """
        if not self._doors:
            return ""
        known = self._answers.ask(None)
        return ALERTING_NOT_KNOWN if known is None else known

    def stop(self) -> None:
        """Looks no more."""
        self._answers.stop()

    def _look(self) -> str:
        return "; ".join(filter(None, map(self._problem_at, self._doors)))

    def _problem_at(self, door: Door) -> str:
        try:
            alerts = door.alerts(self._watchdog)
        except AdapterError as error:
            return str(error)
        if alerts:
            return ""
        named = ", ".join(f'{name}="{value}"' for name, value in self._watchdog.items())
        return (
            f"Alertmanager at {door.place} does not show the alert that always fires ({named}); "
            "let Prometheus send it there, or name the right one with --alertmanager-watchdog"
        )


@dataclass(frozen=True, slots=True)
class _Links:
    """Where alerts lead to: the decision, and what to do."""

    place: str
    runbooks: str

    def decision(self, alert: Alert) -> str:
        """The decision with which it began."""
        launch = f"{quote(alert.key.namespace, safe='')}/{quote(alert.key.name, safe='')}"
        return f"{self.place}/launches/{launch}" + (f"#{quote(alert.decision, safe='')}" if alert.decision else "")

    def runbook(self, alert: Alert) -> str:
        """The page of its kind."""
        return f"{self.runbooks}/{alert.name}.md"


class _Due(NamedTuple):
    identity: Identity
    version: int
    document: dict[str, Any]


class _Outlet:
    """One Alertmanager: what it was told, and when it is told again. Its own times are monotonic seconds."""

    def __init__(
        self,
        door: Door,
        board: _Board,
        links: _Links,
        on_failure: Callable[[AdapterError], None],
        on_sent: Callable[[int], None],
        resend: float,
    ) -> None:
        self._board, self._links = board, links
        self._on_failure, self._on_sent, self._resend = on_failure, on_sent, resend
        self._door = door
        self._told: dict[Identity, tuple[int, float]] = {}
        self._failures = 0
        self._not_before = 0.0
        self._thread = threading.Thread(target=self._run, name=f"alerts to {self._door.place}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, seconds: float) -> None:
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            try:
                if not self._turn():
                    return
            except Exception as error:  # noqa: BLE001 - whatever it is, what comes next has to go out
                self._put_off()
                with contextlib.suppress(Exception):
                    words = f"alerts to {self._door.place}: {type(error).__name__}: {error}"
                    self._on_failure(UnansweredError(words))
                if self._board.stopping:
                    return

    def _turn(self) -> bool:
        """Wait until something is due and send it; false once everything is sent at the stop."""
        board = self._board
        with board.changed:
            while not (due := self._due()) and not board.stopping:
                board.changed.wait(self._pause())
        if not due:
            return False
        self._send(due)
        return True

    def _put_off(self) -> None:
        self._not_before = time.monotonic() + min(FIRST_BACKOFF * 2**self._failures, LONGEST_BACKOFF)
        self._failures = min(self._failures + 1, 10)

    def _due(self) -> list[_Due]:
        """What is to be sent now. Called under the lock."""
        board = self._board
        board.forget_old()
        self._told = {identity: told for identity, told in self._told.items() if identity in board.standing}
        now = time.monotonic()
        if now < self._not_before:
            return []
        due = [
            _Due(identity, standing.version, self._document(standing))
            for identity, standing in board.standing.items()
            if self._at(identity, standing) <= now
        ]
        return due[:MOST_AT_ONCE]

    def _at(self, identity: Identity, standing: _Standing) -> float:
        """When this one is to be sent."""
        if identity not in self._told:
            return 0.0
        version, at = self._told[identity]
        if self._board.stopping:
            return 0.0 if version != standing.version else float("inf")
        return at + (self._resend if version == standing.version else min(SHORTEST_PAUSE, self._resend))

    def _pause(self) -> float | None:
        """Seconds until something is due even if nothing happens; None: never. Called under the lock."""
        standing = self._board.standing
        if not standing:
            return None
        earliest = min(self._at(identity, item) for identity, item in standing.items())
        return max(0.01, max(earliest, self._not_before) - time.monotonic())

    def _document(self, standing: _Standing) -> dict[str, Any]:
        """All of it each time: what is left out of a refresh, Alertmanager forgets."""
        alert = standing.alert
        lasts_until = self._board.clock() + LASTS_RESENDS * self._resend
        return {
            "labels": dict(alert.labels),
            "annotations": {**alert.annotations, "runbook_url": self._links.runbook(alert)},
            "startsAt": format_instant(alert.starts_at),
            "endsAt": format_instant(lasts_until if standing.resolved_at is None else standing.resolved_at),
            "generatorURL": self._links.decision(alert),
        }

    def _send(self, due: list[_Due]) -> bool:
        """All at once; one by one where the whole was refused, since one bad alert has its neighbours refused.

        Whether there was an answer.
        """
        try:
            self._door.post([item.document for item in due])
        except RefusedError as error:
            if len(due) > 1:
                return all(self._send([item]) for item in due)
            self._on_failure(error)  # now it would be refused again; it is tried when it is due next
        except UnansweredError as error:
            self._put_off()
            if self._board.stopping:
                self._told |= {item.identity: (item.version, time.monotonic()) for item in due}  # that was its last try
            self._on_failure(error)
            return False
        else:
            self._on_sent(len(due))
        self._failures, self._not_before = 0, 0.0
        now = time.monotonic()
        self._told |= {item.identity: (item.version, now) for item in due}
        return True


class Door:
    """How one Alertmanager is reached: straight, without proxies or redirects, and never for longer than it may take."""

    def __init__(self, url: str | Access, timeout: float) -> None:
        self._timeout = timeout
        self._access = Access(url) if isinstance(url, str) else url
        parts = urlsplit(self._access.url)
        self._host, self._port, self._tls = parts.hostname or "", parts.port, parts.scheme == "https"
        self._base = f"{parts.path.rstrip('/')}/api/v2"
        # The user and password of the URL are sent, and never told.
        self.place = f"{self._host}{f':{self._port}' if self._port else ''}{parts.path.rstrip('/')}"
        self._headers = {"Content-Type": "application/json", "User-Agent": "auto-advance", "Connection": "close"}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"

    def post(self, documents: list[dict[str, Any]]) -> None:
        """Raises RefusedError where the same would be refused again, else UnansweredError."""
        code, body = self._ask("take alerts", "POST", f"{self._base}/alerts", json.dumps(documents).encode())
        if code in _REFUSALS:
            raise RefusedError(f"Alertmanager at {self.place} refused an alert (HTTP {code}){_words(body)}")
        if not 200 <= code < 300:
            raise UnansweredError(f"Alertmanager at {self.place} did not take alerts (HTTP {code}){_words(body)}")

    def alerts(self, labels: Mapping[str, str]) -> list[Any]:
        """The alerts with these labels that fire there, the silenced ones too. Raises UnansweredError."""
        filters = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels.items()]
        return self.alerts_where(filters)

    def alerts_where(self, matchers: Iterable[str]) -> list[Any]:
        """The alerts that meet these matchers and fire there, the silenced ones too. Raises UnansweredError."""
        query = urlencode([("filter", each) for each in matchers])
        alerts = self._read("show its alerts", f"alerts?{query}")
        if not isinstance(alerts, list):
            raise UnansweredError(f"what answers at {self.place} is no Alertmanager; write the URL of one")
        return alerts

    def silences(self) -> list[Any]:
        """The silences that are known there, those that have ended lately too. Raises UnansweredError."""
        silences = self._read("show its silences", "silences")
        if not isinstance(silences, list):
            raise UnansweredError(f"what answers at {self.place} is no Alertmanager; write the URL of one")
        return silences

    def status(self) -> dict[str, Any]:
        """What it says of itself: its ``uptime`` is the instant at which it started. Raises UnansweredError."""
        status = self._read("show its status", "status")
        if not isinstance(status, dict):
            raise UnansweredError(f"what answers at {self.place} is no Alertmanager; write the URL of one")
        return status

    def _read(self, doing: str, path: str) -> Any:
        code, body = self._ask(doing, "GET", f"{self._base}/{path}")
        if code != 200:
            raise UnansweredError(f"Alertmanager at {self.place} did not {doing} (HTTP {code}){_words(body)}")
        if len(body) >= _LONGEST_ANSWER:
            raise UnansweredError(
                f"Alertmanager at {self.place} sent {_LONGEST_ANSWER} bytes or more, which is too much"
            )
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            return None

    def _ask(self, doing: str, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """The answer's code and the beginning of its body. Raises UnansweredError, also for a redirect."""
        started = time.monotonic()
        try:
            code, answer = self._exchange(method, path, body)
        except (OSError, http.client.HTTPException, ValueError) as error:  # the last: no host has such a name
            took = time.monotonic() - started
            cause = "no whole answer" if took >= self._timeout else _cause(error)
            raise UnansweredError(
                f"Alertmanager at {self.place} did not {doing} within {format_duration(took)}: {cause}"
            ) from error
        if 300 <= code < 400:
            raise UnansweredError(
                f"Alertmanager at {self.place} redirects (HTTP {code}), which is not followed; write the final URL"
            )
        return code, answer

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        connection: http.client.HTTPConnection
        headers = self._headers | self._access.header()
        if self._tls:
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=CONNECT_SECONDS, context=context)
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=CONNECT_SECONDS)
        with contextlib.closing(connection):
            connection.connect()
            sock = connection.sock
            sock.settimeout(self._timeout)
            # A socket's own timeout starts anew with every byte.
            deadline = threading.Timer(self._timeout, _cut, (sock,))
            deadline.daemon = True
            deadline.start()
            try:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                ok = 200 <= answer.status < 300
                # nothing is read of what says only that alerts were taken
                longest = _LONGEST_WORDS if not ok else _LONGEST_ANSWER if method == "GET" else 0
                content = answer.read(longest) if longest else b""
                if len(content) < longest and answer.length and ok:
                    raise http.client.IncompleteRead(content)
                return answer.status, content
            finally:
                deadline.cancel()


def _words(body: bytes) -> str:
    words = " ".join(body.decode(errors="replace").split()).strip('"')
    return f": {words}" if words else ""


def _cut(sock: socket.socket) -> None:
    """End a connection that another thread is waiting on."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # the socket's own, which leaves a TLS layer's state alone


def _cause(error: BaseException) -> str:
    """What it came down to, in a few words."""
    if isinstance(error, TimeoutError | http.client.RemoteDisconnected | http.client.IncompleteRead):
        return "no whole answer"
    if isinstance(error, http.client.HTTPException):
        return "what answers there does not speak HTTP"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
