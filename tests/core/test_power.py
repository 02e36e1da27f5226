"""What is said beforehand of a criterion: against scipy's distributions, published tables, and the fold itself."""

from __future__ import annotations

import random
from itertools import accumulate, pairwise
from math import comb, inf, log
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from controller.core.evidence import Fold, Outcome
from controller.core.likelihoods import log_evidence_of_pass, start_weight
from controller.core.power import (
    Bars,
    at_least,
    at_most,
    bars_of,
    binomial,
    caught,
    fail_times,
    false_fail_at_most,
    fewest_bad,
    log_evidence_of_fail,
    most_bad,
    pass_times,
    passes_at,
    passes_within,
    plain_false_alarms,
    requests_to_catch,
    requests_to_pass,
    smallest_caught,
    soonest_pass,
)
from controller.core.series import Reading, Row
from controller.core.verdicts import advance, begin, in_force, judge
from tests.core.builders import INTERVAL, NOW, criterion

ONE_PERCENT = log(100)
HALF_PERCENT = Bars(0.005, ONE_PERCENT, ONE_PERCENT, min_bad=1)
NEVER = 10**9


def bars(limit: float, **changes: Any) -> Bars:
    return Bars(limit, ONE_PERCENT, ONE_PERCENT, **changes)


# The binomial itself.

SIZES = [1, 2, 7, 40, 919, 12_345, 1_000_000, 10**9]
SHARES = [1e-6, 0.00079, 0.005, 0.05, 0.3, 0.5, 0.97]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("share", SHARES)
def test_the_binomial_is_scipy_s(n: int, share: float) -> None:
    mean, deviation = n * share, max(1.0, (n * share * (1 - share)) ** 0.5)
    for away in (-6, -2, -0.5, 0, 0.5, 2, 6):
        x = min(n, max(0, round(mean + away * deviation)))
        # scipy itself loses digits far out in large numbers
        assert binomial(x, n, share) == pytest.approx(float(binom.pmf(x, n, share)), rel=1e-8, abs=1e-290)
        assert at_most(x, n, share) == pytest.approx(float(binom.cdf(x, n, share)), rel=1e-8, abs=1e-15)
        assert at_least(x, n, share) == pytest.approx(float(binom.sf(x - 1, n, share)), rel=1e-8, abs=1e-15)


def test_the_binomial_has_ends() -> None:
    assert [at_most(-1, 5, 0.1), at_most(5, 5, 0.1), at_least(0, 5, 0.1), at_least(6, 5, 0.1)] == [0, 1, 1, 0]
    assert [binomial(0, 5, 0.0), binomial(5, 5, 1.0), binomial(6, 5, 0.1), binomial(1, 5, 0.0)] == [1, 1, 0, 0]


# The tables.


@pytest.mark.parametrize(
    ("limit", "share", "half", "most"),
    [
        (0.005, 0.00079, 1753, 3366),
        (0.005, 0.002, 4067, 9328),
        (0.005, 0.0035, 21_213, 46_606),
        (0.05, 0.02, 401, 896),
        (0.01, 0.002, 875, 2030),
        (0.001, 0.0002, 8780, 20_360),
    ],
)
def test_a_good_canary_passes_after_as_many_requests_as_the_table_says(
    limit: float, share: float, half: int, most: int
) -> None:
    times = pass_times(bars(limit), share, 1.0, 1, NEVER, enough=0.96)
    assert times.until(0.5) == pytest.approx(half, rel=1e-4)
    # Canaries pass at few counts, one for each number of bad requests; 95.0 % of all may lie on the edge of two.
    assert most in (times.until(0.95), times.until(0.951))


@pytest.mark.parametrize(
    ("limit", "share", "half", "most"),
    [
        (0.005, 0.01, 2710, 6901),
        (0.005, 0.02, 407, 1105),
        (0.005, 0.05, 71, 222),
        (0.01, 0.05, 127, 349),
    ],
)
def test_a_bad_canary_fails_after_as_many_requests_as_the_table_says(
    limit: float, share: float, half: int, most: int
) -> None:
    # The table is of harm from the very start, with all of the error spent on that.
    times = fail_times(bars(limit, min_bad=1), share, 1.0, 20_000, 1.0, enough=0.96, finer=10_000)
    assert times.until(0.5) == half
    assert times.until(0.95) == pytest.approx(most, abs=1)


