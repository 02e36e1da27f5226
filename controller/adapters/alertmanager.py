"""Alerts out, over the v2 API, to every Alertmanager, never on the decision's path.

Each Alertmanager has a thread of its own: one that hangs delays neither a decision nor the others. What fires is sent
again and again (Alertmanager keeps nothing for longer than it was told), what was resolved is repeated for a while.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from controller.core.alerts import Alert, Identity
from controller.core.units import format_duration, format_instant
from controller.core.world import LaunchKey
from controller.errors import AdapterError, RefusedError, UnansweredError

RESEND_SECONDS = 60.0
LASTS_RESENDS = 4
"""A firing alert is said to last this many times the pause between two sends, as Prometheus itself does."""
REPEAT_RESOLVED_SECONDS = 300.0
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0
FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 30.0
STOP_SECONDS = 1.0
MOST_AT_ONCE = 64
"""Alerts in one request; the rest follows in the next."""
_LONGEST_WORDS = 300
_REFUSALS = frozenset({400, 422})


@dataclass(slots=True)
class _Standing:
    """One alert and how it stands: ``resolved_at`` (epoch seconds) is None while it fires."""

    alert: Alert
    resolved_at: float | None = None
    version: int = 0


@dataclass(slots=True)
class _Board:
    """What should be known by every Alertmanager. ``changed`` guards it and wakes the outlets."""

    standing: dict[Identity, _Standing] = field(default_factory=dict)
    of_launch: dict[LaunchKey, set[Identity]] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)
    stopping: bool = False


class AlertSender:
    """Keeps every Alertmanager told. All methods may be called from any thread; none of them waits for a network.

    ``external_url`` is what alerts link to. ``clock`` gives epoch seconds. ``on_failure`` is told of what an
    Alertmanager did not take, from the outlets' threads. ``resend`` and ``repeat`` are seconds.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        external_url: str,
        clock: Callable[[], float] = time.time,
        on_failure: Callable[[AdapterError], None],
        resend: float = RESEND_SECONDS,
        repeat: float = REPEAT_RESOLVED_SECONDS,
    ) -> None:
        self._clock, self._repeat = clock, repeat
        self._board = _Board()
        self._outlets = [
            _Outlet(url, self._board, external_url.rstrip("/"), clock, on_failure, resend)
            for url in dict.fromkeys(urls)
        ]

    def start(self) -> None:
        """Begin to send."""
        for outlet in self._outlets:
            outlet.start()

    def stop(self) -> None:
        """Send what is new once more where that goes quickly, and end within about a second."""
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
            now, news = self._clock(), False
            for identity, alert in firing.items():
                before = board.standing.get(identity)
                if before is None or before.resolved_at is not None:
                    version = before.version + 1 if before else 0
                    board.standing[identity] = _Standing(alert, version=version)
                    news = True
                else:
                    before.alert = alert  # the words of now go out with the next resend
            for identity in known - firing.keys():
                standing = board.standing.get(identity)
                if standing is not None and standing.resolved_at is None:
                    standing.resolved_at = max(now, standing.alert.starts_at)
                    standing.version += 1
                    news = True
            board.of_launch[key] = known | firing.keys()
            self._forget_old(key, now)
            if news:
                board.changed.notify_all()

    def _forget_old(self, key: LaunchKey, now: float) -> None:
        """Drop what was resolved long enough ago of this launch."""
        board = self._board
        for identity in tuple(board.of_launch[key]):
            standing = board.standing.get(identity)
            if standing is None or (standing.resolved_at is not None and now - standing.resolved_at > self._repeat):
                board.standing.pop(identity, None)
                board.of_launch[key].discard(identity)
        if not board.of_launch[key]:
            del board.of_launch[key]


