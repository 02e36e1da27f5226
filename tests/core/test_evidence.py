"""The fold is one and the same however it is cut; the verdicts that it gives are the ones that were computed by hand."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import inf, isclose, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.evidence import Criterion, Fold, Outcome, Verdict
from controller.core.fold_text import decode, encode
from controller.core.likelihoods import (
    BETTER,
    EXTENSION_WEIGHT,
    LARGEST_SHARE,
    PLANNED_WEIGHT,
    SLOW_SERIES_SUM,
    START_WEIGHT,
    WORSE,
    log_evidence_of_pass,
    start_weight,
)
from controller.core.outlook import requests_to_settle
from controller.core.series import Reading, Row
from controller.core.verdicts import advance, begin, in_force, judge
from tests.core.builders import ERRORS, INTERVAL, NOW, criterion

ALPHA = 0.01
VALUE = replace(ERRORS, kind="value", metric="revenue", total="vector(1)", lag=0.0)


def rows(*counts: tuple[float, float] | None, start: float = NOW) -> tuple[Row, ...]:
    """Rows of consecutive instants, the first at ``start``; None leaves its instant out."""
    return tuple(Row(start + place * INTERVAL, *count) for place, count in enumerate(counts) if count is not None)


def begun(wanted: Criterion, horizon: float | None = 3600.0, *, weighed: bool = True) -> Fold:
    """A fold whose first instant is NOW; ``weighed``: a weight has been in force since then as well."""
    at = NOW - wanted.series.lag
    fold = begin(wanted, at, horizon)
    return in_force(wanted, fold, at) if weighed else fold


def folded(wanted: Criterion, *counts: tuple[float, float] | None, horizon: float | None = 3600.0) -> Fold:
    """The fold of an anchor at NOW and the counts after it."""
    walked = rows((0.0, 0.0), *counts)
    return advance(wanted, begun(wanted, horizon), walked, int(NOW) + len(counts) * INTERVAL)


def verdict(wanted: Criterion, fold: Fold, tail: tuple[Row, ...] = (), now: float | None = None) -> Verdict:
    """The verdict right after the fold's last instant, or at ``now``."""
    at = fold.last + wanted.series.settle if now is None else now
    return judge(wanted, "main", fold, Reading(fold.last, fold.last, (), tail), at)


# The fold

COUNTS = st.one_of(
    st.none(),
    st.tuples(st.integers(0, 400), st.floats(0, 1)).map(lambda drawn: (float(drawn[0]), round(drawn[0] * drawn[1], 1))),
)
CRITERIA = st.sampled_from(
    [
        criterion(),
        criterion(certainty=None, window=30.0),
        criterion(series=VALUE, certainty=None, limit=100.0, window=40.0, min_requests=2),
    ]
)


@settings(max_examples=12, deadline=None)
@given(
    wanted=CRITERIA,
    counts=st.lists(COUNTS, min_size=1, max_size=24),
    cuts=st.lists(st.integers(0, 24), max_size=6),
    raised=st.sets(st.integers(0, 24), max_size=3),
    horizon=st.sampled_from([None, 50.0, 3600.0]),
)
def test_live_replay_and_checkpoint_give_the_same_fold_to_the_last_bit(
    wanted: Criterion,
    counts: list[tuple[float, float] | None],
    cuts: list[int],
    raised: set[int],
    horizon: float | None,
) -> None:
    every = rows(*counts)

    def walk(stops: set[int], *, stored: bool) -> Fold:
        fold = begin(wanted, NOW - wanted.series.lag, horizon)
        for place in sorted({stop for stop in stops | raised if stop < len(counts)} | {len(counts)}):
            through = int(NOW) + (place - 1) * INTERVAL
            # More rows are offered than are due, those that were walked before among them.
            fold = advance(wanted, fold, every, through)
            if place in raised:
                fold = in_force(wanted, fold, through)
            if stored:
                fold = decode(encode(fold))
        return fold

    live = walk(set(range(len(counts))), stored=False)
    replay = walk(set(), stored=False)
    checkpoint = walk(set(cuts), stored=True)
    assert encode(live) == encode(replay) == encode(checkpoint)
    assert live == replay == checkpoint


