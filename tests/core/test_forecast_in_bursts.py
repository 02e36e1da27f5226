"""What a gate can decide where bad requests come in bursts: against canaries whose bad requests do."""

from __future__ import annotations

from math import exp

import numpy as np
import pytest
from scipy.stats import binomtest

from controller.core.forecast import Traffic, forecasts, needs
from controller.core.power import bars_of, caught, false_fail_at_most, pass_times, passes_at, smallest_caught
from controller.core.series import Series
from tests.core.builders import INTERVAL, criterion
from tests.core.many import Counts, Many, fixed_clumps, geometric_clumps
from tests.core.test_forecast import NOVEMBER, everywhere, gate_of, gated, need_of

RUNS = 500
DOUBT = 1e-4
PHI = 9.0


def canaries(share: float, n: int, rows: int, *, alike: bool = True) -> Many:
    """Canaries with the limit of 0.5 % whose bad requests come in clumps: alike, or of geometric sizes."""
    rng = np.random.default_rng([round(share * 1e5), n, rows, alike])
    draw = fixed_clumps if alike else geometric_clumps
    return Many(0.005, n, RUNS, bursts=PHI, horizon=rows).watch([draw(rng, n, share, rows, RUNS, PHI)])


def by(found: Counts, row: int) -> int:
    """How many had their verdict by that row."""
    return int(((found > 0) & (found <= row)).sum())


@pytest.mark.parametrize(("share", "n", "rows"), [(0.00079, 50, 720), (0.002, 50, 1500), (0.002, 500, 150)])
def test_canaries_with_clumps_pass_as_often_and_as_soon_as_was_computed(share: float, n: int, rows: int) -> None:
    known = bars_of(criterion(), PHI)
    times = pass_times(known, share, n / known.unit, 1, rows)
    alike, geometric = canaries(share, n, rows).passed, canaries(share, n, rows, alike=False).passed
    for row in (rows // 3, rows // 2, rows):
        assert binomtest(by(alike, row), RUNS, min(1.0, times.by(row))).pvalue > DOUBT, row
        # Where sizes vary there are more clumps, and fewer canaries without any: the luckiest pass later.
        assert by(geometric, row) / RUNS < times.by(row) + 0.05, row
    assert by(geometric, rows // 2) / RUNS == pytest.approx(times.by(rows // 2), abs=0.07)
    assert by(geometric, rows) / RUNS == pytest.approx(times.by(rows), abs=0.05)


@pytest.mark.parametrize(("share", "rows"), [(0.01, 600), (0.02, 60), (0.02, 200), (0.05, 60)])
def test_canaries_with_clumps_are_caught_about_as_often_as_was_computed(share: float, rows: int) -> None:
    known = bars_of(criterion(), PHI)
    chance = caught(known, int(rows * 50 / known.unit), share)
    for alike in (True, False):
        count = int((canaries(share, 50, rows, alike=alike).failed > 0).sum())
        assert binomtest(count, RUNS, chance, "less").pvalue > DOUBT
        assert count / RUNS <= chance + 0.2


def test_good_canaries_with_clumps_fail_no_more_often_than_the_bound_says() -> None:
    known = bars_of(criterion(), PHI)
    bounds = [false_fail_at_most(known, part * 0.005) for part in (1.0, 0.9, 0.7, 0.3)]
    assert bounds[0] == pytest.approx(0.01)
    assert bounds == sorted(bounds, reverse=True)
    count = int((canaries(0.0035, 50, 2000, alike=False).failed > 0).sum())
    assert binomtest(count, RUNS, bounds[2], "greater").pvalue > DOUBT


def test_without_bursts_nothing_changes() -> None:
    usual = everywhere(NOVEMBER, 20.0)
    assert forecasts(NOVEMBER, Traffic(usual.requests, usual.quiet, {}, 1.0)) == forecasts(NOVEMBER, usual)
    assert needs(NOVEMBER, bursts=1.0) == needs(NOVEMBER)
    assert bars_of(criterion(), 0.5) == bars_of(criterion())
    assert bars_of(criterion()).unit == 1.0


def test_a_gate_in_bursts_takes_as_much_longer_and_says_so() -> None:
    plan = gated()
    usual = gate_of(forecasts(plan, everywhere(plan, 100.0)))
    burst = gate_of(forecasts(plan, Traffic({"main": 100.0}, usual_bursts=PHI)))
    assert usual.median is not None
    assert burst.median is not None
    assert burst.median == pytest.approx(PHI * usual.median, rel=0.1)
    assert usual.catches is not None
    assert burst.catches is not None
    assert burst.catches > 1.2 * usual.catches
    assert burst.bursts == burst.document()["bursts"] == PHI
    assert burst.sentence.endswith("; bad ones come in bursts, each counts as 0.11")
    assert "bursts" not in usual.sentence


def test_what_is_needed_is_as_many_times_as_much_and_is_enough() -> None:
    plan = gated(3600.0)
    without, within = need_of(needs(plan), "gate of phase ramp"), need_of(needs(plan, bursts=PHI), "gate of phase ramp")
    assert without.rate is not None
    assert within.rate == pytest.approx(PHI * without.rate, rel=0.02)
    assert within.rate is not None
    enough = gate_of(forecasts(plan, Traffic({"main": within.rate * 1.01}, usual_bursts=PHI)))
    assert enough.decides is not None
    assert enough.decides >= 0.95
    thin = gate_of(forecasts(plan, Traffic({"main": within.rate / 2}, usual_bursts=PHI)))
    assert thin.decides is not None
    assert thin.decides < 0.95
    assert thin.needs_rate == pytest.approx(within.rate, rel=0.02)


def test_bursts_are_those_of_the_target_and_the_series_where_they_were_measured() -> None:
    plan = gated()
    series = gate_of(forecasts(plan, everywhere(plan, 100.0))).criterion.series
    measured = gate_of(forecasts(plan, Traffic({"main": 100.0}, bursts={("main", series): 4.0}, usual_bursts=2.0)))
    assert measured.bursts == 4.0
    elsewhere = {("main", Series("recorded", "latency")): 4.0, ("eu", series): 4.0}
    assert gate_of(forecasts(plan, Traffic({"main": 100.0}, bursts=elsewhere))).bursts == 1.0
    assert Traffic({}, usual_bursts=0.2).bursts_of("main", series) == 1.0


def test_a_floor_of_requests_and_of_bad_ones_stays_one_of_real_ones() -> None:
    wanted = criterion(min_requests=50_000, min_bad=20)
    known = bars_of(wanted, PHI)
    assert known.min_requests * known.unit == pytest.approx(50_000, rel=0.001)
    assert 20 <= known.min_bad * known.unit < 20 + known.unit
    assert passes_at(known, int(49_000 / known.unit), 0.0001) == 0.0


def test_a_gate_that_cannot_pass_in_bursts_says_how_many_requests_it_takes() -> None:
    plan = gated(600.0)
    rate = 1112 / (600 / INTERVAL - 3) / INTERVAL * 10 * 1.5
    assert not gate_of(forecasts(plan, Traffic({"main": rate}))).problem
    burst = gate_of(forecasts(plan, Traffic({"main": rate}, usual_bursts=PHI)))
    assert "cannot pass within 10m: even without a bad one it takes 10,049 requests" in burst.problem
    assert smallest_caught(bars_of(criterion(), PHI), 0) is None
    assert exp(-bars_of(criterion(), PHI).to_pass) == pytest.approx(0.01)
