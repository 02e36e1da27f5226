"""However often one looks: at the very limit hardly any canary is ever judged wrongly, and a wrong constant is noticed.

Seeded simulations of the real fold, looked at after every row; and of whole days of many canaries at a time with the same
constants, which are held against the real fold. If each run erred with the promised 1 %, the counts that are allowed here
would come up less often than once in a thousand such tests.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate, pairwise
from math import comb, exp, inf, log1p
from pathlib import Path
from statistics import fmean, pvariance
from types import ModuleType
from typing import Literal, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from controller.core import likelihoods
from controller.core.comparisons import gains_of, rates_of_pair
from controller.core.evidence import Criterion
from controller.core.likelihoods import WORSE, better_rates, divided_rates, fail_divisors, pass_divisor
from controller.core.series import Pair, Reading, Row
from controller.core.verdicts import advance, begin, in_force, judge
from tests.core.builders import INTERVAL, NOW, criterion
from tests.core.many import Many, ManyPairs, fixed_clumps, geometric_clumps
from tests.core.many import steady as steady_many

ALPHA = 0.01
DOUBT = 0.001
CLUMP = 5
"""How many bad requests come at once, where they come in bursts."""
RUNS = 40
ROWS = 360


class Wrong(NamedTuple):
    """How many of the runs were ever judged bad, and good, with neither true."""

    bad: int
    good: int


def allowed(runs: int) -> int:
    """More than this is not what 1 % gives."""
    return int(binom.isf(DOUBT, runs, ALPHA))


@lru_cache
def _weights(n: int, share: float) -> tuple[float, ...]:
    return tuple(accumulate(comb(n, x) * share**x * (1 - share) ** (n - x) for x in range(min(n, 400) + 1)))


def steady(rng: random.Random, n: int, share: float, rows: int) -> list[int]:
    """Bad events of so many rows of ``n`` requests, each bad by itself."""
    weights = _weights(n, share)
    return rng.choices(range(len(weights)), cum_weights=weights, k=rows)


def clumped(rng: random.Random, n: int, share: float, rows: int) -> list[int]:
    """The same share, but bad ones come in clumps of CLUMP at once."""
    return [min(n, CLUMP * clumps) for clumps in steady(rng, n, share / CLUMP, rows)]


def burstiness(events: list[int]) -> float:
    """The dispersion of the bad events by minute, against what chance alone would give; never below 1."""
    per_minute = 60 // INTERVAL
    minutes = [sum(events[at : at + per_minute]) for at in range(0, len(events), per_minute)]
    return max(1.0, pvariance(minutes) / fmean(minutes)) if any(minutes) else 1.0


def runs(
    seed: int, limit: float, n: int, *, burst: bool, count: int, rows: int, corrected: bool = True
) -> Iterator[tuple[float, list[Row]]]:
    """Rows of canaries that are exactly at the limit; and in bursts the burstiness of a day of stable."""
    rng = random.Random(seed)
    draw = clumped if burst else steady
    phi = burstiness(draw(rng, n, limit / 2, 8640)) if burst and corrected else 1.0
    for _ in range(count):
        events = draw(rng, n, limit, rows)
        yield phi, [Row(NOW + INTERVAL * (at + 1), n, x) for at, x in enumerate(events)]


def judged(limit: float, phi: float, rows: list[Row]) -> tuple[bool, bool]:
    """Whether the canary was ever proven bad, and ever good."""
    wanted = criterion(limit=limit)
    fold = in_force(wanted, begin(wanted, NOW - 5, len(rows) * float(INTERVAL), phi), NOW - 5)
    fold = advance(wanted, fold, (Row(NOW, 0.0, 0.0),), int(NOW))
    bad = good = False
    for row in rows:
        at = int(row.at)
        fold = advance(wanted, fold, (row,), at)
        outcome = judge(wanted, "main", fold, Reading(at, at), row.at).outcome
        bad, good = bad or outcome == "fail", good or outcome == "pass"
        if bad:
            break
    return bad, good


def wrong(limit: float, found: Iterator[tuple[float, list[Row]]]) -> Wrong:
    verdicts = [judged(limit, phi, rows) for phi, rows in found]
    return Wrong(sum(bad for bad, _ in verdicts), sum(good for _, good in verdicts))


CELLS = [
    (limit, n, burst)
    for limit in (0.001, 0.005, 0.05)
    for n in (5, 50, 500)
    for burst in (False, True)
    # thousands of bad ones cost time without saying more, and whole days of clumps are below
    if not (burst and n != 50) and not (limit == 0.05 and n == 500)
]


@lru_cache
def wrong_in(limit: float, n: int, burst: bool) -> Wrong:
    seed = hash((limit, n, burst)) & 0xFFFF
    return wrong(limit, runs(seed, limit, n, burst=burst, count=RUNS, rows=ROWS))


@pytest.mark.parametrize(("limit", "n", "burst"), CELLS)
def test_at_the_limit_hardly_any_canary_is_judged_however_often_one_looks(limit: float, n: int, burst: bool) -> None:
    found = wrong_in(limit, n, burst)
    assert found.bad <= allowed(RUNS)
    assert found.good <= allowed(RUNS)


def test_over_all_limits_rates_and_bursts_the_errors_stay_below_alpha() -> None:
    # Errors of 5 % each way would be noticed with a certainty of 95 %; the days below notice smaller ones.
    every = [wrong_in(*cell) for cell in CELLS]
    total = RUNS * len(CELLS)
    assert binom.sf(allowed(total), total, 0.05) > 0.95
    assert sum(found.bad for found in every) <= allowed(total)
    assert sum(found.good for found in every) <= allowed(total)


# Wrong constants.


def mutated(old: str, new: str) -> ModuleType:
    """The formulas of the evidence with one piece of their text replaced."""
    text = Path(str(likelihoods.__file__)).read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
    module = ModuleType("controller.core.likelihoods_mutant")
    exec(compile(text.replace(old, new), module.__name__, "exec"), module.__dict__)  # noqa: S102 - our own code
    return module


MUTANTS = [
    (
        "a third of the bar",
        "    return -log(1 - certainty)",
        "    return -log(1 - certainty) / 3",
        "both",
    ),
    ("an error spent anew at each look", "    if instant == 0:\n", "    if instant >= 0:\n", "bad"),
    ("a milder limit to fail", "(log(share / limit), ", "(log(share / (0.7 * limit)), ", "bad"),
    (
        "good requests that count too little",
        "log1p(-share) - log1p(-limit))",
        "(log1p(-share) - log1p(-limit)) / 2)",
        "bad",
    ),
    ("a stricter limit to pass", "    base = log1p(-limit)\n", "    base = log1p(-1.5 * limit)\n", "good"),
    ("bad requests that count too little for a pass", "[x * log_bad + good", "[x * log_bad / 2 + good", "good"),
]


@pytest.mark.parametrize(("old", "new", "side"), [each[1:] for each in MUTANTS], ids=[each[0] for each in MUTANTS])
def test_a_wrong_constant_is_noticed(old: str, new: str, side: str) -> None:
    count, rng = 200, np.random.default_rng(1)
    found = Many(0.005, 50, count, horizon=1440, code=mutated(old, new))
    found.watch(steady_many(rng, 50, 0.005, 720, count) for _ in range(2))
    if side in ("bad", "both"):
        assert int((found.failed > 0).sum()) > allowed(count)
    if side in ("good", "both"):
        assert int(((found.passed > 0) | (found.failed > 0)).sum()) > allowed(count)


def test_bursts_that_are_not_divided_out_are_noticed() -> None:
    count = 60
    found = wrong(0.005, runs(1, 0.005, 50, burst=True, count=count, rows=ROWS, corrected=False))
    assert found.bad + found.good > 2 * allowed(count)


# Whole days, with clumps and without.

PHIS = {"fixed": (5.0, 9.0), "geometric": (5.0, 9.0), "alone": (1.0,)}
SIZES = {"fixed": fixed_clumps, "geometric": geometric_clumps}
DRAWS = {**SIZES, "alone": fixed_clumps}
DAY_RUNS = 150
DAYS = [
    (limit, n, phi, sizes)
    for limit in (0.001, 0.005, 0.05)
    for n in (5, 50, 500)
    for sizes, phis in PHIS.items()
    for phi in phis
    if not (limit == 0.05 and n == 500)
]


def days(limit: float, n: int, phi: float, sizes: str, code: ModuleType = likelihoods, count: int = DAY_RUNS) -> Many:
    """Canaries that are exactly at the limit for a day of 8,640 rows, with bad requests in clumps of that burstiness."""
    rng = np.random.default_rng([round(limit * 1000), n, round(phi), len(sizes)])
    many = Many(limit, n, count, horizon=8640, bursts=phi, code=code)
    return many.watch(DRAWS[sizes](rng, n, limit, 720, count, phi) for _ in range(12))


@lru_cache
def wrong_days(limit: float, n: int, phi: float, sizes: str) -> Wrong:
    many = days(limit, n, phi, sizes)
    return Wrong(int((many.failed > 0).sum()), int((many.passed > 0).sum()))


@pytest.mark.parametrize(("limit", "n", "phi", "sizes"), DAYS)
def test_in_clumps_of_any_usual_sizes_hardly_any_canary_at_the_limit_is_judged_in_a_day(
    limit: float, n: int, phi: float, sizes: str
) -> None:
    found = wrong_days(limit, n, phi, sizes)
    assert found.bad <= allowed(DAY_RUNS)
    assert found.good <= allowed(DAY_RUNS)


def test_over_all_days_the_errors_of_a_day_stay_below_alpha() -> None:
    # Errors of 1.8 % each way would be noticed with a certainty of 95 %.
    every = [wrong_days(*cell) for cell in DAYS]
    total = DAY_RUNS * len(DAYS)
    assert binom.sf(allowed(total), total, 0.018) > 0.95
    assert sum(found.bad for found in every) <= allowed(total)
    assert sum(found.good for found in every) <= allowed(total)


CLUMP_MUTANTS = [
    (
        "the fail side divided by the dispersion alone",
        "return tuple(_divisor(bad - good, -good, bursts, limit) for bad, good in worse_rates(limit))",
        "return (bursts,) * len(WORSE)",
        "bad",
    ),
    ("clumps that are all taken for one size", "    if gain < 0:\n", "    if gain:\n", "bad"),
    (
        "geometric sizes with the dispersion for their mean",
        "left = 1 - (bursts - 1) / 2 * over",
        "left = 1 - (bursts - 1) / 4 * over",
        "bad",
    ),
    (
        "a pass side that is not divided",
        "return max(_divisor(bad - good, -good, bursts, limit) for bad, good in every)",
        "return 1.0 + 0.0 * len(every)",
        "good",
    ),
]


@pytest.mark.parametrize(
    ("old", "new", "side"), [each[1:] for each in CLUMP_MUTANTS], ids=[each[0] for each in CLUMP_MUTANTS]
)
def test_a_wrong_divisor_is_noticed(old: str, new: str, side: str) -> None:
    found = days(0.005, 50, 9.0, "geometric", mutated(old, new))
    assert int(((found.failed if side == "bad" else found.passed) > 0).sum()) > allowed(DAY_RUNS)


def growth(t: float, sizes: str, phi: float) -> float:
    """E[t^s - 1]/E[s]: by how much clumps let the evidence grow for each of their bad events."""
    if sizes == "fixed":
        return float(t**phi - 1) / phi
    mean = (phi + 1) / 2
    stays = 1 - 1 / mean
    return (t / mean / (1 - stays * t) - 1) / mean if stays * t < 1 else inf


@settings(max_examples=100, deadline=None)
@given(
    limit=st.floats(1e-5, 0.3),
    better=st.floats(0.0, 1.0),
    phi=st.floats(1.01, 60.0),
    sizes=st.sampled_from(sorted(SIZES)),
)
def test_no_alternative_grows_on_the_other_side_of_the_limit_whatever_the_clumps(
    limit: float, better: float, phi: float, sizes: str
) -> None:
    for bad, good, divisor in divided_rates(limit, phi):
        t = exp((bad - good) / divisor)
        assert log1p(limit * better * growth(t, sizes, phi)) + good / divisor <= 1e-9
    divisor = pass_divisor(limit, phi)
    worse = limit + (1 - limit) * better * 0.5
    rates, none_bad = better_rates(limit)
    for bad, good in (*rates, (-700.0 * divisor, none_bad)):
        t = exp((bad - good) / divisor)
        assert log1p(worse * growth(t, sizes, phi)) + good / divisor <= 1e-9


@settings(max_examples=150, deadline=None)
@given(
    limit=st.sampled_from([0.5, 1.0, 2.0, 5.0]),
    n=st.integers(1, 500),
    stable_n=st.integers(1, 500),
    phi=st.floats(1.01, 60.0),
    sizes=st.tuples(st.sampled_from(sorted(SIZES)), st.sampled_from(sorted(SIZES))),
)
def test_no_alternative_of_a_comparison_grows_at_the_limit_whatever_the_clumps(
    limit: float, n: int, stable_n: int, phi: float, sizes: tuple[str, str]
) -> None:
    row = Pair(0.0, float(n), 0.0, float(stable_n), 0.0)

    def grows(wanted: Criterion, share: float, stable_share: float) -> Iterator[float]:
        for rates in rates_of_pair(wanted, row):
            for bet in rates:
                itself, mine, others = (
                    next(iter(gains_of((bet,), replace(row, x=x, stable_x=stable_x), phi)))
                    for x, stable_x in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
                )
                own = n * share * growth(exp(max(mine - itself, -700.0)), sizes[0], phi)
                yield own + stable_n * stable_share * growth(exp(others - itself), sizes[1], phi) + itself

    ratio, difference = criterion(limit=limit, versus="ratio"), criterion(limit=limit / 100, versus="difference")
    for stable_share in (0.001, 0.02):
        assert max(grows(ratio, limit * stable_share, stable_share)) <= 1e-9
        assert max(grows(difference, limit / 100 + stable_share, stable_share)) <= 1e-9


@pytest.mark.parametrize(("n", "stable_n"), [(5, 95), (50, 50), (90, 10)])
@pytest.mark.parametrize("sizes", SIZES)
def test_in_clumps_a_comparison_at_the_limit_hardly_ever_says_a_word(n: int, stable_n: int, sizes: str) -> None:
    for number, (wanted, share, stable_share) in enumerate(
        (
            (criterion(limit=2.0, versus="ratio"), 0.02, 0.01),
            (criterion(limit=0.01, versus="difference"), 0.02, 0.01),
        )
    ):
        rng = np.random.default_rng([n, stable_n, len(sizes), number])
        count, draw = 100, SIZES[sizes]
        many = ManyPairs(wanted, n, stable_n, count, horizon=2160, bursts=9.0).watch(
            (draw(rng, n, share, 720, count, 9.0) for _ in range(3)),
            (draw(rng, stable_n, stable_share, 720, count, 9.0) for _ in range(3)),
        )
        assert int((many.failed > 0).sum()) <= allowed(count)
        assert int((many.passed > 0).sum()) <= allowed(count)


@pytest.mark.parametrize("share", [0.0, 0.004, 0.01, 0.04])
@pytest.mark.parametrize("phi", [1.0, 6.5])
def test_the_many_are_judged_as_the_fold_judges_each_of_them(share: float, phi: float) -> None:
    rng = np.random.default_rng([round(share * 1000), round(phi)])
    rows = 400
    events = geometric_clumps(rng, 50, share, rows, 3, phi)
    many = Many(0.005, 50, 3, horizon=rows, bursts=phi)
    wanted = criterion()
    begun = in_force(wanted, begin(wanted, NOW - 5, rows * float(INTERVAL), phi), NOW - 5)
    folds = [advance(wanted, begun, (Row(NOW, 0.0, 0.0),), int(NOW))] * 3
    first: list[dict[str, int]] = [{}, {}, {}]
    for row, x in enumerate(events, start=1):
        many.see(x)
        at = int(NOW) + row * INTERVAL
        for run in range(3):
            folds[run] = advance(wanted, folds[run], (Row(at, 50.0, float(x[run])),), at)
            found = judge(wanted, "main", folds[run], Reading(at, at), at)
            first[run].setdefault(found.outcome, row)
            if found.passes_phase:
                first[run].setdefault("passes", row)
        assert pytest.approx(np.array([fold.detector for fold in folds]), rel=1e-9) == many.detector.T
    assert many.failed.tolist() == [each.get("fail", 0) for each in first]
    assert many.passed.tolist() == [each.get("passes", 0) for each in first]


@pytest.mark.parametrize(("limit", "versus"), [(2.0, "ratio"), (0.01, "difference"), (0.005, "stable")])
@pytest.mark.parametrize("phi", [1.0, 6.5])
def test_many_comparisons_are_folded_as_the_fold_does_each_of_them(
    limit: float, versus: Literal["ratio", "difference", "stable"], phi: float
) -> None:
    rng = np.random.default_rng([round(limit * 1000), round(phi)])
    wanted = criterion(limit=limit, versus=versus)
    many = ManyPairs(wanted, 20, 80, 1, horizon=120, bursts=phi)
    fold = in_force(wanted, begin(wanted, NOW - 5, 1200.0, phi), NOW - 5)
    fold = advance(wanted, fold, (Pair(NOW, 0.0, 0.0, 0.0, 0.0),), int(NOW))
    mine, others = geometric_clumps(rng, 20, 0.03, 120, 1, phi), geometric_clumps(rng, 80, 0.02, 120, 1, phi)
    for row, (x, stable_x) in enumerate(zip(mine, others, strict=True), start=1):
        many.see(x, stable_x)
        at = int(NOW) + row * INTERVAL
        fold = advance(wanted, fold, (Pair(at, 20.0, float(x[0]), 80.0, float(stable_x[0])),), at)
    assert fold.beside is not None
    assert many.detector[:, 0] == pytest.approx(fold.detector, rel=1e-9)
    assert many.evidence[:, 0] == pytest.approx(fold.beside.phase_evidence, rel=1e-9)


@given(limit=st.floats(1e-5, 0.5), phi=st.floats(1.0, 200.0), more=st.floats(0.0, 50.0))
def test_divisors_begin_at_one_grow_with_the_bursts_and_are_never_below_them(
    limit: float, phi: float, more: float
) -> None:
    found, larger = fail_divisors(limit, phi), fail_divisors(limit, phi + more)
    assert fail_divisors(limit, 1.0) == (1.0,) * len(WORSE)
    assert pass_divisor(limit, 1.0) == 1.0
    assert phi <= pass_divisor(limit, phi) <= phi / (1 - limit) * (1 + 1e-9)
    assert all(phi <= one <= other * (1 + 1e-9) for one, other in pairwise(found))
    assert all(one <= other * (1 + 1e-9) for one, other in zip(found, larger, strict=True))


def test_clumps_of_five_are_seen_as_such() -> None:
    rng = random.Random(3)
    assert burstiness(clumped(rng, 50, 0.0025, 8640)) == pytest.approx(CLUMP, rel=0.2)
    assert burstiness(steady(rng, 50, 0.0025, 8640)) == pytest.approx(1.0, abs=0.15)