def test_twelve_tests_make_a_fail_as_much_later_as_the_table_says() -> None:
    divided = Bars(0.005, ONE_PERCENT, log(100 * 12), min_bad=1)
    times = fail_times(divided, 0.02, 1.0, 20_000, 1.0, enough=0.96, finer=10_000)
    assert (times.until(0.5), times.until(0.95)) == (612, 1418)


def test_the_soonest_pass_and_fail_are_those_of_the_table() -> None:
    assert [soonest_pass(HALF_PERCENT, x) for x in range(3)] == [1112, 1753, 2192]
    least = [next(n for n in range(5000, 0, -1) if fewest_bad(HALF_PERCENT, n, 1.0) <= x) for x in (3, 5, 9)]
    assert least == [34, 128, 433]


def test_a_canary_at_the_limit_errs_as_rarely_as_the_table_says() -> None:
    assert pass_times(HALF_PERCENT, 0.005, 1.0, 1, 4_000_000).passed[-1] == pytest.approx(0.010, abs=0.0005)
    assert fail_times(HALF_PERCENT, 0.005, 1.0, 40_000, 1.0).passed[-1] == pytest.approx(0.006, abs=0.0005)


def test_the_ends_of_the_fixed_test_that_the_table_compares_with_are_scipy_s() -> None:
    assert binom.cdf(4, 2320, 0.005) <= 0.01
    assert binom.cdf(4, 2320, 0.00079) >= 0.95
    assert binom.sf(9, 785, 0.005) <= 0.01
    assert binom.sf(9, 785, 0.02) >= 0.95


def test_a_higher_weight_makes_it_as_much_faster_as_the_table_says() -> None:
    # 25 % of 10 requests/s, in rows of ten seconds
    times = pass_times(HALF_PERCENT, 0.00079, 25.0, 1, NEVER)
    minutes = [(times.until(chance) or 0) / 6 for chance in (0.5, 0.951)]
    assert minutes == pytest.approx([12, 22], abs=0.6)


# Request by request, with nothing left out.


def exhaustive(limit: float, share: float, requests: int) -> list[float]:
    """The chance to have passed by each number of requests, by the whole distribution after each."""
    most = 120
    alive = np.zeros(most)
    alive[0], passed, found = 1.0, 0.0, [0.0]
    bearable = -1
    for n in range(1, requests + 1):
        alive[1:] = alive[1:] * (1 - share) + alive[:-1] * share
        alive[0] *= 1 - share
        while log_evidence_of_pass(float(n), float(bearable + 1), limit) >= ONE_PERCENT:
            bearable += 1
        passed += float(alive[: bearable + 1].sum())
        alive[: bearable + 1] = 0.0
        found.append(passed)
    return found


@pytest.mark.parametrize(("limit", "share"), [(0.005, 0.00079), (0.005, 0.003), (0.01, 0.01), (0.05, 0.02)])
def test_looking_at_borders_alone_misses_nothing(limit: float, share: float) -> None:
    whole = exhaustive(limit, share, 6000)
    times = pass_times(bars(limit), share, 1.0, 1, 6000)
    assert times.exact
    assert [times.by(n) for n in range(6001)] == pytest.approx(whole, abs=1e-9)


@pytest.mark.parametrize("per_row", [0.3, 5.0, 50.0, 1234.5, 1e7])
def test_rows_of_many_or_few_requests_only_delay_it_to_the_next_row(per_row: float) -> None:
    by_request = pass_times(HALF_PERCENT, 0.002, 1.0, 1, NEVER)
    by_row = pass_times(HALF_PERCENT, 0.002, per_row, 1, NEVER)
    for chance in (0.1, 0.5, 0.9, 0.999):
        request, row = by_request.until(chance), by_row.until(chance)
        assert request is not None
        assert row is not None
        assert request / per_row <= row + 1e-9
        # whoever has passed at a request before the row's end may have fallen back by then
        assert row <= request / per_row * 1.35 + 2


