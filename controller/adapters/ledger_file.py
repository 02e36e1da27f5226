"""The ledger's way to a file or to standard output; whoever decides never waits for it.

A thread of its own makes the lines and writes them. When it falls behind (a full disk, a reader that does not read),
what does not fit its queue is dropped, counted and said once a minute: a decision is worth more than its record.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

from controller.core.decide import Decision
from controller.core.ledger import record
from controller.core.observation import Observation
from controller.errors import AdapterError

STANDARD_OUTPUT = "-"
_STANDARD_OUTPUT = 1
QUEUE = 512
"""So many decisions may wait to be written."""
SAY_SECONDS = 60.0
"""Dropped records are told of this often at most."""
STOP_SECONDS = 1.0
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY


class LedgerFile:
    """Appends decisions to a file, or to standard output where ``path`` is ``-``.

    The file is created for its owner alone, and made anew when it was moved away or removed meanwhile.
    ``on_dropped`` is called with how many records were dropped since the last time and why, from any thread.
    ``steady`` is a clock without steps.

    Raises:
        AdapterError: the file cannot be opened.
    """

    def __init__(
        self,
        path: str,
        on_dropped: Callable[[int, str], None],
        *,
        steady: Callable[[], float] = time.monotonic,
        waiting: int = QUEUE,
    ) -> None:
        self._path, self._on_dropped, self._steady = path, on_dropped, steady
        self._queue: queue.Queue[tuple[Observation, Decision] | None] = queue.Queue(waiting)
        self._lock = threading.Lock()
        self._dropped, self._why, self._said = 0, "", -SAY_SECONDS
        self._stopping = threading.Event()
        self._torn = False
        self._descriptor = _STANDARD_OUTPUT if path == STANDARD_OUTPUT else self._open()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def record(self, seen: Observation, decision: Decision) -> None:
        """Have it written, or dropped; returns at once."""
        try:
            self._queue.put_nowait((seen, decision))
        except queue.Full:
            self._drop(f"{self._shown} is not written fast enough")

    def stop(self) -> None:
        """Write what is waiting, for a second at most."""
        self._stopping.set()
        ends = 0
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
            ends = 1
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            # Those that wait, and the one that is being written.
            self._drop(f"{self._shown} is not written fast enough", self._queue.qsize() - ends + 1)
        elif self._path != STANDARD_OUTPUT:
            os.close(self._descriptor)
        self._say(at_once=True)

    @property
    def _shown(self) -> str:
        return "standard output" if self._path == STANDARD_OUTPUT else self._path

    def _run(self) -> None:
        while True:
            try:
                entry = self._queue.get(timeout=SAY_SECONDS)
            except queue.Empty:
                self._say()
                continue
            if entry is None:
                return
            try:
                self._write("".join(f"{line}\n" for line in record(*entry)).encode())
            except OSError as error:
                self._drop(f"{self._shown}: {os.strerror(error.errno) if error.errno else error}")
            except Exception as error:  # noqa: BLE001 - one that cannot be recorded must not end the others
                self._drop(f"a decision cannot be recorded: {error!r}")
            if self._stopping.is_set() and self._queue.empty():
                return
            self._say()

    def _write(self, data: bytes) -> None:
        if self._path != STANDARD_OUTPUT:
            self._follow()
        if self._torn:
            data = b"\n" + data
        while data:
            written = os.write(self._descriptor, data)
            self._torn = not data[:written].endswith(b"\n")
            data = data[written:]

    def _follow(self) -> None:
        """Go on in a new file where the old one was moved away, as log rotation does."""
        ours = os.fstat(self._descriptor)
        with contextlib.suppress(FileNotFoundError):
            there = Path(self._path).stat()
            if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return
        try:
            opened = self._open()
        except AdapterError as error:
            raise OSError(errno.EIO, str(error)) from error
        os.close(self._descriptor)
        self._descriptor = opened

    def _open(self) -> int:
        """The file, to be appended to; whether it ends in the middle of a line is noted."""
        try:
            # A pipe that nobody reads would keep us waiting here; without waiting it is an error.
            descriptor = os.open(self._path, _FLAGS | os.O_NONBLOCK, 0o600)
        except OSError as error:
            raise AdapterError(f"{self._path} cannot be written: {error.strerror}; name another file") from error
        os.set_blocking(descriptor, True)
        self._torn = stat.S_ISREG(os.fstat(descriptor).st_mode) and _cut_short(self._path)
        return descriptor

    def _drop(self, why: str, number: int = 1) -> None:
        with self._lock:
            self._dropped, self._why = self._dropped + number, why
        self._say()

    def _say(self, *, at_once: bool = False) -> None:
        now = self._steady()
        with self._lock:
            if not self._dropped or (now - self._said < SAY_SECONDS and not at_once):
                return
            dropped, self._dropped, self._said = self._dropped, 0, now
        self._on_dropped(dropped, self._why)


def _cut_short(path: str) -> bool:
    """Whether the last line has no end, as a full disk or a crash leaves it; unknown counts as yes."""
    try:
        with Path(path).open("rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        return True
