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

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from math import ceil, exp, expm1, floor, inf, log, log1p
from typing import Literal

from controller.core.looks import NO_LOOKS, Looked, Looks, add_looks, decided, standard_errors, waits_for_gate
from controller.core.series import RESTARTS, Pair, Reading, Row, Series

WORSE = (1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
"""The alternatives of the fail side, as multiples of the limit."""
BETTER = (0.75, 0.5, 0.25, 0.1, 0.0)
"""The alternatives of the pass side, as multiples of the limit."""
WORSE_BY = (1.02, 1.1, 1.25, 1.5, 2.0, 4.0, 10.0)
"""Of a difference: how much more a bad event of the canary is bet on than one of stable allows."""
BETTER_BY = (0.98, 0.9, 0.75, 0.5, 0.0)
WORLD_RATIO = 2.0
"""A canary that is proven more than so many times as bad as stable is to blame, however bad stable is."""
IMPOSSIBLE = -1e12
"""The log of what cannot be, as a finite number: status holds no infinities."""
LARGEST_SHARE = 0.95
DOWN_SHARE = 0.5
"""From this share of failed requests on, an interval counts as down."""
START_WEIGHT = 0.5
PLANNED_WEIGHT = 9 / 20
EXTENSION_WEIGHT = 1 / 20
SLOW_SERIES_SUM = 2.109742801236892
"""The sum of 1/(j ln^2 j) over j >= 2, so that weights that fall like it sum to one."""
CAP = 1e300
"""Beyond every limit that is ever compared with, and far from overflow."""
NOT_ASKED = "not asked in this round"
NO_PROOF = "no proof that Prometheus evaluated alerts"
LONGEST_GAP = 300.0
"""Of the proof that no alert fired: seconds that may be missing, as a restart of Prometheus takes."""
KEPT_STARTS = 3
PRESENT_SECONDS = 300.0
"""The present traffic is that of the last so many seconds, and of at most as many before them."""
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
    ``at_most`` is the number of incidents, restarts or holds that are allowed; None: it counts none of them.
    ``tests`` is how many tests of its phase (criteria times targets) share the error of a false alarm.
    ``versus`` compares with the stable track: its share must stay below ``limit`` times stable's (``ratio``), or below
    stable's plus ``limit`` (``difference``). ``stable`` is the test that tells us from the world, see :func:`us_or_world`.
    Of uptime, ``limit`` is the part of the planned time that it may be down.
    ``looks`` is at how many instants of its phase the plan lets a value with a standard error be judged; 0: it is not
    judged so.
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
    tests: int = 1
    versus: Literal["", "ratio", "difference", "stable"] = ""
    looks: int = 0

    @property
    def plain(self) -> bool:
        """Whether no evidence is weighed for it: a value, counts by threshold, or an exact count."""
        return self.certainty is None or self.series.kind == "value"

    @property
    def launch_wide(self) -> bool:
        """Whether it is of no target but of the launch as a whole; its fold and its verdicts then name none."""
        return self.series.kind in ("incidents", "holds")

    @property
    def of_record(self) -> bool:
        """Whether the launch's own record answers it, and nobody is asked: how often it was held."""
        return self.series.kind == "holds"

    @property
    def restarts(self) -> bool:
        """Whether it counts restarts of the canary's pods."""
        return self.series.kind == "recorded" and self.series.metric == RESTARTS

    @property
    def budget(self) -> bool:
        """Whether it spends a budget of time: it may fail at any time and passes only at the end of its phase."""
        return self.series.kind == "uptime"

    @property
    def exact(self) -> bool:
        """Whether it is counted and not estimated: incidents, restarts, uptime."""
        return self.launch_wide or self.restarts or self.budget


@dataclass(frozen=True, slots=True)
class Beside:
    """What a comparison keeps of the stable track, of the instants that both tracks have.

    ``n`` and ``x`` run over the phase, ``pass_n`` and ``pass_x`` since the last raise, as the fold's own. ``evidence``
    are the logs of the pass side's alternatives since the raise, ``phase_evidence`` those of the phase: they are sums
    over instants, for the split of the traffic differs from one to the next. ``detector`` is that of the stable track
    against the limit, where us are to be told from the world.
    """

    n: float = 0.0
    x: float = 0.0
    pass_n: float = 0.0
    pass_x: float = 0.0
    evidence: tuple[float, ...] = ()
    phase_evidence: tuple[float, ...] = ()
    detector: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Trail:
    """What no verdict rests on, but what is told of one: since when it has been bad, and how much traffic there is.

    ``bad_since`` is the instant after which the harm began (epoch seconds; 0: with the evidence), as Page's sum of the
    mildest alternative has it, and ``n``, ``x``, ``stable_n``, ``stable_x`` are the fold's counts up to there. ``weight``
    is that sum, where it does not follow from the counts: of comparisons. ``marks`` are two instants and the fold's
    ``pass_n`` at each of them: the later one is at most PRESENT_SECONDS old, the earlier one as much older.
    """

    bad_since: int = 0
    n: float = 0.0
    x: float = 0.0
    stable_n: float = 0.0
    stable_x: float = 0.0
    weight: float = 0.0
    marks: tuple[int, float, int, float] | None = None


_NO_TRAIL = Trail()


@dataclass(frozen=True, slots=True)
class Fold:
    """Everything that the verdicts of one criterion of one target need to know of the past.

    ``began`` is the first instant of the evidence, ``last`` the newest settled instant that was walked and ``newest``
    the newest one that had a row (0: none yet), all epoch seconds on the grid. ``horizon`` is the planned number of instants (0: without an end) and ``instants``
    how many were folded. ``n`` and ``x`` run over the phase, ``pass_n`` and ``pass_x`` from ``since`` on (0: not yet).
    ``pass_instants`` is how many instants the latter are made of.
    ``anchored`` and ``pass_anchored`` say whether a row stood at the instant before; the first row without one may
    hold events from before and is only the new anchor. ``detector`` are the seven mixtures. ``window`` holds the rows
    of the plain rule. ``bursts`` is how much more than by chance the bad events of the stable track vary (1 or
    more), from which follows what the evidence is divided by; it stays as it is from the beginning on. ``beside`` is of
    comparisons only.
    ``trail`` is what is told besides.

    Of uptime, ``n`` is for how many seconds something is known and ``x`` for how many of them it was down.

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
    bursts: float = 1.0
    beside: Beside | None = None
    trail: Trail = _NO_TRAIL


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

    Of uptime, ``n`` are the seconds of which something is known, ``x`` those that it was down, ``unknown`` those in
    between and ``allowed`` the budget. ``stable_n`` and ``stable_x`` are the stable track's counts in the same time;
    None: they were not looked at. ``world``: stable is as bad, so that it is not the canary's fault. ``alone``: all
    traffic is the canary's, and there is nothing to compare it with. ``bursts`` is that of the fold.

    Of a proven fail, ``n`` and ``x`` are what came after ``bad_since`` (epoch seconds; 0: all of the phase), which is when
    the harm seems to have begun; so are stable's, unless ``stable_whole`` says that they are of the whole phase. ``rate`` is
    the requests per second of the last minutes (0: not known), ``due`` when the gate or the budget is judged, and
    ``terms`` are the logs of a comparison's evidence of a pass.

    Of a value at looks (``looked``), ``n`` is how many looks are over, ``x`` in how many of them it was on the bad side.
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
    bursts: float = 1.0
    stable_n: float | None = None
    stable_x: float | None = None
    phase_compares: bool = False
    world: bool = False
    alone: bool = False
    unknown: float = 0.0
    allowed: float = 0.0
    bad_since: int = 0
    stable_whole: bool = False
    rate: float = 0.0
    due: float | None = None
    terms: tuple[float, ...] = ()
    looked: Looked | None = None

    @property
    def passed(self) -> bool:
        """Whether it is a pass."""
        return self.outcome is Outcome.PASS

    @property
    def passes_phase(self) -> bool:
        """Whether the counts of the whole phase pass as well, which a gate wants besides."""
        if self.criterion.versus:
            return self.phase_compares
        return self.criterion.plain or _passes(self.criterion, self.phase_n, self.phase_x, self.bursts)


def grid(instant: float, interval: int) -> int:
    """The newest instant of the interval's grid at or before this one."""
    return floor(instant / interval) * interval


def us_or_world(criterion: Criterion) -> Criterion:
    """What is folded beside a criterion so that, when it fails, one knows whether stable is as bad in the same time."""
    return replace(criterion, key=f"{criterion.key} beside stable", versus="stable")


def begin(criterion: Criterion, at: float, horizon: float | None, bursts: float = 1.0) -> Fold:
    """A fold whose evidence starts at ``at`` (epoch seconds) in a phase that is planned for ``horizon`` seconds."""
    interval = criterion.series.interval
    first = _first_instant(criterion.series, at)
    instants = 0 if horizon is None else max(1, ceil(horizon / interval))
    return Fold(
        began=first,
        last=first - interval,
        horizon=instants,
        bursts=1.0 if criterion.plain else max(1.0, bursts),
        beside=_nothing_beside(criterion) if criterion.versus else None,
    )


def _nothing_beside(criterion: Criterion) -> Beside:
    if criterion.versus == "stable":
        return Beside(detector=(0.0,) * len(WORSE))
    return Beside(evidence=(0.0,) * len(BETTER), phase_evidence=(0.0,) * len(BETTER))


def in_force(criterion: Criterion, fold: Fold, at: float, *, alone: bool = False) -> Fold:
    """The same fold with its pass evidence started anew: a weight has been in force since ``at``.

    Incidents, looks and time that it was down go on being counted: a raise forgives none. ``alone``: the canary has all
    traffic now; what was proven of it beside stable stays, for it cannot be proven again.
    """
    if criterion.launch_wide or criterion.budget or (criterion.versus and alone):
        return fold
    since = _first_instant(criterion.series, at)
    kept = () if criterion.plain and not criterion.looks else fold.window
    return replace(
        fold,
        since=since,
        pass_anchored=False,
        pass_n=0.0,
        pass_x=0.0,
        pass_instants=0,
        window=kept,
        trail=replace(fold.trail, marks=None),
        beside=None
        if fold.beside is None
        else replace(fold.beside, pass_n=0.0, pass_x=0.0, evidence=(0.0,) * len(fold.beside.evidence)),
    )


def _first_instant(series: Series, at: float) -> int:
    return ceil((at + series.lag) / series.interval) * series.interval


def advance(criterion: Criterion, fold: Fold, rows: Iterable[Row], through: int, looks: Looks = NO_LOOKS) -> Fold:
    """The fold after the settled rows of the instants up to ``through``, in order.

    Instants that were walked before are left out, so the same rows twice change nothing. An instant without a row
    had no data: the clock stands still there. ``looks`` is when a value with a standard error is looked at.
    """
    rows = [row for row in rows if fold.last < row.at <= through]
    if rows:
        fold = _walk(criterion, fold, rows, looks)
    return fold if fold.last >= through else replace(fold, last=through)


def _walk(criterion: Criterion, fold: Fold, rows: Iterable[Row], looks: Looks = NO_LOOKS) -> Fold:
    if criterion.looks:
        return _keep_looks(criterion, fold, rows, looks)
    if criterion.launch_wide:
        return _count_incidents(criterion, fold, rows)
    if criterion.restarts:
        return _count_restarts(fold, rows)
    if criterion.budget:
        return _count_uptime(criterion, fold, rows)
    return _compare(criterion, fold, rows) if criterion.versus else _fold(criterion, fold, rows)


def _keep_looks(criterion: Criterion, fold: Fold, rows: Iterable[Row], looks: Looks) -> Fold:
    """Every row says that there are data; only those at a look are kept."""
    rows = tuple(rows)
    newest = int(rows[-1].at)
    return replace(
        fold,
        last=max(fold.last, newest),
        newest=newest,
        instants=fold.instants + len(rows),
        anchored=True,
        pass_instants=fold.pass_instants + sum(bool(fold.since) and row.at >= fold.since for row in rows),
        window=add_looks(fold.window, rows, looks, criterion.looks, criterion.series.interval),
    )


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


def _count_restarts(fold: Fold, rows: Iterable[Row]) -> Fold:
    x, instants, anchored, pass_anchored = fold.x, fold.instants, fold.anchored, fold.pass_anchored
    newest, pass_instants = fold.newest, fold.pass_instants
    for row in rows:
        newest = int(row.at)
        if fold.since and row.at >= fold.since:
            pass_instants += pass_anchored
            pass_anchored = True
        if anchored:
            x += row.x
            instants += 1
        anchored = True
    return replace(
        fold,
        last=max(fold.last, newest),
        newest=newest,
        instants=instants,
        anchored=anchored,
        n=x,
        x=x,
        pass_anchored=pass_anchored,
        pass_instants=pass_instants,
    )


def _count_uptime(criterion: Criterion, fold: Fold, rows: Iterable[Row]) -> Fold:
    interval = criterion.series.interval
    bridged = max(NO_DATA_SECONDS, float(NO_DATA_INTERVALS * interval))
    n, x, instants, newest, anchored = fold.n, fold.x, fold.instants, fold.newest, fold.anchored
    for row in rows:
        if anchored:
            # Where scrapes are further apart than rows, a row tells of the instants without one before it as well.
            since_last = row.at - newest
            known = since_last if since_last <= bridged else float(interval)
            n += known
            if row.n > 0 and row.x >= DOWN_SHARE * row.n:
                x += known
            instants += 1
        elif row.at - fold.began <= bridged:
            # A canary's first request may come a little after its weight.
            n += row.at - fold.began
        anchored, newest = True, int(row.at)
    return replace(
        fold,
        last=max(fold.last, newest),
        newest=newest,
        instants=instants,
        anchored=anchored,
        n=n,
        x=x,
        pass_instants=instants,
    )


_Rates = tuple[tuple[float, float, float], ...]
"""Of each alternative the logs of what a bad event of the canary, one of stable, and the interval itself are worth."""


def _ratio_rates(limit: float, split: float, multiples: tuple[float, ...]) -> _Rates:
    """Whose each bad event is, if the canary is ``multiple`` times ``limit`` times as bad, against ``limit`` times.

    ``split`` is the canary's requests for each of stable's. The product over an interval expects at most 1 wherever
    the canary's share is on the other side of the limit, whatever stable's share is and however it goes: with binomial
    counts, and so with their rarer kin, log(1 + y) <= y leaves n*p*(a - 1) - m*q*(1 - b), which is 0 at the limit.
    """
    known = limit * split
    made = []
    for multiple in multiples:
        other = multiple * known
        mine = log(multiple) + log1p(known) - log1p(other) if multiple else IMPOSSIBLE
        made.append((mine, log1p(known) - log1p(other), 0.0))
    return tuple(made)


def _difference_rates(limit: float, split: float, n: float, multiples: tuple[float, ...]) -> _Rates:
    """A bet on the canary's bad events that stable's pay for: what stable's share is falls out of the sum.

    By log(1 + y) <= y as above: n*p*u - m*q*u*n/m - n*u*limit <= 0 wherever p - q is on the other side of the limit.
    """
    made = []
    for multiple in multiples:
        # A bad event of stable must leave something of the bet.
        u = min(multiple - 1, 0.9 / split)
        made.append((log1p(u) if u > -1 else IMPOSSIBLE, log1p(-u * split), -n * u * limit))
    return tuple(made)


def _compare(criterion: Criterion, fold: Fold, rows: Iterable[Row]) -> Fold:
    """The fold of pairs. As the counts alone, but that each interval has a split of its own."""
    assert fold.beside is not None
    then = fold.beside
    detector, own = list(fold.detector), list(then.detector)
    evidence, phase_evidence = list(then.evidence), list(then.phase_evidence)
    n, x, pass_n, pass_x = fold.n, fold.x, fold.pass_n, fold.pass_x
    stable_n, stable_x, stable_pass_n, stable_pass_x = then.n, then.x, then.pass_n, then.pass_x
    instants, anchored, pass_anchored = fold.instants, fold.anchored, fold.pass_anchored
    newest, pass_instants = fold.newest, fold.pass_instants
    good, harm, marks = fold.trail, fold.trail.weight, fold.trail.marks
    for row in rows:
        assert isinstance(row, Pair)
        newest, before = int(row.at), newest
        counts_for_pass = False
        if fold.since and row.at >= fold.since:
            counts_for_pass, pass_anchored = pass_anchored, True
        if not anchored:
            anchored = True
            continue
        weight = _start_weight(instants, fold.horizon) / len(WORSE)
        if row.n > 0 and row.stable_n > 0:
            worse, better = _compared(criterion, row)
            for k, gain in enumerate(_gains(worse, row, fold.bursts)):
                harm += gain if k == 0 and not own else 0.0
                detector[k] = min((detector[k] + weight) * exp(min(gain, 690.0)), CAP)
            if phase_evidence:
                for k, gain in enumerate(_gains(better, row, fold.bursts)):
                    phase_evidence[k] = max(phase_evidence[k] + gain, IMPOSSIBLE)
                    if counts_for_pass:
                        evidence[k] = max(evidence[k] + gain, IMPOSSIBLE)
        if own:
            _bet(own, weight, row.stable_n, row.stable_x, _divided_rates(criterion.limit, fold.bursts))
        instants += 1
        n, x, stable_n, stable_x = n + row.n, x + row.x, stable_n + row.stable_n, stable_x + row.stable_x
        if counts_for_pass:
            pass_n, pass_x = pass_n + row.n, pass_x + row.x
            stable_pass_n, stable_pass_x = stable_pass_n + row.stable_n, stable_pass_x + row.stable_x
            pass_instants += 1
        if own:
            # Of the canary against the limit itself: since the same instant as the test that it stands beside.
            harm = _harm(criterion.limit, n - good.n, x - good.x)
        if harm <= 0:
            harm, good = 0.0, Trail(newest, n, x, stable_n, stable_x)
        if pass_anchored and not own:
            marks = _marked(criterion.series, marks, before, newest, pass_n, row.n)
    return replace(
        fold,
        last=max(fold.last, newest),
        newest=newest,
        instants=instants,
        anchored=anchored,
        n=n,
        x=x,
        detector=tuple(detector),
        pass_anchored=pass_anchored,
        pass_n=pass_n,
        pass_x=pass_x,
        pass_instants=pass_instants,
        beside=Beside(
            stable_n, stable_x, stable_pass_n, stable_pass_x, tuple(evidence), tuple(phase_evidence), tuple(own)
        ),
        trail=replace(good, weight=0.0 if own else harm, marks=marks),
    )


def _compared(criterion: Criterion, row: Pair) -> tuple[_Rates, _Rates]:
    split = row.n / row.stable_n
    if criterion.versus == "difference":
        limit = criterion.limit
        return (
            _difference_rates(limit, split, row.n, WORSE_BY),
            _difference_rates(limit, split, row.n, BETTER_BY),
        )
    if criterion.versus == "stable":
        return _ratio_rates(WORLD_RATIO, split, WORSE), ()
    return _ratio_rates(criterion.limit, split, WORSE), _ratio_rates(criterion.limit, split, BETTER)


def _gains(rates: _Rates, row: Pair, bursts: float) -> Iterable[float]:
    for mine, others, itself in rates:
        yield (row.x * mine + row.stable_x * others + itself) / _divisor_of_a_bet(max(mine, others), bursts)


def _bet(
    detector: list[float], weight: float, n: float, x: float, rates: tuple[tuple[float, float, float], ...]
) -> None:
    """Let the counts of one row weigh in each mixture; ``weight`` is of the harm that begins with this row."""
    good = n - x
    for k, (log_bad, log_good, divisor) in enumerate(rates):
        ratio = exp(min((x * log_bad + good * log_good) / divisor, 690.0))
        detector[k] = min((detector[k] + weight) * ratio, CAP)


def _fold(criterion: Criterion, fold: Fold, rows: Iterable[Row]) -> Fold:
    bursts = fold.bursts
    rates = () if criterion.plain else _divided_rates(criterion.limit, bursts)
    detector = list(fold.detector)
    window = list(fold.window)
    n, x, pass_n, pass_x = fold.n, fold.x, fold.pass_n, fold.pass_x
    instants, anchored, pass_anchored = fold.instants, fold.anchored, fold.pass_anchored
    newest, pass_instants = fold.newest, fold.pass_instants
    bad_since, good_n, good_x, marks = fold.trail.bad_since, fold.trail.n, fold.trail.x, fold.trail.marks
    for row in rows:
        newest, before = int(row.at), newest
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
            _bet(detector, weight, row.n, row.x, rates)
        instants += 1
        n += row.n
        x += row.x
        if counts_for_pass:
            pass_n += row.n
            pass_x += row.x
            pass_instants += 1
        if not criterion.plain:
            if _harm(criterion.limit, n - good_n, x - good_x) <= 0:
                bad_since, good_n, good_x = newest, n, x
            if pass_anchored:
                marks = _marked(criterion.series, marks, before, newest, pass_n, row.n)
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
        bursts=bursts,
        trail=Trail(bad_since, good_n, good_x, marks=marks),
    )