def test_one_look_is_the_tail_of_the_binomial() -> None:
    for n in (500, 1112, 5000, 144_000, 10**8):
        bearable = most_bad(HALF_PERCENT, n)
        assert passes_at(HALF_PERCENT, n, 0.0025) == pytest.approx(float(binom.cdf(bearable, n, 0.0025)), rel=1e-9)
        if bearable >= 0:
            assert log_evidence_of_pass(float(n), float(bearable), 0.005) >= ONE_PERCENT
        assert log_evidence_of_pass(float(n), float(bearable + 1), 0.005) < ONE_PERCENT


def test_borders_that_are_taken_together_give_a_lower_bound_that_is_hardly_late() -> None:
    # 0.42 % against 0.5 %: hundreds of bad requests
    times = pass_times(HALF_PERCENT, 0.0042, 1.0, 1, 400_000)
    assert not times.exact
    half = times.until(0.5)
    assert half is not None
    # One look at the same instant is less than all looks before it, and not much less.
    assert 0.35 < passes_at(HALF_PERCENT, half, 0.0042) < 0.5
    assert times.passed[-1] >= passes_at(HALF_PERCENT, times.rows[-1], 0.0042)


# What follows from it.

LIMITS = st.sampled_from([0.0005, 0.001, 0.005, 0.01, 0.05])
RATIOS = st.floats(0.05, 0.85)


@settings(max_examples=60, deadline=None)
@given(limit=LIMITS, ratio=RATIOS, size=st.floats(0.001, 1.0), first=st.integers(1, 50))
def test_more_time_never_makes_it_decide_less(limit: float, ratio: float, size: float, first: int) -> None:
    per_row = size / limit  # up to as many bad requests as are followed
    chances = [passes_within(bars(limit), ratio * limit, per_row, first, last) for last in (first, 100, 400, 1600)]
    assert all(one <= other + 1e-9 for one, other in pairwise(chances))


@settings(max_examples=60, deadline=None)
@given(limit=LIMITS, ratio=RATIOS, chance=st.sampled_from([0.5, 0.95, 0.99]), more=st.floats(1.0, 30.0))
def test_from_as_many_requests_on_as_are_said_to_be_needed_one_look_is_enough(
    limit: float, ratio: float, chance: float, more: float
) -> None:
    needed = requests_to_pass(bars(limit), ratio * limit, chance)
    assert needed < inf
    assert passes_at(bars(limit), int(needed), ratio * limit) >= chance - 1e-12
    assert passes_at(bars(limit), int(needed * more), ratio * limit) >= chance - 1e-12
    assert passes_at(bars(limit), int(needed / 2), ratio * limit) < chance


@settings(max_examples=60, deadline=None)
@given(limit=LIMITS, ratio=RATIOS, better=st.floats(0.1, 1.0), n=st.integers(100, 1_000_000))
def test_a_better_canary_passes_no_less_and_fails_no_more(limit: float, ratio: float, better: float, n: int) -> None:
    worse_share, share = ratio * limit, better * ratio * limit
    assert passes_at(bars(limit), n, share) >= passes_at(bars(limit), n, worse_share) - 1e-9
    assert false_fail_at_most(bars(limit), share) <= false_fail_at_most(bars(limit), worse_share) + 1e-12


@settings(max_examples=40, deadline=None)
@given(limit=LIMITS, n=st.integers(50, 2_000_000))
def test_what_is_said_to_be_caught_is_caught_and_hardly_less_is_not(limit: float, n: int) -> None:
    share = smallest_caught(bars(limit), n)
    if share is None:
        assert fewest_bad(bars(limit), n) > n
        return
    assert caught(bars(limit), n, share) >= 0.95
    assert caught(bars(limit), n, limit + (share - limit) * 0.99) < 0.95


