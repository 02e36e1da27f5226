"""A cache that is kept by LIST and WATCH: what it needs to stay true and to stay quiet under every fault.

Nothing here knows HTTP. A :class:`Feed` lists and watches one kind; :class:`Followed` keeps its slim values.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

from controller.errors import AdapterError, NotFoundError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Document = Mapping[str, Any]

REMEMBERED_S = 120.0
"""How long (seconds) a deletion and a write of our own are remembered against news that is older than they are."""


class ExpiredError(AdapterError):
    """The server no longer knows the resourceVersion that was asked for: list again."""


class Feed(Protocol):
    """Where the documents of one kind come from."""

    def list(self) -> tuple[Iterable[Document], str]:
        """Every object and the resourceVersion of the list.

        Raises NotFoundError where the server does not know the kind, else another AdapterError.
        """

    def watch(self, resource_version: str) -> Iterator[tuple[str, Document]]:
        """What happened after that version, as (type, object); ends when the server closes the stream.

        Returns once the server has accepted the watch. Raises, then or while it is read, ExpiredError when the version
        is too old, NotFoundError where the server does not know the kind, else another AdapterError.
        """


class Cache(Generic[K, V]):
    """Values by key, safe between threads, which never go back behind a write of our own."""

    def __init__(self, version_of: Callable[[V], str]) -> None:
        self._version_of = version_of
        self._lock = threading.Lock()
        self._values: dict[K, V] = {}
        self._written: dict[K, tuple[int, float]] = {}
        self._gone: dict[K, tuple[int, float]] = {}
        self._forgot_at = time.monotonic()

    def get(self, key: K) -> V | None:
        """The value of the key, or None."""
        with self._lock:
            return self._values.get(key)

    def has(self, key: K, version: str) -> bool:
        """The value of the key is the one of that resourceVersion: the echo of what is known."""
        with self._lock:
            value = self._values.get(key)
            return value is not None and version != "" and self._version_of(value) == version

    def values(self) -> list[V]:
        """All values, in the order of their arrival."""
        with self._lock:
            return list(self._values.values())

    def put(self, key: K, value: V) -> None:
        """What a write or a fresh read of our own returned; older news about the key is ignored from now on."""
        version = _number(self._version_of(value))
        with self._lock:
            current = self._values.get(key)
            newest = max(
                _number(self._version_of(current)) if current is not None else -1,
                self._gone.get(key, (-1, 0.0))[0],
            )
            if version > newest:
                self._values[key] = value
                self._written[key] = (version, time.monotonic())

    def apply(self, key: K, value: V) -> tuple[V | None, bool]:
        """An object as the watch told it; returns the value before, and whether this one was taken."""
        with self._lock:
            before = self._values.get(key)
            if _number(self._version_of(value)) < self._written.get(key, (-1, 0.0))[0]:
                return before, False
            self._values[key] = value
            self._gone.pop(key, None)
            return before, True

    def renew(self, key: K, value: V) -> tuple[V | None, bool]:
        """An object as a list told it that was made beside the watch; returns as :meth:`apply` does."""
        version = _number(self._version_of(value))
        with self._lock:
            before = self._values.get(key)
            known = -1 if before is None else _number(self._version_of(before))
            if version <= max(known, self._gone.get(key, (-1, 0.0))[0]):
                return before, False
            self._values[key] = value
            self._written[key] = (version, time.monotonic())  # or the watch, which is behind, takes it back
            return before, True

    def read_anew(self, key: K, value: V) -> V | None:
        """The same version, read in another way; returns the value before, None where another version is known by now."""
        with self._lock:
            before = self._values.get(key)
            if before is None or self._version_of(before) != self._version_of(value):
                return None
            self._values[key] = value
            return before

    def missing(self, listed: Collection[K], version: str) -> list[K]:
        """The keys that such a list, of that version, would have held if they still were."""
        with self._lock:
            return [
                key
                for key, value in self._values.items()
                if key not in listed and _number(self._version_of(value)) <= _number(version)
            ]

    def remove(self, key: K, version: str) -> V | None:
        """An object is gone as of that version; returns the value that was dropped."""
        with self._lock:
            before = self._values.get(key)
            if before is not None and _number(version) < self._written.get(key, (-1, 0.0))[0]:
                return None  # deleted and made again, and the new one was read already
            self._forget()
            self._gone[key] = (_number(version), time.monotonic())
            self._written.pop(key, None)
            return self._values.pop(key, None)

    def replace(self, listed: Mapping[K, V], version: str) -> tuple[dict[K, V], dict[K, V]]:
        """A whole list; returns the values before it and after it."""
        with self._lock:
            self._forget()
            before = self._values
            after = dict(listed)
            for key, (written, _) in self._written.items():
                # the list was made before our write: the watch brings it later, and must not find it undone
                if written > _number(version) and key in before:
                    after[key] = before[key]
            self._values = after
            return before, dict(after)

    def _forget(self) -> None:
        now = time.monotonic()
        if now - self._forgot_at < REMEMBERED_S:
            return
        self._forgot_at = now
        for remembered in (self._written, self._gone):
            for key in [key for key, (_, at) in remembered.items() if now - at > REMEMBERED_S]:
                del remembered[key]


class Pace:
    """Waits that grow while something fails: doubling from ``shortest_s`` to ``longest_s``, each with jitter."""

    def __init__(self, shortest_s: float, longest_s: float) -> None:
        self._shortest_s = shortest_s
        self._longest_s = longest_s
        self._failures = 0

    def reset(self) -> None:
        """It works again."""
        self._failures = 0

    def next_wait_s(self) -> float:
        """Counts a failure and says how many seconds to wait."""
        longest = min(self._longest_s, self._shortest_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter guards nothing

    @property
    def failures(self) -> int:
        """How many failures in a row."""
        return self._failures


class Followed(Generic[K, V]):
    """One kind, followed by a thread of its own.

    ``key_of`` and ``read`` turn a document into a key and its value, given the value before for reuse. ``changed`` is
    called in the watch's thread with the key, the value before and after (None: there is none). An ``optional`` kind
    may be unknown to the server: it counts as empty, and is asked for again now and then.
    """

    def __init__(
        self,
        title: str,
        feed: Feed,
        cache: Cache[K, V],
        key_of: Callable[[Document], K],
        read: Callable[[Document, V | None], V],
        *,
        changed: Callable[[K, V | None, V | None], None] | None = None,
        on_problem: Callable[[str], None] | None = None,
        optional: bool = False,
        shortest_wait_s: float = 0.2,
        longest_wait_s: float = 30.0,
    ) -> None:
        self.title = title
        self.cache = cache
        self._feed = feed
        self._key_of = key_of
        self._read = read
        self._changed = changed
        self._on_problem = on_problem
        self._optional = optional
        self._longest_wait_s = longest_wait_s
        self._pace = Pace(shortest_wait_s, longest_wait_s)
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._hurried = False
        self._lock = threading.Lock()
        self._one = threading.RLock()
        """Held from a change of the cache until it was told of: listeners hear of changes in their order."""
        self._synced = False
        self._version = ""
        self._problem = ""
        self._failing_since = 0.0
        self._told_at = 0.0
        self._unreadable: dict[str, str] = {}
        self._recovered: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch {title}", daemon=True)

    def start(self, recovered: Callable[[], None] | None = None) -> None:
        """Starts the thread; ``recovered`` is called when the server answers again after a failure."""
        self._recovered = recovered
        self._thread.start()

    def stop(self) -> None:
        """Asks the thread to end; whoever owns the feed then cuts what it is reading."""
        self._stopping.set()
        self._wake.set()

    def join(self, seconds: float) -> None:
        """Waits that long at most for the thread to end."""
        with suppress(RuntimeError):  # never started
            self._thread.join(max(0.0, seconds))

    def hurry(self) -> None:
        """Ends a wait for the next attempt: the server is known to answer again. Once in a row of failures."""
        if self._problem and not self._hurried:
            self._hurried = True
            self._wake.set()

    def read_again(self) -> None:
        """Brings the cache up to a list that is made now, in this thread, while the watch goes on.

        A watch may have been silent for a while because nothing comes through. Raises AdapterError.
        """
        try:
            documents, version = self._feed.list()
        except NotFoundError:
            if self._optional:
                return
            raise
        listed: set[K] = set()
        for document in documents:
            key = self._key_of(document)
            listed.add(key)
            if self.cache.has(key, str((document.get("metadata") or {}).get("resourceVersion") or "")):
                continue
            value = self._value(document, self.cache.get(key))
            if value is not None:
                with self._one:
                    before, taken = self.cache.renew(key, value)
                    if taken:
                        self._tell(key, before, value)
        for key in self.cache.missing(listed, version):
            with self._one:
                dropped = self.cache.remove(key, version)
                if dropped is not None:
                    self._tell(key, dropped, None)

    @property
    def synced(self) -> bool:
        """The list was read once."""
        return self._synced

    def problem(self) -> str:
        """Empty, or what has failed since when, or which object cannot be read."""
        with self._lock:
            if self._problem:
                age = time.monotonic() - self._failing_since
                return f"watch of {self.title}: {self._problem} since {age:.0f}s"
            return next(iter(self._unreadable.values()), "")

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                if not self._version:
                    self._list()
                    began = time.monotonic()
                heard = self._watch()
            except ExpiredError as error:
                self._version = ""
                # the first is normal after a long cut; only one after the other is a fault
                wait = self._pace.next_wait_s()
                if self._pace.failures > 1:
                    self._failed(str(error))
                    self._wait(wait)
                continue
            except NotFoundError as error:
                self._missing(error)
                continue
            except AdapterError as error:
                self._failed(str(error))
                self._wait(self._pace.next_wait_s())
                continue
            except Exception as error:  # noqa: BLE001 - whatever it is, this thread has to live on, and to say so
                self._version = ""
                self._failed(f"{type(error).__name__}: {error}")
                self._wait(self._pace.next_wait_s())
                continue
            if heard or time.monotonic() - began >= 1.0:
                self._settled()
            else:
                if self._pace.failures >= 2:
                    self._failed("the server closes the stream at once")
                self._wait(self._pace.next_wait_s())

    def _list(self) -> None:
        documents, version = self._feed.list()
        listed: dict[K, V] = {}
        self._unreadable = {}
        for document in documents:
            key = self._key_of(document)
            value = self._value(document, self.cache.get(key))
            if value is not None:
                listed[key] = value
        with self._one:
            before, after = self.cache.replace(listed, version)
            self._version = version
            if self._changed is not None:
                for key in before.keys() - after.keys():
                    self._tell(key, before[key], None)
                for key, value in after.items():
                    self._tell(key, before.get(key), value)
        self._synced = True

    def _watch(self) -> bool:
        heard = False
        events = self._feed.watch(self._version)
        self._works()
        for kind, document in events:
            if self._stopping.is_set():
                return True
            self._event(kind, document)
            if not heard:
                heard = True
                self._settled()
        return heard

    def _event(self, kind: str, document: Document) -> None:
        version = str((document.get("metadata") or {}).get("resourceVersion") or "")
        if kind in ("ADDED", "MODIFIED"):
            key = self._key_of(document)
            if not self.cache.has(key, version):
                value = self._value(document, self.cache.get(key))
                with self._one:
                    before, taken = self.cache.apply(key, value) if value is not None else (None, False)
                    if taken:
                        self._tell(key, before, value)
        elif kind == "DELETED":
            key = self._key_of(document)
            self._readable(document)
            with self._one:
                dropped = self.cache.remove(key, version)
                if dropped is not None:
                    self._tell(key, dropped, None)
        elif kind != "BOOKMARK":
            raise ExpiredError(f"an event of the unknown type {kind!r}")
        if version:
            self._version = version

    def _value(self, document: Document, before: V | None) -> V | None:
        try:
            value = self._read(document, before)
        except Exception as error:  # noqa: BLE001 - one unreadable object must not end the view of all others
            place = _place(document)
            with self._lock:
                self._unreadable[place] = f"{self.title}: {place} cannot be read ({type(error).__name__}: {error})"
            return None
        self._readable(document)
        return value

    def _readable(self, document: Document) -> None:
        if self._unreadable:
            with self._lock:
                self._unreadable.pop(_place(document), None)

    def _settled(self) -> None:
        self._pace.reset()
        self._hurried = False

    def _tell(self, key: K, before: V | None, after: V | None) -> None:
        if self._changed is None:
            return
        try:
            self._changed(key, before, after)
        except Exception as error:  # noqa: BLE001 - a fault of the listener is not one of the watch
            self._report(f"watch of {self.title}: a listener failed ({type(error).__name__}: {error})")

    def _missing(self, error: NotFoundError) -> None:
        self._version = ""
        if self._optional:
            before, _ = self.cache.replace({}, "")
            for key, value in before.items():
                self._tell(key, value, None)
            self._synced = True
            self._works()
        else:
            self._failed(str(error))
        self._wait(self._longest_wait_s)

    def _wait(self, seconds: float) -> None:
        self._wake.wait(seconds)
        if not self._stopping.is_set():
            self._wake.clear()

    def _works(self) -> None:
        if not self._problem:
            return
        with self._lock:
            self._problem = ""
        if self._recovered is not None:
            self._recovered()

    def _failed(self, problem: str) -> None:
        if self._stopping.is_set():
            return
        now = time.monotonic()
        with self._lock:
            if not self._problem:
                self._failing_since = now
            self._problem = problem
        self._report(f"watch of {self.title}: {problem}")

    def _report(self, text: str) -> None:
        # one line per half minute and kind says enough, whatever happens
        now = time.monotonic()
        if self._on_problem is None or (self._told_at and now - self._told_at < 30.0):
            return
        self._told_at = now
        with suppress(Exception):
            self._on_problem(text)


def _place(document: Document) -> str:
    metadata = document.get("metadata") or {}
    return f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"


def _number(version: str) -> int:
    """A resourceVersion as a number: they grow; what is no number is older than everything."""
    return int(version) if version.isdecimal() else -1
