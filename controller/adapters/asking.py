"""Answers that are fetched beside the decisions, and only while somebody wants them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from controller.errors import AdapterError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(slots=True)
class _Known(Generic[V]):
    """The newest answer and when it came, and when it was last asked for: monotonic seconds."""

    value: V | None = None
    at: float = 0.0
    tried_at: float | None = None


class Asking(Generic[K, V]):
    """Keeps answers by key. Asking waits for nothing: it begins a fetch where the last one is old.

    ``fetch`` runs in a thread that lives as long as there is something to fetch, and may raise AdapterError, which is
    told to ``on_failure``. It is called at most once in ``fresh_s`` seconds for each key; an answer older than
    ``valid_s`` seconds counts as none.
    """

    def __init__(
        self,
        title: str,
        fetch: Callable[[K], V],
        *,
        fresh_s: float,
        valid_s: float,
        on_failure: Callable[[str], None] | None = None,
    ) -> None:
        self._title = title
        self._fetch = fetch
        self._fresh_s = fresh_s
        self._valid_s = valid_s
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._known: dict[K, _Known[V]] = {}
        self._due: list[K] = []
        self._thread: threading.Thread | None = None
        self._stopped = False

    def ask(self, key: K) -> V | None:
        """The newest answer, None where there is none that still counts; another one is on its way if it is due."""
        now = time.monotonic()
        with self._lock:
            known = self._known.setdefault(key, _Known())
            if not self._stopped and (known.tried_at is None or now - known.tried_at >= self._fresh_s):
                known.tried_at = now
                self._due.append(key)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name=self._title, daemon=True)
                    self._thread.start()
            return known.value if now - known.at <= self._valid_s else None

    def stop(self) -> None:
        """Begins no further fetch; whoever owns what a fetch is reading then cuts it."""
        with self._lock:
            self._stopped = True
            self._due.clear()

    def join(self, seconds: float) -> None:
        """Waits that long at most for a fetch to end."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(max(0.0, seconds))

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._due:
                    self._thread = None
                    self._forget()
                    return
                key = self._due.pop(0)
            try:
                value = self._fetch(key)
            except AdapterError as error:
                self._failed(str(error))
            except Exception as error:  # noqa: BLE001 - whatever it is, the other keys have to be fetched
                self._failed(f"{self._title}: {type(error).__name__}: {error}")
            else:
                with self._lock:
                    known = self._known.setdefault(key, _Known(tried_at=time.monotonic()))
                    known.value, known.at = value, time.monotonic()

    def _forget(self) -> None:
        now = time.monotonic()
        old = [key for key, known in self._known.items() if now - (known.tried_at or now) > 2 * self._valid_s]
        for key in old:
            del self._known[key]

    def _failed(self, problem: str) -> None:
        if self._on_failure is not None and not self._stopped:
            with contextlib.suppress(Exception):  # who cannot be told must not end the fetches
                self._on_failure(problem)
