"""From counts to a verdict: one pure fold over the rows of a series, and the tests that read it.

A criterion is "x bad events among n, and the bad share stays below p0". Two tests read the same fold:

- the **fail side** is a detector: a mixture of likelihood ratios over seven alternatives and over the instant at
  which the harm began. By Ville's inequality the chance that it ever reaches 1/alpha while the true share stays
  below p0 is at most alpha, however often one looks (Howard, Ramdas, McAuliffe, Sekhon 2021; the weighted starts
  follow Shin, Ramdas, Rinaldo 2022).
- the **pass side** is a mixture over five better shares, of the counts since the last raise alone.

Rows are folded once, at settled instants. The tail that may still change is folded onto a copy: a fail may come of
it, a pass never.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from math import ceil, copysign, exp, floor, inf, isfinite, log, log1p
from typing import Literal

from controller.core.series import Reading, Row, Series

WORSE = (1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
"""The alternatives of the fail side, as multiples of the limit."""
BETTER = (0.75, 0.5, 0.25, 0.1, 0.0)
"""The alternatives of the pass side, as multiples of the limit."""
LARGEST_SHARE = 0.95
START_WEIGHT = 0.5
PLANNED_WEIGHT = 9 / 20
EXTENSION_WEIGHT = 1 / 20
SLOW_SERIES_SUM = 2.109742801236892
"""The sum of 1/(j ln^2 j) over j >= 2, so that weights that fall like it sum to one."""
CAP = 1e300
"""Beyond every limit that is ever compared with, and far from overflow."""
_EXACT = 2.0**53
NOT_ASKED = "not asked in this round"
NO_PROOF = "no proof that Prometheus evaluated alerts"
LONGEST_GAP = 300.0
"""Of the proof that no alert fired: seconds that may be missing, as a restart of Prometheus takes."""
KEPT_STARTS = 3
NO_DATA_SECONDS = 60.0
NO_DATA_INTERVALS = 4


class Outcome(StrEnum):
    """The four verdicts. Only a pass can raise traffic."""

    PASS = "pass"
    FAIL = "fail"
    UNDECIDED = "undecided"
    NO_DATA = "no data"


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing that must hold of one series, resolved from the plan.

    ``key`` names it within the plan and is stable under edits elsewhere (``errors below 0.5%``); ``limit`` is a share
    (0.005) of bad events for counts, which must stay below it, or the limit of a bare value in its own unit, on the
    good ``side`` of which the value must lie. ``certainty`` is 0.99 for an error of 1 % each way; None is the plain
    threshold rule over the last ``window`` seconds. Of a bare value, ``window`` is how long it must hold.
    A fail wants ``min_bad`` bad events and a pass ``min_requests`` events.
    ``at_most`` is the number of incidents that are allowed; None: it is no criterion of incidents.
    """

    key: str
    series: Series
    limit: float
    side: Literal["below", "above"]
    certainty: float | None
    window: float
    min_requests: int
    min_bad: int
    limit_text: str
    at_most: int | None = None

    @property
    def plain(self) -> bool:
        """Whether a plain rule judges it, without a certainty: a bare value, counts by threshold, or incidents."""
        return self.certainty is None or self.series.kind == "value"

    @property
    def launch_wide(self) -> bool:
        """Whether it is of no target but of the launch as a whole; its fold and its verdicts then name none."""
        return self.at_most is not None