def test_the_same_rows_twice_change_nothing() -> None:
    wanted = criterion()
    fold = folded(wanted, (50, 1), (60, 0))
    assert advance(wanted, fold, rows((0, 0), (50, 1), (60, 0)), fold.last) == fold


def test_the_first_row_without_the_one_before_is_only_the_anchor() -> None:
    fold = advance(criterion(), begun(criterion()), rows((900, 900), (10, 1)), int(NOW) + INTERVAL)
    assert (fold.n, fold.x, fold.instants) == (10, 1, 1)
    assert (fold.pass_n, fold.pass_x) == (10, 1)


def test_an_instant_without_a_row_stands_still_and_the_lump_after_it_counts() -> None:
    gap = folded(criterion(), (50, 1), None, None, (70, 2))
    packed = folded(criterion(), (50, 1), (70, 2))
    assert gap.detector == packed.detector
    assert (gap.instants, gap.n, gap.x) == (packed.instants, 120, 3)
    assert gap.last == packed.last + 2 * INTERVAL


def test_a_fold_walks_on_over_instants_that_will_never_have_a_row() -> None:
    fold = advance(criterion(), begun(criterion()), (), int(NOW) + 500)
    assert (fold.last, fold.newest, fold.instants) == (int(NOW) + 500, 0, 0)


def test_evidence_begins_after_the_lag_on_the_grid() -> None:
    fold = begin(criterion(), NOW + 0.001, 95.0)
    assert (fold.began, fold.last, fold.horizon) == (int(NOW) + 10, int(NOW), 10)
    assert begin(criterion(), NOW + 5.0, None).began == int(NOW) + 10
    assert begin(criterion(), NOW + 5.001, None).began == int(NOW) + 20


def test_a_raise_starts_the_pass_evidence_anew_and_keeps_the_fail_evidence() -> None:
    wanted = criterion()
    fold = folded(wanted, (5000, 0))
    assert verdict(wanted, fold).outcome is Outcome.PASS
    raised = in_force(wanted, fold, fold.last)
    assert (raised.n, raised.detector) == (fold.n, fold.detector)
    assert verdict(wanted, raised).outcome is Outcome.UNDECIDED
    after = advance(wanted, raised, rows((5000, 0), (1100, 0), start=raised.since), raised.since + INTERVAL)
    assert (after.pass_n, after.n) == (1100, 11100)
    assert verdict(wanted, after).outcome is Outcome.UNDECIDED
    assert verdict(wanted, after).passes_phase


def test_a_pass_since_the_raise_does_not_pass_a_phase_that_began_badly() -> None:
    wanted = criterion(min_bad=1000)
    fold = in_force(wanted, folded(wanted, (2000, 12)), NOW + 20)
    later = advance(wanted, fold, rows((0, 0), (1500, 0), start=fold.since), fold.since + INTERVAL)
    told = verdict(wanted, later)
    assert (told.outcome, told.passes_phase) == (Outcome.PASS, False)


@settings(max_examples=15, deadline=None)
@given(st.text(alphabet="0123456789abcdefpx.-+: ,infnan", max_size=120))
def test_a_text_that_is_no_fold_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(text)


@pytest.mark.parametrize("spoilt", ["nan", "inf", "-inf", "0x1p99999", "", "1 2"])
def test_a_stored_fold_holds_finite_numbers_only(spoilt: str) -> None:
    parts = encode(folded(criterion(), (50, 1))).split(" ")
    parts[12 + len(WORSE)] = spoilt
    with pytest.raises(ValueError, match=r"."):
        decode(" ".join(parts))


@pytest.mark.parametrize("window", ["0x1p+3:0x1p+0", "0x1p+3", "0x1p+3:0x1p+0:0x1p+0:0x1p+0", ","])
def test_a_stored_window_holds_whole_rows_only(window: str) -> None:
    parts = encode(folded(criterion(), (50, 1))).split(" ")
    parts[13 + len(WORSE)] = window
    with pytest.raises(ValueError, match=r"."):
        decode(" ".join(parts))


# The fail side


