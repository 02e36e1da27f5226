"""What the evidence is asked from: which counts of which target, and what came back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

RESTARTS = "restarts"
"""The recorded metric that counts no requests."""
HOLDS: Literal["holds"] = "holds"
"""How often the launch was held: the metric that its own record answers."""
Track = Literal["canary", "stable", ""]
"""Empty: of no track, but of the launch as a whole."""


@dataclass(frozen=True, slots=True)
class Series:
    """One metric's counts, or its bare value, before it is tied to a target.

    ``recorded``: read from the normal form that ``rules/`` writes (``metric`` is ``errors``, ``latency`` or ``restarts``).
    ``uptime``: the same requests and errors, and whether anything answers at all.
    ``ratio``: ``bad`` and ``total`` are selectors of counters.
    ``latency``: ``bad`` is the bucket selector and ``total`` the count selector; bad = count - bucket at ``edge``.
    ``value``: ``total`` is a PromQL expression, and ``bad`` that of its standard error (empty: it has none).
    ``incidents``: ``total`` selects the alerts that count, and ``bad`` is what people call them ("critical incidents").
    ``holds``: how often the launch was held, which its own record knows; nobody is asked.

    ``edge`` is the bucket's upper edge in seconds; ``interval``, ``settle`` and ``lag`` are seconds. ``lag`` is how far
    behind its own instant the newest event of a row lies (the recording rule's offset).
    """

    kind: Literal["recorded", "ratio", "latency", "value", "incidents", "uptime", "holds"]
    metric: str
    bad: str = ""
    total: str = ""
    edge: float = 0.0
    interval: int = 10
    settle: float = 10.0
    lag: float = 0.0

    @property
    def with_error(self) -> bool:
        """Whether it is a value that comes with its standard error."""
        return self.kind == "value" and bool(self.bad)

    @property
    def of_requests(self) -> bool:
        """Whether its rows count requests and the bad ones among them, which every track has that has traffic."""
        return self.kind in ("ratio", "latency") or (self.kind == "recorded" and self.metric != RESTARTS)


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
    """A series of one target's track: what one question to Prometheus is about.

    ``past``: how it went before, summed up by the hour, and no row of it. ``backend`` names the Prometheus that is asked;
    empty: the default one.
    """

    series: Series
    namespace: str
    target: str
    service: str
    revision: str
    track: Track = "canary"
    past: bool = False
    backend: str = ""


def launch_wide(series: Series, namespace: str, backend: str = "") -> Subject:
    """The subject of a series that is of no target but of the launch as a whole: incidents."""
    return Subject(series, namespace, target="", service="", revision="", track="", backend=backend)


@dataclass(frozen=True, slots=True)
class Row:
    """What happened in one interval: ``n`` events, ``x`` of them bad, up to ``at`` (epoch seconds).

    Of a value, ``n`` is its standard error (1: it has none) and ``x`` the value. Of restarts both are their number. Of
    uptime, 1 and 1 say that nothing answered. Of incidents, ``x`` is how many alerts began to fire in the interval and
    ``n`` how many fire at its end, those that began in it included; there is no row where nothing proves that
    Prometheus was at work.
    """

    at: float
    n: float
    x: float


@dataclass(frozen=True, slots=True)
class Pair(Row):
    """The same with what happened on the stable track in the very same interval."""

    stable_n: float = 0.0
    stable_x: float = 0.0


@dataclass(frozen=True, slots=True)
class Unproven(Row):
    """Alerts that fire at an instant at which nothing proves that all were seen."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One alert that an Alertmanager shows. ``id`` is its fingerprint, ``began`` its start (epoch seconds).

    ``counted``: it is one of Prometheus' own ``ALERTS``, whose rows count it already.
    """

    id: str
    began: float
    silenced: bool = False
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Noticed:
    """What was seen beside the rows of incidents at the instant ``at`` (epoch seconds): it cannot be asked afterwards.

    An ``at`` of 0: nobody has looked yet.

    ``problem`` is why nothing is proven by what is not there. ``alerts`` are those that the Alertmanagers show;
    ``silences`` says that they were asked, so that it is known which alerts are silenced.
    """

    at: int
    problem: str = ""
    alerts: tuple[Shown, ...] = ()
    silences: bool = False


@dataclass(frozen=True, slots=True)
class Hour:
    """The rows of one hour that have events, summed up: their number, and the sums of n, x, n*n, n*x and x*x.

    ``seconds`` is how long each of the rows is.
    """

    seconds: int
    rows: int
    n: float
    x: float
    nn: float
    nx: float
    xx: float


def hours_of(rows: Iterable[Row], interval: int) -> tuple[Hour, ...]:
    """The rows of a grid of ``interval`` seconds by the hour, as they are and summed up by the minute."""
    rows = tuple(rows)
    minutes: dict[int, Row] = {}
    for row in rows:
        minute = int(row.at - interval) // 60
        known = minutes.get(minute)
        minutes[minute] = row if known is None else Row(row.at, known.n + row.n, known.x + row.x)
    coarser = _by_hour(minutes.values(), 60) if interval < 60 else ()
    return (*_by_hour(rows, interval), *coarser)


def _by_hour(rows: Iterable[Row], seconds: int) -> tuple[Hour, ...]:
    hours: dict[int, list[Row]] = {}
    for row in rows:
        if row.n > 0:
            hours.setdefault(int(row.at - 1) // 3600, []).append(row)
    return tuple(
        Hour(
            seconds,
            len(hour),
            sum(row.n for row in hour),
            sum(row.x for row in hour),
            sum(row.n * row.n for row in hour),
            sum(row.n * row.x for row in hour),
            sum(row.x * row.x for row in hour),
        )
        for hour in hours.values()
    )


@dataclass(frozen=True, slots=True)
class Reading:
    """What Prometheus answered about one subject in one tick.

    ``settled`` are the rows on the grid after ``after`` and up to ``through``, the newest settled instant (both epoch
    seconds, multiples of the series' interval); an instant without a row had no data. ``tail`` are the rows after
    ``through``, aligned at the tick's own time, which may still change. ``problem`` says why the answer must not be
    used ("Prometheus did not answer within 5s"); then there are no rows. ``hours`` are there instead of rows where the
    past was asked for.

    Of incidents, ``unproven`` is why the newest instant proves nothing, and ``noticed`` what was seen beside the rows;
    None: only the rows are known.
    """

    after: int
    through: int
    settled: tuple[Row | Unproven, ...] = ()
    tail: tuple[Row | Unproven, ...] = ()
    problem: str = ""
    hours: tuple[Hour, ...] = ()
    unproven: str = ""
    noticed: Noticed | None = None


def beside(canary: Reading | None, stable: Reading | None) -> Reading | None:
    """The two as one: pairs of the instants that both have, as far as both reach; None where one was not asked."""
    if canary is None or stable is None:
        return None
    after = max(canary.after, stable.after)
    problem = canary.problem or (f"stable track: {stable.problem}" if stable.problem else "")
    if problem:
        return Reading(after, after, problem=problem)
    through = max(after, min(canary.through, stable.through))
    settled = (row for row in _paired(canary.settled, stable.settled) if after < row.at <= through)
    return Reading(after, through, tuple(settled), tuple(_paired(canary.tail, stable.tail)))


def _paired(canary: Iterable[Row], stable: Iterable[Row]) -> Iterable[Pair]:
    others = {row.at: row for row in stable}
    for row in canary:
        if (other := others.get(row.at)) is not None:
            yield Pair(row.at, row.n, row.x, other.n, other.x)
