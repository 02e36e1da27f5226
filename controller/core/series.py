"""What the evidence is asked from: which counts of which target, and what came back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Track = Literal["canary", "stable", ""]
"""Empty: of no track, but of the launch as a whole."""


@dataclass(frozen=True, slots=True)
class Series:
    """One metric's counts, or its bare value, before it is tied to a target.

    ``recorded``: read from the normal form that ``rules/`` writes (``metric`` is ``errors`` or ``latency``).
    ``ratio``: ``bad`` and ``total`` are selectors of counters.
    ``latency``: ``bad`` is the bucket selector and ``total`` the count selector; bad = count - bucket at ``edge``.
    ``value``: ``total`` is a PromQL expression.
    ``incidents``: ``total`` selects the alerts that count, and ``bad`` is what people call them ("critical incidents").

    ``edge`` is the bucket's upper edge in seconds; ``interval``, ``settle`` and ``lag`` are seconds. ``lag`` is how far
    behind its own instant the newest event of a row lies (the recording rule's offset).
    """

    kind: Literal["recorded", "ratio", "latency", "value", "incidents"]
    metric: str
    bad: str = ""
    total: str = ""
    edge: float = 0.0
    interval: int = 10
    settle: float = 10.0
    lag: float = 0.0


@dataclass(frozen=True, slots=True)
class RecordedForm:
    """How the operator's rules write the normal form; the same for every plan.

    ``interval`` is the rule group's, ``settle`` how long after its instant a row may still change, ``lag`` the rules'
    offset; all in seconds.
    """

    interval: int = 10
    settle: float = 10.0
    lag: float = 5.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A series of one target's track: what one question to Prometheus is about."""

    series: Series
    namespace: str
    target: str
    service: str
    revision: str
    track: Track = "canary"


def launch_wide(series: Series, namespace: str) -> Subject:
    """The subject of a series that is of no target but of the launch as a whole: incidents."""
    return Subject(series, namespace, target="", service="", revision="", track="")


@dataclass(frozen=True, slots=True)
class Row:
    """What happened in one interval: ``n`` events, ``x`` of them bad, up to ``at`` (epoch seconds).

    Of a bare value, ``n`` is 1 and ``x`` the value. Of incidents, ``x`` is how many alerts began to fire in the interval
    and ``n`` how many fire at its end, those that began in it included; there is no row where nothing proves that
    Prometheus was at work.
    """

    at: float
    n: float
    x: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What Prometheus answered about one subject in one tick.

    ``settled`` are the rows on the grid after ``after`` and up to ``through``, the newest settled instant (both epoch
    seconds, multiples of the series' interval); an instant without a row had no data. ``tail`` are the rows after
    ``through``, aligned at the tick's own time, which may still change. ``problem`` says why the answer must not be
    used ("Prometheus did not answer within 5s"); then there are no rows.
    """

    after: int
    through: int
    settled: tuple[Row, ...] = ()
    tail: tuple[Row, ...] = ()
    problem: str = ""
