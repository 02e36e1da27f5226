"""A verdict is one sentence with its numbers, and says what would settle it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.comparisons import told_apart, us_or_world
from controller.core.counts import PRESENT_SECONDS
from controller.core.evidence import Criterion, Fold, Outcome, Verdict
from controller.core.fold_text import decode, encode
from controller.core.outlook import requests_to_fail, requests_to_settle
from controller.core.series import Pair, Reading, Row
from controller.core.verdicts import advance, begin, in_force, judge
from controller.core.words import measured, sentence, shape, told
from tests.core.builders import ERRORS, INTERVAL, NOW, criterion, resolved

HEAD = "errors below 0.5% (main): "
LATENCY = criterion(
    key="latency p99 below 500ms", series=replace(ERRORS, metric="latency", edge=0.5), limit=0.01, limit_text="500ms"
)
VALUE = criterion(
    key="revenue above 5.8%",
    series=replace(ERRORS, kind="value", metric="revenue"),
    limit=5.8,
    side="above",
    certainty=None,
    limit_text="5.8%",
)
LEARNERS = replace(VALUE, key="learners above 1000", limit=1000.0, limit_text="1000")
THRESHOLD = criterion(certainty=None, window=90.0)
HOUR = 3600.0


RATIO = resolved(metric="errors", comparedTo="stable", ratioBelow=2)
DIFFERENCE = resolved(metric="errors", comparedTo="stable", differenceBelow="0.5%")
RESTARTS = resolved(metric="restarts", atMost=2)
UPTIME = resolved(metric="uptime", above="99%")
INCIDENTS = resolved(incidents="critical", atMost=0)


def verdict(outcome: Outcome, **changes: Any) -> Verdict:
    """Three errors in 2,100 requests of seven minutes, five of them a second."""
    usual = Verdict(
        criterion(), "main", outcome, 3 / 2100, 2100.0, 3.0, 420.0, int(NOW), 0.0, phase_n=0, phase_x=0, rate=5.0
    )
    return replace(usual, **changes)


def counted(outcome: Outcome, n: float, x: float, **changes: Any) -> Verdict:
    """So many bad among so many requests."""
    return verdict(outcome, **{"n": n, "x": x, "value": x / n if n else None} | changes)


def failed(n: float, x: float, **changes: Any) -> Verdict:
    """A fail whose harm began at 21:59 UTC, fourteen minutes before."""
    usual: dict[str, Any] = {"bad_since": int(NOW) - 835, "phase_n": 100_000.0, "phase_x": 120.0}
    return counted(Outcome.FAIL, n, x, **usual | changes)


def exact(of: Criterion, outcome: Outcome, x: float | None, **changes: Any) -> Verdict:
    """A verdict of something that is counted."""
    return verdict(outcome, criterion=of, value=x, x=x or 0.0, **changes)


COUNTS = [
    # no requests, one, few
    (counted(Outcome.UNDECIDED, 0, 0, rate=0.0), "0 errors in 0 requests; 1,112 clean requests would settle it"),
    (
        counted(Outcome.UNDECIDED, 1, 1, rate=0.0),
        "1 error in 1 request (100%); 1,752 more clean requests would settle it",
    ),
    (counted(Outcome.UNDECIDED, 10, 0), "0 errors in 10 requests (0%); 4 more clean minutes would settle it"),
    (verdict(Outcome.UNDECIDED), "3 errors in 2,100 requests (0.143%); 2 more clean minutes would settle it"),
    (counted(Outcome.UNDECIDED, 1111, 0), "0 errors in 1,111 requests (0%); 1 more clean second would settle it"),
    # the same requests at other traffic
    (
        counted(Outcome.UNDECIDED, 10, 0, rate=1.1),
        "0 errors in 10 requests (0%); 17 more clean minutes would settle it",
    ),
    (
        counted(Outcome.UNDECIDED, 10, 0, rate=0.1),
        "0 errors in 10 requests (0%); 3.1 more clean hours would settle it",
    ),
    (
        counted(Outcome.UNDECIDED, 10, 0, rate=0.005),
        "0 errors in 10 requests (0%); 2.6 more clean days would settle it",
    ),
    (
        counted(Outcome.UNDECIDED, 10, 0, rate=0.0001),
        "0 errors in 10 requests (0%); would need more than 30d at this traffic",
    ),
    # before the gate's time, and not
    (
        counted(Outcome.UNDECIDED, 10, 0, rate=1.1, due=NOW + HOUR),
        "0 errors in 10 requests (0%); 17 more clean minutes would settle it",
    ),
    (
        counted(Outcome.UNDECIDED, 10, 0, rate=0.005, due=NOW + HOUR),
        "0 errors in 10 requests (0%); would need 2d13h more at this traffic, past its time, 2023-11-14 23:13 UTC",
    ),
    (
        counted(Outcome.UNDECIDED, 10, 0, rate=1.1, due=NOW - HOUR),
        "0 errors in 10 requests (0%); 17 more clean minutes would settle it",
    ),
    # near the limit, where no alternative on either side gains anything; thirty bad ones are not known that well
    (
        counted(Outcome.UNDECIDED, 200_000, 990),
        "990 errors in 200,000 requests (0.495%); too near the limit to tell",
    ),
    (
        counted(Outcome.UNDECIDED, 200_000, 1_010),
        "1,010 errors in 200,000 requests (0.505%); too near the limit to tell",
    ),
    (
        counted(Outcome.UNDECIDED, 200_000, 990, rate=500.0),
        "990 errors in 200,000 requests (0.495%); too near the limit to tell",
    ),
    (
        counted(Outcome.UNDECIDED, 6_000, 30),
        "30 errors in 6,000 requests (0.5%); 16 more clean minutes would settle it",
    ),
    # proven
    (verdict(Outcome.PASS), "passes: 3 errors in 2,100 requests (0.143%)"),
    (
        verdict(Outcome.PASS, phase_n=30_000.0, phase_x=90.0),
        "passes: 3 errors in 2,100 requests (0.143%)",
    ),
    (
        verdict(Outcome.PASS, phase_n=6_000.0, phase_x=24.0),
        "passes since the last raise: 3 errors in 2,100 requests (0.143%); all of the phase does not yet, 24 in "
        "6,000: 11 more clean minutes would settle it",
    ),
    (
        verdict(Outcome.PASS, phase_n=300_000.0, phase_x=1_500.0),
        "passes since the last raise: 3 errors in 2,100 requests (0.143%); all of the phase does not yet, 1,500 "
        "in 300,000: too near the limit to tell",
    ),
    (counted(Outcome.PASS, 3e8, 3), "passes: 3 errors in 300,000,000 requests (0.000001%)"),
    (failed(640, 21, bad_since=0, phase_n=640.0), "proven worse than 0.5%: 21 errors in 640 requests (3.28%)"),
    (
        failed(640, 21),
        "proven worse than 0.5%: 21 errors in 640 requests since 21:59 UTC (3.28%); in the phase 120 in 100,000",
    ),
    (
        failed(640.5, 21.5, bad_since=int(NOW) - 86_400),
        "proven worse than 0.5%: 21.5 errors in 640.5 requests since 2023-11-13 22:13 UTC (3.36%); "
        "in the phase 120 in 100,000",
    ),
    (
        failed(640, 21, stable_n=12_000.0, stable_x=2.0, bad_since=0),
        "proven worse than 0.5%: 21 errors in 640 requests (3.28%), stable had 2 in 12,000 in the same time",
    ),
    (
        failed(640, 21, stable_n=12_000.0, stable_x=2.0),
        "proven worse than 0.5%: 21 errors in 640 requests since 21:59 UTC (3.28%), stable had 2 in 12,000 in the same "
        "time; in the phase 120 in 100,000",
    ),
    (
        failed(640, 21, stable_n=1e6, stable_x=200.0, stable_whole=True),
        "proven worse than 0.5%: 21 errors in 640 requests since 21:59 UTC (3.28%); in the phase 120 in 100,000, "
        "stable had 200 in 1,000,000",
    ),
    (
        failed(640, 21, stable_n=12_000.0, stable_x=600.0, world=True),
        "proven worse than 0.5%: 21 errors in 640 requests since 21:59 UTC (3.28%); stable is as bad: 600 in 12,000 in "
        "the same time; in the phase 120 in 100,000",
    ),
    (
        verdict(Outcome.UNDECIDED, bursts=9.0),
        "3 errors in 2,100 requests (0.143%); errors come in bursts, 9 times what chance makes, so that each counts for "
        "less; 37 more clean minutes would settle it",
    ),
    # by the threshold alone
    (
        counted(Outcome.FAIL, 700, 21, criterion=THRESHOLD),
        "over 0.5% in the last 1m30s: 21 errors in 700 requests (3%); judged by its limit alone",
    ),
    (
        counted(Outcome.PASS, 700, 1, criterion=THRESHOLD),
        "passes in the last 1m30s: 1 error in 700 requests (0.143%); judged by its limit alone",
    ),
    (
        counted(Outcome.UNDECIDED, 700, 1, criterion=THRESHOLD),
        "1 error in 700 requests (0.143%); 1m30s below the limit would settle it; judged by its limit alone",
    ),
    # nothing to go by
    (verdict(Outcome.NO_DATA, problem="no samples", silent=75.0), "no data for 1m15s: no samples"),
    (verdict(Outcome.NO_DATA, problem="no samples"), "no data: no samples"),
    (
        # the share passes by its counts, the outcome is kept back by something else
        counted(Outcome.UNDECIDED, 50_000, 3),
        "3 errors in 50,000 requests (0.006%); undecided",
    ),
]


@pytest.mark.parametrize(("shown", "words"), COUNTS, ids=lambda item: item[:70] if isinstance(item, str) else "")
def test_counts_in_words(shown: Verdict, words: str) -> None:
    assert sentence(shown) == HEAD + words


BESIDE = {"stable_n": 8_400.0, "stable_x": 25.0, "terms": (0.5, 1.0, 1.5, 1.0, -3.0)}


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (
            counted(Outcome.UNDECIDED, 2_100, 3, criterion=RATIO, **BESIDE),
            "errors below 2 x stable (main): 3 errors in 2,100 requests (0.143%), stable had 25 in 8,400 in the same "
            "time; 4 more clean minutes would settle it",
        ),
        (
            counted(Outcome.UNDECIDED, 2_100, 3, criterion=RATIO, rate=0.0, **BESIDE),
            "errors below 2 x stable (main): 3 errors in 2,100 requests (0.143%), stable had 25 in 8,400 in the same "
            "time; 1,086 more clean requests would settle it",
        ),
        (
            counted(Outcome.UNDECIDED, 2_100, 3, criterion=DIFFERENCE, **BESIDE),
            "errors below stable + 0.5% (main): 3 errors in 2,100 requests (0.143%), stable had 25 in 8,400 in the same "
            "time; 4 more clean minutes would settle it",
        ),
        (
            counted(Outcome.UNDECIDED, 500, 0, criterion=RATIO, stable_n=2_000.0, stable_x=0.0, terms=(0.0,) * 5),
            "errors below 2 x stable (main): 0 errors in 500 requests (0%), stable had 0 in 2,000 in the same time; "
            "stable has too few errors to compare with",
        ),
        (
            counted(Outcome.UNDECIDED, 0, 0, criterion=RATIO, stable_n=0.0, stable_x=0.0, terms=(0.0,) * 5, rate=0.0),
            "errors below 2 x stable (main): 0 errors in 0 requests, stable had 0 in 0 in the same time; "
            "requests of both tracks would settle it",
        ),
        (
            failed(640, 21, criterion=RATIO, stable_n=12_000.0, stable_x=2.0, bad_since=0),
            "errors below 2 x stable (main): proven worse than 2 x stable: 21 errors in 640 requests (3.28%), stable had "
            "2 in 12,000 in the same time",
        ),
        (
            failed(640, 21, criterion=DIFFERENCE, stable_n=12_000.0, stable_x=2.0),
            "errors below stable + 0.5% (main): proven worse than stable + 0.5%: 21 errors in 640 requests since 21:59 "
            "UTC (3.28%), stable had 2 in 12,000 in the same time; in the phase 120 in 100,000",
        ),
        (
            counted(Outcome.PASS, 2_100, 3, criterion=RATIO, **BESIDE),
            "errors below 2 x stable (main): passes: 3 errors in 2,100 requests (0.143%), stable had 25 in 8,400 in the "
            "same time",
        ),
        (
            counted(Outcome.PASS, 0, 0, criterion=RATIO, alone=True),
            "errors below 2 x stable (main): no stable traffic to compare with",
        ),
        (
            counted(Outcome.PASS, 2_100, 1, criterion=RATIO, alone=True),
            "errors below 2 x stable (main): no stable traffic to compare with; it passed before: 1 error in 2,100 "
            "requests (0.0476%)",
        ),
        (
            counted(Outcome.PASS, 2_100, 1, criterion=LATENCY),
            "latency p99 below 500ms (main): passes: 1 slow in 2,100 requests (0.0476%)",
        ),
        (
            failed(2_100, 90, criterion=LATENCY, bad_since=0),
            "latency p99 below 500ms (main): proven worse than 1%: 90 slow in 2,100 requests (4.29%)",
        ),
        (
            counted(Outcome.UNDECIDED, 2_100, 20, criterion=LATENCY),
            "latency p99 below 500ms (main): 20 slow in 2,100 requests (0.952%); 7 more clean minutes would settle it",
        ),
        # bare values
        (
            verdict(Outcome.PASS, criterion=VALUE, value=6.02549, n=6.0, x=0.0),
            "revenue above 5.8% (main): passes: 6.025%, good for 1m; judged by its limit alone",
        ),
        (
            verdict(Outcome.FAIL, criterion=VALUE, value=5.0, n=6.0, x=6.0),
            "revenue above 5.8% (main): failed: 5%, bad for 1m; judged by its limit alone",
        ),
        (
            verdict(Outcome.UNDECIDED, criterion=VALUE, value=5.0, n=6.0, x=2.0),
            "revenue above 5.8% (main): 5%; 2 of 6 samples bad, 1m alike would settle it; judged by its limit alone",
        ),
        (
            verdict(Outcome.UNDECIDED, criterion=VALUE, value=None, n=0.0, x=0.0),
            "revenue above 5.8% (main): no sample yet",
        ),
        (
            verdict(Outcome.UNDECIDED, criterion=LEARNERS, value=12345.6, n=1.0, x=0.0),
            "learners above 1000 (main): 12,346; 0 of 1 sample bad, 1m alike would settle it; judged by its limit alone",
        ),
        # what is counted
        (
            exact(RESTARTS, Outcome.UNDECIDED, None),
            "restarts at most 2 (main): not counted yet; the next count settles it",
        ),
        (
            exact(RESTARTS, Outcome.UNDECIDED, 1.0),
            "restarts at most 2 (main): 1 restart, at most 2 are allowed; the next count settles it",
        ),
        (exact(RESTARTS, Outcome.PASS, 0.0), "restarts at most 2 (main): no restarts, at most 2 are allowed"),
        (exact(RESTARTS, Outcome.FAIL, 3.0), "restarts at most 2 (main): 3 restarts, at most 2 are allowed"),
        (
            exact(replace(RESTARTS, at_most=0), Outcome.FAIL, 1.0),
            "restarts at most 2 (main): 1 restart, none is allowed",
        ),
        (
            exact(INCIDENTS, Outcome.UNDECIDED, None, target=""),
            "critical incidents: not counted yet; the next count settles it",
        ),
        (exact(INCIDENTS, Outcome.PASS, 0.0, target=""), "no critical incidents since 2023-11-14 22:06 UTC"),
        (
            exact(INCIDENTS, Outcome.FAIL, 1.0, target="", starts=(NOW - 120,)),
            "1 critical incident, none is allowed: seen to begin at 2023-11-14 22:11 UTC",
        ),
        (
            exact(UPTIME, Outcome.UNDECIDED, 0.0, n=600.0, allowed=40.0, due=NOW + HOUR),
            "uptime above 99% (main): never down, 40s of 40s left; passes at the end, 2023-11-14 23:13 UTC, if less than "
            "40s is lost",
        ),
        (
            exact(UPTIME, Outcome.UNDECIDED, 10.0, n=600.0, allowed=40.0, unknown=10.0, due=NOW + HOUR),
            "uptime above 99% (main): down for 10s, unknown for 10s, 30s of 40s left; passes at the end, "
            "2023-11-14 23:13 UTC, if less than 20s more is lost",
        ),
        (
            exact(UPTIME, Outcome.PASS, 10.0, n=600.0, allowed=40.0, due=NOW),
            "uptime above 99% (main): passes: down for 10s, 30s of 40s left",
        ),
        (
            exact(UPTIME, Outcome.FAIL, 50.0, n=600.0, allowed=40.0, due=NOW + HOUR),
            "uptime above 99% (main): the budget is spent: down for 50s, 40s were allowed",
        ),
    ],
    ids=lambda item: item[:70] if isinstance(item, str) else "",
)
def test_a_verdict_of_each_kind_in_words(shown: Verdict, words: str) -> None:
    assert sentence(shown) == words


# What would settle it does


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(0, 20_000),
    share=st.floats(0, 0.004),
    bursts=st.sampled_from([1.0, 4.0]),
    minimum=st.sampled_from([0, 30_000]),
)
def test_the_requests_that_are_said_to_settle_it_settle_it(n: int, share: float, bursts: float, minimum: int) -> None:
    wanted = criterion(min_requests=minimum)
    x = float(round(n * share))
    more = requests_to_settle(counted(Outcome.UNDECIDED, float(n), x, criterion=wanted, bursts=bursts))
    at = NOW - ERRORS.lag
    fold = in_force(wanted, begin(wanted, at, HOUR, bursts), at)
    before = advance(wanted, fold, [Row(NOW, 0, 0), Row(NOW + 10, n, x)], int(NOW) + 10)
    after = advance(wanted, before, [Row(NOW + 20, more, 0)], int(NOW) + 20)
    assert judge(wanted, "main", after, Reading(0, 0), NOW + 30).passed
    if more > 100:
        fewer = advance(wanted, before, [Row(NOW + 20, more * 0.99 - 5, 0)], int(NOW) + 20)
        assert not judge(wanted, "main", fewer, Reading(0, 0), NOW + 30).passed


@pytest.mark.parametrize("wanted", [RATIO, DIFFERENCE])
@pytest.mark.parametrize("bursts", [1.0, 4.0])
def test_the_requests_that_are_said_to_settle_a_comparison_settle_it(wanted: Criterion, bursts: float) -> None:
    def walked(*rows: tuple[float, float, float, float]) -> Fold:
        at = NOW - wanted.series.lag
        fold = in_force(wanted, begin(wanted, at, HOUR, bursts), at)
        pairs = [Pair(NOW + 10 * place, *row) for place, row in enumerate([(0.0, 0.0, 0.0, 0.0), *rows])]
        return advance(wanted, fold, pairs, int(NOW) + 10 * len(rows))

    def found(fold: Fold) -> Verdict:
        return judge(wanted, "main", fold, Reading(0, 0), fold.last + 10.0)

    first = (200.0, 1.0, 800.0, 8.0)
    open_yet = found(walked(first))
    assert open_yet.outcome is Outcome.UNDECIDED
    more = requests_to_settle(open_yet)
    assert found(walked(first, (more + 1, 0.0, 4 * (more + 1), 0.04 * (more + 1)))).passed
    fewer = more * 0.99 - 1
    assert not found(walked(first, (fewer, 0.0, 4 * fewer, 0.04 * fewer))).passed


def test_a_share_beyond_the_limit_is_proven_worse_by_more_of_the_same() -> None:
    shown = counted(Outcome.UNDECIDED, 1_000, 10)
    n = requests_to_fail(shown, 0.01)
    assert 1_000 < n < 4_000
    rows = [(n / 40, n / 4_000)] * 40
    assert judged(folded(criterion(), *rows)).outcome is Outcome.UNDECIDED, "the start of the harm has its price"
    assert judged(folded(criterion(), *rows, *rows)).outcome is Outcome.FAIL


# What a fold knows of the course


def folded(wanted: Criterion, *counts: tuple[float, float] | None, since: float = NOW) -> Fold:
    """The fold of an anchor at ``since`` and of these rows after it, with a weight in force from the beginning on."""
    at = since - wanted.series.lag
    fold = in_force(wanted, begin(wanted, at, HOUR), at)
    rows = [Row(since + INTERVAL * i, *row) for i, row in enumerate([(0.0, 0.0), *counts]) if row is not None]
    return advance(wanted, fold, rows, int(since) + INTERVAL * len(counts))


def judged(fold: Fold, tail: tuple[Row, ...] = ()) -> Verdict:
    """The verdict on errors right after the fold's last instant."""
    return judge(criterion(), "main", fold, Reading(fold.last, fold.last, (), tail), fold.last + 10.0)


