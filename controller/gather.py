"""What the launches need to know in one tick, asked with as few queries as will do.

Recorded metrics are asked once for the whole fleet. A plan's own metrics are joined: those that differ only in the values
of their labels become one expression, and different ones share a request. All queries of a tick look at the same instant.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from concurrent.futures import TimeoutError as FuturesTimeoutError
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple, Protocol, TypeAlias

from controller.adapters import promql
from controller.adapters.prometheus import Answer, AnsweredSeries, QueryRefusedError, QueryUnusableError
from controller.adapters.promql import (
    KEY_LABEL,
    QUESTION_LABEL,
    Confinement,
    Matcher,
    Part,
    Question,
    edge_spellings,
    joined,
    one_of,
    question,
)
from controller.core import normal_form
from controller.core.series import RESTARTS, Reading, Row, Series, Subject, Unproven, hours_of
from controller.core.units import format_duration
from controller.errors import AdapterError, RefusedError, UnansweredError, UnusableError

WORKERS = 4
"""Queries that are under way at once; Prometheus itself runs 20."""

FLEET_POINTS = 12
"""Instants in one request for many subjects; a request for few may have more, up to MOST_POINTS."""
MOST_POINTS = 600
_POINTS_TIMES_SUBJECTS = 6_000

MOST_JOINED = 250
"""Subjects in one joined expression."""
MOST_PARTS = 50
"""Expressions in one request."""
MOST_NAMED = 250
"""More different values than this of one label, and the fleet is asked without naming them."""

SPLITS_PER_GATHER = 48
"""Requests that one gather may spend on finding the expression that spoils a joined one."""
REFUSED_AGAIN_S = 10.0
"""Seconds after which an expression that spoiled a joined request is asked again, alone."""

MANY_SUBJECTS = 1000
"""With more subjects than this, the collection of garbage rests during a gather."""

_ROUNDING = 1e-9

Key: TypeAlias = tuple[str, ...]
Count: TypeAlias = "tuple[float, float] | _Unproven | str"
"""n and x of one instant, or why they are unusable."""
Outcome: TypeAlias = dict[int, Count] | AdapterError
"""Of one subject in one request: its counts by instant (epoch milliseconds), or an error."""


class _Unproven(NamedTuple):
    """Of incidents: what fires at an instant without proof that this is all."""

    firing: float
    begun: float
    why: str


class RangeSource(Protocol):
    """What is needed of Prometheus; see :class:`controller.adapters.prometheus.Prometheus`."""

    def query_range(self, expression: str, start: float, end: float, step: float, deadline: float) -> Answer:
        """The values at start, start + step, ... up to end (epoch seconds); ``deadline`` is an instant of monotonic."""


@dataclass(slots=True, eq=False)
class _Want:
    """One subject's part of a gather: all times are epoch milliseconds."""

    subject: Subject
    after: int
    through: int
    step: int
    question: Question | None = None
    found: Mapping[int, Count] = field(default_factory=dict)  # the tail lies after `through`
    pieces: Sequence[int] = ()  # the ends of the pieces that are needed, oldest first
    answered: tuple[int, ...] = ()  # the ends of those that came
    tail_due: bool = False
    tail_came: bool = False
    problem: str = ""


class _Request(NamedTuple):
    """Some subjects asked together; ``start``, ``end`` and ``step`` in epoch milliseconds.

    ``piece`` is the settled instant that it reaches up to; 0 for one that is tail alone.
    """

    wants: list[_Want]
    start: int
    end: int
    step: int
    piece: int


