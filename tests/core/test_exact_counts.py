"""Restarts and uptime are counted and not estimated; how the past of stable varies is measured once."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.bursts import burstiness
from controller.core.evidence import Criterion, Fold, Outcome, Verdict
from controller.core.fold_text import decode, encode
from controller.core.ledger import record, redecide
from controller.core.questions import questions
from controller.core.series import Reading, Row, Subject, hours_of
from controller.core.signals import Signal
from controller.core.status import State
from controller.core.verdicts import advance, begin, in_force, judge
from controller.core.words import measured, sentence
from tests.core.builders import INTERVAL, NOW, Course, course, ramp, resolved

HOUR = 3600.0


RESTARTS = resolved(metric="restarts", atMost=2)
UPTIME = resolved(metric="uptime", above="99%")
"""36 s of an hour."""


def walked(wanted: Criterion, *counts: tuple[float, float] | None, weighed: bool = True) -> Fold:
    """The fold of an anchor at NOW and the counts after it; None leaves its instant out."""
    at = NOW - wanted.series.lag
    fold = begin(wanted, at, HOUR)
    fold = in_force(wanted, fold, at) if weighed else fold
    every = [Row(NOW + place * INTERVAL, *count) for place, count in enumerate(((0.0, 0.0), *counts)) if count]
    return advance(wanted, fold, every, int(NOW) + len(counts) * INTERVAL)


def verdict(wanted: Criterion, fold: Fold, tail: tuple[Row, ...] = (), ends: float | None = None) -> Verdict:
    """The verdict right after the fold's last instant."""
    return judge(wanted, "main", fold, Reading(fold.last, fold.last, (), tail), fold.last + 15, ends=ends)


@settings(max_examples=20, deadline=None)
@given(
    wanted=st.sampled_from([RESTARTS, UPTIME]),
    counts=st.lists(
        st.one_of(
            st.none(), st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda d: (float(sum(d)), float(d[0])))
        ),
        min_size=1,
        max_size=30,
    ),
    cuts=st.sets(st.integers(0, 30), max_size=5),
    raised=st.sets(st.integers(0, 30), max_size=2),
)
def test_live_replay_and_checkpoint_give_the_same_fold_to_the_last_bit(
    wanted: Criterion, counts: list[tuple[float, float] | None], cuts: set[int], raised: set[int]
) -> None:
    every = [Row(NOW + place * INTERVAL, *count) for place, count in enumerate(counts) if count is not None]

    def walk(stops: set[int], *, stored: bool) -> Fold:
        fold = begin(wanted, NOW - wanted.series.lag, HOUR)
        for place in sorted({stop for stop in stops | raised if stop <= len(counts)} | {len(counts)}):
            fold = advance(wanted, fold, every, int(NOW) + place * INTERVAL)
            if place in raised:
                fold = in_force(wanted, fold, NOW + place * INTERVAL)
            if stored:
                fold = decode(encode(fold))
        return fold

    live = walk(set(range(len(counts))), stored=False)
    assert live == walk(set(), stored=False) == walk(cuts, stored=True)


# Restarts


def test_restarts_fail_when_there_are_more_than_are_allowed_and_pass_while_not() -> None:
    fine = walked(RESTARTS, (0, 0), (2, 2), (0, 0))
    assert verdict(RESTARTS, fine).outcome is Outcome.PASS
    assert sentence(verdict(RESTARTS, fine)) == "restarts at most 2 (main): 2 restarts, at most 2 are allowed"
    assert measured(verdict(RESTARTS, fine)) == "2"
    crashed = walked(RESTARTS, (0, 0), (2, 2), (1, 1))
    assert verdict(RESTARTS, crashed).outcome is Outcome.FAIL
    on_tail = verdict(RESTARTS, fine, (Row(fine.last + 10.0, 1.0, 1.0),))
    assert (on_tail.outcome, on_tail.tail, on_tail.x) == (Outcome.FAIL, True, 3.0)