GOOD = [(100.0, 0.0), (100.0, 1.0), *[(100.0, 0.0)] * 8]
"""A hundred seconds at 0.1 %."""


def test_a_fail_after_good_hours_tells_the_counts_since_it_turned_bad() -> None:
    fold = folded(criterion(), *GOOD * 100, *[(100.0, 4.0)] * 9)
    shown = judged(fold)
    assert (shown.n, shown.x, shown.phase_n, shown.phase_x) == (900, 36, 100_900, 136)
    assert shown.bad_since == NOW + 10_000
    assert sentence(shown) == (
        f"{HEAD}proven worse than 0.5%: 36 errors in 900 requests since 2023-11-15 00:59 UTC (4%); "
        "in the phase 136 in 100,900"
    ).replace("2023-11-15 ", "")


def test_a_fail_on_the_tail_tells_the_tails_counts_as_well() -> None:
    fold = folded(criterion(), *GOOD * 100)
    tail = tuple(Row(fold.last + 10.0 * (i + 1), 100.0, 30.0) for i in range(2))
    shown = judged(fold, tail)
    assert (shown.outcome, shown.tail) == (Outcome.FAIL, True)
    assert (shown.n, shown.x, shown.phase_n, shown.phase_x) == (200, 60, 100_200, 160)