def test_more_requests_catch_smaller_regressions() -> None:
    found = [smallest_caught(bars(0.005), n) or inf for n in (50, 500, 5000, 50_000, 5_000_000)]
    assert all(one > other for one, other in pairwise(found))
    # Nearer to the limit than that its mildest alternative, 1.5 times the limit, explains nothing better.
    assert found[-1] == pytest.approx(0.005 * 0.5 / log(1.5), rel=0.02)


def test_requests_to_catch_are_those_that_catch() -> None:
    for share in (0.0075, 0.01, 0.02, 0.3):
        needed = requests_to_catch(bars(0.005), share)
        assert caught(bars(0.005), int(needed), share) >= 0.95
        assert caught(bars(0.005), int(needed * 0.8), share) < 0.95
    assert requests_to_catch(bars(0.005), 0.005) == inf


def test_what_no_number_of_requests_decides_is_infinite() -> None:
    assert requests_to_pass(HALF_PERCENT, 0.005, 0.95) == inf
    # The mildest alternative, 0.75 times the limit, explains this no better than the limit does.
    assert requests_to_pass(HALF_PERCENT, 0.005 * 0.255 / -log(0.75), 0.95) == inf
    assert requests_to_pass(HALF_PERCENT, 0.005 * 0.23 / -log(0.75), 0.95) < inf
    assert requests_to_pass(HALF_PERCENT, 0.002, 1.0) == inf


def test_a_floor_of_requests_holds_for_every_pass() -> None:
    floored = bars(0.005, min_requests=5000)
    assert [soonest_pass(floored, x) for x in range(3)] == [5000, 5000, 5000]
    assert most_bad(floored, 4999) == -1
    assert most_bad(floored, 5000) == most_bad(HALF_PERCENT, 5000)


def test_a_plain_threshold_breaks_by_chance_as_often_as_was_measured() -> None:
    # 0.079 % at 0.5 requests/s, looked at each minute for two hours: rung in 94 % of good stretches
    alarms = plain_false_alarms(0.005, 1, 30.0, 120, 0.00079)
    assert alarms == pytest.approx(1 - float(binom.cdf(0, 30, 0.00079)) ** 120, rel=1e-9)
    assert 0.9 < alarms < 0.96
    # In 11 % of five-minute windows, and in four hours nearly always.
    assert plain_false_alarms(0.005, 1, 150.0, 1, 0.00079) == pytest.approx(0.11, abs=0.005)
    assert plain_false_alarms(0.005, 1, 150.0, 48, 0.00079) > 0.99


# The fold itself.


def fold_of(horizon: float | None, **changes: Any) -> Fold:
    """A fold that is anchored at NOW, its pass evidence included."""
    wanted = criterion(**changes)
    fold = in_force(wanted, begin(wanted, NOW - 5, horizon), NOW - 5)
    return advance(wanted, fold, (Row(NOW, 0.0, 0.0),), int(NOW))


def outcome(fold: Fold, **changes: Any) -> Outcome:
    return judge(criterion(**changes), "main", fold, Reading(fold.last, fold.last), fold.last).outcome


def one_row(n: int, x: int, **changes: Any) -> Outcome:
    """The verdict on all counts in one row."""
    at = int(NOW) + INTERVAL
    return outcome(advance(criterion(**changes), fold_of(3600.0, **changes), (Row(at, n, x),), at), **changes)


@pytest.mark.parametrize("limit", [0.001, 0.005, 0.05])
@pytest.mark.parametrize("n", [40, 300, 2320, 100_000])
def test_the_borders_are_those_of_the_fold(limit: float, n: int) -> None:
    known = bars_of(criterion(limit=limit))
    bearable, needed = most_bad(known, n), fewest_bad(known, n)
    if bearable >= 0:
        assert one_row(n, bearable, limit=limit) is Outcome.PASS
    assert one_row(n, bearable + 1, limit=limit) is not Outcome.PASS
    assert one_row(n, needed, limit=limit) is Outcome.FAIL