def _harm(limit: float, n: float, x: float) -> float:
    """What these counts weigh for the mildest alternative: above 0 wherever they do for any other one."""
    log_bad, log_good = _rates(limit)[0]
    return x * log_bad + (n - x) * log_good


_Marks = tuple[int, float, int, float]


def _marked(series: Series, marks: _Marks | None, before: int, at: int, n: float, row: float) -> _Marks:
    """The marks after the row at ``at`` with ``row`` events, ``n`` since the raise; the row before was at ``before``."""
    if marks is None:
        return at, n, at, n
    first, first_n, second, second_n = marks
    gap = at - before
    if gap > max(NO_DATA_SECONDS, NO_DATA_INTERVALS * series.interval):
        usual = (n - row - first_n) / (before - first) if before > first else 0.0
        if row < usual * gap / 2:
            # The row holds no more than its own interval: what went on in the gap nobody knows, and it is none of it.
            first, second = first + gap - series.interval, second + gap - series.interval
    if at - second >= PRESENT_SECONDS:
        return second, second_n, at, n
    return first, first_n, second, second_n


@lru_cache(maxsize=4096)
def _rates(limit: float) -> tuple[tuple[float, float], ...]:
    shares = [min(multiple * limit, max(LARGEST_SHARE, (1 + limit) / 2)) for multiple in WORSE]
    return tuple((log(share / limit), log1p(-share) - log1p(-limit)) for share in shares)