def test_harm_from_the_beginning_on_has_no_since() -> None:
    assert " since " not in sentence(judged(folded(criterion(), *[(100.0, 4.0)] * 9)))


@settings(max_examples=60, deadline=None)
@given(
    good=st.lists(st.integers(0, 2), max_size=30),
    bad=st.lists(st.integers(0, 12), min_size=1, max_size=30),
    after=st.lists(st.integers(0, 1), max_size=10),
)
def test_what_is_told_of_a_fail_is_always_beyond_the_limit(good: list[int], bad: list[int], after: list[int]) -> None:
    shown = judged(folded(criterion(), *[(100.0, float(x)) for x in (*good, *bad, *after)]))
    if shown.outcome is Outcome.FAIL:
        assert shown.value is not None
        assert shown.value > criterion().limit
        assert shown.x / shown.n >= shown.phase_x / shown.phase_n or not shown.bad_since


def test_stable_is_told_of_the_very_time_in_which_the_canary_was_bad() -> None:
    wanted, beside = criterion(), us_or_world(criterion())
    courses = [(100.0, x, 1000.0, 1.0) for _, x in GOOD * 50] + [(100.0, 5.0, 1000.0, 2.0)] * 9
    canary = folded(wanted, *[(n, x) for n, x, _, _ in courses])
    at = NOW - wanted.series.lag
    pairs = [Pair(NOW + 10 * i, *row) for i, row in enumerate([(0.0, 0.0, 0.0, 0.0), *courses])]
    stable = advance(beside, in_force(beside, begin(beside, at, HOUR), at), pairs, canary.last)
    assert decode(encode(stable)) == stable
    shown = told_apart(judged(canary), stable, Reading(stable.last, stable.last))
    assert (shown.n, shown.x, shown.stable_n, shown.stable_x) == (900, 45, 9000, 18)
    assert ", stable had 18 in 9,000 in the same time; in the phase 95 in 50,900" in sentence(shown)
    # A track that was without data when it began knows only what it had in all of the phase.
    late = [pair for pair in pairs if not 4_600 <= pair.at - NOW <= 5_040]
    stable = advance(beside, in_force(beside, begin(beside, at, HOUR), at), late, canary.last)
    shown = told_apart(judged(canary), stable, Reading(stable.last, stable.last))
    assert "; in the phase 95 in 50,900, stable had " in sentence(shown)


