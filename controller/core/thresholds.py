"""What no evidence is weighed for: values and shares against the limit alone, all the time of a window; values at looks.

Plain rules look at a window of rows, looks at the few rows at planned instants and their standard errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from controller.core.evidence import NO_DATA_INTERVALS, Counts, Criterion, Fold, Outcome, counts_of
from controller.core.looks import Looked, Looks, add_looks, decided, standard_errors, waits_for_gate
from controller.core.series import Row


def judge_plainly(criterion: Criterion, fold: Fold, latest: Fold) -> tuple[Outcome, Counts, bool]:
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


def _judge_values(criterion: Criterion, fold: Fold) -> tuple[Outcome, Counts]:
    rows = [row for row in fold.window if row.at > fold.newest - criterion.window]
    newest = fold.window[-1].x if fold.window else None
    counts: Counts = (float(len(rows)), float(sum(not _good(criterion, row.x) for row in rows)), newest)
    covered = bool(rows) and rows[-1].at - rows[0].at >= criterion.window - 2 * criterion.series.interval
    if len(rows) >= max(criterion.min_requests, 1) and covered:
        if counts[1] == 0 and fold.since and fold.newest - fold.since >= criterion.window:
            return Outcome.PASS, counts
        if counts[1] == len(rows):
            return Outcome.FAIL, counts
    return Outcome.UNDECIDED, counts


def _judge_share(criterion: Criterion, fold: Fold) -> tuple[Outcome, Counts]:
    rows = [row for row in fold.window if row.at > fold.newest - criterion.window]
    n, x = sum(row.n for row in rows), sum(row.x for row in rows)
    counts = counts_of(n, x)
    if n and x >= max(criterion.min_bad, 1) and x / n >= criterion.limit:
        return Outcome.FAIL, counts
    covered = bool(fold.since) and fold.newest - fold.since >= criterion.window
    if covered and n >= max(criterion.min_requests, 1) and x / n < criterion.limit:
        return Outcome.PASS, counts
    return Outcome.UNDECIDED, counts


def _good(criterion: Criterion, value: float) -> bool:
    return value < criterion.limit if criterion.side == "below" else value > criterion.limit


def bar_of_looks(criterion: Criterion) -> tuple[float, float]:
    """By how many standard errors a value must be beyond its limit at one look, to pass and to fail.

    The error is split evenly over the looks, and that of a fail over the tests of the phase besides.
    """
    assert criterion.certainty is not None
    alpha = (1 - criterion.certainty) / criterion.looks
    return standard_errors(alpha), standard_errors(alpha / criterion.tests)


def keep_looks(criterion: Criterion, fold: Fold, rows: Iterable[Row], looks: Looks) -> Fold:
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


def judge_at_looks(criterion: Criterion, fold: Fold, looks: Looks, now: float) -> tuple[Outcome, Counts, bool, Looked]:
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
