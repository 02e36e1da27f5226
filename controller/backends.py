"""Evidence from several Prometheuses by their names: each is asked by itself, and may come and go while the daemon runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from controller.adapters.prometheus import PrometheusSettings
from controller.adapters.promql import Confinement
from controller.adapters.reached import no_backend
from controller.core.series import Reading, Subject
from controller.core.terms import DEFAULT_BACKEND

LINGER_SECONDS = 30.0
"""A Prometheus that was taken away is let go after so long: what it is being asked then has ended."""


class Backend(Protocol):
    """One Prometheus and what is asked of it."""

    def gather(self, wanted: Mapping[Subject, int], now: float, deadline_s: float) -> dict[Subject, Reading]:
        """As :meth:`controller.gather.Gatherer.gather`."""

    def stop(self) -> None:
        """Ask no more."""


@dataclass(frozen=True, slots=True)
class _Running:
    settings: PrometheusSettings
    confinement: Confinement
    backend: Backend


class Backends:
    """Readings of each subject from the Prometheus that it names. All methods may be called from several threads.

    ``make`` builds what asks one of them, given its name. One that was taken away is stopped after ``linger`` seconds.
    """

    def __init__(
        self,
        make: Callable[[str, PrometheusSettings, Confinement], Backend],
        known: Mapping[str, PrometheusSettings],
        confinement: Confinement,
        *,
        linger: float = LINGER_SECONDS,
    ) -> None:
        self._make, self._linger = make, linger
        self._turn = threading.Lock()
        self._running: dict[str, _Running] = {}
        self.apply(known, confinement)

    def apply(self, known: Mapping[str, PrometheusSettings], confinement: Confinement) -> None:
        """From now on there are these. Those that are as they were are not touched."""
        with self._turn:
            before, after = self._running, dict[str, _Running]()
            for name, settings in known.items():
                running = before.get(name)
                if running is None or (running.settings, running.confinement) != (settings, confinement):
                    running = _Running(settings, confinement, self._make(name, settings, confinement))
                after[name] = running
            self._running = after
        gone = [running for name, running in before.items() if after.get(name) is not running]
        for running in gone:
            later = threading.Timer(self._linger, running.backend.stop)
            later.daemon = True
            later.start()

    def gather(self, wanted: Mapping[Subject, int], now: float, deadline_s: float) -> dict[Subject, Reading]:
        """A reading for every subject; of a Prometheus that there is not, one that says so. Those of several at once."""
        running = self._running
        parts: dict[str, dict[Subject, int]] = {}
        for subject, after in wanted.items():
            parts.setdefault(subject.backend or DEFAULT_BACKEND, {})[subject] = after
        readings: dict[Subject, Reading] = {}
        asked: list[tuple[Backend, dict[Subject, int]]] = []
        for name, part in parts.items():
            if name in running:
                asked.append((running[name].backend, part))
            else:
                problem = no_backend(name, running)
                readings |= {subject: Reading(after, after, problem=problem) for subject, after in part.items()}
        if len(asked) == 1:
            (backend, part) = asked[0]
            return readings | backend.gather(part, now, deadline_s)
        if asked:
            with ThreadPoolExecutor(len(asked), thread_name_prefix="backends") as pool:
                for answer in pool.map(lambda one: one[0].gather(one[1], now, deadline_s), asked):
                    readings |= answer
        return readings

    def stop(self) -> None:
        """Ask no more."""
        with self._turn:
            running, self._running = self._running, {}
        for one in running.values():
            one.backend.stop()