def test_a_fold_as_it_was_written_before_knows_no_beginning_and_learns_it_with_the_next_good_row() -> None:
    bad = folded(criterion(), *GOOD * 100, *[(100.0, 4.0)] * 9)
    text = encode(bad)
    former = decode(text.rsplit(" ", 1)[0])
    assert former == replace(bad, trail=former.trail)
    assert former.trail.bad_since == 0
    assert " since " not in sentence(judged(former))
    fine = advance(criterion(), former, [Row(former.last + 10.0, 100.0, 0.0)], former.last + 10)
    assert fine.trail.bad_since == fine.newest, "136 among 101,000 are no harm"


@pytest.mark.parametrize("trail", ["=/1", "5", "5,1", "5,1,2,3", "5,nan,1", "x", "=/1,2,3", "5,1,2/1,inf,2,3"])
def test_a_damaged_trail_is_a_value_error(trail: str) -> None:
    text = encode(folded(criterion(), *GOOD)).rsplit(" ", 1)[0]
    if trail == "5":
        assert decode(f"{text} {trail}").trail.weight == 5
        return
    with pytest.raises(ValueError, match=r"."):
        decode(f"{text} {trail}")


def test_the_present_traffic_is_that_of_the_last_minutes() -> None:
    wanted = criterion(limit=0.0005)
    busy, quiet = [(500.0, 0.0)] * 6, [(5.0, 0.0)] * 180
    steady = judge(wanted, "main", folded(wanted, *busy), Reading(0, 0), NOW + 70)
    assert steady.rate == 50
    assert sentence(steady).endswith("; 3 more clean minutes would settle it")
    dropped = folded(wanted, *busy, *quiet)
    found = judge(wanted, "main", dropped, Reading(0, 0), dropped.last + 10.0)
    assert (found.n / found.span) > 4 * found.rate
    assert found.rate == 0.5
    assert sentence(found).endswith("; 4.1 more clean hours would settle it")


