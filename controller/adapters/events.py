"""Events of launches on their way to the API server; whoever decides never waits for it.

A thread of its own writes them, one after the other. Where the API server does not answer, each is tried again for a
while; what is refused, grows too old, or does not fit the queue is dropped and counted: log and ledger have it too.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from controller.core.events import Event
from controller.core.spec import API_VERSION, KIND
from controller.core.world import ANNOTATION_PREFIX, LaunchKey
from controller.errors import AdapterError, UnansweredError

GROUP, VERSION, PLURAL = "events.k8s.io", "v1", "events"
REPORTER = "autoadvance.dev/controller"
QUEUE = 1024
"""So many decisions may wait for their Events."""
PAUSE_SECONDS = 0.02
"""Between two writes: a fleet that rolls back at once must not take the API server's time from the rollback."""
FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 30.0
TOO_OLD_SECONDS = 300.0
"""What could not be written for so long is dropped."""
AGAIN_SECONDS = 60.0
"""A decision that is tried again and again is told of this often at most, in the Event of its first time."""
SERIES_SECONDS = 360.0
"""What happens again after so long is an Event of its own."""
STOP_SECONDS = 1.0
_LONGEST_INSTANCE = 128
_MANY = 4096


def event_document(event: Event, uid: str) -> dict[str, Any]:
    """The Event as the API server takes it; ``uid`` is the launch's, empty where it is not known any more."""
    regarding = {"apiVersion": API_VERSION, "kind": KIND, "namespace": event.key.namespace, "name": event.key.name}
    series = {"series": series_of(event)} if event.times > 1 else {}
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "Event",
        "metadata": {
            "name": event.name,
            "namespace": event.key.namespace,
            "annotations": {ANNOTATION_PREFIX + name: value for name, value in event.annotations.items()},
        },
        "eventTime": _instant(event.at),
        "type": "Warning" if event.warning else "Normal",
        "reason": event.reason,
        "action": event.action,
        "note": event.note,
        "regarding": regarding | ({"uid": uid} if uid else {}),
        "reportingController": REPORTER,
        "reportingInstance": socket.gethostname()[:_LONGEST_INSTANCE] or "unknown",
        **series,
    }


def series_of(event: Event) -> dict[str, Any]:
    """How often an Event has happened, and when last, as the API server takes it."""
    return {"count": event.times, "lastObservedTime": _instant(event.latest)}


def _instant(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(slots=True)
class _Told:
    """The Event that was written of a subject, how often it has happened since; monotonic seconds of both."""

    first: Event
    times: int
    written: float
    happened: float


class EventWriter:
    """Writes Events in the background. ``publish`` may be called from any thread and waits for nothing.

    ``write`` stores one Event, or how often it has happened by now, or raises an AdapterError. ``on_dropped`` is told,
    from any thread, of each one that was given up.
    """

    def __init__(
        self,
        write: Callable[[Event], None],
        on_dropped: Callable[[AdapterError], None],
        *,
        steady: Callable[[], float] = time.monotonic,
        waiting: int = QUEUE,
    ) -> None:
        self._write, self._on_dropped, self._steady = write, on_dropped, steady
        self._queue: queue.Queue[tuple[float, Callable[[], Iterable[Event]]] | None] = queue.Queue(waiting)
        self._told: dict[tuple[LaunchKey, str, str, str], _Told] = {}
        self._stopping = threading.Event()
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    def publish(self, told: Callable[[], Iterable[Event]]) -> None:
        """Have written what ``told`` returns, which is called later and elsewhere; returns at once."""
        try:
            self._queue.put_nowait((self._steady(), told))
        except queue.Full:
            self._on_dropped(AdapterError("the events of a decision were dropped: they are not written fast enough"))

    def stop(self) -> None:
        """Write what is waiting, each once, for a second at most."""
        self._stopping.set()
        with contextlib.suppress(queue.Full):  # then it looks by itself, after each one
            self._queue.put_nowait(None)
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while True:
            entry = self._queue.get()
            if entry is None:
                return
            since, told = entry
            try:
                for event in told():
                    if (news := self._news(event)) is not None:
                        self._keep_writing(since, news)
                        self._stopping.wait(PAUSE_SECONDS)
            except Exception as error:  # noqa: BLE001 - what cannot be told must not end the others
                self._on_dropped(AdapterError(f"the events of a decision cannot be told: {error!r}"))
            if self._stopping.is_set() and self._queue.empty():
                return

    def _news(self, event: Event) -> Event | None:
        """What is to be written; None where the same was told a moment ago, of a decision that is tried again."""
        now = self._steady()
        told = self._told.get(event.subject)
        if told is None or now - told.happened >= SERIES_SECONDS:
            if len(self._told) >= _MANY:
                self._told = {of: one for of, one in self._told.items() if now - one.happened < SERIES_SECONDS}
            self._told[event.subject] = _Told(event, 1, now, now)
            return event
        told.times, told.happened = told.times + 1, now
        if now - told.written < AGAIN_SECONDS:
            return None
        told.written = now
        return replace(told.first, times=told.times, latest=event.at)

    def _keep_writing(self, since: float, event: Event) -> None:
        """Until it is written, refused or too old."""
        while True:
            try:
                self._write(event)
            except UnansweredError as error:
                if self._stopping.is_set() or self._steady() - since > TOO_OLD_SECONDS:
                    self._drop(event, str(error))
                    return
                self._stopping.wait(min(FIRST_BACKOFF * 2**self._failures, LONGEST_BACKOFF))
                self._failures = min(self._failures + 1, 10)
                continue
            except AdapterError as error:
                self._drop(event, str(error))
            self._failures = 0
            return

    def _drop(self, event: Event, why: str) -> None:
        self._on_dropped(AdapterError(f"launch {event.key}: the event {event.reason} was not written: {why}"))
