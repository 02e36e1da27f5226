"""Bounded traffic through Envoy: so many requests a second over a few kept connections, until a count or a time."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import Literal

Answer = Literal["served", "failed", "unanswered"]

WORKERS = 6
_ANSWER_S = 5.0
_MOST_BEHIND_S = 0.5
"""A worker that is further behind its schedule leaves requests out instead of sending them all at once."""
_WINDOW_S = 4.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What the clients have seen: all answers by track and kind, and the last seconds' rate and canary share."""

    counts: dict[tuple[str, Answer], int]
    per_second: float
    canary_share: float | None

    @property
    def total(self) -> int:
        """All requests sent."""
        return sum(self.counts.values())

    def failed(self, track: str | None = None) -> int:
        """Requests that were answered with an error or not at all, of one track or of both."""
        return sum(count for (whose, kind), count in self.counts.items() if kind != "served" and track in (None, whose))


class Traffic:
    """Clients of the shop: `rate` requests a second, at most `most` of them, for at most `seconds`."""

    def __init__(self, port: int, *, rate: float = 250.0, most: int = 60_000, seconds: float = 170.0) -> None:
        self._port, self._rate, self._most, self._seconds = port, rate, most, seconds
        self._counts: Counter[tuple[str, Answer]] = Counter()
        self._recent: deque[tuple[float, str]] = deque()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"client-{number}", daemon=True)
            for number in range(WORKERS)
        ]

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop sending; the requests under way end."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_ANSWER_S)

    def seen(self) -> Seen:
        """What has come back so far."""
        with self._lock:
            self._drop_old()
            canary = sum(track == "canary" for _, track in self._recent)
            size = len(self._recent)
            return Seen(dict(self._counts), size / _WINDOW_S, canary / size if size else None)

    def _drop_old(self) -> None:
        oldest = time.monotonic() - _WINDOW_S
        while self._recent and self._recent[0][0] < oldest:
            self._recent.popleft()

    def _run(self, number: int) -> None:
        pause = WORKERS / self._rate
        began = time.monotonic()
        at = began + number / self._rate
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_ANSWER_S)
        with contextlib.closing(connection):
            for _ in range(self._most // WORKERS):
                now = time.monotonic()
                if now - at > _MOST_BEHIND_S:
                    at = now
                if now - began > self._seconds or self._stop.wait(max(0.0, at - now)):
                    return
                self._count(*_ask(connection))
                at += pause

    def _count(self, track: str, answer: Answer) -> None:
        with self._lock:
            self._counts[track, answer] += 1
            self._recent.append((time.monotonic(), track))
            self._drop_old()


def _ask(connection: http.client.HTTPConnection) -> tuple[str, Answer]:
    try:
        connection.request("GET", "/", headers={"Host": "shop.example"})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return "", "unanswered"
    return answer.headers.get("X-Track", ""), "served" if answer.status < 500 else "failed"