def test_time_without_data_is_no_time_without_traffic() -> None:
    fold = folded(criterion(), *[(5.0, 0.0)] * 20, *[None] * 400, *[(5.0, 0.0)] * 5)
    assert judged(fold).rate == pytest.approx(0.5, abs=0.06)
    sparse = folded(criterion(), *[None, None, (15.0, 0.0)] * 40)
    assert judged(sparse).rate == 0.5


def test_a_raise_forgets_the_traffic_of_the_weight_before() -> None:
    fold = folded(criterion(), *[(5.0, 0.0)] * 50)
    raised = in_force(criterion(), fold, fold.last + 10.0)
    assert judged(raised).rate == 0
    rows = [Row(raised.since + 10.0 * i, 50.0, 0.0) for i in range(4)]
    later = advance(criterion(), raised, rows, int(raised.since) + 30)
    assert judged(later).rate == 5
    assert int(PRESENT_SECONDS) == 300


def test_a_reason_is_put_into_words_only_when_it_is_read() -> None:
    reason = told("undecided for 2m: ", verdict(Outcome.PASS), verdict(Outcome.NO_DATA, problem="none"))
    assert str(reason) == (
        "undecided for 2m: errors below 0.5% (main): passes: 3 errors in 2,100 requests (0.143%); "
        "errors below 0.5% (main): no data: none"
    )
    assert reason == told("undecided for 2m: ", *reason.verdicts)