# Bursts. Bad events that come in clumps of any sizes s have the variance of chance times phi = E[s^2]/E[s]; phi is all
# that is measured. What an interval multiplies the evidence by, t for each bad event, then expects at most 1 if
# E[t^s - 1]/E[s] is not more than what the other events cost. (t^s - 1)/s is convex in s, so
# - for t < 1, clumps that are all of the size phi are the worst: to divide by hardly more than phi is enough, whatever
#   the sizes;
# - for t > 1 they are the best, and rare large ones are worse than that without an end. The bet is on geometric sizes,
#   as failures that go on with the same chance after each one have them.
# So what bets on bad events has a divisor of its own for each alternative; the pass side of counts has one for all.

_GAIN_STEPS = 16
_HALVINGS = 40


def fail_divisors(limit: float, bursts: float) -> tuple[float, ...]:
    """What each alternative of the fail side is divided by where bad events come in bursts; 1 each where they do not.

    ``limit`` is the share of bad events, ``bursts`` their burstiness. None is below ``bursts``, and the larger the
    alternative, the larger its divisor.
    """
    return tuple(_divisor(bad - good, -good, bursts, limit) for bad, good in _rates(limit))


@lru_cache(maxsize=16384)
def pass_divisor(limit: float, bursts: float) -> float:
    """What the counts of the pass side are divided by where bad events come in bursts; 1 where they do not.

    ``limit`` is the share of bad events, ``bursts`` their burstiness. It is at most bursts / (1 - limit): a chance of two
    outcomes scatters less than clumps that come whenever they like.
    """
    rates, none_bad = _better(limit)
    every = (*rates, (IMPOSSIBLE, none_bad))
    return max(_divisor(bad - good, -good, bursts, limit) for bad, good in every)


