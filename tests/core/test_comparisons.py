"""The canary beside stable: two tests of one idea, and what a breach means when stable is as bad."""

from __future__ import annotations

import random
from dataclasses import replace
from math import exp, inf, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.comparisons import BETTER_BY, WORSE_BY, difference_rates, ratio_rates, us_or_world
from controller.core.evidence import Criterion, Fold, Outcome, Verdict, fail_bar
from controller.core.fold_text import decode, encode
from controller.core.likelihoods import BETTER, WORSE
from controller.core.series import Pair, Reading, Row, Subject, beside
from controller.core.status import State
from controller.core.verdicts import advance, begin, in_force, judge
from controller.core.words import sentence
from tests.core.builders import INTERVAL, NOW, Course, Traffic, course, criterion, plan, ramp, resolved, target

LOWEST = 200
"""Runs of a simulation; a rate of 5 % and more shows in them."""


def compared(**fields: object) -> Criterion:
    """The criterion as a plan would have it."""
    return resolved(**{"metric": "errors", "comparedTo": "stable", **fields})


RATIO = compared(ratioBelow=2)
DIFFERENCE = compared(differenceBelow="0.5%")
WORLD = us_or_world(criterion())


def pairs(*counts: tuple[float, float, float, float] | None) -> tuple[Pair, ...]:
    """Pairs of consecutive instants from NOW on, an anchor before them; None leaves its instant out."""
    return tuple(
        Pair(NOW + place * INTERVAL, *count)
        for place, count in enumerate(((0.0, 0.0, 0.0, 0.0), *counts))
        if count is not None
    )


def folded(wanted: Criterion, *counts: tuple[float, float, float, float] | None, bursts: float = 1.0) -> Fold:
    """The fold of these pairs, with a weight in force from the beginning on."""
    at = NOW - wanted.series.lag
    fold = in_force(wanted, begin(wanted, at, 3600.0, bursts), at)
    return advance(wanted, fold, pairs(*counts), int(NOW) + len(counts) * INTERVAL)


def verdict(wanted: Criterion, fold: Fold, *, alone: bool = False, tail: tuple[Pair, ...] = ()) -> Verdict:
    """The verdict right after the fold's last instant."""
    at = fold.last + wanted.series.settle
    return judge(wanted, "main", fold, Reading(fold.last, fold.last, (), tail), at, alone=alone)


# The fold


COUNTS = st.one_of(
    st.none(),
    st.tuples(st.integers(0, 300), st.integers(0, 300), st.floats(0, 1), st.floats(0, 1)).map(
        lambda drawn: (
            float(drawn[0]),
            float(round(drawn[0] * drawn[2])),
            float(drawn[1]),
            float(round(drawn[1] * drawn[3])),
        )
    ),
)


@settings(max_examples=20, deadline=None)
@given(
    wanted=st.sampled_from([RATIO, DIFFERENCE, WORLD]),
    counts=st.lists(COUNTS, min_size=1, max_size=20),
    cuts=st.sets(st.integers(0, 20), max_size=5),
    raised=st.sets(st.integers(0, 20), max_size=2),
    bursts=st.sampled_from([1.0, 3.25]),
)
def test_live_replay_and_checkpoint_give_the_same_fold_to_the_last_bit(
    wanted: Criterion,
    counts: list[tuple[float, float, float, float] | None],
    cuts: set[int],
    raised: set[int],
    bursts: float,
) -> None:
    every = pairs(*counts)

    def walk(stops: set[int], *, stored: bool) -> Fold:
        fold = begin(wanted, NOW - wanted.series.lag, 3600.0, bursts)
        for place in sorted({stop for stop in stops | raised if stop <= len(counts)} | {len(counts)}):
            fold = advance(wanted, fold, every, int(NOW) + place * INTERVAL)
            if place in raised:
                fold = in_force(wanted, fold, NOW + place * INTERVAL)
            if stored:
                fold = decode(encode(fold))
        return fold

    live = walk(set(range(len(counts))), stored=False)
    assert live == walk(set(), stored=False) == walk(cuts, stored=True)
    assert encode(live) == encode(walk(cuts, stored=True))