class _Outlet:
    """One Alertmanager: what it was told, and when it is told again."""

    def __init__(
        self,
        url: str,
        board: _Board,
        external_url: str,
        clock: Callable[[], float],
        on_failure: Callable[[AdapterError], None],
        resend: float,
    ) -> None:
        self._board, self._external_url, self._clock = board, external_url, clock
        self._on_failure, self._resend = on_failure, resend
        self._url = f"{url.rstrip('/')}/api/v2/alerts"
        parts = urlsplit(url)
        self._name = f"Alertmanager at {parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path.rstrip('/')}"
        self._told: dict[Identity, tuple[int, float]] = {}  # version and when (monotonic) it was sent last
        self._failures = 0
        self._not_before = 0.0
        self._session = requests.Session()
        self._session.trust_env = False  # no proxies, no netrc from the environment
        self._session.headers["User-Agent"] = "auto-advance"
        no_retries = HTTPAdapter(max_retries=Retry(0, read=False))
        self._session.mount("http://", no_retries)
        self._session.mount("https://", no_retries)
        self._thread = threading.Thread(target=self._run, name=f"alerts to {parts.netloc}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, seconds: float) -> None:
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._board.changed:
                due = self._due()
                while not due and not self._board.stopping:
                    self._board.changed.wait(self._pause())
                    due = self._due()
                stopping = self._board.stopping
            if due:
                self._send(due)
            if stopping:
                self._session.close()
                return

    def _due(self) -> dict[Identity, tuple[int, dict[str, Any]]]:
        """What is to be sent now, by identity: the version and the alert as JSON. Called under the lock."""
        now = time.monotonic()
        board = self._board
        self._told = {identity: told for identity, told in self._told.items() if identity in board.standing}
        if now < self._not_before:
            return {}
        due: dict[Identity, tuple[int, dict[str, Any]]] = {}
        for identity, standing in board.standing.items():
            version, at = self._told.get(identity, (-1, 0.0))
            if version != standing.version or (now - at >= self._resend and not board.stopping):
                due[identity] = standing.version, self._document(standing)
                if len(due) == MOST_AT_ONCE:
                    break
        return due

    def _pause(self) -> float | None:
        """Seconds until something may be due without anything new; None: never. Called under the lock."""
        if not self._board.standing:
            return None
        now = time.monotonic()
        if now < self._not_before:
            return self._not_before - now
        return max(0.01, min(at for _, at in self._told.values()) + self._resend - now) if self._told else 0.01

    def _document(self, standing: _Standing) -> dict[str, Any]:
        alert = standing.alert
        place = f"{quote(alert.key.namespace, safe='')}/{quote(alert.key.name, safe='')}"
        lasts = self._clock() + LASTS_RESENDS * self._resend
        return {
            "labels": dict(alert.labels),
            "annotations": dict(alert.annotations),
            "startsAt": format_instant(alert.starts_at),
            "endsAt": format_instant(lasts if standing.resolved_at is None else standing.resolved_at),
            "generatorURL": f"{self._external_url}/launches/{place}",
        }

    def _send(self, due: dict[Identity, tuple[int, dict[str, Any]]]) -> None:
        """All at once; one by one where the whole was refused, since one bad alert refuses its neighbours."""
        try:
            try:
                self._post([document for _, document in due.values()])
            except RefusedError:
                if len(due) == 1:
                    raise
                self._send_one_by_one(due)
                return
        except RefusedError as error:
            self._on_failure(error)  # the same again would be refused again; it is tried when it is due anyway
        except UnansweredError as error:
            self._back_off(error)
            return
        self._done(due)

    def _send_one_by_one(self, due: dict[Identity, tuple[int, dict[str, Any]]]) -> None:
        for identity, (version, document) in due.items():
            try:
                self._post([document])
            except RefusedError as error:
                self._on_failure(error)
            except UnansweredError as error:
                self._back_off(error)
                return
            self._done({identity: (version, document)})

    def _done(self, sent: dict[Identity, tuple[int, dict[str, Any]]]) -> None:
        self._failures, self._not_before = 0, 0.0
        now = time.monotonic()
        for identity, (version, _) in sent.items():
            self._told[identity] = version, now

    def _back_off(self, error: AdapterError) -> None:
        self._not_before = time.monotonic() + min(FIRST_BACKOFF * 2**self._failures, LONGEST_BACKOFF)
        self._failures = min(self._failures + 1, 10)
        self._on_failure(error)

    def _post(self, documents: list[dict[str, Any]]) -> None:
        """Raises RefusedError where the same would be refused again, else UnansweredError."""
        started = time.monotonic()
        try:
            with self._session.post(
                self._url,
                data=json.dumps(documents).encode(),
                headers={"Content-Type": "application/json"},
                timeout=(CONNECT_SECONDS, ANSWER_SECONDS),
                allow_redirects=False,  # what we say is for this host alone
                stream=True,
            ) as answer:
                if answer.status_code // 100 == 2:
                    return  # its body says nothing; a connection with an unread body is closed
                code = answer.status_code
                words = self._words(answer) if code in _REFUSALS else ""
        except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            took = format_duration(time.monotonic() - started)
            # The libraries' own texts hold the URL, and with it perhaps a password.
            raise UnansweredError(f"{self._name} did not take alerts within {took}: {_cause(error)}") from error
        if code in _REFUSALS:
            raise RefusedError(f"{self._name} refused an alert (HTTP {code}){words}")
        if 300 <= code < 400:
            raise UnansweredError(f"{self._name} redirects (HTTP {code}), which is not followed; write the final URL")
        raise UnansweredError(f"{self._name} did not take alerts (HTTP {code})")

    def _words(self, answer: requests.Response) -> str:
        text = answer.raw.read(_LONGEST_WORDS, decode_content=True).decode(errors="replace")
        words = " ".join(text.split()).strip('"')
        return f": {words}" if words else ""


def _cause(error: BaseException) -> str:
    """What it came down to, in a few words."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return type(error).__name__