@dataclass(frozen=True, slots=True)
class Fold:
    """Everything that the verdicts of one criterion of one target need to know of the past.

    ``began`` is the first instant of the evidence, ``last`` the newest settled instant that was walked and ``newest``
    the newest one that had a row (0: none yet), all epoch seconds on the grid. ``horizon`` is the planned number of instants (0: without an end) and ``instants``
    how many were folded. ``n`` and ``x`` run over the phase, ``pass_n`` and ``pass_x`` from ``since`` on (0: not yet).
    ``pass_instants`` is how many instants the latter are made of.
    ``anchored`` and ``pass_anchored`` say whether a row stood at the instant before; the first row without one may
    hold events from before and is only the new anchor. ``detector`` are the seven mixtures. ``window`` holds the rows
    of the plain rule.

    Of incidents, ``x`` is how many there were since the phase began, those that were open then included; a raise changes
    nothing in it. ``n`` is how many were open at once at most, ``window`` holds the first rows in which some began, and
    ``gap`` is the longest stretch without proof (from, to; epoch seconds), if it is longer than LONGEST_GAP.
    """

    began: int
    last: int
    horizon: int
    newest: int = 0
    instants: int = 0
    anchored: bool = False
    n: float = 0.0
    x: float = 0.0
    detector: tuple[float, ...] = (0.0,) * len(WORSE)
    since: int = 0
    pass_anchored: bool = False
    pass_n: float = 0.0
    pass_x: float = 0.0
    pass_instants: int = 0
    window: tuple[Row, ...] = ()
    gap: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the evidence says of one criterion of one target, with the numbers that it stands on.

    ``value`` is the bad share, or the newest bare value; ``n`` and ``x`` are the counts that the outcome rests on;
    ``span`` is the seconds that they cover. ``silent`` is for how many seconds there has been no usable row.
    ``tail`` says that the fail rests on rows that were not settled yet. ``phase_n``
    and ``phase_x`` are the counts of the whole phase. ``waited`` is the seconds of evidence since the last raise or
    retry; they stand still while there are no rows. ``lost`` says that what is missing cannot come any more.

    Of incidents, ``x`` and ``value`` are how many there were, ``n`` is the number of instants with proof, ``starts`` are
    the first instants (epoch seconds) at which some were seen to begin, and ``target`` is empty.
    """

    criterion: Criterion
    target: str
    outcome: Outcome
    value: float | None
    n: float
    x: float
    span: float
    as_of: int
    silent: float
    problem: str = ""
    tail: bool = False
    phase_n: float = 0.0
    phase_x: float = 0.0
    waited: float = 0.0
    starts: tuple[float, ...] = ()
    lost: bool = False

    @property
    def passed(self) -> bool:
        """Whether it is a pass."""
        return self.outcome is Outcome.PASS

    @property
    def passes_phase(self) -> bool:
        """Whether the counts of the whole phase pass as well, which a gate wants besides."""
        return self.criterion.plain or _passes(self.criterion, self.phase_n, self.phase_x)


def grid(instant: float, interval: int) -> int:
    """The newest instant of the interval's grid at or before this one."""
    return floor(instant / interval) * interval


def begin(criterion: Criterion, at: float, horizon: float | None) -> Fold:
    """A fold whose evidence starts at ``at`` (epoch seconds) in a phase that is planned for ``horizon`` seconds."""
    interval = criterion.series.interval
    first = _first_instant(criterion.series, at)
    instants = 0 if horizon is None else max(1, ceil(horizon / interval))
    return Fold(began=first, last=first - interval, horizon=instants)


def in_force(criterion: Criterion, fold: Fold, at: float) -> Fold:
    """The same fold with its pass evidence started anew: a weight has been in force since ``at``.

    Incidents go on being counted: a raise forgives none.
    """
    if criterion.at_most is not None:
        return fold
    since = _first_instant(criterion.series, at)
    kept = () if criterion.plain else fold.window
    return replace(fold, since=since, pass_anchored=False, pass_n=0.0, pass_x=0.0, pass_instants=0, window=kept)


def _first_instant(series: Series, at: float) -> int:
    return ceil((at + series.lag) / series.interval) * series.interval


def advance(criterion: Criterion, fold: Fold, rows: Iterable[Row], through: int) -> Fold:
    """The fold after the settled rows of the instants up to ``through``, in order.

    Instants that were walked before are left out, so the same rows twice change nothing. An instant without a row
    had no data: the clock stands still there.
    """
    rows = [row for row in rows if fold.last < row.at <= through]
    if rows:
        fold = _walk(criterion, fold, rows)
    return fold if fold.last >= through else replace(fold, last=through)


def _walk(criterion: Criterion, fold: Fold, rows: Iterable[Row]) -> Fold:
    return _fold(criterion, fold, rows) if criterion.at_most is None else _count_incidents(criterion, fold, rows)


def _count_incidents(criterion: Criterion, fold: Fold, rows: Iterable[Row]) -> Fold:
    interval = criterion.series.interval
    n, x, instants, gap = fold.n, fold.x, fold.instants, fold.gap
    newest = fold.newest or fold.began - interval
    starts = list(fold.window)
    for row in rows:
        # Nobody looked from the row before up to the interval of this one.
        unseen = int(row.at) - interval - newest
        if unseen > max(LONGEST_GAP, gap[1] - gap[0]):
            gap = (newest, newest + unseen)
        # What is open at the first row began before it. And a rule's result may come later than the rows settle: then its
        # beginning is in no row, but it is open in the next.
        total = max(x + row.x, row.n)
        if total > x and len(starts) < KEPT_STARTS:
            starts.append(Row(row.at, row.n, total - x))
        n, x = max(n, row.n), total
        newest = int(row.at)
        instants += 1
    return replace(
        fold,
        last=max(fold.last, newest),
        newest=newest,
        instants=instants,
        anchored=True,
        n=n,
        x=x,
        pass_instants=instants,
        window=tuple(starts),
        gap=gap,
    )