def test_a_raise_forgives_no_restart_and_wants_a_row_of_its_own() -> None:
    fold = walked(RESTARTS, (2, 2), (0, 0))
    raised = in_force(RESTARTS, fold, fold.last + 1)
    assert verdict(RESTARTS, raised).outcome is Outcome.UNDECIDED
    later = [Row(fold.last + 10.0 * place, 0.0, 0.0) for place in (1, 2, 3)]
    raised = advance(RESTARTS, raised, later, fold.last + 30)
    assert (verdict(RESTARTS, raised).outcome, raised.x) == (Outcome.PASS, 2.0)


def test_no_row_of_restarts_is_no_data() -> None:
    fold = walked(RESTARTS, (0, 0), *[None] * 20)
    assert verdict(RESTARTS, fold).outcome is Outcome.NO_DATA


def crash_loop(subject: Subject, at: float) -> tuple[float, float] | None:
    """Good requests, and a restart in every row."""
    if subject.series.metric == "restarts":
        return (1.0, 1.0)
    return 1000.0, 0.0


GUARDED = [{"metric": "errors", "below": "2%"}, {"metric": "restarts", "atMost": 2}]


def test_a_crash_loop_that_hides_its_errors_is_rolled_back() -> None:
    launched = course(phases=[ramp(guardrails=GUARDED)])
    launched.traffic = crash_loop
    launched.until(State.ROLLED_BACK)
    assert "restarts at most 2 (main): 3 restarts, at most 2 are allowed" in launched.status.message


def test_restarts_are_asked_of_the_canary_alone_and_a_launch_without_any_succeeds() -> None:
    launched = course(phases=[ramp(guardrails=GUARDED)])
    launched.traffic = lambda subject, at: (0.0, 0.0) if subject.series.metric == "restarts" else (1000.0, 0.0)
    launched.until_weight(50)
    launched.tick()
    assert {one.track for one in questions(launched.observe()) if one.series.metric == "restarts"} == {"canary"}
    launched.until(State.SUCCEEDED)


# Uptime


def test_uptime_spends_its_budget_and_fails_when_it_is_spent() -> None:
    fold = walked(UPTIME, *[(100, 0)] * 10, (100, 50), (1, 1), (1, 1), (100, 49))
    spent = verdict(UPTIME, fold)
    assert (spent.outcome, spent.x, spent.n) == (Outcome.UNDECIDED, 30.0, 140.0)
    assert sentence(spent) == (
        "uptime above 99% (main): down for 30s, 6s of 36s left; "
        "passes at the end, 2023-11-14 23:13 UTC, if less than 6s more is lost"
    )
    over = verdict(UPTIME, fold, (Row(fold.last + 10.0, 1.0, 1.0),))
    assert (over.outcome, over.tail) == (Outcome.FAIL, True)
    assert sentence(over) == "uptime above 99% (main): the budget is spent: down for 40s, 36s were allowed"


def test_uptime_passes_at_the_end_and_not_before() -> None:
    fold = walked(UPTIME, *[(100, 0)] * 359)
    assert verdict(UPTIME, fold).outcome is Outcome.UNDECIDED
    assert verdict(UPTIME, fold, (Row(fold.last + 10.0, 9.0, 0.0),)).outcome is Outcome.UNDECIDED
    whole = walked(UPTIME, *[(100, 0)] * 360)
    assert verdict(UPTIME, whole).outcome is Outcome.PASS
    assert sentence(verdict(UPTIME, whole)) == "uptime above 99% (main): passes: never down, 36s of 36s left"
    assert verdict(UPTIME, fold, ends=NOW + 3500).outcome is Outcome.PASS
    assert verdict(UPTIME, whole, ends=NOW + 4500).outcome is Outcome.UNDECIDED


def test_what_is_unknown_is_spent_for_a_pass_and_unspent_for_a_fail() -> None:
    known = [(100.0, 0.0)] * 150
    short = walked(UPTIME, *known, *[None] * 3, *known)
    assert verdict(UPTIME, short).unknown == 0  # a scrape now and then is no gap
    gap = walked(UPTIME, *known, *[None] * 9, *known)
    lost = verdict(UPTIME, gap)
    assert (lost.outcome, lost.unknown, lost.lost) == (Outcome.NO_DATA, 90.0, True)
    assert "what is unknown is more than what is left of the budget" in sentence(lost)
    generous = resolved(metric="uptime", above="95%")
    fold = walked(generous, *known, *[None] * 9, *known, *[(100.0, 0.0)] * 60)
    assert verdict(generous, fold).outcome is Outcome.PASS
    assert "unknown for 1m30s, 3m of 3m left" in sentence(verdict(generous, fold))