@lru_cache(maxsize=16384)
def _divided_rates(limit: float, bursts: float) -> tuple[tuple[float, float, float], ...]:
    return tuple((*rates, divisor) for rates, divisor in zip(_rates(limit), fail_divisors(limit, bursts), strict=True))


def _divisor_of_a_bet(gain: float, bursts: float) -> float:
    """Of a comparison: what is divided by where a bad event of the one track multiplies by e^gain.

    The bad events of the other track, or the interval itself, pay u = e^gain - 1 for that, in proportion; divided by c
    they still pay u/c, as (1 - v)^(bursts/c) <= 1 - v * bursts/c. The gain changes with the split of the traffic; so
    that few are computed it is rounded up.
    """
    return 1.0 if bursts <= 1 else _divisor_of_steps(max(1, ceil(gain * _GAIN_STEPS)), bursts)


@lru_cache(maxsize=16384)
def _divisor_of_steps(steps: int, bursts: float) -> float:
    gain = steps / _GAIN_STEPS
    return _divisor(gain, expm1(gain), bursts)


def _divisor(gain: float, cost: float, bursts: float, share: float = 0.0) -> float:
    """The smallest divisor c with which a bet on bad events, or against them, is fair with clumps of that burstiness.

    With g for :func:`clumped` gain/c, and ``share`` bad ones in a request: log(1 + share * g) <= cost/c. Without a share,
    ``cost`` is for each bad event that is expected: g <= cost/c.
    """
    if bursts <= 1:
        return 1.0

    def holds(divisor: float) -> bool:
        growth = clumped(gain / divisor, bursts)
        return (log1p(share * growth) if share else growth) <= cost / divisor

    low, high = bursts, 2 * bursts
    while not holds(high):
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def clumped(gain: float, bursts: float) -> float:
    """By how much clumps of bad events let the evidence grow, for each of them: E[e^(gain s) - 1]/E[s]; inf: without end.

    ``gain`` is the log of what one bad event multiplies by. The sizes s have the burstiness ``bursts``: all alike where the
    gain is below 0, else geometric.
    """
    if gain < 0:
        return expm1(gain * bursts) / bursts
    over = expm1(min(gain, 700.0))
    left = 1 - (bursts - 1) / 2 * over
    return over / left if left > 0 else inf


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
    """The log of what the evidence of a pass must reach: 1/alpha."""
    assert criterion.certainty is not None
    return -log(1 - criterion.certainty)