def test_the_detector_never_says_less_than_the_part_of_it_that_is_counted_on() -> None:
    rng = random.Random(4)
    for weight, after in ((start_weight(0, 360), 0), (start_weight(90, 360), 90)):
        fold, at, n, x = fold_of(3600.0), int(NOW), 0, 0
        for row in range(360):
            bad = sum(rng.random() < 0.012 for _ in range(20))
            at += INTERVAL
            fold = advance(criterion(), fold, (Row(at, 20.0, bad),), at)
            if row >= after:
                n, x = n + 20, x + bad
                assert log(sum(fold.detector)) >= log_evidence_of_fail(float(n), float(x), 0.005, weight) - 1e-9


def bad_events(rng: random.Random, n: int, share: float, count: int) -> list[int]:
    """Bad events in ``count`` rows of ``n`` requests each."""
    weights = [comb(n, x) * share**x * (1 - share) ** (n - x) for x in range(n + 1)]
    return rng.choices(range(n + 1), cum_weights=list(accumulate(weights)), k=count)


def first(wanted: Outcome, n: int, events: list[int]) -> int | None:
    """The first row with that verdict."""
    fold = fold_of(len(events) * float(INTERVAL))
    at = int(NOW)
    for row, x in enumerate(events, start=1):
        at += INTERVAL
        fold = advance(criterion(), fold, (Row(at, n, x),), at)
        if outcome(fold) is wanted:
            return row
    return None


RUNS = 250
DOUBT = 1e-4
"""How unlikely a count must be, by scipy, for the test to say that what was computed is not what happens."""


def agrees(count: int, chance: float, alternative: Literal["two-sided", "less", "greater"] = "two-sided") -> bool:
    return float(binomtest(count, RUNS, min(1.0, max(0.0, chance)), alternative).pvalue) >= DOUBT


@pytest.mark.parametrize(("ratio", "n", "rows"), [(0.158, 25, 140), (0.5, 50, 160), (0.7, 100, 200)])
def test_the_fold_passes_as_often_and_as_soon_as_was_computed(ratio: float, n: int, rows: int) -> None:
    rng = random.Random(17)
    found = [first(Outcome.PASS, n, bad_events(rng, n, ratio * 0.005, rows)) for _ in range(RUNS)]
    times = pass_times(bars_of(criterion()), ratio * 0.005, float(n), 1, rows)
    for row in (rows // 3, rows // 2, rows):
        assert agrees(sum(each is not None and each <= row for each in found), times.by(row)), row


@pytest.mark.parametrize(("share", "n", "rows"), [(0.02, 25, 40), (0.01, 50, 120)])
def test_the_fold_catches_at_least_as_often_and_as_soon_as_was_computed(share: float, n: int, rows: int) -> None:
    rng = random.Random(18)
    found = [first(Outcome.FAIL, n, bad_events(rng, n, share, rows)) for _ in range(RUNS)]
    known = bars_of(criterion())
    times = fail_times(known, share, float(n), rows, finer=1000)
    for row in (rows // 3, rows // 2, rows):
        count = sum(each is not None and each <= row for each in found)
        assert agrees(count, times.by(row), "less")
        # and the rest of the mixture adds little to harm from the start
        assert count <= RUNS * times.by(row) + 0.12 * RUNS
    assert agrees(sum(each is not None for each in found), caught(known, n * rows, share), "less")


def test_a_good_canary_is_proven_bad_no_more_often_than_the_bound_says() -> None:
    rng = random.Random(19)
    bound = false_fail_at_most(bars_of(criterion()), 0.0035)
    assert bound < 0.0065
    count = sum(first(Outcome.FAIL, 50, bad_events(rng, 50, 0.0035, 180)) is not None for _ in range(RUNS))
    assert agrees(count, bound, "greater")


def test_the_bound_on_false_fails_is_alpha_at_the_limit_and_falls_below_it() -> None:
    known = bars(0.005)
    found = [false_fail_at_most(known, ratio * 0.005) for ratio in (1.0, 0.99, 0.7, 0.5, 0.1, 0.0)]
    assert found[0] == pytest.approx(0.01)
    assert found[-1] == 0
    assert all(one > other for one, other in pairwise(found))
    assert false_fail_at_most(known, 0.0051) == 1.0