def _fold(criterion: Criterion, fold: Fold, rows: Iterable[Row]) -> Fold:
    rates = _rates(criterion.limit) if not criterion.plain else ()
    detector = list(fold.detector)
    window = list(fold.window)
    n, x, pass_n, pass_x = fold.n, fold.x, fold.pass_n, fold.pass_x
    instants, anchored, pass_anchored = fold.instants, fold.anchored, fold.pass_anchored
    newest, pass_instants = fold.newest, fold.pass_instants
    for row in rows:
        newest = int(row.at)
        counts_for_pass = False
        if fold.since and row.at >= fold.since:
            counts_for_pass, pass_anchored = pass_anchored, True
        if not anchored:
            anchored = True
            continue
        if criterion.plain:
            if criterion.series.kind == "value" or counts_for_pass or not fold.since:
                window.append(row)
        else:
            weight = _start_weight(instants, fold.horizon) / len(WORSE)
            good = row.n - row.x
            for k, (log_bad, log_good) in enumerate(rates):
                ratio = exp(min(row.x * log_bad + good * log_good, 690.0))
                detector[k] = min((detector[k] + weight) * ratio, CAP)
        instants += 1
        n += row.n
        x += row.x
        if counts_for_pass:
            pass_n += row.n
            pass_x += row.x
            pass_instants += 1
    if window:
        oldest = newest - criterion.window - criterion.series.interval
        window = [row for row in window if row.at > oldest]
    return Fold(
        began=fold.began,
        last=max(fold.last, newest),
        horizon=fold.horizon,
        newest=newest,
        instants=instants,
        anchored=anchored,
        n=n,
        x=x,
        detector=tuple(detector),
        since=fold.since,
        pass_anchored=pass_anchored,
        pass_n=pass_n,
        pass_x=pass_x,
        pass_instants=pass_instants,
        window=tuple(window),
    )


@lru_cache(maxsize=4096)
def _rates(limit: float) -> tuple[tuple[float, float], ...]:
    shares = [min(multiple * limit, max(LARGEST_SHARE, (1 + limit) / 2)) for multiple in WORSE]
    return tuple((log(share / limit), log1p(-share) - log1p(-limit)) for share in shares)


def _start_weight(instant: int, horizon: int) -> float:
    """How much of the error is spent on harm that begins at this instant (0 is the first); all of them sum to 1."""
    if instant == 0:
        return START_WEIGHT
    if instant <= horizon:
        return PLANNED_WEIGHT / horizon
    rest = EXTENSION_WEIGHT if horizon else 1 - START_WEIGHT
    j = instant - horizon + 1
    return rest / (SLOW_SERIES_SUM * j * log(j) ** 2)


@lru_cache(maxsize=4096)
def _better(limit: float) -> tuple[tuple[tuple[float, float], ...], float]:
    """Per alternative the logs of the ratios of a bad and a good event; and that of a good one if none were bad."""
    base = log1p(-limit)
    return tuple((log(multiple), log1p(-multiple * limit) - base) for multiple in BETTER if multiple), -base


def log_evidence_of_pass(n: float, x: float, limit: float) -> float:
    """The log of the mixture of likelihood ratios that the bad share is below ``limit``, given x bad among n."""
    rates, none_bad = _better(limit)
    good = n - x
    terms = [x * log_bad + good * log_good for log_bad, log_good in rates]
    if not x:
        terms.append(n * none_bad)
    top = max(terms)
    total = 0.0
    for term in terms:
        total += exp(term - top)
    return top + log(total / len(BETTER))


def bar(criterion: Criterion) -> float:
    """The log of what the evidence must reach either way: 1/alpha. Corrections of alpha belong here."""
    assert criterion.certainty is not None
    return -log(1 - criterion.certainty)