def test_the_budget_is_of_the_time_up_to_the_gate_and_of_no_more() -> None:
    # Half an hour of the planned hour: 18 s may be down, and 20 s are too many.
    fold = walked(UPTIME, *[(100, 0)] * 100, (1, 1), (1, 1))
    began = float(fold.began)
    half = verdict(UPTIME, fold, ends=began + 1800)
    assert (half.outcome, half.allowed) == (Outcome.FAIL, 18.0)
    assert verdict(UPTIME, fold, ends=began + 3600).outcome is Outcome.UNDECIDED
    # What began anew after the gate's first time has the time since then, and passes only on that.
    late = verdict(UPTIME, fold, ends=began - 60)
    assert late.outcome is Outcome.FAIL
    assert late.allowed == pytest.approx(10.2)


def test_a_scrape_that_is_slower_than_the_rows_leaves_nothing_unknown() -> None:
    every_third = [count for _ in range(20) for count in (None, None, (30.0, 0.0))]
    fold = walked(UPTIME, *every_third)
    assert (fold.n, verdict(UPTIME, fold).unknown) == (600.0, 0.0)


def test_a_first_row_that_comes_within_a_minute_leaves_nothing_unknown() -> None:
    late = begin(UPTIME, NOW, 3600.0)
    for after, unknown in ((0, 0.0), (20, 0.0), (60, 0.0), (90, 90.0)):
        rows = [Row(float(late.began + after + 10 * number), 100.0, 0.0) for number in range(30)]
        fold = advance(UPTIME, late, rows, int(rows[-1].at))
        assert verdict(UPTIME, fold).unknown == unknown, after


GATE = {"after": "10m", "criteria": [{"metric": "uptime", "above": "90%"}]}


def hour(traffic: Any) -> Course:
    """A launch with a phase of ten minutes, one of which it may be down."""
    launched = course(phases=[ramp(steps=[{"weight": 30, "for": "1m"}], gate=GATE, guardrails=GUARDED[:1])])
    launched.traffic = traffic
    launched.through_json = True
    return launched


def test_a_gate_of_uptime_waits_for_its_last_rows_and_passes() -> None:
    launched = hour(lambda subject, at: (1000.0, 0.0))
    launched.until(State.SUCCEEDED)
    began = launched.status.phases[0].started_at
    assert 600 <= launched.now - began <= 640
    assert not any(made.signal in (Signal.GATE_UNDECIDED, Signal.GATE_MOVED) for made in launched.history)


def test_a_gate_of_uptime_fails_with_its_budget() -> None:
    launched = hour(lambda subject, at: (1000.0, 1000.0 * (subject.series.kind == "uptime" and at % 60 < 10)))
    launched.until(State.HELD)
    assert "the budget is spent: down for 1m" in launched.status.message


def test_a_gate_of_uptime_that_nobody_could_see_is_without_data() -> None:
    def gap(subject: Subject, at: float) -> tuple[float, float] | None:
        return None if subject.series.kind == "uptime" and NOW + 200 < at < NOW + 320 else (1000.0, 0.0)

    launched = hour(gap)
    launched.until(State.HELD)
    assert "what is unknown is more than what is left of the budget" in launched.status.message


def test_a_guardrail_of_uptime_holds_up_no_step_and_rolls_back_when_it_is_spent() -> None:
    guardrails = [*GUARDED[:1], {"metric": "uptime", "above": "50%"}]
    launched = course(phases=[ramp(guardrails=guardrails)])
    launched.until(State.SUCCEEDED)
    down = course(phases=[ramp(guardrails=guardrails)])
    down.traffic = lambda subject, at: (1000.0, 1000.0 * (subject.series.kind == "uptime"))
    down.until(State.ROLLED_BACK)