def test_only_instants_that_both_tracks_have_are_pairs() -> None:
    canary = Reading(0, 30, (Row(10.0, 5, 1), Row(30.0, 7, 0)), (Row(40.0, 1, 1), Row(50.0, 2, 2)))
    stable = Reading(10, 40, (Row(20.0, 9, 0), Row(30.0, 8, 2), Row(40.0, 3, 0)), (Row(50.0, 4, 1),))
    assert beside(canary, stable) == Reading(10, 30, (Pair(30.0, 7, 0, 8, 2),), (Pair(50.0, 2, 2, 4, 1),))
    assert beside(canary, None) is None
    assert beside(None, stable) is None


def test_what_cannot_be_asked_of_stable_stops_the_comparison_and_says_whose_it_is() -> None:
    found = beside(Reading(0, 30, (Row(10.0, 5, 1),)), Reading(0, 0, problem="Prometheus did not answer within 5s"))
    assert found == Reading(0, 0, problem="stable track: Prometheus did not answer within 5s")


@pytest.mark.parametrize("damage", [",", "1,2,3,4//", "1,2,3//1,2,3,4,5,6,7", "1,2,3,4//nan,0,0,0,0,0,0"])
def test_a_damaged_comparison_is_a_value_error(damage: str) -> None:
    text = encode(folded(RATIO, (10, 1, 90, 2)))
    with pytest.raises(ValueError, match=r"."):
        decode(text.rpartition(" ")[0] + " " + damage)


# The tests


def expectation(rates: tuple[float, float, float], n: int, p: float, stable_n: int, q: float) -> float:
    """The mean of what an interval multiplies the evidence by, for binomial counts: exact."""
    mine, others, itself = rates
    mean_mine = (1 - p + p * exp(mine)) ** n
    return mean_mine * (1 - q + q * exp(others)) ** stable_n * exp(itself)


@settings(max_examples=200, deadline=None)
@given(
    n=st.integers(1, 400),
    stable_n=st.integers(1, 4000),
    q=st.floats(0.0001, 0.3),
    beyond=st.floats(0, 1),
    limit=st.sampled_from([0.5, 1.0, 1.1, 2.0, 5.0]),
)
def test_no_alternative_of_a_ratio_grows_on_the_other_side_of_the_limit(
    n: int, stable_n: int, q: float, beyond: float, limit: float
) -> None:
    split = n / stable_n
    within = min(1.0, limit * q) * beyond  # at the limit or better
    for rates in ratio_rates(limit, split, WORSE):
        assert expectation(rates, n, within, stable_n, q) <= 1 + 1e-9
    over = min(1.0, limit * q) + (1 - min(1.0, limit * q)) * beyond
    if limit * q <= 1:
        for rates in ratio_rates(limit, split, BETTER):
            assert expectation(rates, n, over, stable_n, q) <= 1 + 1e-9


@settings(max_examples=200, deadline=None)
@given(
    n=st.integers(1, 400),
    stable_n=st.integers(1, 4000),
    q=st.floats(0.0, 0.3),
    beyond=st.floats(0, 1),
    limit=st.sampled_from([0.001, 0.005, 0.05]),
)
def test_no_alternative_of_a_difference_grows_on_the_other_side_of_the_limit(
    n: int, stable_n: int, q: float, beyond: float, limit: float
) -> None:
    split = n / stable_n
    for rates in difference_rates(limit, split, n, WORSE_BY):
        assert expectation(rates, n, (q + limit) * beyond, stable_n, q) <= 1 + 1e-9
    for rates in difference_rates(limit, split, n, BETTER_BY):
        assert expectation(rates, n, q + limit + (1 - q - limit) * beyond, stable_n, q) <= 1 + 1e-9


def binomial(chance: random.Random, n: int, share: float) -> float:
    """How many of n are bad."""
    return (
        float(chance.binomialvariate(n, share))
        if hasattr(chance, "binomialvariate")
        else float(sum(chance.random() < share for _ in range(n)))
    )