def judge(criterion: Criterion, target: str, fold: Fold, reading: Reading | None, now: float) -> Verdict:
    """The verdict at ``now`` of a fold that holds all settled rows of ``reading``; None: nothing was asked."""
    # A fold that has just begun is ahead of what was asked for: the rows before it are not its own.
    tail = tuple(row for row in reading.tail if row.at > fold.last) if reading else ()
    problem = reading.problem if reading else NOT_ASKED
    latest = _walk(criterion, fold, tail) if tail else fold
    waiting_since = max(latest.newest, fold.since, fold.began)
    silent = max(0.0, now - criterion.series.lag - waiting_since)
    if not problem and silent > criterion.series.settle + NO_DATA_INTERVALS * criterion.series.interval:
        problem = "no samples" if criterion.at_most is None else NO_PROOF
    missing = latest.gap[1] - latest.gap[0]
    if missing and not problem:
        problem = f"no proof for {_span_text(*latest.gap)}"
        # What is unknown stays so, however many rows have come since.
        silent = max(silent, float(missing))
    if criterion.at_most is not None:
        outcome, resting, on_tail = _judge_incidents(criterion.at_most, fold, latest)
    elif criterion.plain:
        outcome, resting, on_tail = _judge_plainly(criterion, fold, latest)
    else:
        outcome, resting, on_tail = _judge_counts(criterion, fold, latest)
    if problem and outcome is not Outcome.FAIL:
        outcome = Outcome.NO_DATA
    n, x, value = resting
    # Incidents that no settled row has counted yet wait for the first one, whatever the tail says.
    waited = latest if criterion.at_most is None else fold
    return Verdict(
        criterion=criterion,
        target=target,
        outcome=outcome,
        value=value,
        n=n,
        x=x,
        span=max(0.0, latest.newest - (fold.since or fold.began)),
        as_of=latest.newest,
        silent=silent,
        problem=problem,
        tail=on_tail,
        phase_n=fold.n,
        phase_x=fold.x,
        waited=float(waited.pass_instants * criterion.series.interval),
        starts=() if criterion.at_most is None else tuple(row.at for row in (latest if on_tail else fold).window),
        lost=bool(missing) and outcome is Outcome.NO_DATA,
    )


def _span_text(start: int, end: int) -> str:
    """``2025-11-01 14:00-14:20 UTC``, with the day again where it is another one."""
    first, last = (datetime.fromtimestamp(at, UTC) for at in (start, end))
    until = f"{last:%H:%M}" if first.date() == last.date() else f"{last:%Y-%m-%d %H:%M}"
    return f"{first:%Y-%m-%d %H:%M}-{until} UTC"


_Counts = tuple[float, float, float | None]


def _judge_counts(criterion: Criterion, fold: Fold, latest: Fold) -> tuple[Outcome, _Counts, bool]:
    limit = bar(criterion)
    for evidence, on_tail in ((fold, False), (latest, True)):
        total = sum(evidence.detector)
        if evidence.x >= criterion.min_bad and total > 0 and log(total) >= limit:
            return Outcome.FAIL, _counts(evidence.n, evidence.x), on_tail
    outcome = Outcome.PASS if _passes(criterion, fold.pass_n, fold.pass_x) else Outcome.UNDECIDED
    return outcome, _counts(fold.pass_n, fold.pass_x), False


def _passes(criterion: Criterion, n: float, x: float) -> bool:
    return n > 0 and n >= criterion.min_requests and log_evidence_of_pass(n, x, criterion.limit) >= bar(criterion)


def _counts(n: float, x: float) -> _Counts:
    return n, x, (x / n if n else None)


def _judge_incidents(at_most: int, fold: Fold, latest: Fold) -> tuple[Outcome, _Counts, bool]:
    """More than are allowed fails at once and for good; fewer pass, as far as the settled rows go."""
    for evidence, on_tail in ((fold, False), (latest, True)):
        if evidence.x > at_most:
            return Outcome.FAIL, (float(evidence.instants), evidence.x, evidence.x), on_tail
    outcome = Outcome.PASS if fold.instants else Outcome.UNDECIDED
    return outcome, (float(fold.instants), fold.x, fold.x if fold.instants else None), False


def _judge_plainly(criterion: Criterion, fold: Fold, latest: Fold) -> tuple[Outcome, _Counts, bool]:
    """Good all the time of the window passes, bad all of it fails; too short or too few samples are undecided."""
    judged = _judge_values if criterion.series.kind == "value" else _judge_share
    failing, counts = judged(criterion, latest)
    if failing is Outcome.FAIL:
        return failing, counts, latest is not fold
    if latest.newest - fold.newest > criterion.series.settle + NO_DATA_INTERVALS * criterion.series.interval:
        # The data have just come back: what was good before they were gone says nothing of now.
        _, counts = judged(criterion, latest)
        return Outcome.UNDECIDED, counts, False
    outcome, counts = judged(criterion, fold)
    return outcome, counts, False


def _judge_values(criterion: Criterion, fold: Fold) -> tuple[Outcome, _Counts]:
    rows = [row for row in fold.window if row.at > fold.newest - criterion.window]
    newest = fold.window[-1].x if fold.window else None
    counts: _Counts = (float(len(rows)), float(sum(not _good(criterion, row.x) for row in rows)), newest)
    covered = bool(rows) and rows[-1].at - rows[0].at >= criterion.window - 2 * criterion.series.interval
    if len(rows) >= max(criterion.min_requests, 1) and covered:
        if counts[1] == 0 and fold.since and fold.newest - fold.since >= criterion.window:
            return Outcome.PASS, counts
        if counts[1] == len(rows):
            return Outcome.FAIL, counts
    return Outcome.UNDECIDED, counts