@pytest.mark.parametrize("horizon", [1, 2, 36, 8640])
def test_the_weights_of_the_starts_sum_to_one_with_an_end(horizon: int) -> None:
    assert isclose(START_WEIGHT + PLANNED_WEIGHT + EXTENSION_WEIGHT, 1)
    planned = sum(start_weight(instant, horizon) for instant in range(horizon + 1))
    assert isclose(planned, START_WEIGHT + PLANNED_WEIGHT)
    many = 20_000
    extended = sum(start_weight(instant, horizon) for instant in range(horizon + 1, horizon + 1 + many))
    # What is left of the sum of 1/(j ln^2 j) beyond j is about 1/ln j.
    assert isclose(extended + EXTENSION_WEIGHT / SLOW_SERIES_SUM / log(many + 1.5), EXTENSION_WEIGHT, rel_tol=1e-4)


def test_the_weights_of_the_starts_sum_to_one_without_an_end() -> None:
    many = 20_000
    spent = sum(start_weight(instant, 0) for instant in range(many + 1))
    assert isclose(spent + (1 - START_WEIGHT) / SLOW_SERIES_SUM / log(many + 1.5), 1, rel_tol=1e-4)


def ratio(multiples: tuple[float, ...], n: int, x: int, limit: Fraction = Fraction(1, 200)) -> Fraction:
    """The mean of the likelihood ratios, exactly."""
    shares = [min(Fraction(str(multiple)) * limit, Fraction(str(LARGEST_SHARE))) for multiple in multiples]
    return sum(((share / limit) ** x * ((1 - share) / (1 - limit)) ** (n - x) for share in shares), Fraction(0)) / len(
        shares
    )


@pytest.mark.parametrize(("x", "cumulative", "detector"), [(3, 34, 26), (5, 128, 108), (9, 433, 389)])
def test_the_soonest_fails_are_those_of_the_tables(x: int, cumulative: int, detector: int) -> None:
    # The published numbers are those of the cumulative test, which spends all of its error on the first instant.
    assert ratio(WORSE, cumulative, x) >= 100 > ratio(WORSE, cumulative + 1, x)
    half = Fraction(1, 2)
    assert half * ratio(WORSE, detector, x) >= 100 > half * ratio(WORSE, detector + 1, x)
    assert verdict(criterion(), folded(criterion(), (detector, x))).outcome is Outcome.FAIL
    assert verdict(criterion(), folded(criterion(), (detector + 1, x))).outcome is Outcome.UNDECIDED


def test_a_fail_wants_its_minimum_of_bad_events() -> None:
    assert verdict(criterion(), folded(criterion(), (2, 2))).outcome is Outcome.UNDECIDED
    assert sum(folded(criterion(), (2, 2)).detector) > 1 / ALPHA
    assert verdict(criterion(min_bad=2), folded(criterion(), (2, 2))).outcome is Outcome.FAIL
    assert verdict(criterion(min_bad=4), folded(criterion(), (3, 3))).outcome is Outcome.UNDECIDED


def test_evidence_without_bounds_stays_a_number() -> None:
    fold = folded(criterion(), (1e6, 1e6), (1e6, 1e6), (1e9, 0), (1e6, 1e6))
    assert all(0 <= mixture < inf for mixture in fold.detector)
    assert decode(encode(fold)) == fold


@pytest.mark.parametrize("limit", [1e-9, 0.0005, 0.1, 0.5, 0.94, 0.95, 0.97, 0.9999])
def test_every_limit_has_alternatives_that_are_worse(limit: float) -> None:
    wanted = criterion(limit=limit)
    assert verdict(wanted, folded(wanted, (1e6, 1e6))).outcome is Outcome.FAIL
    assert verdict(wanted, folded(wanted, (5e10, 0))).outcome is Outcome.PASS


def test_the_tail_may_fail_but_never_passes_and_is_not_kept() -> None:
    fold = folded(criterion(), (10, 0))
    kept = encode(fold)
    failing = verdict(criterion(), fold, rows((50, 20), start=fold.last + INTERVAL))
    assert (failing.outcome, failing.tail, failing.x) == (Outcome.FAIL, True, 20)
    clean = verdict(criterion(), fold, rows((100_000, 0), start=fold.last + INTERVAL))
    assert (clean.outcome, clean.tail, clean.n) == (Outcome.UNDECIDED, False, 10)
    assert clean.as_of == fold.last + INTERVAL
    assert encode(fold) == kept


