"""What Alertmanager sends means "look now" and nothing more: what is true is asked of Prometheus, as at every tick.

Alertmanager cannot sign what it sends. A forged notification costs one look, and the loop bounds how many there are.
"""

from __future__ import annotations

import hmac
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from controller.core.plan import Plan
from controller.core.status import UNDER_WAY, Status
from controller.core.world import Launch, LaunchKey

LARGEST_BODY = 1024 * 1024
"""Bytes; Alertmanager cuts long groups by max_alerts in its webhook_configs."""
SAME_SECONDS = 30.0
"""The same notification again within this time, as of a second replica, is no news."""
MOST_REMEMBERED = 4096
TELL_EACH_SECONDS = 60.0


class Webhook:
    """Takes notifications of Alertmanager. Thread-safe.

    ``token_file`` holds the bearer token, and is read anew for each request; None: none is wanted. ``certificate``: one
    of the client is wanted. One of the two is, at least; where both are, both are looked at. ``launches`` are those
    that are known, and ``look`` is called with those that a notification concerns. ``refused`` is told once a minute at
    most of what was not taken, and why.
    """

    def __init__(
        self,
        token_file: Path | None,
        launches: Callable[[], Iterable[Launch]],
        look: Callable[[Iterable[LaunchKey]], None],
        refused: Callable[[str], None],
        *,
        certificate: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token_file = token_file
        self._certificate = certificate
        self._launches = launches
        self._look = look
        self._refused = refused
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[tuple[str, ...], float] = {}
        self._told = -TELL_EACH_SECONDS

    def admits_peer(self, *, certified: bool) -> bool:
        """Whether one who has shown a certificate of the authority, or has not, may post at all."""
        return certified if self._certificate else self._token_file is not None

    def admits(self, authorization: str) -> bool:
        """Whether the header is ``Bearer`` with the token of the file; never while that is empty or cannot be read."""
        if self._token_file is None:
            return True
        scheme, _, given = authorization.strip().partition(" ")
        try:
            token = self._token_file.read_bytes().strip()
        except OSError as error:
            self.tell(f"the token file cannot be read: {error.strerror}")
            return False
        if not token:
            self.tell(f"the token file {self._token_file} is empty")
            return False
        right = hmac.compare_digest(given.strip().encode("latin-1", "replace"), token)
        return right and scheme.lower() == "bearer"

    def take(self, body: bytes) -> str:
        """Have the launches looked at that a notification concerns; why it is none (empty: it is one)."""
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return "the body is no JSON"
        alerts = document.get("alerts") if isinstance(document, dict) else None
        if not isinstance(alerts, list) or not all(isinstance(alert, dict) for alert in alerts):
            return "the body is no notification of Alertmanager: it has no list of alerts"
        truncated = bool(document.get("truncatedAlerts"))
        if self._news(alerts) or truncated:
            labelled = [labels for alert in alerts if isinstance(labels := alert.get("labels"), dict)]
            self._look(concerned([] if truncated else labelled, self._launches()))
        return ""

    def tell(self, problem: str) -> None:
        """Say what was not taken, once in a while."""
        with self._lock:
            now = self._clock()
            if now - self._told < TELL_EACH_SECONDS:
                return
            self._told = now
        self._refused(problem)

    def _news(self, alerts: Iterable[Mapping[str, Any]]) -> bool:
        """Whether there is any alert that was not in a notification just before."""
        with self._lock:
            now = self._clock()
            if len(self._known) > MOST_REMEMBERED:
                self._known = {key: at for key, at in self._known.items() if now - at < SAME_SECONDS}
            news = False
            for alert in alerts:
                key = tuple(str(alert.get(field)) for field in ("fingerprint", "startsAt", "status"))
                unknown = "fingerprint" not in alert or now - self._known.get(key, -SAME_SECONDS) >= SAME_SECONDS
                if unknown and len(self._known) <= MOST_REMEMBERED:
                    self._known[key] = now
                news = news or unknown
            return news


def concerned(labelled: Iterable[Mapping[str, Any]], launches: Iterable[Launch]) -> tuple[LaunchKey, ...]:
    """The launches under way that the labels of alerts name: by ``launch``, ``service`` and ``namespace``.

    One alert that names none of them may concern any, and so does a notification without alerts.
    """
    under_way = [one for one in launches if isinstance(one.status, Status) and one.status.state in UNDER_WAY]
    labelled = list(labelled) or [{}]
    return tuple(one.key for one in under_way if any(_names(labels, one) for labels in labelled))


def _names(labels: Mapping[str, Any], launch: Launch) -> bool:
    namespace, name, service = (labels.get(label) for label in ("namespace", "launch", "service"))
    if namespace and namespace != launch.key.namespace:
        return False
    if name:
        return bool(name == launch.key.name)
    if service and isinstance(launch.plan, Plan):
        return any(target.service == service for target in launch.plan.targets)
    return True