def fail_bar(criterion: Criterion) -> float:
    """The log of what the evidence of a fail must reach: any one of the phase's tests ends it, so they share alpha."""
    return bar(criterion) + log(criterion.tests)


@dataclass(frozen=True, slots=True)
class Weighed:
    """How far the evidence has come either way, and how far it must: all four are natural logs of odds."""

    fail: float
    fail_at: float
    passing: float
    pass_at: float


def weighed(criterion: Criterion, fold: Fold) -> Weighed | None:
    """What the settled rows weigh by now; None where a plain rule judges, which weighs nothing."""
    if criterion.plain:
        return None
    total = sum(fold.detector)
    return Weighed(
        fail=log(total) if total > 0 else -inf,
        fail_at=fail_bar(criterion),
        passing=_weight_of_pass(criterion, fold),
        pass_at=bar(criterion),
    )


def _weight_of_pass(criterion: Criterion, fold: Fold) -> float:
    if not fold.pass_n:
        return 0.0
    if criterion.versus:
        return _mixed(fold.beside.evidence) if fold.beside is not None and fold.beside.evidence else 0.0
    return _log_evidence_of_pass(fold.pass_n, fold.pass_x, criterion.limit, fold.bursts)


def _mixed(terms: tuple[float, ...]) -> float:
    top = max(terms)
    return top + log(sum(exp(term - top) for term in terms) / len(terms))