class _Budget:
    """What is left of one gather; shared by its threads."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self._splits = SPLITS_PER_GATHER
        self._lock = threading.Lock()

    def split(self) -> bool:
        """Whether two more requests may be spent on a joined one that failed."""
        with self._lock:
            self._splits -= 2
            return self._splits >= 0


class Gatherer:
    """Asks one Prometheus about subjects. ``gather`` is for one thread at a time; ``close`` ends its own threads."""

    def __init__(
        self,
        prometheus: RangeSource,
        *,
        confinement: Confinement | None = None,
        workers: int = WORKERS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prometheus = prometheus
        self._confinement = confinement or Confinement()
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="gather")
        self._clock = clock
        self._questions: dict[Subject, Question | RefusedError] = {}
        # Those that failed while others of their request were answered, with the instant to ask them again and why.
        self._refused: dict[Subject, tuple[float, str]] = {}

    def close(self) -> None:
        """Stop; requests under way end with their own deadline."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def gather(self, wanted: Mapping[Subject, int], now: float, deadline_s: float) -> dict[Subject, Reading]:
        """A reading for every subject.

        ``wanted`` gives for each subject the instant (epoch seconds) after which its rows are wanted. ``now`` is the
        tick's instant (epoch seconds). Takes at most about ``deadline_s`` seconds; what is not read by then is left to
        the next gather: such a reading's ``through`` lies before the newest settled instant. Never raises for what
        Prometheus does or does not answer: that is each reading's ``problem``.
        """
        now_ms = int(now * 1000)
        with _no_collection(len(wanted)):
            wants = [_want(subject, after, now_ms, subject.series.settle) for subject, after in wanted.items()]
            self._answer(wants, wanted, now_ms, deadline_s)
            return {want.subject: _reading(want, deadline_s) for want in wants}

    def past(self, wanted: Mapping[Subject, int], until: float, deadline_s: float) -> dict[Subject, Reading]:
        """What is stored of every subject up to ``until`` (epoch seconds), by the queries of :meth:`gather`.

        All of it counts as settled, so there is no tail, and an instant at which something is unusable is a gap even
        where it is the newest. The rest is as for :meth:`gather`.
        """
        until_ms = int(until * 1000)
        wants = [_want(subject, after, until_ms, 0.0) for subject, after in wanted.items()]
        self._answer(wants, wanted, until_ms, deadline_s)
        return {want.subject: _reading(want, deadline_s, past=True) for want in wants}

    def _answer(self, wants: list[_Want], wanted: Mapping[Subject, int], now: int, deadline_s: float) -> None:
        budget = _Budget(self._clock() + deadline_s)
        self._forget(wanted)
        requests = self._requests(wants, now)
        if requests:
            self._ask_all(requests, budget)

    def _forget(self, wanted: Mapping[Subject, int]) -> None:
        if len(self._questions) > 2 * len(wanted) + 100:
            self._questions = {subject: q for subject, q in self._questions.items() if subject in wanted}
        self._refused = {subject: known for subject, known in self._refused.items() if subject in wanted}

    def _requests(self, wants: Iterable[_Want], now: int) -> list[_Request]:
        """The requests in the order in which they are sent: first what up-to-date subjects need, then the past."""
        groups: dict[tuple[object, ...], list[_Want]] = {}
        for want in wants:
            if want.subject.series.kind == "recorded":
                groups.setdefault(("recorded", want.subject.series.metric, want.step, want.through), []).append(want)
            elif self._prepare(want):
                alone = want.subject if want.subject in self._refused else None
                groups.setdefault(("own", alone, want.step, want.through), []).append(want)
        newest: list[_Request] = []
        older: list[_Request] = []
        for key, group in groups.items():
            for batch in [group] if key[0] == "recorded" else _batches(group):
                _schedule(batch, now, newest, older, recorded=key[0] == "recorded")
        older.sort(key=lambda request: request.start)
        return newest + older

    def _prepare(self, want: _Want) -> bool:
        known = self._refused.get(want.subject)
        if known is not None and self._clock() < known[0]:
            want.problem = known[1]
            return False
        prepared = self._questions.get(want.subject)
        if prepared is None:
            try:
                prepared = question(want.subject, self._confinement)
            except RefusedError as refusal:
                prepared = refusal
            self._questions[want.subject] = prepared
        if isinstance(prepared, RefusedError):
            want.problem = str(prepared)
            return False
        want.question = prepared
        return True

    def _ask_all(self, requests: Sequence[_Request], budget: _Budget) -> None:
        under_way: dict[Future[list[Outcome]], _Request] = {
            self._pool.submit(self._ask, request, budget): request for request in requests
        }
        try:
            # A little longer than the deadline: each request keeps it by itself, and says more than silence would.
            for future in as_completed(under_way, timeout=max(0.0, budget.deadline - self._clock()) + 0.2):
                self._take(under_way[future], future.result())
        except FuturesTimeoutError:
            for future in under_way:
                future.cancel()

    def _take(self, request: _Request, outcomes: Sequence[Outcome]) -> None:
        some_answered = not all(isinstance(outcome, AdapterError) for outcome in outcomes)
        for want, outcome in zip(request.wants, outcomes, strict=True):
            if isinstance(outcome, AdapterError):
                # Only a later piece may be missing without a word; the reading then ends before it.
                if not isinstance(outcome, _NotAskedError):
                    want.problem = want.problem or str(outcome)
                own_fault = isinstance(outcome, QueryRefusedError | QueryUnusableError)
                if own_fault and (some_answered or want.subject in self._refused):
                    self._refused[want.subject] = (self._clock() + REFUSED_AGAIN_S, str(outcome))
                continue
            self._refused.pop(want.subject, None)
            if request.piece:
                want.answered += (request.piece,)
            if not request.piece or request.end > request.piece:
                want.tail_came = True
            want.found = {**want.found, **outcome} if want.found else outcome

    def _ask(self, request: _Request, budget: _Budget) -> list[Outcome]:
        """An outcome for each of the request's wants, in their order."""
        if self._clock() >= budget.deadline:
            return [_NotAskedError("")] * len(request.wants)
        recorded = request.wants[0].subject.series.kind == "recorded"
        try:
            return self._recorded(request, budget) if recorded else self._own(request, budget)
        except (QueryRefusedError, QueryUnusableError) as error:
            if recorded or len(request.wants) == 1 or not budget.split():
                return [error] * len(request.wants)
        except AdapterError as error:
            return [error] * len(request.wants)
        middle = len(request.wants) // 2
        halves = (request._replace(wants=half) for half in (request.wants[:middle], request.wants[middle:]))
        return [outcome for half in halves for outcome in self._ask(half, budget)]

    def _query(self, expression: str, request: _Request, budget: _Budget) -> Answer:
        start, end, step = request.start / 1000, request.end / 1000, request.step / 1000
        return self._prometheus.query_range(expression, start, end, step, budget.deadline)

    def _recorded(self, request: _Request, budget: _Budget) -> list[Outcome]:
        """The fleet's recorded counts; all tracks and services of a record come in one answer."""
        series = request.wants[0].subject.series
        latency = series.metric == "latency"
        edges = {want.subject.series.edge for want in request.wants} | {inf} if latency else set()
        answer = self._query(_recorded_expression(request.wants, edges), request, budget)
        rows: dict[Key, AnsweredSeries] = {}
        for found in answer.series:
            label = found.labels.get
            which = _edge_of(label("le", "")) if latency else label("__name__", "")
            rows[label("namespace", ""), label("service", ""), label("track", ""), which] = found
        errors, total_key = normal_form.recorded_errors(series.interval), normal_form.recorded_requests(series.interval)
        if series.metric == RESTARTS:
            errors = total_key = normal_form.recorded_restarts(series.interval)
        elif latency:
            total_key = _edge_key(inf)
        outcomes: list[Outcome] = []
        for want in request.wants:
            subject = want.subject
            bad_key = _edge_key(subject.series.edge) if latency else errors
            total = rows.get((subject.namespace, subject.service, subject.track, total_key))
            bad = rows.get((subject.namespace, subject.service, subject.track, bad_key))
            outcomes.append(_pairs(subject.series, bad, total))
        return outcomes

    def _own(self, request: _Request, budget: _Budget) -> list[Outcome]:
        """Plans' own metrics: one expression per family and part, all in one request."""
        families: dict[tuple[object, ...], list[int]] = {}
        for place, want in enumerate(request.wants):
            assert want.question is not None
            families.setdefault(want.question.family, []).append(place)
        parts: list[Part] = []
        # Of each want: the number and the key under which the rows of its parts will be.
        addresses: dict[int, list[tuple[str, str]]] = {place: [] for place in range(len(request.wants))}
        ready: dict[str, int] = {}  # what stands in several families (the proof of life) is asked once
        for places in families.values():
            for part in joined([q for place in places if (q := request.wants[place].question) is not None]):
                number = ready.get(part.source, len(parts)) if isinstance(part.source, str) else len(parts)
                for place, key in zip(places, part.keys, strict=True):
                    addresses[place].append((str(number), key))
                if number == len(parts):
                    parts.append(part)
                    if isinstance(part.source, str):
                        ready[part.source] = number
        rows: dict[tuple[str, str], list[AnsweredSeries]] = {}
        for found in self._query(promql.request(parts, request.step // 1000), request, budget).series:
            label = found.labels.get
            rows.setdefault((label(QUESTION_LABEL, ""), label(KEY_LABEL, "")), []).append(found)
        return [
            _outcome(want.subject.series, [rows.get(address, []) for address in addresses[place]])
            for place, want in enumerate(request.wants)
        ]


class _NotAskedError(UnansweredError):
    """The time of the gather was over before this request's turn."""


@contextmanager
def _no_collection(subjects: int) -> Iterator[None]:
    """Not while a fleet's answer is decoded: it is all in use, and looking through it costs more than decoding it."""
    pause = subjects > MANY_SUBJECTS and gc.isenabled()
    if pause:
        gc.disable()
    try:
        yield
    finally:
        if pause:
            gc.enable()


def _want(subject: Subject, after: int, now: int, settle: float) -> _Want:
    step = subject.series.interval * 1000
    through = (now - round(settle * 1000)) // step * step
    return _Want(subject, after * 1000, max(through, after * 1000), step)


def _batches(wants: list[_Want]) -> list[list[_Want]]:
    """Wants that may share a request: families stay together, and neither expressions nor their parts grow without end."""
    families: dict[tuple[object, ...], list[_Want]] = {}
    for want in wants:
        assert want.question is not None
        families.setdefault(want.question.family, []).append(want)
    batches: list[list[_Want]] = [[]]
    parts = 0
    for family in families.values():
        for start in range(0, len(family), MOST_JOINED):
            some = family[start : start + MOST_JOINED]
            assert some[0].question is not None
            size = len(some[0].question.parts)
            if parts + size > MOST_PARTS or len(batches[-1]) + len(some) > MOST_JOINED + MOST_PARTS:
                batches.append([])
                parts = 0
            batches[-1] += some
            parts += size
    return [batch for batch in batches if batch]


def _schedule(wants: list[_Want], now: int, newest: list[_Request], older: list[_Request], *, recorded: bool) -> None:
    """Cut the span of some wants with one step and one newest settled instant into requests."""
    step = wants[0].step
    by_through: dict[int, list[_Want]] = {}
    for want in wants:
        by_through.setdefault(want.through, []).append(want)
    for through, group in by_through.items():
        size = max(FLEET_POINTS, min(MOST_POINTS, _POINTS_TIMES_SUBJECTS // len(group))) * step
        # The newest piece, the one that ends at `through`, is the 0th.
        pieces: dict[int, list[_Want]] = {}
        newest_alone = (through,)
        for want in group:
            first = want.after // step * step + step
            if first <= through:
                oldest = (through - first) // size
                want.pieces = [through - number * size for number in range(oldest, -1, -1)] if oldest else newest_alone
                for number in range(oldest + 1):
                    pieces.setdefault(number, []).append(want)
        if recorded:
            _schedule_recorded(group, pieces.pop(0, []), now, newest, size)
        else:
            some = pieces.pop(0, [])
            if some:
                newest.append(_piece(some, through, size))
            # Aligned at now, and each interval of it begins where the settled ones end or later.
            if now - step >= through:
                _expect_tail(group)
                start = now - ((now - through) // step - 1) * step
                newest.append(_Request(group, start, now, step, 0))
        older += [_piece(some, through - number * size, size) for number, some in pieces.items()]


def _schedule_recorded(group: list[_Want], behind: list[_Want], now: int, newest: list[_Request], size: int) -> None:
    """Rows stand only on the grid, so one request reaches over the settled instants and the tail."""
    through, step = group[0].through, group[0].step
    end = max(now // step * step, through)
    if end > through:
        _expect_tail(group)
    if behind:
        newest.append(_piece(behind, through, size)._replace(end=end))
    rest = [want for want in group if not want.pieces]
    if rest and end > through:
        newest.append(_Request(rest, through // step * step + step, end, step, 0))


def _expect_tail(wants: Iterable[_Want]) -> None:
    for want in wants:
        want.tail_due = True


def _piece(wants: list[_Want], end: int, size: int) -> _Request:
    step = wants[0].step
    start = max(end - size, min(want.after // step * step for want in wants)) + step
    return _Request(wants, start, end, step, end)


def _recorded_expression(wants: Sequence[_Want], edges: set[float]) -> str:
    series = wants[0].subject.series
    if edges:
        name = Matcher("__name__", "=", normal_form.recorded_requests_within(series.interval))
        matchers = [name, one_of("le", (text for edge in edges for text in edge_spellings(edge)))]
    else:
        records = [normal_form.recorded_requests(series.interval), normal_form.recorded_errors(series.interval)]
        if series.metric == RESTARTS:
            records = [normal_form.recorded_restarts(series.interval)]
        matchers = [one_of("__name__", records)]
    for label in normal_form.LABELS:
        values = {getattr(want.subject, label) for want in wants}
        if len(values) <= MOST_NAMED:
            matchers.append(one_of(label, values))
    # The name stands among the conditions, so that one reading takes both records from one state of the storage.
    return normal_form.recorded_reading("", series.interval, at=",".join(map(str, matchers)))


def _edge_of(text: str) -> str:
    try:
        return _edge_key(float(text))
    except ValueError:
        return ""


def _edge_key(edge: float) -> str:
    return repr(edge)


def _outcome(series: Series, parts: Sequence[Sequence[AnsweredSeries]]) -> Outcome:
    """Instants of the parts of an own metric or of incidents, each of which should be one series."""
    whole: list[AnsweredSeries | None] = []
    several: set[int] = set()
    for found in parts:
        if any(one.histogram for one in found):
            return UnusableError(_about(series, "gives histograms instead of numbers; take its classic buckets"))
        if len(found) <= 1:
            whole.append(found[0] if found else None)
            continue
        # A series may end where another begins (a pod's name in a label); only at one instant two are too many.
        values: dict[int, float] = {}
        for one in found:
            several |= values.keys() & one.values.keys()
            values.update(one.values)
        whole.append(AnsweredSeries({}, values))
    if series.kind == "incidents":
        return _incidents(*whole)
    if series.kind == "uptime":
        return _uptime(*whole)
    if series.kind == "value":
        outcome = _estimates(whole[0], whole[1]) if series.with_error else _values(whole[0])
    else:
        outcome = _pairs(series, whole[0], whole[1])
    if several and not isinstance(outcome, AdapterError):
        for instant in several:
            outcome[instant] = "gives several series where one is expected; aggregate it, for example with sum(...)"
    return outcome


def _values(found: AnsweredSeries | None) -> Outcome:
    if found is None:
        return {}
    return {t: (1.0, x) if -inf < x < inf else f"gives {_shown(x)}" for t, x in found.values.items()}


def _estimates(error: AnsweredSeries | None, value: AnsweredSeries | None) -> Outcome:
    """Values with their standard errors; one without the other is unusable, and so is an error that is none."""
    errors: Mapping[int, float] = error.values if error else {}
    outcome: dict[int, Count] = dict.fromkeys(errors, "gives a standard error without a value")
    for instant, x in (value.values if value else {}).items():
        spread = errors.get(instant)
        if not -inf < x < inf:
            outcome[instant] = f"gives {_shown(x)}"
        elif spread is None:
            outcome[instant] = "gives a value without its standard error"
        elif not 0 < spread < inf:
            outcome[instant] = f"gives {_shown(spread)} for its standard error, which must be above 0"
        else:
            outcome[instant] = (spread, x)
    return outcome


def _incidents(begun: AnsweredSeries | None, firing: AnsweredSeries | None, doubt: AnsweredSeries | None) -> Outcome:
    """Zero is what nobody counted while Prometheus was at work; while it was not, only what fires is known."""
    begun_at: Mapping[int, float] = begun.values if begun else {}
    firing_at: Mapping[int, float] = firing.values if firing else {}
    outcome: dict[int, Count] = {}
    for instant, missing in (doubt.values if doubt else {}).items():
        n, x = firing_at.get(instant, 0.0), begun_at.get(instant, 0.0)
        outcome[instant] = _Unproven(n, x, _doubt(int(missing))) if missing else (n, x)
    return outcome


def _doubt(missing: int) -> str:
    """What :func:`normal_form.alerting_doubt` found, and what to do about it."""
    if missing & normal_form.NO_WATCHDOG:
        return (
            "Prometheus shows no alert that always fires; load such a rule (alert: Watchdog, expr: vector(1)), "
            "or name the labels of the one that there is with --alertmanager-watchdog"
        )
    if missing & normal_form.NO_GROUPS:
        return (
            "Prometheus has no prometheus_rule_group_last_evaluation_timestamp_seconds, so that nothing tells whether "
            "its rules run; let it scrape itself"
        )
    late = missing // normal_form.LATE_GROUP
    what = "a rule group was" if late == 1 else f"{late} rule groups were"
    return f"{what} not evaluated in time; see prometheus_rule_group_last_evaluation_timestamp_seconds in Prometheus"


def _uptime(failed: AnsweredSeries | None, requests: AnsweredSeries | None, live: AnsweredSeries | None) -> Outcome:
    """The requests and those that failed; where there are none, whether any of the scraped targets answers."""
    failed_at: Mapping[int, float] = failed.values if failed else {}
    requests_at: Mapping[int, float] = requests.values if requests else {}
    live_at: Mapping[int, float] = live.values if live else {}
    outcome: dict[int, Count] = {}
    for instant in requests_at.keys() | live_at.keys():
        n = requests_at.get(instant, 0.0)
        if not n and live_at.get(instant) == 0:
            outcome[instant] = (1.0, 1.0)
        else:
            outcome[instant] = _settle(n, failed_at.get(instant, 0.0))
    return outcome


def _pairs(series: Series, bad: AnsweredSeries | None, total: AnsweredSeries | None) -> Outcome:
    """N and x by instant, of the counts of all and of bad events (or, for latency, of those within the edge)."""
    for found in (bad, total):
        if found is not None and found.histogram:
            return UnusableError(_about(series, "gives histograms instead of numbers; take its classic buckets"))
    latency = series.kind == "latency" or (series.metric == "latency" and series.kind == "recorded")
    # The recorded errors say 0 themselves; raw counters of errors are born with the first one.
    absent = 0.0 if series.kind == "ratio" else None
    counts = {} if bad is None else bad.values
    totals = {} if total is None else total.values
    outcome: dict[int, Count] = {}
    for instant, n in totals.items():
        x = counts.get(instant, absent)
        if x is None:
            if latency:
                outcome[instant] = (
                    f'has no bucket with le="{series.edge:g}"; write a limit that is a bucket\'s edge: auto-advance check names the nearest'
                )
            continue
        if latency:
            x = n - x if x != n else 0.0
        if 0 <= x <= n < inf:
            outcome[instant] = (n, x)
        else:
            outcome[instant] = _settle(n, x)
    if not counts.keys() <= totals.keys():
        for instant in counts.keys() - totals.keys():
            if counts[instant] != 0:
                outcome[instant] = f"gives {_shown(counts[instant])} events without a total"
    return outcome


def _settle(n: float, x: float) -> Count:
    """A pair outside of 0 <= x <= n < inf: a rounding error of a sum, or why it is unusable."""
    for name, value in (("all", n), ("bad", x)):
        if not -inf < value < inf:
            return f"gives {_shown(value)} for the count of {name} events"
    slack = _ROUNDING * max(1.0, abs(n))
    if n < 0 or x < -slack:
        return f"gives a negative count ({_shown(min(n, x))})"
    if x > n + slack:
        return f"gives {_shown(x)} bad events among {_shown(n)}"
    return n, min(max(x, 0.0), n)


def _shown(value: float) -> str:
    return "NaN" if value != value else "+Inf" if value == inf else "-Inf" if value == -inf else f"{value:g}"  # noqa: PLR0124 - NaN


def _about(series: Series, words: str) -> str:
    return f'metric "{series.metric}" {words}'


def _reading(want: _Want, deadline_s: float, *, past: bool = False) -> Reading:
    after = want.after // 1000
    through = want.after
    for end in want.pieces:
        if end not in want.answered:
            break
        through = end
    complete = not want.pieces or through == want.through
    tail_missing = complete and want.tail_due and not want.tail_came
    problem = want.problem if complete or through == want.after else ""
    if not problem and (tail_missing or (not complete and through == want.after)):
        problem = f"Prometheus did not answer within {format_duration(deadline_s)}"
    if not problem and complete and not past:
        # What is unusable now is named; what was so at an older instant is a gap, or it would stop the reading for ever.
        newest = max(want.found, default=0)
        unusable = want.found.get(newest) if newest >= want.through else None
        problem = _about(want.subject.series, unusable) if isinstance(unusable, str) else ""
    if problem:
        return Reading(after, after, problem=problem)
    settled: list[Row] = []
    tail: list[Row] = []
    unproven = ""
    for instant, count in sorted(want.found.items()):
        if instant > want.after and not isinstance(count, str):
            unproven = ""
            if isinstance(count, _Unproven):
                unproven = count.why
                if not (count.firing or count.begun):
                    continue
                row: Row = Unproven(instant / 1000, count.firing, count.begun)
            else:
                row = Row(instant / 1000, count[0], count[1])
            if instant <= through:
                settled.append(row)
            elif complete and instant > want.through:
                tail.append(row)
    if want.subject.past:
        return Reading(after, through // 1000, hours=hours_of(settled, want.subject.series.interval))
    reached = (want.through if complete else through) // 1000
    return Reading(after, reached, tuple(settled), tuple(tail), unproven=unproven)
