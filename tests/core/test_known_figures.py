"""What was found of these tests when they were chosen, found again: by scipy, by whole distributions, and by simulation.

Figures of simulations are medians and 95 % points in minutes, of 2,000 runs; both they and these have their errors.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, binomtest

from controller.core.likelihoods import BETTER, WORSE, log_evidence_of_pass, worse_rates
from controller.core.power import Bars, fail_times, log_evidence_of_fail, most_bad, pass_times, soonest_pass
from tests.bench.decisions import divergence, lorden, wald
from tests.core.builders import criterion
from tests.core.many import Counts, Many, ManyPairs, fixed_clumps, geometric_clumps, steady

ONE_PERCENT = log(100)
HALF_PERCENT = Bars(0.005, ONE_PERCENT, ONE_PERCENT, min_bad=1)
GOOD, LIMIT, BAD = 0.00079, 0.005, 0.02
SLOW, QUICK = 5, 50
"""Requests of the canary in a row of ten seconds, with 0.5 and with 5 a second."""
DAY = 8640
DOUBT = 0.001


def at_once(row: int) -> float:
    """All of the error spent on harm from the start: the cumulative test."""
    return float(row == 0)


def at_any_time(row: int) -> float:
    """Shiryaev and Roberts: each row a beginning of its own."""
    return 1.0


MANNERS: dict[str, dict[str, Callable[[int], float] | float | int]] = {
    "weighted": {"horizon": DAY},
    "weighted without an end": {"horizon": 0},
    "cumulative": {"weights": at_once},
    "SR": {"weights": at_any_time, "fail_at": log(100 * DAY)},
}


def many(n: int, runs: int, manner: str) -> Many:
    """Canaries with the limit of 0.5 %, and one bad request being enough to fail."""
    return Many(LIMIT, n, runs, min_bad=1, **MANNERS[manner])  # type: ignore[arg-type]


def minutes(rows: NDArray[np.int64], chance: float) -> float:
    """The time by which that part has got there; nobody who never does (0) has."""
    return float(np.quantile(np.where(rows > 0, rows, 10**9), chance)) / 6


# One look, and looking always.


@pytest.mark.parametrize(("share", "known"), [(0.00079, 0.00002), (0.002, 0.0002), (0.0035, 0.0008)])
def test_a_good_canary_is_hardly_ever_proven_bad(share: float, known: float) -> None:
    found = fail_times(HALF_PERCENT, share, 1.0, 60_000, 1.0).passed[-1]
    assert found == pytest.approx(known, rel=0.16)  # one digit is known


def test_a_bad_canary_is_hardly_ever_proven_good() -> None:
    assert pass_times(HALF_PERCENT, 0.01, 1.0, 1, 60_000).passed[-1] == pytest.approx(0.00001, rel=0.5)
    assert pass_times(HALF_PERCENT, 0.02, 1.0, 1, 60_000).passed[-1] < 0.00001
    assert not pass_times(HALF_PERCENT, 0.05, 1.0, 1, 60_000).passed


def test_a_tenth_that_is_slow_fails_below_a_limit_of_a_twentieth() -> None:
    # 239 and 620 were once found here, and come out of no variant of this test that was tried; by the whole distribution
    # it is 255 and 644.
    times = fail_times(Bars(0.05, ONE_PERCENT, ONE_PERCENT, min_bad=1), 0.1, 1.0, 20_000, 1.0, enough=0.96, finer=10**4)
    assert (times.until(0.5), times.until(0.95)) == (255, 644)


def test_no_test_passes_sooner_than_this_one_by_much() -> None:
    # So many requests without a bad one are what the limit itself has with 1 %; and that luck has a probability of 48 %.
    fewest = next(n for n in range(900, 1000) if binom.pmf(0, n, LIMIT) <= 0.01)
    assert fewest == 919
    assert binom.pmf(0, fewest, GOOD) == pytest.approx(0.48, abs=0.005)
    assert soonest_pass(HALF_PERCENT) == 1112


@pytest.mark.parametrize("limit", [0.001, 0.005, 0.01])
def test_the_rule_of_thumb_holds(limit: float) -> None:
    bars = Bars(limit, ONE_PERCENT, ONE_PERCENT)
    times = pass_times(bars, limit * 0.158, 1.0, 1, 10**9, enough=0.96)
    assert soonest_pass(bars) * limit == pytest.approx(5.6, rel=0.02)
    assert (times.until(0.5) or 0) * limit == pytest.approx(9, rel=0.05)
    assert (times.until(0.951) or 0) * limit == pytest.approx(17, rel=0.05)


def test_looking_each_minute_takes_hardly_more_than_a_minute_longer() -> None:
    # Who passes within a minute may have fallen back by its end.
    for rate in (0.5, 5.0):
        always = pass_times(HALF_PERCENT, GOOD, 1.0, 1, 10**9, enough=0.96)
        by_minute = pass_times(HALF_PERCENT, GOOD, 60 * rate, 1, 10**9, enough=0.96)
        for chance in (0.5, 0.951):
            later = (by_minute.until(chance) or 0) - (always.until(chance) or 0) / rate / 60
            assert -1e-9 <= later <= 2


def test_few_looks_at_a_mean_would_gain_little() -> None:
    # A third of the error at each of three looks, against all of it for looking always.
    exact = [max(x for x in range(60) if binom.cdf(x, n, LIMIT) <= 0.01 / 3) for n in (1800, 7200)]
    assert exact == [1, 20]
    assert [most_bad(HALF_PERCENT, n) for n in (1800, 7200)] == [1, 17]


def test_a_good_service_breaks_a_threshold_all_the_time() -> None:
    assert binom.sf(0, 150, GOOD) == pytest.approx(0.11, abs=0.005)
    # Four hours, looked at with each window of five minutes that can be had: at least as often as side by side.
    assert 1 - binom.cdf(0, 150, GOOD) ** 48 == pytest.approx(0.997, abs=0.002)


# Clumps.


@pytest.mark.parametrize("n", [SLOW, QUICK])
@pytest.mark.parametrize(("draw", "phi"), [(fixed_clumps, 5.0), (geometric_clumps, 9.0)])
@pytest.mark.parametrize("part", [1.0, 0.8])
def test_clumps_of_five_make_false_alarms_many_times_as_frequent(
    n: int, draw: Callable[..., Counts], phi: float, part: float
) -> None:
    rng = np.random.default_rng([n, round(phi), round(10 * part)])
    runs = 200
    found = many(n, runs, "cumulative").watch(draw(rng, n, part * LIMIT, 720, runs, phi) for _ in range(12))
    # 18 to 47 % were found, at the limit and just below
    count = int((found.failed > 0).sum())
    assert binomtest(count, runs, 0.18, "less").pvalue > DOUBT
    assert binomtest(count, runs, 0.47, "greater").pvalue > DOUBT


@pytest.mark.parametrize("n", [SLOW, QUICK])
def test_divided_by_the_bursts_they_are_as_rare_as_was_found(n: int) -> None:
    rng = np.random.default_rng(n)
    runs = 600
    found = Many(LIMIT, n, runs, bursts=5.0, weights=at_once, min_bad=1)
    found.watch(fixed_clumps(rng, n, LIMIT, 720, runs, 5.0) for _ in range(12))
    assert binomtest(int((found.failed > 0).sum()), runs, 0.013, "greater").pvalue > DOUBT


# Harm that begins later.


def detected(n: int, good_rows: int, manner: str, runs: int) -> NDArray[np.int64]:
    """Rows from the beginning of the harm until it is seen; 0: never."""
    rng = np.random.default_rng([n, good_rows, len(manner)])
    found = many(n, runs, manner)
    found.watch(steady(rng, n, GOOD, 720, runs) for _ in range(good_rows // 720))
    assert not found.failed.any()
    found.watch((steady(rng, n, BAD, 60, runs) for _ in range(60)), "failed")
    return found.failed - good_rows


@pytest.mark.parametrize(
    ("manner", "n", "hours", "half", "most"),
    [
        ("weighted", SLOW, 0, 16.2, 41.2),
        ("weighted", QUICK, 0, 1.7, 4.3),
        ("weighted", SLOW, 2, 29.3, 60.2),
        ("weighted", QUICK, 2, 3.7, 7.0),
        ("weighted", SLOW, 12, 29.3, 59.8),
        ("weighted", QUICK, 12, 3.7, 7.0),
        ("weighted without an end", SLOW, 0, 14.2, 37.8),
        ("weighted without an end", QUICK, 0, 1.5, 4.2),
        ("weighted without an end", SLOW, 2, 33.2, 66.8),
        ("weighted without an end", QUICK, 2, 4.0, 7.5),
        ("weighted without an end", SLOW, 12, 39.0, 75.5),
        ("weighted without an end", QUICK, 12, 4.7, 8.3),
        ("SR", SLOW, 0, 28.8, 59.5),
        ("SR", QUICK, 0, 3.5, 6.8),
        ("SR", SLOW, 2, 27.8, 56.8),
        ("SR", QUICK, 2, 3.5, 6.7),
        ("cumulative", SLOW, 0, 14.0, 37.3),
        ("cumulative", QUICK, 0, 1.5, 3.7),
        ("cumulative", SLOW, 2, 81.0, 115.0),
        ("cumulative", QUICK, 2, 50.0, 58.0),
    ],
)
def test_a_jump_to_four_times_the_limit_is_seen_as_soon_as_was_found(
    manner: str, n: int, hours: int, half: float, most: float
) -> None:
    rows = detected(n, hours * 360, manner, {0: 4000, 2: 1500, 12: 500}[hours])
    # Rows of ten seconds have a sixth of a minute.
    assert minutes(rows, 0.5) == pytest.approx(half, rel=0.08, abs=0.35)
    assert minutes(rows, 0.95) == pytest.approx(most, rel=0.09, abs=0.5)


def test_after_a_good_night_the_cumulative_test_is_blind_for_hours_and_the_detector_for_minutes() -> None:
    # In logs, for floats do not hold what is left of the likelihood ratios after such a night.
    rng = np.random.default_rng(12)
    runs, good_rows = 300, 4320
    x = rng.binomial(QUICK * good_rows, GOOD, runs) + steady(rng, QUICK, BAD, 3000, runs).cumsum(axis=0)
    n = QUICK * (good_rows + np.arange(1, 3001))[:, None]
    terms = np.array([x * bad + (n - x) * good for bad, good in worse_rates(LIMIT)])
    evidence = np.logaddexp.reduce(terms, axis=0) - log(len(WORSE))
    assert evidence[7, 5] == pytest.approx(log_evidence_of_fail(float(n[7, 0]), float(x[7, 5]), LIMIT, 1.0), rel=1e-9)
    reached = evidence >= ONE_PERCENT
    rows = np.where(reached.any(axis=0), reached.argmax(axis=0) + 1, 0)
    assert minutes(rows, 0.5) == pytest.approx(284, rel=0.02)
    assert minutes(detected(QUICK, good_rows, "weighted", 300), 0.5) == pytest.approx(4, abs=0.5)


@pytest.mark.parametrize(
    ("manner", "n", "known", "runs"),
    [
        ("weighted", SLOW, 0.0045, 1500),
        ("weighted", QUICK, 0.0040, 1500),
        ("weighted without an end", SLOW, 0.0020, 600),
        ("weighted without an end", QUICK, 0.0035, 600),
        ("cumulative", SLOW, 0.0025, 600),
        ("cumulative", QUICK, 0.0040, 600),
        ("SR", SLOW, 0.0095, 600),
        ("SR", QUICK, 0.0040, 600),
    ],
)
def test_false_alarms_of_a_day_at_the_limit_are_as_rare_as_was_found(
    manner: str, n: int, known: float, runs: int
) -> None:
    rng = np.random.default_rng([n, len(manner)])
    found = many(n, runs, manner).watch(steady(rng, n, LIMIT, 720, runs) for _ in range(12))
    count = int((found.failed > 0).sum())
    assert binomtest(count, runs, known).pvalue > DOUBT
    assert binomtest(count, runs, 0.01, "greater").pvalue > DOUBT


@pytest.mark.parametrize(
    ("n", "wald_mean", "from_start", "lorden_requests", "after_hours"),
    [(SLOW, 11.96, 18.2, 682, 31.8), (QUICK, 1.20, 2.0, 844, 3.9)],
)
def test_it_is_as_far_from_what_is_possible_as_was_found(
    n: int, wald_mean: float, from_start: float, lorden_requests: float, after_hours: float
) -> None:
    assert divergence(BAD, LIMIT) == pytest.approx(0.01284, abs=0.00001)
    assert wald(BAD, LIMIT) / n / 6 == pytest.approx(wald_mean, rel=0.005)
    assert lorden(BAD, LIMIT, DAY * n) == pytest.approx(lorden_requests, rel=0.005)
    assert detected(n, 0, "weighted", 4000).mean() / 6 == pytest.approx(from_start, rel=0.05, abs=0.1)
    assert detected(n, 720, "weighted", 1500).mean() / 6 == pytest.approx(after_hours, rel=0.05, abs=0.1)


# Plain thresholds.


def windows_over(events: Counts, n: int, rows: int) -> NDArray[np.bool_]:
    """Whether the window of so many rows that ends with a row is over the limit, from the first full one on."""
    sums = np.cumsum(np.vstack([np.zeros((1, events.shape[1]), dtype=np.int64), events]), axis=0)
    return np.asarray(sums[rows:] - sums[:-rows] >= max(LIMIT * n * rows, 1))


def first(over: NDArray[np.bool_], rows: int) -> NDArray[np.int64]:
    """The first row with a window over the limit; 0: none."""
    return np.where(over.any(axis=0), over.argmax(axis=0) + rows, 0)


@pytest.mark.parametrize(
    ("n", "rows", "in_good_hours", "looks_over", "half", "most"),
    [
        (SLOW, 6, 0.94, 0.137, 1.2, 4.8),
        (QUICK, 6, 0.99, 0.44, 1.0, 1.0),
        (SLOW, 30, 0.94, 0.52, 5.0, 5.0),
        (QUICK, 30, 0.007, 0.48, 5.0, 5.0),
    ],
)
def test_a_plain_threshold_alarms_at_once_and_of_everything(
    n: int, rows: int, in_good_hours: float, looks_over: float, half: float, most: float
) -> None:
    rng = np.random.default_rng([n, rows])
    edge = steady(rng, n, LIMIT, DAY, 60)
    assert first(windows_over(edge, n, rows), rows).all()
    # side by side the windows know nothing of each other
    found = windows_over(edge, n, rows)[::rows]
    exact = float(binom.sf(max(round(LIMIT * n * rows + 0.4999), 1) - 1, n * rows, LIMIT))
    assert found.mean() == pytest.approx(exact, rel=0.06)
    assert exact == pytest.approx(looks_over, rel=0.03)
    good = first(windows_over(steady(rng, n, GOOD, 720, 1500), n, rows), rows) > 0
    assert good.mean() == pytest.approx(in_good_hours, abs=0.02)
    soon = first(windows_over(steady(rng, n, BAD, 360, 1500), n, rows), rows)
    assert minutes(soon, 0.5) == pytest.approx(half, abs=0.2)
    assert minutes(soon, 0.95) == pytest.approx(most, abs=0.4)


# Us, or the world.


@pytest.mark.parametrize(("n", "stable_n", "half"), [(SLOW, 95, 7.0), (QUICK, 950, 1.0)])
def test_the_canary_is_told_from_the_world_within_minutes_and_not_blamed_for_it(
    n: int, stable_n: int, half: float
) -> None:
    rng = np.random.default_rng(n)
    runs, wanted = 2000, criterion(versus="stable", min_bad=1)

    def told(stable_share: float) -> Counts:
        found = ManyPairs(wanted, n, stable_n, runs, weights=at_once)
        pieces = (steady(rng, n, BAD, 60, runs) for _ in range(6))
        return found.watch(pieces, (steady(rng, stable_n, stable_share, 60, runs) for _ in range(6))).failed

    assert minutes(told(GOOD), 0.5) == pytest.approx(half, abs=0.34)
    # of canaries that are as bad as all the world: none of 2,000
    assert binomtest(int((told(BAD) > 0).sum()), runs, 0.0005, "greater").pvalue > DOUBT


def test_the_alternatives_are_those_that_the_figures_are_of() -> None:
    assert WORSE == (1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
    assert BETTER == (0.75, 0.5, 0.25, 0.1, 0.0)
    assert log_evidence_of_pass(1112.0, 0.0, LIMIT) >= ONE_PERCENT > log_evidence_of_pass(1111.0, 0.0, LIMIT)