def test_what_was_measured_is_a_share_or_the_bare_value() -> None:
    assert measured(verdict(Outcome.PASS)) == "0.143%"
    assert measured(verdict(Outcome.PASS, criterion=VALUE, value=6.02549)) == "6.025%"
    assert measured(verdict(Outcome.NO_DATA, value=None)) == "-"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (counted(Outcome.UNDECIDED, 1, 1), counted(Outcome.UNDECIDED, 1_000, 2)),
        (counted(Outcome.UNDECIDED, 10, 0, rate=1.1), counted(Outcome.UNDECIDED, 10, 0, rate=0.005)),
        (counted(Outcome.UNDECIDED, 10, 0, rate=1.1), counted(Outcome.UNDECIDED, 1_111, 0)),
        (counted(Outcome.UNDECIDED, 10, 0), counted(Outcome.UNDECIDED, 10, 0, rate=0.0)),
        (counted(Outcome.UNDECIDED, 0, 0, rate=0.0), counted(Outcome.UNDECIDED, 10, 0)),
        (counted(Outcome.UNDECIDED, 100_000, 990), counted(Outcome.UNDECIDED, 101_000, 999)),
        (failed(640, 21), failed(1, 1, bad_since=int(NOW) - 86_400)),
        (failed(640, 21, stable_n=10.0, stable_x=1.0), failed(700, 22, stable_n=12_000.0, stable_x=2.5)),
        (
            counted(Outcome.UNDECIDED, 10, 0, rate=0.005, due=NOW + HOUR),
            counted(Outcome.UNDECIDED, 10, 0, rate=0.005, due=NOW + 24 * HOUR),
        ),
        (exact(RESTARTS, Outcome.FAIL, 3.0), exact(RESTARTS, Outcome.FAIL, 31.0)),
        (
            exact(UPTIME, Outcome.UNDECIDED, 10.0, allowed=40.0, due=NOW + HOUR),
            exact(UPTIME, Outcome.UNDECIDED, 20.0, allowed=4000.0, due=NOW + 36 * HOUR),
        ),
        (
            exact(INCIDENTS, Outcome.FAIL, 1.0, starts=(NOW - 120,)),
            exact(INCIDENTS, Outcome.FAIL, 1.0, starts=(NOW - 86_400,)),
        ),
        (
            verdict(Outcome.UNDECIDED, criterion=VALUE, value=5.0, n=1.0, x=1.0),
            verdict(Outcome.UNDECIDED, criterion=VALUE, value=5.25, n=6.0, x=2.0),
        ),
        (
            verdict(Outcome.NO_DATA, problem="no proof for 2023-11-14 22:13-22:33 UTC"),
            verdict(Outcome.NO_DATA, problem="no proof for 2023-11-15 01:13-01:20 UTC"),
        ),
    ],
    ids=lambda item: sentence(item)[:50],
)
def test_a_sentence_keeps_its_shape_while_only_its_numbers_and_times_go_on(one: Verdict, other: Verdict) -> None:
    assert sentence(one) != sentence(other)
    assert shape(sentence(one)) == shape(sentence(other))


def test_sentences_that_say_something_else_have_other_shapes() -> None:
    said = [
        counted(Outcome.UNDECIDED, 10, 0),
        counted(Outcome.UNDECIDED, 10, 0, rate=0.0001),
        counted(Outcome.UNDECIDED, 200_000, 990),
        verdict(Outcome.PASS),
        failed(640, 21),
        failed(640, 21, bad_since=0),
        verdict(Outcome.NO_DATA, problem="no samples"),
    ]
    assert len({shape(sentence(each)) for each in said}) == len(said)


def test_a_message_has_the_same_shape_while_only_its_numbers_go_on() -> None:
    first = "step 1 of 2 at 5%: errors below 1% (us-1): 3 errors in 2,100 requests (0.14%); 17 more clean minutes would settle it"
    assert shape(first) == shape(
        first.replace("2,100", "2,340").replace("17 more clean minutes", "50 more clean seconds").replace("0.14", "0.1")
    )
    assert shape(first) != shape("step 1 of 2 at 5%: not done yet: a")