def test_a_tail_from_before_the_fold_began_is_not_its_own() -> None:
    fold = begin(criterion(), NOW + 30, 3600.0)
    before = rows((50, 50), (50, 50), (50, 50), start=fold.began - 4 * INTERVAL)
    told = judge(criterion(), "main", fold, Reading(int(NOW), int(NOW), (), before), fold.began)
    assert (told.outcome, told.n) == (Outcome.UNDECIDED, 0)


def test_good_rows_cannot_hide_a_later_harm_for_long() -> None:
    wanted = criterion()
    fold = folded(wanted, *[(50, 0)] * 720, horizon=86_400)
    after = 0
    while verdict(wanted, fold).outcome is not Outcome.FAIL:
        fold = advance(wanted, fold, rows((50, 1), start=fold.last + INTERVAL), fold.last + INTERVAL)
        after += 1
    assert after < 25  # 2 % of 50 requests a row, ten seconds each: four minutes


def test_the_wait_for_a_verdict_stands_still_while_there_are_no_rows() -> None:
    wanted = criterion()
    fold = folded(wanted, (5, 0), None, None, None, (5, 0))
    assert verdict(wanted, fold).waited == 20
    assert verdict(wanted, fold, rows((5, 0), start=fold.last + INTERVAL)).waited == 30
    assert verdict(wanted, in_force(wanted, fold, fold.last)).waited == 0


# The pass side


@pytest.mark.parametrize(("x", "soonest"), [(0, 1112), (1, 1753), (2, 2192)])
def test_the_soonest_passes_are_those_of_the_tables(x: int, soonest: int) -> None:
    assert ratio(BETTER, soonest, x) >= 100 > ratio(BETTER, soonest - 1, x)
    assert verdict(criterion(), folded(criterion(), (soonest, x))).outcome is Outcome.PASS
    assert verdict(criterion(), folded(criterion(), (soonest - 1, x))).outcome is Outcome.UNDECIDED
    assert requests_to_settle(verdict(criterion(), folded(criterion()))) in (1112, 1113)


@settings(max_examples=12, deadline=None)
@given(n=st.integers(0, 400), x=st.integers(0, 5))
def test_the_logs_agree_with_exact_fractions(n: int, x: int) -> None:
    exact = ratio(BETTER, max(n, x), x)
    assert isclose(
        log_evidence_of_pass(max(n, x), x, 0.005), log(exact.numerator) - log(exact.denominator), abs_tol=1e-9
    )


@settings(max_examples=15, deadline=None)
@given(n=st.integers(0, 30_000), x=st.integers(0, 20))
def test_the_requests_that_are_said_to_settle_it_do(n: int, x: int) -> None:
    n = max(n, x)
    more = requests_to_settle(verdict(criterion(), folded(criterion(), (n, x))))
    assert log_evidence_of_pass(n + more, x, 0.005) >= log(100)
    if more > 2:
        assert log_evidence_of_pass(n + more * 0.995 - 1, x, 0.005) < log(100)


def test_a_pass_wants_its_minimum_of_requests() -> None:
    assert verdict(criterion(min_requests=1200), folded(criterion(), (1199, 0))).outcome is Outcome.UNDECIDED
    assert verdict(criterion(min_requests=1200), folded(criterion(), (1200, 0))).outcome is Outcome.PASS


def test_certainty_moves_the_bar_on_both_sides() -> None:
    sure = criterion(certainty=0.999)
    assert verdict(sure, folded(sure, (1112, 0))).outcome is Outcome.UNDECIDED
    assert verdict(sure, folded(sure, (1606, 0))).outcome is Outcome.PASS
    assert verdict(sure, folded(sure, (24, 3))).outcome is Outcome.UNDECIDED


# The plain rules


def test_the_threshold_rule_judges_its_window_alone() -> None:
    wanted = criterion(certainty=None, window=30.0, min_bad=1, min_requests=1)
    calm = folded(wanted, (100, 0), (100, 0), (100, 0))
    assert verdict(wanted, calm).outcome is Outcome.PASS
    assert verdict(wanted, folded(wanted, (100, 0), (100, 0))).outcome is Outcome.UNDECIDED  # not yet the whole window
    over = folded(wanted, (100, 0), (100, 0), (100, 2))
    assert verdict(wanted, over).outcome is Outcome.FAIL
    past = folded(wanted, (100, 2), (100, 0), (100, 0), (100, 0))
    assert verdict(wanted, past).outcome is Outcome.PASS
    assert verdict(wanted, folded(wanted, (200, 1))).outcome is Outcome.FAIL  # the limit itself is over
    assert verdict(criterion(certainty=None, min_bad=3), folded(wanted, (10, 2))).outcome is Outcome.UNDECIDED