def outcome(wanted: Criterion, seed: int, p: float, q: float, rows: int = 240) -> Outcome:
    """The first verdict that is given, looking after every row; undecided where none is."""
    chance = random.Random(seed)
    at = NOW - wanted.series.lag
    fold = in_force(wanted, begin(wanted, at, 3600.0), at)
    for place, pair in enumerate(pairs(*[(0.0, 0.0, 0.0, 0.0)] * rows)):
        counts = (25.0, binomial(chance, 25, p), 100.0, binomial(chance, 100, q))
        fold = advance(wanted, fold, (Pair(pair.at, *counts),), int(NOW) + place * INTERVAL)
        found = verdict(wanted, fold).outcome
        if found is not Outcome.UNDECIDED:
            return found
    return Outcome.UNDECIDED


@pytest.mark.parametrize(
    ("wanted", "p", "q", "expected"),
    [
        (RATIO, 0.20, 0.02, Outcome.FAIL),
        (RATIO, 0.05, 0.05, Outcome.PASS),
        (DIFFERENCE, 0.10, 0.02, Outcome.FAIL),
        (compared(differenceBelow="8%"), 0.05, 0.05, Outcome.PASS),
    ],
)
def test_what_is_clearly_so_is_found_within_forty_minutes(
    wanted: Criterion, p: float, q: float, expected: Outcome
) -> None:
    assert [outcome(wanted, seed, p, q) for seed in range(10)].count(expected) >= 9


@pytest.mark.parametrize(("wanted", "p", "q"), [(RATIO, 0.08, 0.04), (DIFFERENCE, 0.025, 0.02)])
def test_at_the_limit_a_false_word_is_as_rare_as_promised(wanted: Criterion, p: float, q: float) -> None:
    found = [outcome(replace(wanted, certainty=0.9), seed, p, q, 90) for seed in range(LOWEST)]
    # 10 % each way; more than 34 of 200 has a chance below 0.1 %.
    assert found.count(Outcome.FAIL) <= 34
    assert found.count(Outcome.PASS) <= 34


def test_a_change_of_stable_alone_never_blames_the_canary() -> None:
    """The split of the traffic changes as both get worse: pooled counts would tell another story."""
    early, late = (10.0, 0.0, 990.0, 0.0), (500.0, 50.0, 500.0, 50.0)
    fold = folded(RATIO, *[early] * 100, *[late] * 30)
    assert fold.beside is not None
    assert (fold.x / fold.n) / (fold.beside.x / fold.beside.n) > 2  # the pooled ratio is over the limit
    assert verdict(RATIO, fold).outcome is Outcome.PASS


def test_an_interval_without_traffic_on_either_side_says_nothing() -> None:
    for empty in ((100.0, 50.0, 0.0, 0.0), (0.0, 0.0, 100.0, 50.0)):
        fold = folded(RATIO, *[empty] * 50)
        assert verdict(RATIO, fold).outcome is Outcome.UNDECIDED
        assert not any(fold.beside.evidence if fold.beside else (1,))


def test_a_pass_is_lost_at_a_raise_and_a_fail_is_not() -> None:
    fine = folded(RATIO, *[(50.0, 1.0, 200.0, 4.0)] * 200)
    assert verdict(RATIO, fine).passed
    raised = in_force(RATIO, fine, fine.last + 1)
    assert verdict(RATIO, raised).outcome is Outcome.UNDECIDED
    assert verdict(RATIO, raised).passes_phase
    bad = folded(RATIO, *[(50.0, 20.0, 200.0, 4.0)] * 5)
    assert verdict(RATIO, in_force(RATIO, bad, bad.last + 1)).outcome is Outcome.FAIL


def test_at_full_weight_what_had_passed_blocks_nothing() -> None:
    fine = folded(RATIO, *[(50.0, 1.0, 200.0, 4.0)] * 200)
    kept = in_force(RATIO, fine, fine.last + 1, alone=True)
    later = judge(RATIO, "main", kept, Reading(kept.last, kept.last), kept.last + 6000, alone=True)
    assert (later.outcome, later.passes_phase) == (Outcome.PASS, True)
    assert sentence(later) == (
        "errors below 2 x stable (main): no stable traffic to compare with; it passed before: "
        "200 errors in 10,000 requests (2%), stable had 800 in 40,000 in the same time"
    )
    thin = folded(RATIO, (5.0, 0.0, 20.0, 0.0))
    assert verdict(RATIO, in_force(RATIO, thin, thin.last + 1, alone=True), alone=True).outcome is Outcome.UNDECIDED
    nothing = begin(RATIO, NOW, 3600.0)
    assert verdict(RATIO, nothing, alone=True).outcome is Outcome.PASS


