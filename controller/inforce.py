"""What of the operator's configuration is in force now, and how an edit of it comes into force while the daemon runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from controller.adapters.configuration_file import ConfigurationRecorder, WatchedConfiguration, missing_files
from controller.adapters.prometheus import PrometheusSettings
from controller.adapters.promql import Confinement
from controller.adapters.reached import backends, confinement, said_twice
from controller.backends import Backends
from controller.core.configuration import NOTHING, Configuration
from controller.core.faults import Fault
from controller.core.series import RecordedForm
from controller.core.terms import Fleet, Terms
from controller.settings import Settings

LONGEST_PAUSE = 10.0
"""However long a tick is, a stop of all launches is seen after so many seconds."""
STOP_SECONDS = 0.5


class InForceRecorder(ConfigurationRecorder, Protocol):
    """Who is told of what comes into force."""

    def note(self, event: str, **fields: object) -> None:
        """Say something about the daemon itself."""

    def fleet_stopped(self, *, stopped: bool) -> None:
        """Whether all raises are stopped."""


class InForce:
    """The flags and the file, as one. Each attribute is replaced as a whole, so that readers need no lock.

    Raises InvalidConfigurationError where the file has faults at the start.
    """

    def __init__(self, settings: Settings, recorded: RecordedForm, recorder: ConfigurationRecorder) -> None:
        self._settings = settings
        self._watched: WatchedConfiguration | None = None
        self.configuration: Configuration = NOTHING
        if settings.config is not None:
            self._watched = WatchedConfiguration(settings.config, recorded, recorder, self._faults)
            self.configuration = self._watched.configuration
        self.backends: dict[str, PrometheusSettings] = {}
        self.confinement = Confinement()
        self.terms = Terms()
        self.fleet = Fleet()
        self._take()

    def look(self) -> bool:
        """Whether something else is in force since the last look."""
        if self._watched is None or not self._watched.look():
            return False
        self.configuration = self._watched.configuration
        self._take()
        return True

    def _faults(self, configuration: Configuration) -> list[Fault]:
        return [*said_twice(self._settings, configuration), *missing_files(configuration)]

    def _take(self) -> None:
        said = self.configuration
        self.backends = backends(self._settings, said)
        self.confinement = confinement(self._settings, said)
        terms = said.terms(frozenset(self.backends))
        if terms != self.terms:  # plans are read again for another value, even an equal one
            self.terms = terms
        self.fleet = Fleet(None if self._watched is None else self._watched.stop, said.limits.launches)


class Watching:
    """Looks at the file again and again, in a thread of its own, and brings what has changed into force.

    ``plans_anew`` has all plans read again, ``wake`` has all launches decided upon at once. ``clock`` gives epoch
    seconds; it is looked ``each`` so many seconds, 10 at most.
    """

    def __init__(
        self,
        inforce: InForce,
        evidence: Backends,
        plans_anew: Callable[[], None],
        wake: Callable[[], None],
        clock: Callable[[], float],
        recorder: InForceRecorder,
        *,
        each: float,
    ) -> None:
        self._inforce, self._evidence, self._recorder, self._clock = inforce, evidence, recorder, clock
        self._plans_anew, self._wake = plans_anew, wake
        self._each = min(each, LONGEST_PAUSE)
        self._begun_with = inforce.configuration.alertmanagers
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="configuration", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._tell()
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping.wait(self._each):
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 - this thread has to live on, and to say so
                self._recorder.configured(problem=f"{type(error).__name__}: {error}")

    def _look(self) -> None:
        terms, fleet, before = self._inforce.terms, self._inforce.fleet, self._inforce.configuration
        if self._inforce.look():
            self._evidence.apply(self._inforce.backends, self._inforce.confinement)
            if self._inforce.terms is not terms:
                self._plans_anew()
            if self._inforce.fleet != fleet:
                self._wake()
            self._say_what_waits(before)
        self._tell()

    def _say_what_waits(self, before: Configuration) -> None:
        now = self._inforce.configuration.alertmanagers
        if now not in (before.alertmanagers, self._begun_with):
            self._recorder.note("restart needed", field="alertmanagers", reason="they are read at the start alone")

    def _tell(self) -> None:
        stop = self._inforce.fleet.stop
        self._recorder.fleet_stopped(stopped=stop is not None and stop.stands(self._clock()))
