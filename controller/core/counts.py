"""Rows of counts, of requests and of the bad ones among them, folded one after the other.

Besides the sums that the tests stand on, the trail is kept of when the harm began and of the present traffic.
"""

from __future__ import annotations

from collections.abc import Iterable

from controller.core.evidence import NO_DATA_INTERVALS, NO_DATA_SECONDS, Criterion, Fold, Trail
from controller.core.likelihoods import WORSE, bet, divided_rates, start_weight, weight_of_harm
from controller.core.series import Row, Series

PRESENT_SECONDS = 300.0
"""The present traffic is that of the last so many seconds, and of at most as many before them."""


def fold_counts(criterion: Criterion, fold: Fold, rows: Iterable[Row]) -> Fold:
    """The fold after these rows of counts; where a plain rule judges, also of bare values, they are kept as they are."""
    bursts = fold.bursts
    rates = () if criterion.plain else divided_rates(criterion.limit, bursts)
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
            weight = start_weight(instants, fold.horizon) / len(WORSE)
            bet(detector, weight, row.n, row.x, rates)
        instants += 1
        n += row.n
        x += row.x
        if counts_for_pass:
            pass_n += row.n
            pass_x += row.x
            pass_instants += 1
        if not criterion.plain:
            if weight_of_harm(criterion.limit, n - good_n, x - good_x) <= 0:
                bad_since, good_n, good_x = newest, n, x
            if pass_anchored:
                marks = marked(criterion.series, marks, before, newest, pass_n, row.n)
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


_Marks = tuple[int, float, int, float]


def marked(series: Series, marks: _Marks | None, before: int, at: int, n: float, row: float) -> _Marks:
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


def present_rate(fold: Fold) -> float:
    """Requests per second of the last minutes; 0 where nothing is known of them."""
    if fold.trail.marks is None:
        return 0.0
    since, n, _, _ = fold.trail.marks
    return (fold.pass_n - n) / (fold.newest - since) if fold.newest > since else 0.0
