"""How often the tests err and how soon they decide: exact tables over the binomial, and seeded simulations.

The simulations are small: each states the confidence with which it would notice that the promise is broken.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import accumulate
from math import comb
from statistics import median

import pytest

from controller.core.evidence import Fold, Outcome
from controller.core.likelihoods import log_evidence_of_pass
from controller.core.series import Reading, Row
from controller.core.verdicts import advance, begin, in_force, judge
from tests.core.builders import INTERVAL, NOW, criterion

LIMIT = 0.005
ALPHA = 0.01
BAR = 4.605170185988091  # ln(1/alpha)


def soonest_pass(x: int, low: int) -> int:
    """The fewest requests with ``x`` bad ones among them that pass."""
    high = low + 1
    while log_evidence_of_pass(high, x, LIMIT) < BAR:
        high *= 2
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if log_evidence_of_pass(middle, x, LIMIT) >= BAR else (middle + 1, high)
    return low


def requests_until_pass(share: float, quantiles: tuple[float, ...]) -> tuple[int, ...]:
    """After how many requests that share of all canaries with this share of errors has passed; exact."""
    borders = [soonest_pass(0, 1)]
    alive, passed, n = [1.0], 0.0, 0
    found: list[int] = []
    while len(found) < len(quantiles):
        n += 1
        grown = [0.0] * (len(alive) + 1)
        for x, chance in enumerate(alive):
            grown[x] += chance * (1 - share)
            grown[x + 1] += chance * share
        while grown and grown[-1] < 1e-15:
            grown.pop()
        while len(borders) < len(grown):
            borders.append(soonest_pass(len(borders), borders[-1]))
        for x, chance in enumerate(grown):
            if n >= borders[x]:
                passed += chance
                grown[x] = 0.0
        alive = grown
        while len(found) < len(quantiles) and passed >= quantiles[len(found)]:
            found.append(n)
    return tuple(found)


@pytest.mark.parametrize(
    ("share", "half", "most"), [(0.00079, 1753, 3366), (0.002, 4067, 9328)], ids=["0.079%", "0.2%"]
)
def test_a_good_canary_passes_after_as_many_requests_as_the_table_says(share: float, half: int, most: int) -> None:
    # It passes at one of few counts, one for each number of bad events; 95.0 % of all runs lies on the edge of two.
    assert requests_until_pass(share, (0.5, 0.951)) == (half, most)


def test_a_canary_at_the_limit_hardly_ever_passes() -> None:
    borders = [soonest_pass(0, 1)]
    while len(borders) < 40:
        borders.append(soonest_pass(len(borders), borders[-1]))
    alive, passed = [1.0], 0.0
    for n in range(1, 6001):
        grown = [0.0] * (len(alive) + 1)
        for x, chance in enumerate(alive):
            grown[x] += chance * (1 - LIMIT)
            grown[x + 1] += chance * LIMIT
        for x, border in enumerate(borders[: len(grown)]):
            if n >= border:
                passed += grown[x]
                grown[x] = 0.0
        alive = grown[:60]  # more bad events than that cannot pass within these requests
    assert 0.003 < passed < ALPHA


def bad_events(rng: random.Random, n: int, share: float, count: int) -> list[int]:
    """Bad events in ``count`` rows of ``n`` requests each."""
    weights = [comb(n, x) * share**x * (1 - share) ** (n - x) for x in range(n + 1)]
    return rng.choices(range(n + 1), cum_weights=list(accumulate(weights)), k=count)


def begun(horizon: float | None) -> Fold:
    """A fold that is anchored at NOW."""
    wanted = criterion()
    fold = in_force(wanted, begin(wanted, NOW - 5, horizon), NOW - 5)
    return advance(wanted, fold, (Row(NOW, 0.0, 0.0),), int(NOW))


def walked(fold: Fold, n: int, events: list[int]) -> Iterator[Fold]:
    """The fold after each row."""
    wanted = criterion()
    for x in events:
        at = fold.last + INTERVAL
        fold = advance(wanted, fold, (Row(float(at), float(n), float(x)),), at)
        yield fold


def fails(fold: Fold) -> bool:
    """Whether the verdict is fail."""
    verdict = judge(criterion(), "main", fold, Reading(fold.last, fold.last), fold.last)
    return verdict.outcome is Outcome.FAIL


def most_by_chance(runs: int, share: float, doubt: float) -> int:
    """The number that is exceeded with a probability below ``doubt`` if each run errs with probability ``share``."""
    left, number = 1.0, -1
    while left >= doubt:
        number += 1
        left -= comb(runs, number) * share**number * (1 - share) ** (runs - number)
    return number


@pytest.mark.parametrize("horizon", [3600.0, None], ids=["an hour", "no end"])
def test_false_alarms_at_the_very_limit_stay_below_alpha(horizon: float | None) -> None:
    # If the true rate were alpha or less, more alarms than this come up once in a thousand such tests. A detector
    # that spends its error anew at each look alarms in most of these runs.
    rng, runs, rows = random.Random(20_231_114), 250, 360
    alarms = sum(any(map(fails, walked(begun(horizon), 50, bad_events(rng, 50, LIMIT, rows)))) for _ in range(runs))
    assert alarms <= most_by_chance(runs, ALPHA, 0.001) < 0.04 * runs


def delay(rng: random.Random, n: int, after_good: int) -> int:
    """Rows from a jump to 2 % until the detector fails, after so many rows at 0.079 %, in a phase of a day."""
    fold = begun(86_400.0)
    for grown in walked(fold, n, bad_events(rng, n, 0.00079, after_good)):
        fold = grown
    for rows, grown in enumerate(walked(fold, n, bad_events(rng, n, 0.02, 5000)), start=1):
        if fails(grown):
            return rows
    raise AssertionError("never detected")


@pytest.mark.parametrize(
    ("n", "after_good", "half", "most"),
    [(5, 0, 16.2, 41.2), (50, 0, 1.7, 4.3), (5, 720, 29.3, 60.2), (50, 720, 3.7, 7.0)],
    ids=["0.5 rps at once", "5 rps at once", "0.5 rps after 2 h", "5 rps after 2 h"],
)
def test_a_jump_to_2_percent_is_found_about_as_soon_as_was_measured(
    n: int, after_good: int, half: float, most: float
) -> None:
    # Medians and 95 % quantiles of 150 runs scatter by about a tenth; a row more or less is ten seconds.
    rng = random.Random(7)
    minutes = sorted(delay(rng, n, after_good) * INTERVAL / 60 for _ in range(150))
    assert median(minutes) == pytest.approx(half, rel=0.2, abs=0.35)
    assert minutes[int(0.95 * len(minutes))] == pytest.approx(most, rel=0.3, abs=0.35)


def test_a_jump_in_a_phase_without_an_end_is_found_not_much_later() -> None:
    rng = random.Random(8)

    def unplanned() -> int:
        fold = begun(None)
        for grown in walked(fold, 50, bad_events(rng, 50, 0.00079, 720)):
            fold = grown
        return next(
            rows
            for rows, grown in enumerate(walked(fold, 50, bad_events(rng, 50, 0.02, 5000)), start=1)
            if fails(grown)
        )

    assert median(unplanned() * INTERVAL / 60 for _ in range(100)) == pytest.approx(4.0, rel=0.2, abs=0.35)