def test_the_threshold_rule_forgets_what_came_before_the_raise() -> None:
    wanted = criterion(certainty=None, window=30.0, min_bad=1, min_requests=1)
    raised = in_force(wanted, folded(wanted, (100, 50), (100, 50), (100, 0)), NOW + 30)
    assert verdict(wanted, raised).outcome is Outcome.UNDECIDED
    assert raised.window == ()


def values(*numbers: float | None, minimum: int = 3, side: str = "below") -> Verdict:
    """The verdict of bare values, limit 100 for 60 s, the first of them at the anchor."""
    wanted = criterion(series=VALUE, limit=100.0, side=side, certainty=None, min_requests=minimum, min_bad=1)
    samples = rows(*(None if number is None else (1.0, number) for number in numbers))
    fold = advance(wanted, begun(wanted), samples, int(NOW) + (len(numbers) - 1) * INTERVAL)
    return verdict(wanted, fold)


def test_a_bare_value_passes_and_fails_by_a_duration_on_its_side() -> None:
    assert values(*[99.0] * 7).outcome is Outcome.PASS
    assert values(*[99.0] * 6).outcome is Outcome.UNDECIDED  # fifty seconds
    assert values(*[100.0] * 7).outcome is Outcome.FAIL  # the limit is not below itself
    assert values(*[99.0] * 6, 100.0).outcome is Outcome.UNDECIDED
    assert values(*[100.0] * 7, side="above").outcome is Outcome.FAIL
    assert values(*[101.0] * 7, side="above").outcome is Outcome.PASS
    assert values(*[101.0] * 7, *[99.0] * 6).outcome is Outcome.PASS


def test_a_bare_value_wants_its_minimum_of_samples() -> None:
    seldom = (99.0, None, 99.0, None, None, None, 99.0)
    assert values(*seldom, minimum=2).outcome is Outcome.PASS
    assert values(*seldom, minimum=3).outcome is Outcome.UNDECIDED
    assert values(99.0, None, None, None, None, None, 99.0, minimum=1).outcome is Outcome.UNDECIDED  # one end alone


def test_a_bare_value_starts_again_at_a_raise() -> None:
    wanted = criterion(series=VALUE, limit=100.0, certainty=None, min_requests=3, min_bad=1)
    fold = advance(wanted, begun(wanted), rows(*[(1.0, 99.0)] * 7), int(NOW) + 60)
    assert verdict(wanted, fold).outcome is Outcome.PASS
    assert verdict(wanted, in_force(wanted, fold, fold.last)).outcome is Outcome.UNDECIDED


# No data


def test_a_problem_is_no_data_and_no_pass() -> None:
    passing = folded(criterion(), (5000, 0))
    told = judge(criterion(), "main", passing, Reading(passing.last, passing.last, problem="no answer"), passing.last)
    assert (told.outcome, told.problem) == (Outcome.NO_DATA, "no answer")
    assert judge(criterion(), "main", passing, None, passing.last).outcome is Outcome.NO_DATA


def test_silence_is_counted_from_the_newest_row_and_becomes_a_problem() -> None:
    fold = folded(criterion(), (5000, 0))
    lag, settle = ERRORS.lag, ERRORS.settle
    quiet = verdict(criterion(), fold, now=fold.newest + lag + settle + 40)
    assert (quiet.outcome, quiet.silent) == (Outcome.PASS, settle + 40)
    long = verdict(criterion(), fold, now=fold.newest + lag + settle + 41)
    assert (long.outcome, long.problem) == (Outcome.NO_DATA, "no samples")


def test_a_proven_fail_stands_while_there_is_no_data() -> None:
    failing = folded(criterion(), (100, 50))
    told = judge(criterion(), "main", failing, Reading(failing.last, failing.last, problem="no answer"), NOW + 9999)
    assert told.outcome is Outcome.FAIL
