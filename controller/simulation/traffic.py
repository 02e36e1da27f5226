"""What a simulated Prometheus answers: counts that follow the scenario's rates and the weights in force.

Every draw is the quantile of a number that is made from the seed and from what is asked (target, track, metric,
span), so that the same scenario gives the same counts whatever is asked in between, and in whatever order. A span that
was drawn as a whole and is then asked for in parts is divided, never drawn again: the parts sum to the whole.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import pairwise
from math import ceil, exp, floor, log1p, sqrt
from statistics import NormalDist
from typing import Generic, TypeVar

from controller.core.evidence import grid
from controller.core.series import RESTARTS, Reading, Row, Series, Subject
from controller.core.units import FULL_WEIGHT
from controller.simulation.scenario import Course, Scenario, TargetCourse, TrackCourse

T = TypeVar("T")

EXACT_BELOW = 64.0
"""Up to this mean a count is drawn exactly; above it by its first three moments."""
MOST_FINE_ROWS = 360
LONG_ROW = 600
"""Seconds of one row where more than the newest MOST_FINE_ROWS are asked for at once."""
VALUE_ROWS = 10
KEPT_SECONDS = 3600
UPTIME_STEP = 60
"""The same of uptime."""
PROOF_STEP = 300
"""Seconds between two rows of incidents at most: what fired is known without a gap."""
_NORMAL = NormalDist()
_MATCHERS = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)(=~|!~|!=|=)"((?:[^"\\]|\\.)*)"')


class Steps(Generic[T]):
    """A course in epoch seconds; ``before`` is what it is without any row."""

    def __init__(self, course: Course[T], start: float, before: T) -> None:
        rows = sorted(((row.since.at(start), row.value) for row in course), key=lambda row: row[0])
        self.times = [at for at, _ in rows]
        self._values = [value for _, value in rows] or [before]

    def at(self, instant: float) -> T:
        """The value at ``instant``; before the first row it is that of the first."""
        return self._values[max(0, bisect_right(self.times, instant) - 1)]

    def cuts(self, begin: float, end: float) -> list[float]:
        """The changes strictly between two instants."""
        return self.times[bisect_right(self.times, begin) : bisect_left(self.times, end)]


_BAD = {"latency": "slow", "uptime": "errors"}
"""What is drawn for a metric that has another name."""
_SILENT: Steps[float | None] = Steps((), 0.0, None)
"""A metric that an edited plan asks for, and of which the scenario says nothing."""
_MANY, _SURELY_UP = 100.0, 0.1
_SURE: Steps[float] = Steps((), 0.0, 1.0)


class _Flow:
    """All requests of one track since the start: piecewise linear, known ahead for weights as they are."""

    def __init__(self, requests: Steps[float], begin: float, share: float) -> None:
        self._requests = requests
        self._times, self._totals, self._slopes = [begin], [0.0], [0.0]
        self.turn(begin, share)

    def turn(self, at: float, share: float) -> None:
        """From ``at`` on the track has this share of the requests."""
        total = self.total(at)
        keep = bisect_left(self._times, at)
        del self._times[keep:], self._totals[keep:], self._slopes[keep:]
        for instant in (at, *(time for time in self._requests.times if time > at)):
            if instant > at:
                total = self.total(instant)
            self._times.append(instant)
            self._totals.append(total)
            self._slopes.append(self._requests.at(instant) * share)

    def turns(self, begin: float, end: float) -> bool:
        """Whether it changes strictly between two instants."""
        return bisect_right(self._times, begin) < bisect_left(self._times, end)

    def total(self, at: float) -> float:
        """Requests up to ``at`` (epoch seconds), with a fraction."""
        place = max(0, bisect_right(self._times, at) - 1)
        return self._totals[place] + max(0.0, at - self._times[place]) * self._slopes[place]

    def between(self, begin: float, end: float) -> int:
        """Whole requests after ``begin`` and up to ``end``; parts sum to the whole."""
        return floor(self.total(end) + 1e-6) - floor(self.total(begin) + 1e-6)


class _Track:
    def __init__(self, course: TrackCourse, start: float) -> None:
        self.errors = Steps(course.errors, start, 0.0)
        self.slow = {edge: Steps(rows, start, 0.0) for edge, rows in course.slow.items()}
        self.ready = Steps(course.ready, start, 1)
        self.restarts = Steps(course.restarts, start, 0)
        self.version = Steps(course.version, start, "")
        self.template = Steps(course.template, start, "")


class _Target:
    def __init__(self, course: TargetCourse, start: float, begin: float) -> None:
        requests = Steps(course.requests, start, 0.0)
        self.flows = {"canary": _Flow(requests, begin, 0.0), "stable": _Flow(requests, begin, 1.0)}
        self.tracks = {"canary": _Track(course.canary, start), "stable": _Track(course.stable, start)}
        self.metrics = {name: Steps(rows, start, None) for name, rows in course.metrics.items()}
        self.spreads = {name: Steps(rows, start, 1.0) for name, rows in course.spreads.items()}

    def share(self, series: Series, track: str) -> Steps[float | None] | Steps[float] | None:
        """How the share of bad requests of that series goes; None: all are good."""
        if series.kind in ("ratio", "latency"):
            return self.metrics.get(series.metric, _SILENT)
        if series.metric == "latency":
            return self.tracks[track].slow.get(series.edge)
        return self.tracks[track].errors


_Key = tuple[str, str, str, float]


class Traffic:
    """Answers what is asked of Prometheus. ``start`` is the launch's first start, ``begin`` when it is looked at first.

    ``windows`` are the seconds over which a plain rule looks at a series: there its rows are not summed up.
    """

    def __init__(self, scenario: Scenario, start: float, begin: float, windows: Mapping[Series, float]) -> None:
        self._seed = scenario.seed
        self._targets = {name: _Target(course, start, begin) for name, course in scenario.targets.items()}
        self._general, self._start = scenario.general, start
        self._silent = sorted(
            (outage.begins.at(start), outage.begins.at(start) + outage.lasts)
            for outage in scenario.outages
            if outage.what == "prometheus"
        )
        self._fired = [
            (incident.begins.at(start), incident.begins.at(start) + incident.lasts, incident.severity, incident.labels)
            for incident in scenario.incidents
        ]
        self._windows = windows
        self._drawn: dict[_Key, dict[int, tuple[int, int]]] = {}
        self._ends: dict[_Key, int] = {}

    def join(self, target: str, at: float) -> None:
        """A target that the scenario does not name is there from ``at`` on, if it is not yet."""
        if target not in self._targets:
            self._targets[target] = _Target(self._general, self._start, at)

    def turn(self, target: str, at: float, weight: int, lag: float) -> None:
        """From ``at`` on the canary has ``weight`` thousandths; what was drawn beyond is drawn again when asked for."""
        share = weight / FULL_WEIGHT
        flows = self._targets[target].flows
        flows["canary"].turn(at, share)
        flows["stable"].turn(at, 1 - share)
        for key, spans in self._drawn.items():
            if key[0] == target:
                kept = {begin: (end, bad) for begin, (end, bad) in spans.items() if end - lag <= at}
                self._drawn[key] = kept
                self._ends[key] = max((end for end, _ in kept.values()), default=0)

    def ready(self, target: str, track: str, at: float) -> int:
        """Ready endpoints behind one track's Service."""
        return self._targets[target].tracks[track].ready.at(at)

    def version(self, target: str, at: float, revision: str) -> str:
        """The revision that the stable pods carry; where the scenario does not say it, they got ``revision`` in time."""
        return self._targets[target].tracks["stable"].version.at(at) or revision

    def template(self, target: str, at: float) -> str:
        """What identifies the canary's pod template."""
        return self._targets[target].tracks["canary"].template.at(at)

    def reading(
        self, subject: Subject, after: int, now: float, cuts: Sequence[int] | None, *, tail: bool = True
    ) -> tuple[Reading, dict[float, int]]:
        """What is answered at ``now`` about the rows after ``after``, and of how many instants each row is made.

        ``cuts`` None: one row for each instant. Else rows are summed up between these instants. Without ``tail`` the
        rows that are not settled yet are left out.
        """
        series = subject.series
        after = grid(after, series.interval)
        if any(begin <= now < end for begin, end in self._silent):
            return Reading(after, after, problem="Prometheus does not answer"), {}
        through = max(after, grid(now - series.settle, series.interval))
        if subject.past:
            return Reading(after, through), {}  # before the scenario there was nothing
        newest = grid(now, series.interval)
        settled = self._bounds(series, after, through, cuts)
        unsettled = self._bounds(series, through, newest, None) if tail and newest > through else []
        made = {float(end): (end - begin) // series.interval for begin, end in settled}
        if settled and series.kind == "uptime" and self._surely_up(subject, settled[0][0], settled[-1][1]):
            # Most rows of a long launch are such, and nothing but up or down is asked of them.
            rows = [Row(float(end), _MANY, 0.0) for _, end in settled]
        else:
            rows = [row for begin, end in settled if (row := self._row(subject, begin, end)) is not None]
        late = [row for begin, end in unsettled if (row := self._row(subject, begin, end)) is not None]
        self._forget(subject, after)
        return Reading(after, through, tuple(rows), tuple(late)), made

    def _surely_up(self, subject: Subject, begin: int, end: int) -> bool:
        """Whether nothing changes in that span, and of so many requests so few fail that half of them cannot."""
        target, series = self._targets[subject.target], subject.series
        track, flow = target.tracks[subject.track], target.flows[subject.track]
        share = target.share(series, subject.track)
        first, last = begin - series.lag, end - series.lag
        if share is None or share.cuts(first, last) or track.ready.cuts(first, last) or flow.turns(first, last):
            return False
        failing = share.at(first)
        each = flow.between(first, first + series.interval)
        return failing is not None and failing < _SURELY_UP and each >= _MANY and track.ready.at(first) > 0

    def _bounds(self, series: Series, after: int, through: int, cuts: Sequence[int] | None) -> list[tuple[int, int]]:
        """The spans that become one row each, in order."""
        step = series.interval
        if through <= after:
            return []
        window = self._windows.get(series)
        if cuts is not None and window is None and series.kind not in ("incidents", "uptime") and not self._silent:
            # By far the most frequent case, in short.
            inside = [cut for cut in cuts if after < cut < through and cut % step == 0]
            if not inside and through - after <= LONG_ROW * MOST_FINE_ROWS:
                return [(after, through)]
        fine = after if cuts is None else through
        coarse: set[int] = set(cuts or ())
        if series.kind == "incidents":
            # That no alert fired must be proven without long gaps.
            coarse.update(range(after, through, PROOF_STEP))
        if series.kind == "uptime":
            # Nor is it known for longer than a minute without a row.
            coarse.update(range(after, through, UPTIME_STEP))
        if window is not None:
            fine = min(fine, grid(through - window - step, step))
        if (through - fine) // step > MOST_FINE_ROWS:
            fine = through - MOST_FINE_ROWS * step
            coarse.update(range(after, fine, ceil(LONG_ROW / step) * step))
        fine = max(after, fine)
        edges = {after, fine, *(cut for cut in coarse if after < cut < fine and cut % step == 0)}
        gaps = [(grid(begin, step), ceil(end / step) * step + step) for begin, end in self._silent if end > after]
        edges |= {edge for gap in gaps for edge in gap if after < edge < fine}
        ends = sorted(edges)
        if series.kind == "value":
            instants = range(fine + step, through + 1, step)
            wide = max(1, ceil(len(instants) / VALUE_ROWS)) if cuts is not None else 1
            # Counted from the newest; the oldest is there too, for a window must be covered.
            chosen = sorted({*instants[::-1][::wide], *instants[:1], *ends[1:]})
            spans = [(end - step, end) for end in chosen]
        else:
            ends += range(fine + step, through + 1, step)
            spans = list(pairwise(ends))
        return [(a, b) for a, b in spans if not any(begin < b and a < end - step for begin, end in gaps)]

    def _row(self, subject: Subject, begin: int, end: int) -> Row | None:
        series = subject.series
        if series.kind == "incidents":
            spans = [
                (first, last)
                for first, last, severity, labels in self._fired
                if _selects(series.total, severity, labels)
            ]
            begun = sum(begin < first <= end for first, _ in spans)
            firing = sum(first <= end < last or begin < first <= end for first, last in spans)
            return Row(float(end), float(firing), float(begun))
        target = self._targets[subject.target]
        if series.kind == "value":
            value = target.metrics.get(series.metric, _SILENT).at(end - series.lag)
            spread = target.spreads.get(series.metric) if series.with_error else _SURE
            # An edited plan may ask for an error of which the scenario says nothing.
            return None if value is None or spread is None else Row(float(end), spread.at(end - series.lag), value)
        if series.kind == "recorded" and series.metric == RESTARTS:
            so_far = target.tracks[subject.track].restarts
            restarts = float(max(0, so_far.at(end - series.lag) - so_far.at(begin - series.lag)))
            return Row(float(end), restarts, restarts)
        if series.kind == "uptime" and not target.tracks[subject.track].ready.at(end - series.lag):
            return Row(float(end), 1.0, 1.0)
        share = target.share(series, subject.track)
        if series.kind in ("ratio", "latency") and share is not None and share.at(end - series.lag) is None:
            return None
        requests = target.flows[subject.track].between(begin - series.lag, end - series.lag)
        if share is None or not requests:
            return Row(float(end), float(requests), 0.0)
        what = _BAD.get(series.metric, series.metric)
        key = (subject.target, subject.track, what, series.edge)
        bad = self._bad(key, target.flows[subject.track], share, series.lag, begin, end)
        return Row(float(end), float(requests), float(bad))

    # Draws

    def _bad(
        self,
        key: _Key,
        flow: _Flow,
        share: Steps[float] | Steps[float | None],
        lag: float,
        begin: int,
        end: int,
    ) -> int:
        """Bad events of a span; parts of what was drawn before are taken out of it."""
        spans = self._drawn.setdefault(key, {})
        known = spans.get(begin)
        if known is not None:
            until, bad = known
            if until == end:
                return bad
            if until < end:
                return bad + self._bad(key, flow, share, lag, until, end)
            first = self._part(key, flow, share, lag, (begin, end, until), bad)
            spans[begin], spans[end] = (end, first), (until, bad - first)
            return first
        if begin < self._ends.get(key, 0):
            for start, (until, _) in list(spans.items()):
                if start < begin < until:
                    self._bad(key, flow, share, lag, start, begin)
                    return self._bad(key, flow, share, lag, begin, end)
            following = min((start for start in spans if begin < start < end), default=None)
            if following is not None:
                first = self._bad(key, flow, share, lag, begin, following)
                return first + self._bad(key, flow, share, lag, following, end)
        requests = flow.between(begin - lag, end - lag)
        expected = _expected(flow, share, begin - lag, end - lag)
        bad = quantile(self._chance(key, begin, end), requests, expected / requests if requests else 0.0)
        spans[begin] = (end, bad)
        self._ends[key] = max(end, self._ends.get(key, 0))
        return bad

    def _part(
        self,
        key: _Key,
        flow: _Flow,
        share: Steps[float] | Steps[float | None],
        lag: float,
        span: tuple[int, int, int],
        bad: int,
    ) -> int:
        """How many of a span's bad events lie in its first part."""
        begin, middle, end = span
        first, rest = flow.between(begin - lag, middle - lag), flow.between(middle - lag, end - lag)
        before = _expected(flow, share, begin - lag, middle - lag)
        after = _expected(flow, share, middle - lag, end - lag)
        fraction = before / (before + after) if before + after else 0.5
        drawn = quantile(self._chance(key, begin, middle, end), bad, fraction)
        return min(max(drawn, bad - rest), first)

    def _chance(self, key: _Key, *span: int) -> float:
        """A number in (0, 1) that depends on nothing but the seed and what is drawn.

        All edges of a latency share it: what is slower than one edge is slower than every smaller one.
        """
        text = "|".join((str(self._seed), *key[:3], *map(str, span)))
        return (int.from_bytes(blake2b(text.encode(), digest_size=7).digest(), "big") + 0.5) / 2**56

    def _forget(self, subject: Subject, after: int) -> None:
        """Nobody asks again for what was folded long ago."""
        series = subject.series
        what = _BAD.get(series.metric, series.metric)
        spans = self._drawn.get((subject.target, subject.track, what, series.edge))
        if spans and len(spans) > 2 * MOST_FINE_ROWS:
            for begin in [begin for begin, (end, _) in spans.items() if end < after - KEPT_SECONDS]:
                del spans[begin]


def _selects(selector: str, severity: str, labels: Mapping[str, str]) -> bool:
    """Whether a selector of ``ALERTS`` selects an alert of that severity with these labels."""
    given = {"alertstate": "firing", **labels, "severity": severity}
    for label, operator, quoted in _MATCHERS.findall(selector):
        value = quoted.replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")
        has = given.get(label, "")
        same = re.fullmatch(value, has) is not None if "~" in operator else has == value
        if same is operator.startswith("!"):
            return False
    return True


def _expected(flow: _Flow, share: Steps[float] | Steps[float | None], begin: float, end: float) -> float:
    edges = [begin, *share.cuts(begin, end), end]
    if len(edges) == 2:
        return (flow.total(end) - flow.total(begin)) * (share.at(begin) or 0.0)
    return sum((flow.total(b) - flow.total(a)) * (share.at(a) or 0.0) for a, b in pairwise(edges))


def quantile(chance: float, number: int, share: float) -> int:
    """The value that a binomial count of ``number`` with ``share`` stays at or below with that chance."""
    if number <= 0 or share <= 0:
        return 0
    if share >= 1:
        return number
    if share > 0.5:
        return number - quantile(1 - chance, number, 1 - share)
    mean = number * share
    if mean >= EXACT_BELOW:
        z = _NORMAL.inv_cdf(chance)
        # Cornish and Fisher: the third moment, which a share near 0 has much of.
        drawn = mean + z * sqrt(mean * (1 - share)) + (1 - 2 * share) * (z * z - 1) / 6
        return min(max(round(drawn), 0), number)
    mass = exp(number * log1p(-share))
    total, count, odds = mass, 0, share / (1 - share)
    while total < chance and count < number:
        count += 1
        mass *= (number - count + 1) / count * odds
        total += mass
        if mass < 1e-18 and count > mean:
            break
    return count