def judge(
    criterion: Criterion,
    target: str,
    fold: Fold,
    reading: Reading | None,
    now: float,
    *,
    alone: bool = False,
    ends: float | None = None,
    looks: Looks = NO_LOOKS,
) -> Verdict:
    """The verdict at ``now`` of a fold that holds all settled rows of ``reading``; None: nothing was asked.

    ``alone``: the canary has all traffic. ``ends`` is when the budget of an uptime is judged (epoch seconds); None:
    when the planned time is over. ``looks`` is when a value with a standard error is looked at.
    """
    # A fold that has just begun is ahead of what was asked for: the rows before it are not its own.
    tail = tuple(row for row in reading.tail if row.at > fold.last) if reading else ()
    problem = reading.problem if reading else NOT_ASKED
    latest = _walk(criterion, fold, tail) if tail else fold
    waiting_since = max(latest.newest, fold.since, fold.began)
    silent = max(0.0, now - criterion.series.lag - waiting_since)
    if not problem and silent > criterion.series.settle + NO_DATA_INTERVALS * criterion.series.interval:
        problem = (
            NO_PROOF if criterion.launch_wide else "no samples of both tracks" if criterion.versus else "no samples"
        )
    missing = latest.gap[1] - latest.gap[0]
    if missing and not problem:
        problem = f"no proof for {_span_text(*latest.gap)}"
        # What is unknown stays so, however many rows have come since.
        silent = max(silent, float(missing))
    lost, unknown, allowed = bool(missing), 0.0, 0.0
    looked: Looked | None = None
    if criterion.looks:
        outcome, resting, on_tail, looked = _judge_looks(criterion, fold, looks, now)
    elif criterion.launch_wide:
        outcome, resting, on_tail = _judge_incidents(criterion.at_most or 0, fold, latest)
    elif criterion.restarts:
        outcome, resting, on_tail = _judge_restarts(criterion.at_most or 0, fold, latest)
    elif criterion.budget:
        unknown = max(0.0, fold.newest - fold.began - fold.n) if fold.newest else 0.0
        # Of the time that the evidence is of: one that began anew late in its phase has no whole phase to spend.
        planned = float(fold.horizon * criterion.series.interval)
        allowed = criterion.limit * (planned if ends is None else max(ends, fold.newest) - fold.began)
        ends = fold.began + planned if ends is None else ends
        outcome, resting, on_tail = _judge_uptime(criterion, fold, latest, unknown, allowed, ends)
        lost = outcome is not Outcome.FAIL and unknown > 0 and resting[1] + unknown >= allowed
        if lost:
            problem = "what is unknown is more than what is left of the budget"
    elif criterion.plain:
        outcome, resting, on_tail = _judge_plainly(criterion, fold, latest)
    else:
        outcome, resting, on_tail = _judge_counts(criterion, fold, latest)
    if criterion.versus and alone and outcome is not Outcome.FAIL:
        # What was proven before all traffic came stays proven; where nothing could ever be compared, nothing is missing.
        never = not fold.instants
        outcome, problem, silent = Outcome.PASS if never else outcome, "", 0.0
    elif problem and outcome is not Outcome.FAIL:
        outcome = Outcome.NO_DATA
    n, x, value = resting
    counted = latest if on_tail else fold
    bad_since, whole_n, whole_x = 0, fold.n, fold.x
    if outcome is Outcome.FAIL and not (criterion.plain or criterion.exact):
        bad_since, whole_n, whole_x = counted.trail.bad_since, n, x
        n, x, value = _counts(n - counted.trail.n, x - counted.trail.x)
    beside_n, beside_x = _beside(fold, counted, outcome)
    # Incidents that no settled row has counted yet wait for the first one, whatever the tail says.
    waited = fold if criterion.launch_wide else latest
    return Verdict(
        criterion=criterion,
        target=target,
        outcome=outcome,
        value=value,
        n=n,
        x=x,
        span=max(0.0, latest.newest - (bad_since or fold.since or fold.began)),
        as_of=latest.newest,
        silent=silent,
        problem=problem,
        tail=on_tail,
        phase_n=whole_n,
        phase_x=whole_x,
        waited=float(waited.pass_instants * criterion.series.interval),
        starts=tuple(row.at for row in (latest if on_tail else fold).window) if criterion.launch_wide else (),
        lost=lost and outcome is Outcome.NO_DATA,
        bursts=fold.bursts,
        stable_n=beside_n,
        stable_x=beside_x,
        phase_compares=bool(criterion.versus) and (alone or _compares(criterion, fold.n, fold.beside, phase=True)),
        alone=alone and bool(criterion.versus),
        unknown=unknown,
        allowed=allowed,
        looked=looked,
        bad_since=bad_since,
        rate=_present_rate(fold),
        due=ends,
        terms=fold.beside.evidence if fold.beside is not None else (),
    )


