"""The folder of manifests as a person at a terminal uses it."""

from __future__ import annotations

import getpass
import time
from collections.abc import Mapping
from pathlib import Path

from controller.adapters.files import Files
from controller.core.world import Launch, LaunchKey
from controller.errors import UnansweredError

_FIRST_SCAN_S = 10.0
_LOOK_S = 0.01


class FolderDesk:
    """Reads launches of a folder and leaves words for them. Its ``namespace`` is empty: none is meant before another."""

    namespace = ""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = Files(folder)
        self._started = False

    def launches(self, namespace: str) -> list[Launch]:
        """The launches of a namespace, or of all of them (empty), by namespace and name.

        Raises UnansweredError where the folder, or the only file that could hold one, cannot be read.
        """
        self._read()
        found = [launch for launch in self._files.launches() if namespace in ("", launch.key.namespace)]
        problem = self._files.problem()
        if problem and not found:
            raise UnansweredError(f"{self._folder}: {problem}")
        return sorted(found, key=lambda launch: (launch.key.namespace, launch.key.name))

    def launch(self, key: LaunchKey) -> Launch:
        """One launch, afresh. Raises AdapterError."""
        return self._files.read_launch(key)

    def annotate(self, key: LaunchKey, changes: Mapping[str, str | None]) -> Launch:
        """Set (or with None remove) annotations of ours, named without their prefix. Raises AdapterError."""
        return self._files.annotate(key, changes)

    def user(self) -> str:
        """The user of this machine; empty where it has no name for them."""
        try:
            return getpass.getuser()
        except (OSError, KeyError):
            return ""

    def close(self) -> None:
        """Ends what was begun."""
        if self._started:
            self._files.stop()

    def _read(self) -> None:
        if not self._started:
            self._started = True
            self._files.start()
        deadline = time.monotonic() + _FIRST_SCAN_S
        while not self._files.synced():
            if time.monotonic() > deadline:
                raise UnansweredError(f"{self._folder}: {self._files.problem() or 'it was not read in time'}")
            time.sleep(_LOOK_S)