def _good(criterion: Criterion, value: float) -> bool:
    return value < criterion.limit if criterion.side == "below" else value > criterion.limit


def _judge_share(criterion: Criterion, fold: Fold) -> tuple[Outcome, _Counts]:
    rows = [row for row in fold.window if row.at > fold.newest - criterion.window]
    n, x = sum(row.n for row in rows), sum(row.x for row in rows)
    counts = _counts(n, x)
    if n and x >= max(criterion.min_bad, 1) and x / n >= criterion.limit:
        return Outcome.FAIL, counts
    covered = bool(fold.since) and fold.newest - fold.since >= criterion.window
    if covered and n >= max(criterion.min_requests, 1) and x / n < criterion.limit:
        return Outcome.PASS, counts
    return Outcome.UNDECIDED, counts


def requests_to_pass(criterion: Criterion, n: float, x: float) -> float:
    """How many more requests, all good, would make the criterion pass; 0 where it passes already."""
    if _passes(criterion, n, x):
        return 0.0
    more = 64.0
    while not _passes(criterion, n + more, x):
        more *= 2
        if more > 1e12:
            return inf
    low, high = 0.0, more
    while high - low > max(1.0, high / 1000):
        middle = (low + high) / 2
        low, high = (low, middle) if _passes(criterion, n + middle, x) else (middle, high)
    return ceil(high)


def encode(fold: Fold) -> str:
    """The fold as one string for status, exact to the last bit."""
    numbers = (fold.n, fold.x, fold.pass_n, fold.pass_x, *fold.detector)
    window = ",".join(":".join(map(_encode_number, (row.at, row.n, row.x))) for row in fold.window)
    whole = (fold.began, fold.last, fold.horizon, fold.newest, fold.instants, fold.since)
    head = (*whole, int(fold.anchored), int(fold.pass_anchored), fold.pass_instants)
    gap = f"{fold.gap[0]}-{fold.gap[1]}" if any(fold.gap) else ""
    # Two spaces before a gap where the window is empty: the places tell them apart.
    return " ".join((*map(str, head), *map(_encode_number, numbers), window, gap)).rstrip()


def _encode_number(number: float) -> str:
    """The shortest exact text: status holds hundreds of these. -0.0, infinities and NaN keep their own forms."""
    number = float(number)
    if number.is_integer() and abs(number) < _EXACT and (number or copysign(1.0, number) > 0):
        return str(int(number))
    mantissa, p, exponent = number.hex().partition("p")
    return mantissa.rstrip("0").rstrip(".") + p + exponent if p else mantissa


def decode(text: str) -> Fold:
    """The fold that ``encode`` wrote.

    Raises:
        ValueError: the text is not one that ``encode`` wrote.
    """
    parts = text.split(" ")
    whole = (int(part) for part in parts[:9])
    began, last, horizon, newest, instants, since, anchored, pass_anchored, pass_instants = whole
    n, x, pass_n, pass_x, *detector = (_decode_number(part) for part in parts[9 : 13 + len(WORSE)])
    if len(detector) != len(WORSE):
        raise ValueError("the fold has not as many numbers as it should")
    rest = parts[13 + len(WORSE) :]
    rows = rest[0].split(",") if rest and rest[0] else []
    window = tuple(_decode_row(row) for row in rows)
    gap_from, gap_to = (int(part) for part in rest[1].split("-")) if len(rest) > 1 else (0, 0)
    return Fold(
        began=began,
        last=last,
        horizon=horizon,
        newest=newest,
        instants=instants,
        anchored=bool(anchored),
        n=n,
        x=x,
        detector=tuple(detector),
        since=since,
        pass_anchored=bool(pass_anchored),
        pass_n=pass_n,
        pass_x=pass_x,
        pass_instants=pass_instants,
        window=window,
        gap=(gap_from, gap_to),
    )


def _decode_row(text: str) -> Row:
    at, n, x = (_decode_number(number) for number in text.split(":"))
    return Row(at, n, x)


def _decode_number(text: str) -> float:
    try:
        number = float.fromhex(text) if "x" in text else float(text)
    except OverflowError:
        number = inf
    if not isfinite(number):
        # NaN would compare as false with every limit: a detector that can never fail.
        raise ValueError(f"{text!r} is no finite number")
    return number