def _present_rate(fold: Fold) -> float:
    """Requests per second of the last minutes; 0 where nothing is known of them."""
    if fold.trail.marks is None:
        return 0.0
    since, n, _, _ = fold.trail.marks
    return (fold.pass_n - n) / (fold.newest - since) if fold.newest > since else 0.0


def bar_of_looks(criterion: Criterion) -> tuple[float, float]:
    """By how many standard errors a value must be beyond its limit at one look, to pass and to fail.

    The error is split evenly over the looks, and that of a fail over the tests of the phase besides.
    """
    assert criterion.certainty is not None
    alpha = (1 - criterion.certainty) / criterion.looks
    return standard_errors(alpha), standard_errors(alpha / criterion.tests)


def _judge_looks(criterion: Criterion, fold: Fold, looks: Looks, now: float) -> tuple[Outcome, _Counts, bool, Looked]:
    """What the newest look that decided says; from the gate's time on that is for the gate's own look to say."""
    needs, needs_to_fail = bar_of_looks(criterion)
    said, row = decided(fold.window, criterion.limit, criterion.side, fold.since, needs, needs_to_fail)
    waits = waits_for_gate(fold.window, looks, criterion.looks, now)
    outcome = Outcome(said) if said and not waits else Outcome.UNDECIDED
    bad = sum(not _good(criterion, each.x) for each in fold.window)
    counts = (float(len(fold.window)), float(bad), None if row is None else row.x)
    looked = Looked(
        at=row.at if row is not None else 0.0,
        error=row.n if row is not None else 0.0,
        taken=len(fold.window),
        planned=criterion.looks,
        needs=needs,
        needs_to_fail=needs_to_fail,
        next=looks.next_after(now) if len(fold.window) < criterion.looks else None,
        waits=waits,
        over=looks.gate is not None and looks.gate <= now and not waits,
    )
    return outcome, counts, False, looked


def judge_holds(criterion: Criterion, holds: int, began: float, now: float) -> Verdict:
    """The verdict on how often the launch was held since its evidence began (epoch seconds)."""
    return Verdict(
        criterion=criterion,
        target="",
        outcome=Outcome.FAIL if holds > (criterion.at_most or 0) else Outcome.PASS,
        value=float(holds),
        n=float(holds),
        x=float(holds),
        span=max(0.0, now - began),
        as_of=int(now),
        silent=0.0,
        waited=max(0.0, now - began),
    )


def _beside(fold: Fold, counted: Fold, outcome: Outcome) -> tuple[float | None, float | None]:
    if fold.beside is None or counted.beside is None:
        return None, None
    if outcome is Outcome.FAIL:
        return counted.beside.n - counted.trail.stable_n, counted.beside.x - counted.trail.stable_x
    return fold.beside.pass_n, fold.beside.pass_x


def told_apart(failed: Verdict, fold: Fold, reading: Reading | None) -> Verdict:
    """The failed verdict with what stable did in the same time, and whether it is the world that is bad.

    ``fold`` and ``reading`` are those of :func:`us_or_world`. Stable is as bad where its own test fails against the same
    limit, unless the canary is proven worse than WORLD_RATIO times it. What is not known of stable excuses nothing.
    """
    criterion = us_or_world(failed.criterion)
    tail = tuple(row for row in reading.tail if row.at > fold.last) if reading and not reading.problem else ()
    latest = _walk(criterion, fold, tail) if tail else fold
    series = criterion.series
    if latest.beside is None or not latest.beside.n:
        return failed
    fresh = failed.as_of - latest.newest <= series.settle + NO_DATA_INTERVALS * series.interval
    needed = fail_bar(criterion)
    stable_bad = latest.beside.x >= criterion.min_bad and _reaches(latest.beside.detector, needed)
    world = fresh and stable_bad and not _reaches(latest.detector, needed)
    stable_n, stable_x, trail = latest.beside.n, latest.beside.x, latest.trail
    # An instant that only one track has can make them differ by a few.
    alike = abs(trail.bad_since - failed.bad_since) <= NO_DATA_INTERVALS * series.interval
    if alike:
        stable_n, stable_x = stable_n - trail.stable_n, stable_x - trail.stable_x
    return replace(failed, stable_n=stable_n, stable_x=stable_x, stable_whole=not alike, world=world)


def _reaches(detector: tuple[float, ...], needed: float) -> bool:
    total = sum(detector)
    return total > 0 and log(total) >= needed


def _span_text(start: int, end: int) -> str:
    """``2025-11-01 14:00-14:20 UTC``, with the day again where it is another one."""
    first, last = (datetime.fromtimestamp(at, UTC) for at in (start, end))
    until = f"{last:%H:%M}" if first.date() == last.date() else f"{last:%Y-%m-%d %H:%M}"
    return f"{first:%Y-%m-%d %H:%M}-{until} UTC"


_Counts = tuple[float, float, float | None]


def _judge_counts(criterion: Criterion, fold: Fold, latest: Fold) -> tuple[Outcome, _Counts, bool]:
    needed = fail_bar(criterion)
    for evidence, on_tail in ((fold, False), (latest, True)):
        if evidence.x >= criterion.min_bad and _reaches(evidence.detector, needed):
            return Outcome.FAIL, _counts(evidence.n, evidence.x), on_tail
    if criterion.versus:
        passes = _compares(criterion, fold.pass_n, fold.beside, phase=False)
    else:
        passes = _passes(criterion, fold.pass_n, fold.pass_x, fold.bursts)
    return Outcome.PASS if passes else Outcome.UNDECIDED, _counts(fold.pass_n, fold.pass_x), False