def test_a_fail_says_what_stable_had_in_the_same_time() -> None:
    bad = folded(RATIO, *[(64.0, 2.0, 1200.0, 0.0)] * 9, (64.0, 3.0, 1200.0, 2.0))
    assert sentence(verdict(RATIO, bad)) == (
        "errors below 2 x stable (main): proven worse than 2 x stable: 21 errors in 640 requests (3.28%), "
        "stable had 2 in 12,000 in the same time"
    )


# Us or the world


def world(canary: float, stable: float) -> Traffic:
    """Shares of bad requests: of the canary's 200 in a row, and of stable's 1,000."""

    def traffic(subject: Subject, at: float) -> tuple[float, float] | None:
        n, share = (200.0, canary) if subject.track == "canary" else (1000.0, stable)
        return n, n * share

    return traffic


def under_way(**guardrail: object) -> Course:
    """A launch at 5 % whose canary has been good so far."""
    launched = course(phases=[ramp(guardrails=[{"metric": "errors", "below": "2%", **guardrail}])])
    launched.until_weight(50)
    return launched


def test_a_canary_that_alone_is_bad_is_rolled_back_with_stables_counts_beside() -> None:
    launched = under_way()
    launched.traffic = world(0.2, 0.001)
    launched.until(State.ROLLED_BACK, 20)
    (breach,) = (each for each in launched.status.decisions if each.signal == "Breach")
    assert "stable had " in breach.message


def test_where_the_whole_world_is_bad_it_is_held() -> None:
    launched = under_way()
    launched.traffic = world(0.1, 0.1)
    launched.until(State.HELD, 20)
    launched.run(60)
    assert launched.live == {"main": 50}
    assert "stable is as bad: " in launched.status.message


def test_a_canary_that_is_much_worse_than_a_bad_stable_is_rolled_back() -> None:
    launched = under_way()
    launched.traffic = world(0.9, 0.04)
    launched.until(State.ROLLED_BACK, 20)


def test_when_stable_recovers_and_the_canary_does_not_it_is_rolled_back_after_all() -> None:
    launched = under_way()
    launched.traffic = world(0.1, 0.1)
    launched.until(State.HELD, 20)
    launched.traffic = world(0.1, 0.0)
    launched.until(State.ROLLED_BACK, 60)


def test_without_data_of_stable_nothing_excuses_the_canary() -> None:
    launched = under_way()

    def no_stable(subject: Subject, at: float) -> tuple[float, float] | None:
        return (200.0, 20.0) if subject.track == "canary" else None

    launched.traffic = no_stable
    launched.until(State.ROLLED_BACK, 20)


def test_old_harm_of_stable_excuses_nothing_once_its_rows_have_ceased() -> None:
    launched = under_way()

    def only_stable_bad(subject: Subject, at: float) -> tuple[float, float] | None:
        return (200.0, 0.0) if subject.track == "canary" else (1000.0, 100.0)

    launched.traffic = only_stable_bad
    launched.run(2)
    ceased = launched.now

    def gone(subject: Subject, at: float) -> tuple[float, float] | None:
        if subject.track == "canary":
            return 200.0, (0.0 if at < ceased + 120 else 20.0)
        return (1000.0, 100.0) if at < ceased else None

    launched.traffic = gone
    launched.until(State.ROLLED_BACK, 60)


def test_at_full_weight_nobody_asks_about_the_world() -> None:
    phases = [ramp(steps=[{"weight": 5, "for": "30s"}, {"weight": 100, "for": "10m"}])]
    launched = course(phases=phases)
    launched.until_weight(1000)
    launched.traffic = world(0.1, 0.1)
    launched.until(State.ROLLED_BACK, 20)


