"""Silences in: since when each of our alerts is silenced in an Alertmanager, read beside the decisions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from controller.adapters.alertmanager import ANSWER_SECONDS, Access, Door
from controller.adapters.asking import Asking
from controller.core.alerts import Identity
from controller.core.patterns import Pattern, pattern
from controller.core.units import parse_instant
from controller.errors import AdapterError, UnansweredError

EACH_SECONDS = 5.0
VALID_SECONDS = 900.0
"""What an Alertmanager that no longer answers said of its silences counts for so long: a restart ends none of them."""
PATIENCE_SECONDS = 15.0
"""An alert of which nobody has said yet whether it is silenced counts as silenced for so long, and then as not."""
_MOST_ASKED = 10_000


class SilenceCheck:
    """Since when each of our firing alerts is silenced, in any Alertmanager.

    ``firing`` gives the identities that matter. It is looked at in threads of their own, every ``each`` seconds at most and
    only while somebody asks; there silences are compared with the alerts as well. What an Alertmanager said counts for
    ``valid`` seconds, and each silence until it ends. A process that has just begun has been told nothing: for
    ``patience`` seconds that keeps it from telling anybody besides. ``on_failure`` is told, from other threads, of an
    Alertmanager that does not tell its silences.
    """

    def __init__(
        self,
        urls: Sequence[str | Access],
        firing: Callable[[], Iterable[Identity]],
        *,
        clock: Callable[[], float] = time.time,
        timeout: float = ANSWER_SECONDS,
        each: float = EACH_SECONDS,
        valid: float = VALID_SECONDS,
        patience: float = PATIENCE_SECONDS,
        on_failure: Callable[[AdapterError], None] | None = None,
    ) -> None:
        self._clock, self._patience = clock, patience
        self._asked: dict[Identity, float] = {}
        self._places = [_Place(Door(url, timeout), firing, each, valid, on_failure) for url in dict.fromkeys(urls)]

    def since(self, identity: Identity) -> float | None:
        """Since when (epoch seconds) this alert is silenced, as it was last seen; None: it is not. Waits for nothing.

        0 while that is not known.
        """
        if len(self._asked) > _MOST_ASKED:
            self._asked.clear()
        steady = time.monotonic()
        asked = steady - self._asked.setdefault(identity, steady)
        now, said = self._clock(), [place.silences(identity) for place in self._places]
        if asked < self._patience and None in said:
            return 0.0
        silences = [silence for each in said for silence in each or ()]
        return min((silence.begins for silence in silences if silence.begins <= now < silence.ends), default=None)

    def stop(self) -> None:
        """Looks no more."""
        for place in self._places:
            place.stop()


class _Matcher(NamedTuple):
    """A condition on a label; ``equal`` false: it must not hold."""

    name: str
    value: str | Pattern
    equal: bool

    def met_by(self, text: str) -> bool:
        """Whether a label of this text meets it."""
        fits = self.value == text if isinstance(self.value, str) else self.value.fits(text)
        return fits is self.equal


class Silence(NamedTuple):
    """Its first and its last instant, in epoch seconds, and what it is of."""

    begins: float
    ends: float
    matchers: tuple[_Matcher, ...]

    def covers(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert with these labels is silenced; a label that is not there is empty."""
        return all(matcher.met_by(labels.get(matcher.name, "")) for matcher in self.matchers)


class _Place:
    """One Alertmanager: each has a thread of its own, so that one that hangs keeps nothing from being known."""

    def __init__(
        self,
        door: Door,
        firing: Callable[[], Iterable[Identity]],
        each: float,
        valid: float,
        on_failure: Callable[[AdapterError], None] | None,
    ) -> None:
        self._door, self._firing = door, firing
        self._answers: Asking[None, Mapping[Identity, tuple[Silence, ...]]] = Asking(
            f"reads silences of {door.place}",
            lambda _: self._look(),
            fresh_s=each,
            valid_s=valid,
            on_failure=None if on_failure is None else lambda problem: on_failure(UnansweredError(problem)),
        )

    def silences(self, identity: Identity) -> tuple[Silence, ...] | None:
        """None: this Alertmanager has said nothing of that alert yet."""
        known = self._answers.ask(None)
        return None if known is None else known.get(identity)

    def stop(self) -> None:
        self._answers.stop()

    def _look(self) -> Mapping[Identity, tuple[Silence, ...]]:
        read = [silence for silence in map(read_silence, self._door.silences()) if silence is not None]
        return {identity: tuple(each for each in read if each.covers(dict(identity))) for identity in self._firing()}


def read_silence(document: Any) -> Silence | None:
    """A silence as the API gives it; None for one that has ended, or that cannot be read: then people are told."""
    try:
        if document["status"]["state"] == "expired":
            return None
        matchers = tuple(
            _Matcher(
                str(each["name"]),
                pattern(each["value"]) if each["isRegex"] else str(each["value"]),
                bool(each.get("isEqual", True)),
            )
            for each in document["matchers"]
        )
        return Silence(parse_instant(document["startsAt"]), parse_instant(document["endsAt"]), matchers)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