def _passes(criterion: Criterion, n: float, x: float, bursts: float = 1.0) -> bool:
    if n <= 0 or n < criterion.min_requests:
        return False
    return _log_evidence_of_pass(n, x, criterion.limit, bursts) >= bar(criterion)


def _log_evidence_of_pass(n: float, x: float, limit: float, bursts: float) -> float:
    # Each alternative's log is a sum over events: fewer events are the same as less weight for each.
    divisor = pass_divisor(limit, bursts)
    return log_evidence_of_pass(n / divisor, x / divisor, limit)


def _compares(criterion: Criterion, n: float, then: Beside | None, *, phase: bool) -> bool:
    terms = () if then is None else then.phase_evidence if phase else then.evidence
    if not terms or n <= 0 or n < criterion.min_requests:
        return False
    return _mixed(terms) >= bar(criterion)


def _counts(n: float, x: float) -> _Counts:
    return n, x, (x / n if n else None)


def _judge_incidents(at_most: int, fold: Fold, latest: Fold) -> tuple[Outcome, _Counts, bool]:
    """More than are allowed fails at once and for good; fewer pass, as far as the settled rows go."""
    for evidence, on_tail in ((fold, False), (latest, True)):
        if evidence.x > at_most:
            return Outcome.FAIL, (float(evidence.instants), evidence.x, evidence.x), on_tail
    outcome = Outcome.PASS if fold.instants else Outcome.UNDECIDED
    return outcome, (float(fold.instants), fold.x, fold.x if fold.instants else None), False


def _judge_restarts(at_most: int, fold: Fold, latest: Fold) -> tuple[Outcome, _Counts, bool]:
    for evidence, on_tail in ((fold, False), (latest, True)):
        if evidence.x > at_most:
            return Outcome.FAIL, (evidence.x, evidence.x, evidence.x), on_tail
    outcome = Outcome.PASS if fold.pass_instants else Outcome.UNDECIDED
    return outcome, (fold.x, fold.x, fold.x if fold.instants else None), False


def _judge_uptime(
    criterion: Criterion, fold: Fold, latest: Fold, unknown: float, allowed: float, ends: float
) -> tuple[Outcome, _Counts, bool]:
    """Fails when the budget is spent; passes at the end if it is not, whatever happened while nobody could see."""
    series = criterion.series
    for evidence, on_tail in ((fold, False), (latest, True)):
        if evidence.x and evidence.x >= allowed:
            return Outcome.FAIL, (evidence.n, evidence.x, 1 - evidence.x / evidence.n), on_tail
    # The next row would hold what came after the end.
    over = bool(fold.instants) and fold.newest + series.interval - series.lag > ends
    value = 1 - fold.x / fold.n if fold.n else None
    passes = over and fold.x + unknown < allowed
    return Outcome.PASS if passes else Outcome.UNDECIDED, (fold.n, fold.x, value), False


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


def requests_to_pass(criterion: Criterion, n: float, x: float, bursts: float = 1.0) -> float:
    """How many more requests, all good, would make the criterion pass; 0 where it passes already, inf where none do."""
    return _fewest(lambda more: _passes(criterion, n + more, x, bursts))


def requests_to_settle(verdict: Verdict, share: float = 0.0) -> float:
    """How many more requests with that share of bad ones would make an undecided verdict a pass; inf: none would.

    Stable goes on as it has since the raise: its share of the traffic, and its share of bad requests.
    """
    criterion, n, x = verdict.criterion, verdict.n, verdict.x
    if not criterion.versus:
        return _fewest(lambda more: _passes(criterion, n + more, x + share * more, verdict.bursts))
    if not n or not verdict.stable_n or not verdict.terms:
        return inf
    each = Pair(0.0, 1.0, share, verdict.stable_n / n, (verdict.stable_x or 0.0) / n)
    _, better = _compared(criterion, each)
    gains = tuple(_gains(better, each, verdict.bursts))

    def passes(more: float) -> bool:
        terms = tuple(max(term + more * gain, IMPOSSIBLE) for term, gain in zip(verdict.terms, gains, strict=True))
        return n + more >= criterion.min_requests and _mixed(terms) >= bar(criterion)

    return _fewest(passes)


def requests_to_fail(verdict: Verdict, share: float) -> float:
    """How many requests with that share of bad ones prove it worse, were there no others before; inf: none do."""
    criterion, n = verdict.criterion, verdict.n
    if criterion.versus:
        if not n or not verdict.stable_n:
            return inf
        each = Pair(0.0, 1.0, share, verdict.stable_n / n, (verdict.stable_x or 0.0) / n)
        gain = max(_gains(_compared(criterion, each)[0], each, verdict.bursts))
    else:
        rates = _divided_rates(criterion.limit, verdict.bursts)
        gain = max((share * log_bad + (1 - share) * log_good) / divisor for log_bad, log_good, divisor in rates)
    return fail_bar(criterion) / gain if gain > 0 else inf


def _fewest(enough: Callable[[float], bool]) -> float:
    """The fewest that are enough, to a thousandth: 0 or more, inf where a million millions are not."""
    if enough(0.0):
        return 0.0
    more = 64.0
    while not enough(more):
        more *= 2
        if more > 1e12:
            return inf
    low, high = 0.0, more
    while high - low > max(1.0, high / 1000):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return ceil(high)
