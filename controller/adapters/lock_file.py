"""The lock of a folder as a Lease: who has the file open and locked leads, and the system frees it with its process."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TextIO

from controller.adapters.files import RECORDS
from controller.errors import ConflictError, UnansweredError
from controller.ports import Lease

NAME = "leader"
"""The file, beside the records; what it says is for people."""
UNKNOWN = "another process"


class LockFile:
    """The lock of one folder, for one elector; ``holds`` may be called from any thread.

    While somebody has it, each look is a renewal: so it never runs out, as long as the holder lives.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / RECORDS / NAME
        self._file: TextIO | None = None
        self._holder = ""
        self._looks = count(1)

    def read(self) -> Lease:
        """Who has it. Raises UnansweredError."""
        with self._told():
            if self.holds():
                return Lease(self._version(), self._holder)
            self._let_go()
            found = self._open()
            try:
                if _lock(found, fcntl.LOCK_SH):  # who only looks keeps nobody else from looking
                    return Lease(self._version(), released=True)
                found.seek(0)
                return Lease(self._version(), found.readline().strip() or UNKNOWN)
            finally:
                found.close()

    def create(self) -> Lease:
        """As :meth:`read`: to look is to make it."""
        return self.read()

    def write(self, known: Lease, holder: str, transitions: int) -> Lease:
        """Takes it, or keeps it, or (empty) lets it go. Raises ConflictError where another has it, else UnansweredError."""
        with self._told():
            if not holder:
                self._let_go()
                return Lease(self._version(), transitions=transitions, released=True)
            if self._file is not None and not self.holds():
                self._let_go()
                raise ConflictError(f"{self._path} was removed or replaced; leave it to the controllers")
            if self._file is None:
                self._take(holder)
            return Lease(self._version(), holder, known.transitions)

    def holds(self) -> bool:
        """Whether we have the lock, and the file of that name is still the one that is locked."""
        held = self._file
        if held is None:
            return False
        try:
            return os.path.samestat(os.fstat(held.fileno()), self._path.stat())
        except (OSError, ValueError):  # removed, or closed meanwhile
            return False

    def _take(self, holder: str) -> None:
        found = self._open()
        if not _lock(found, fcntl.LOCK_EX):
            found.close()
            raise ConflictError(f"{self._path}: another process was quicker")
        found.truncate(0)
        found.write(f"{holder}\n")
        found.flush()
        self._file, self._holder = found, holder

    def _let_go(self) -> None:
        held, self._file, self._holder = self._file, None, ""
        if held is not None:
            held.close()

    def _open(self) -> TextIO:
        self._path.parent.mkdir(exist_ok=True)
        return self._path.open("a+", encoding="utf-8", errors="replace")

    def _version(self) -> str:
        return str(next(self._looks))

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnansweredError(f"{error.filename or self._path}: {error.strerror or error}") from error


def _lock(file: TextIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
