"""The canary beside the stable track: the same tests of pairs of counts, and whether a fault is ours or the world's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import exp, log, log1p

from controller.core.counts import marked
from controller.core.evidence import NO_DATA_INTERVALS, Beside, Criterion, Fold, Trail, Verdict, bar, fail_bar
from controller.core.likelihoods import (
    BETTER,
    CAP,
    IMPOSSIBLE,
    WORSE,
    bet,
    divided_rates,
    divisor_of_a_bet,
    mixed,
    reaches,
    start_weight,
    weight_of_harm,
)
from controller.core.series import Pair, Reading, Row

WORSE_BY = (1.02, 1.1, 1.25, 1.5, 2.0, 4.0, 10.0)
"""Of a difference: how much more a bad event of the canary is bet on than one of stable allows."""
BETTER_BY = (0.98, 0.9, 0.75, 0.5, 0.0)
WORLD_RATIO = 2.0
"""A canary that is proven more than so many times as bad as stable is to blame, however bad stable is."""


def us_or_world(criterion: Criterion) -> Criterion:
    """What is folded beside a criterion so that, when it fails, one knows whether stable is as bad in the same time."""
    return replace(criterion, key=f"{criterion.key} beside stable", versus="stable")


def nothing_beside(criterion: Criterion) -> Beside:
    """What a comparison begins with."""
    if criterion.versus == "stable":
        return Beside(detector=(0.0,) * len(WORSE))
    return Beside(evidence=(0.0,) * len(BETTER), phase_evidence=(0.0,) * len(BETTER))


_Rates = tuple[tuple[float, float, float], ...]
"""Of each alternative the logs of what a bad event of the canary, one of stable, and the interval itself are worth."""


def ratio_rates(limit: float, split: float, multiples: tuple[float, ...]) -> _Rates:
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


def difference_rates(limit: float, split: float, n: float, multiples: tuple[float, ...]) -> _Rates:
    """A bet on the canary's bad events that stable's pay for: what stable's share is falls out of the sum.

    By log(1 + y) <= y as above: n*p*u - m*q*u*n/m - n*u*limit <= 0 wherever p - q is on the other side of the limit.
    """
    made = []
    for multiple in multiples:
        # A bad event of stable must leave something of the bet.
        u = min(multiple - 1, 0.9 / split)
        made.append((log1p(u) if u > -1 else IMPOSSIBLE, log1p(-u * split), -n * u * limit))
    return tuple(made)


def rates_of_pair(criterion: Criterion, row: Pair) -> tuple[_Rates, _Rates]:
    """The rates of the fail side and of the pass side at the split of this row, in which both tracks have requests."""
    split = row.n / row.stable_n
    if criterion.versus == "difference":
        limit = criterion.limit
        return (
            difference_rates(limit, split, row.n, WORSE_BY),
            difference_rates(limit, split, row.n, BETTER_BY),
        )
    if criterion.versus == "stable":
        return ratio_rates(WORLD_RATIO, split, WORSE), ()
    return ratio_rates(criterion.limit, split, WORSE), ratio_rates(criterion.limit, split, BETTER)


def gains_of(rates: _Rates, row: Pair, bursts: float) -> Iterable[float]:
    """By how much the row moves the log of each alternative."""
    for mine, others, itself in rates:
        yield (row.x * mine + row.stable_x * others + itself) / divisor_of_a_bet(max(mine, others), bursts)


def fold_pairs(criterion: Criterion, fold: Fold, rows: Iterable[Row]) -> Fold:
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
        weight = start_weight(instants, fold.horizon) / len(WORSE)
        if row.n > 0 and row.stable_n > 0:
            worse, better = rates_of_pair(criterion, row)
            for k, gain in enumerate(gains_of(worse, row, fold.bursts)):
                harm += gain if k == 0 and not own else 0.0
                detector[k] = min((detector[k] + weight) * exp(min(gain, 690.0)), CAP)
            if phase_evidence:
                for k, gain in enumerate(gains_of(better, row, fold.bursts)):
                    phase_evidence[k] = max(phase_evidence[k] + gain, IMPOSSIBLE)
                    if counts_for_pass:
                        evidence[k] = max(evidence[k] + gain, IMPOSSIBLE)
        if own:
            bet(own, weight, row.stable_n, row.stable_x, divided_rates(criterion.limit, fold.bursts))
        instants += 1
        n, x, stable_n, stable_x = n + row.n, x + row.x, stable_n + row.stable_n, stable_x + row.stable_x
        if counts_for_pass:
            pass_n, pass_x = pass_n + row.n, pass_x + row.x
            stable_pass_n, stable_pass_x = stable_pass_n + row.stable_n, stable_pass_x + row.stable_x
            pass_instants += 1
        if own:
            # Of the canary against the limit itself: since the same instant as the test that it stands beside.
            harm = weight_of_harm(criterion.limit, n - good.n, x - good.x)
        if harm <= 0:
            harm, good = 0.0, Trail(newest, n, x, stable_n, stable_x)
        if pass_anchored and not own:
            marks = marked(criterion.series, marks, before, newest, pass_n, row.n)
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


def passes_by_pairs(criterion: Criterion, n: float, then: Beside | None, *, phase: bool) -> bool:
    """Whether the canary's n requests beside stable's pass: those of the ``phase``, or those since the raise."""
    terms = () if then is None else then.phase_evidence if phase else then.evidence
    if not terms or n <= 0 or n < criterion.min_requests:
        return False
    return mixed(terms) >= bar(criterion)


def told_apart(failed: Verdict, fold: Fold, reading: Reading | None) -> Verdict:
    """The failed verdict with what stable did in the same time, and whether it is the world that is bad.

    ``fold`` and ``reading`` are those of :func:`us_or_world`. Stable is as bad where its own test fails against the same
    limit, unless the canary is proven worse than WORLD_RATIO times it. What is not known of stable excuses nothing.
    """
    criterion = us_or_world(failed.criterion)
    tail = tuple(row for row in reading.tail if row.at > fold.last) if reading and not reading.problem else ()
    latest = fold_pairs(criterion, fold, tail) if tail else fold
    series = criterion.series
    if latest.beside is None or not latest.beside.n:
        return failed
    fresh = failed.as_of - latest.newest <= series.settle + NO_DATA_INTERVALS * series.interval
    needed = fail_bar(criterion)
    stable_bad = latest.beside.x >= criterion.min_bad and reaches(latest.beside.detector, needed)
    world = fresh and stable_bad and not reaches(latest.detector, needed)
    stable_n, stable_x, trail = latest.beside.n, latest.beside.x, latest.trail
    # An instant that only one track has can make them differ by a few.
    alike = abs(trail.bad_since - failed.bad_since) <= NO_DATA_INTERVALS * series.interval
    if alike:
        stable_n, stable_x = stable_n - trail.stable_n, stable_x - trail.stable_x
    return replace(failed, stable_n=stable_n, stable_x=stable_x, stable_whole=not alike, world=world)