@pytest.mark.parametrize("guardrails", [[*GUARDED, {"metric": "errors", "comparedTo": "stable", "ratioBelow": 2}]])
def test_every_decision_is_decided_again_the_same(guardrails: list[dict[str, Any]]) -> None:
    launched = course(phases=[ramp(guardrails=guardrails, gate={"after": "5m", "criteria": GATE["criteria"]})])
    launched.past = hours_of(clumps(5), INTERVAL)
    lines = []
    for _ in range(60):
        launched.now += 10
        seen = launched.observe()
        launched.now -= 10
        lines += record(seen, launched.tick())
    assert [one.same for one in redecide(lines)] == [True] * 60


# How stable varies


def clumps(size: int, hours: int = 24, seed: int = 7) -> list[Row]:
    """A day of ten requests a second whose errors come in clumps of that size, one in 200 requests on the whole."""
    chance = random.Random(seed)
    rows = []
    for place in range(hours * 360):
        bad = sum(size for _ in range(100) if chance.random() < 0.005 / size)
        rows.append(Row(NOW + place * 10.0, 100.0, float(min(bad, 100))))
    return rows


def test_clumps_of_five_are_measured_as_about_five_and_chance_as_one() -> None:
    assert burstiness(hours_of(clumps(5), INTERVAL)) == pytest.approx(5, rel=0.25)
    assert burstiness(hours_of(clumps(1), INTERVAL)) == 1.0


def test_traffic_that_swings_over_the_day_and_an_outage_are_no_bursts() -> None:
    rows = [replace(row, n=row.n * (1 + place % 8640 / 2000)) for place, row in enumerate(clumps(1))]
    assert burstiness(hours_of(rows, INTERVAL)) < 1.3
    outage = [replace(row, x=60.0) if 4000 <= place < 4060 else row for place, row in enumerate(clumps(1))]
    assert burstiness(hours_of(outage, INTERVAL)) == 1.0


def test_bursts_that_last_for_longer_than_a_row_are_seen_by_the_minute() -> None:
    chance = random.Random(3)
    bursts = [Row(NOW + place * 10.0, 100.0, 0.0) for place in range(8640)]
    for start in (chance.randrange(8600) for _ in range(150)):
        for place in range(start, start + 6):
            bursts[place] = replace(bursts[place], x=bursts[place].x + 2)
    by_row = burstiness(tuple(hour for hour in hours_of(bursts, INTERVAL) if hour.seconds == INTERVAL))
    assert burstiness(hours_of(bursts, INTERVAL)) > 1.5 * by_row


def test_too_little_to_tell_is_one() -> None:
    assert burstiness(()) == 1.0
    assert burstiness(hours_of([Row(NOW + 10 * place, 100.0, 0.0) for place in range(800)], INTERVAL)) == 1.0
    assert burstiness(hours_of(clumps(5)[:20], INTERVAL)) == 1.0


def test_bursts_are_measured_before_the_phase_frozen_for_it_and_kept_in_status() -> None:
    launched = course(phases=[ramp(guardrails=[*GUARDED[:1], {"metric": "latency", "quantile": 0.99, "below": "1s"}])])
    launched.past = hours_of(clumps(5), INTERVAL)
    launched.through_json = True
    launched.until_weight(50)
    bursts = launched.status.bursts
    assert bursts is not None
    factor = bursts.factors["main|errors"]
    assert bursts.factors == {"main|errors": factor, "main|latency 1s": factor}
    assert {fold.bursts for fold in launched.folds.values()} == {float(factor)}
    launched.past = ()
    launched.until_weight(300)
    assert {fold.bursts for fold in launched.folds.values()} == {float(factor)}
    assert "errors come in bursts, " in launched.status.criteria[0].sentence


def test_where_stable_cannot_be_asked_about_its_past_nothing_is_measured_yet() -> None:
    launched = course()
    launched.problem = "Prometheus does not answer"
    launched.run(3)
    assert launched.status.bursts is None
    launched.problem = ""
    launched.run(1)
    assert launched.status.bursts is not None
