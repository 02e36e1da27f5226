"""From rows to a verdict: one pure fold over the rows of a series, and the tests that read it.

A criterion is "x bad events among n, and the bad share stays below p0". Two tests read the same fold:

- the **fail side** is a detector: a mixture of likelihood ratios over seven alternatives and over the instant at
  which the harm began. The chance that it ever reaches 1/alpha while the true share stays below p0 is at most alpha,
  however often one looks.
- the **pass side** is a mixture over five better shares, of the counts since the last raise alone.

The formulas and their sources are in :mod:`controller.core.likelihoods`. What no evidence is weighed for has a fold and a
judgement of its own kind: :mod:`~controller.core.thresholds`, :mod:`~controller.core.exact_counts`,
:mod:`~controller.core.incidents`.

Rows are folded once, at settled instants. The tail that may still change is folded onto a copy: a fail may come of
it, a pass never.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil, inf, log

from controller.core.comparisons import fold_pairs, nothing_beside, passes_by_pairs
from controller.core.counts import fold_counts, present_rate
from controller.core.evidence import (
    NO_DATA_INTERVALS,
    NOT_ASKED,
    Counts,
    Criterion,
    Fold,
    Outcome,
    Verdict,
    bar,
    counts_of,
    fail_bar,
    passes_by_counts,
)
from controller.core.exact_counts import count_restarts, count_uptime, judge_restarts, judge_uptime
from controller.core.incidents import NO_PROOF, count_incidents, judge_incidents, span_text, unseen_for
from controller.core.likelihoods import log_evidence_in_bursts, mixed, reaches
from controller.core.looks import NO_LOOKS, Looked, Looks
from controller.core.series import Reading, Row, Series
from controller.core.thresholds import judge_at_looks, judge_plainly, keep_looks


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
        beside=nothing_beside(criterion) if criterion.versus else None,
    )


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
        return keep_looks(criterion, fold, rows, looks)
    if criterion.launch_wide:
        return count_incidents(criterion, fold, rows)
    if criterion.restarts:
        return count_restarts(fold, rows)
    if criterion.budget:
        return count_uptime(criterion, fold, rows)
    return fold_pairs(criterion, fold, rows) if criterion.versus else fold_counts(criterion, fold, rows)


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
    when the planned time is over. ``looks`` is when a value with a standard error is looked at, and up to when incidents
    have to be counted.
    """
    # A fold that has just begun is ahead of what was asked for: the rows before it are not its own.
    tail = tuple(row for row in reading.tail if row.at > fold.last) if reading else ()
    problem = reading.problem if reading else NOT_ASKED
    latest = _walk(criterion, fold, tail) if tail else fold
    waiting_since = max(latest.newest, fold.since, fold.began)
    silent = max(0.0, now - criterion.series.lag - waiting_since)
    if not problem and silent > criterion.series.settle + NO_DATA_INTERVALS * criterion.series.interval:
        problem = "no samples of both tracks" if criterion.versus else "no samples"
        if criterion.launch_wide:
            problem = f"{NO_PROOF}: {reading.unproven}" if reading and reading.unproven else NO_PROOF
    missing = latest.gap[1] - latest.gap[0]
    if missing and not problem:
        problem = f"no proof for {span_text(*latest.gap)}"
        # What is unknown stays so, however many rows have come since.
        silent = max(silent, float(missing))
    noticed = reading.noticed if reading and criterion.launch_wide else None
    if noticed is not None and not problem:
        problem, unseen = unseen_for(criterion, fold, noticed, now)
        silent = max(silent, unseen)
    open_because = ""
    lost, unknown, allowed = bool(missing), 0.0, 0.0
    looked: Looked | None = None
    if criterion.looks:
        outcome, resting, on_tail, looked = judge_at_looks(criterion, fold, looks, now)
    elif criterion.launch_wide:
        # Who cannot see for too long whether an alert is silenced takes it for what it is; who has just started can soon.
        blind = bool(problem) and noticed is not None and noticed.at > 0
        asks = noticed is not None and noticed.silences and criterion.silenced != "count" and not blind
        due = looks.gate if looks.gate is not None and looks.gate <= now else None
        outcome, resting, on_tail, open_because = judge_incidents(criterion, fold, latest, noticed, asks=asks, due=due)
    elif criterion.restarts:
        outcome, resting, on_tail = judge_restarts(criterion.at_most or 0, fold, latest)
    elif criterion.budget:
        unknown = max(0.0, fold.newest - fold.began - fold.n) if fold.newest else 0.0
        # Of the time that the evidence is of: one that began anew late in its phase has no whole phase to spend.
        planned = float(fold.horizon * criterion.series.interval)
        allowed = criterion.limit * (planned if ends is None else max(ends, fold.newest) - fold.began)
        ends = fold.began + planned if ends is None else ends
        outcome, resting, on_tail = judge_uptime(criterion, fold, latest, unknown, allowed, ends)
        lost = outcome is not Outcome.FAIL and unknown > 0 and resting[1] + unknown >= allowed
        if lost:
            problem = "what is unknown is more than what is left of the budget"
    elif criterion.plain:
        outcome, resting, on_tail = judge_plainly(criterion, fold, latest)
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
        n, x, value = counts_of(n - counted.trail.n, x - counted.trail.x)
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
        phase_compares=bool(criterion.versus)
        and (alone or passes_by_pairs(criterion, fold.n, fold.beside, phase=True)),
        alone=alone and bool(criterion.versus),
        unknown=unknown,
        allowed=allowed,
        silenced=fold.noted.silenced + fold.noted.apart if fold.noted else 0.0,
        open=open_because if outcome is Outcome.UNDECIDED else "",
        looked=looked,
        bad_since=bad_since,
        rate=present_rate(fold),
        due=ends,
        terms=fold.beside.evidence if fold.beside is not None else (),
    )


def _judge_counts(criterion: Criterion, fold: Fold, latest: Fold) -> tuple[Outcome, Counts, bool]:
    needed = fail_bar(criterion)
    for evidence, on_tail in ((fold, False), (latest, True)):
        if evidence.x >= criterion.min_bad and reaches(evidence.detector, needed):
            return Outcome.FAIL, counts_of(evidence.n, evidence.x), on_tail
    if criterion.versus:
        passes = passes_by_pairs(criterion, fold.pass_n, fold.beside, phase=False)
    else:
        passes = passes_by_counts(criterion, fold.pass_n, fold.pass_x, fold.bursts)
    return Outcome.PASS if passes else Outcome.UNDECIDED, counts_of(fold.pass_n, fold.pass_x), False


def _beside(fold: Fold, counted: Fold, outcome: Outcome) -> tuple[float | None, float | None]:
    if fold.beside is None or counted.beside is None:
        return None, None
    if outcome is Outcome.FAIL:
        return counted.beside.n - counted.trail.stable_n, counted.beside.x - counted.trail.stable_x
    return fold.beside.pass_n, fold.beside.pass_x


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
        return mixed(fold.beside.evidence) if fold.beside is not None and fold.beside.evidence else 0.0
    return log_evidence_in_bursts(fold.pass_n, fold.pass_x, criterion.limit, fold.bursts)
