"""What is counted and not estimated, of which nothing is left to chance: restarts, time that it was down, holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from controller.core.evidence import NO_DATA_INTERVALS, NO_DATA_SECONDS, Counts, Criterion, Fold, Outcome, Verdict
from controller.core.series import Row

DOWN_SHARE = 0.5
"""From this share of failed requests on, an interval counts as down."""


def count_restarts(fold: Fold, rows: Iterable[Row]) -> Fold:
    """The fold after these rows of restarts; the first row is only the anchor of those after it."""
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


def judge_restarts(at_most: int, fold: Fold, latest: Fold) -> tuple[Outcome, Counts, bool]:
    """More than are allowed fails, the newest rows (``latest``) included; the last item is whether it rests on these."""
    for evidence, on_tail in ((fold, False), (latest, True)):
        if evidence.x > at_most:
            return Outcome.FAIL, (evidence.x, evidence.x, evidence.x), on_tail
    outcome = Outcome.PASS if fold.pass_instants else Outcome.UNDECIDED
    return outcome, (fold.x, fold.x, fold.x if fold.instants else None), False


def count_uptime(criterion: Criterion, fold: Fold, rows: Iterable[Row]) -> Fold:
    """The fold after these rows: for how many more seconds something is known, and for how many it was down."""
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


def judge_uptime(
    criterion: Criterion, fold: Fold, latest: Fold, unknown: float, allowed: float, ends: float
) -> tuple[Outcome, Counts, bool]:
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