def test_a_launch_with_a_comparison_goes_to_full_weight_and_stands_there_without_stable() -> None:
    guardrails = [
        {"metric": "errors", "below": "5%"},
        {"metric": "errors", "comparedTo": "stable", "ratioBelow": 2},
    ]
    steps = [{"weight": 20, "for": "30s"}, {"weight": 100, "for": "5m"}]
    launched = course(phases=[ramp(steps=steps, guardrails=guardrails)])

    def traffic(subject: Subject, at: float) -> tuple[float, float] | None:
        if subject.track == "stable" and launched.live.get("main") == 1000:
            return None
        return 2000.0, 20.0

    launched.traffic = traffic
    launched.through_json = True
    launched.until(State.SUCCEEDED)
    assert launched.raises == [{"main": 200}, {"main": 1000}]
    stands = next(one for one in launched.status.criteria if "stable" in one.criterion)
    assert "no stable traffic to compare with; it passed before" in stands.sentence


# What many tests and bursts cost


def test_alpha_is_divided_by_criteria_and_targets_on_the_fail_side_only() -> None:
    guardrails = [
        {"metric": "errors", "below": "2%"},
        {"metric": "latency", "quantile": 0.99, "below": "500ms"},
        {"metric": "errors", "below": "3%", "enforce": False},
        {"metric": "restarts", "atMost": 2},
        {"metric": "errors", "below": "4%", "certainty": "threshold"},
    ]
    gate = {"criteria": [{"metric": "errors", "below": "2%"}, {"metric": "availability", "above": "99%"}]}
    made = plan(
        targets=[target("a"), target("b"), target("c")],
        phases=[ramp(targets=["a", "b"], guardrails=guardrails, gate=gate)],
    ).phases[0]
    # two guardrails on three targets, one more criterion of the gate on two
    assert [each.criterion.tests for each in made.guardrails] == [8, 8, 8, 1, 1]
    assert made.gate is not None
    assert [each.tests for each in made.gate.criteria] == [8, 8]
    one = made.guardrails[0].criterion
    assert fail_bar(one) == pytest.approx(log(800))


def bad_requests_to_fail(wanted: Criterion, bursts: float = 1.0) -> float:
    at = NOW - wanted.series.lag
    fold = begin(wanted, at, 3600.0, bursts)
    fold = advance(wanted, fold, (Row(NOW, 0.0, 0.0),), int(NOW))
    for place in range(1, 200):
        fold = advance(wanted, fold, (Row(NOW + place * 10, 100.0, 5.0),), int(NOW) + place * 10)
        if judge(wanted, "main", fold, Reading(fold.last, fold.last), fold.last + 10).outcome is Outcome.FAIL:
            return fold.x
    return inf


def test_more_tests_need_more_proof_of_harm_and_no_more_of_good() -> None:
    one, twelve = criterion(), criterion(tests=12)
    assert bad_requests_to_fail(one) < bad_requests_to_fail(twelve)
    fold = in_force(one, begin(one, NOW, 3600.0), NOW)
    fold = advance(one, fold, [Row(NOW + 10 * i, 100.0, 0.0) for i in range(1, 16)], int(NOW) + 150)
    assert {judge(each, "main", fold, Reading(0, 0), NOW + 160).outcome for each in (one, twelve)} == {Outcome.PASS}


def test_bursts_divide_the_evidence_of_both_sides_and_are_told() -> None:
    assert bad_requests_to_fail(criterion(), 3.0) >= 2 * bad_requests_to_fail(criterion())
    wanted = criterion()
    counted = {}
    for bursts in (1.0, 3.0):
        fold = in_force(wanted, begin(wanted, NOW, 3600.0, bursts), NOW)
        fold = advance(wanted, fold, [Row(NOW + 10 * i, 100.0, 0.0) for i in range(1, 16)], int(NOW) + 150)
        fold = decode(encode(fold))
        counted[bursts] = judge(wanted, "main", fold, Reading(0, 0), NOW + 160)
    assert counted[1.0].outcome is Outcome.PASS
    assert counted[3.0].outcome is Outcome.UNDECIDED
    assert not counted[3.0].passes_phase
    assert "errors come in bursts, 3 times what chance makes, so that each counts for less" in sentence(counted[3.0])
