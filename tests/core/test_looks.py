"""A value with its standard error is proven at few planned looks, which share the chance of being wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, multivariate_normal, norm

from controller.core.evidence import Criterion, Fold, Outcome, Verdict
from controller.core.fold_text import decode, encode
from controller.core.forecast import Traffic, forecasts, needs
from controller.core.looks import NO_LOOKS, Looks, beyond, decided, standard_errors
from controller.core.plan import InvalidPlanError, Plan, parse
from controller.core.schedule import looks_of
from controller.core.series import Reading, Row, Series, Subject
from controller.core.signals import Signal
from controller.core.status import State
from controller.core.thresholds import bar_of_looks
from controller.core.verdicts import advance, begin, in_force, judge
from controller.core.words import measured, sentence
from controller.simulation.run import Outcomes, simulate
from controller.simulation.scenario import InvalidScenarioError, read_scenario
from tests.core.builders import NOW, Course, course, criterion, document, good, plan, ramp, target

MINUTE = 60
VALUE = Series("value", "revenue", "revenue_error", "revenue", interval=MINUTE, settle=10.0)
REVENUE: dict[str, Any] = {
    "name": "revenue",
    "interval": "1m",
    "settle": "10s",
    "value": {"query": "revenue", "standardError": "revenue_error", "unit": "percent"},
}
BEGAN = 1_700_000_040  # a whole minute
"""In epoch seconds."""


def proven(looks: int = 5, **changes: Any) -> Criterion:
    """Revenue above 5.8 %, at so many looks."""
    usual = {"key": "revenue above 5.8%", "series": VALUE, "limit": 5.8, "side": "above", "limit_text": "5.8%"}
    return criterion(**{**usual, "window": 60.0, "min_bad": 1, "looks": looks, **changes})


def phase(**changes: Any) -> dict[str, Any]:
    """A step of half a minute, checkpoints, and a gate after twenty minutes that may be put off twice."""
    usual = ramp(
        steps=[{"weight": 50, "for": "30s"}],
        checkpoints=["5m", "10m", "30m"],
        gate={
            "after": "20m",
            "criteria": [{"metric": "revenue", "above": "5.8%"}],
            "onUndecided": {"extend": "10m", "times": 2, "then": "hold"},
        },
    )
    return usual | changes


def gate(**changes: Any) -> dict[str, Any]:
    """That phase's gate."""
    return dict(phase()["gate"]) | changes


def launch(metric: Mapping[str, Any] = REVENUE, **changes: Any) -> Plan:
    """The plan of that phase."""
    return plan(phases=[phase(**changes)], metrics=[metric])


def of_gate(made: Plan) -> Criterion:
    """What the gate's first criterion is resolved to."""
    found = made.phases[0].gate
    assert found is not None
    return found.criteria[0]


def faults(**changes: Any) -> list[str]:
    """What is wrong in the plan of the phase with these changes."""
    metric = changes.pop("metric", REVENUE)
    with pytest.raises(InvalidPlanError) as caught:
        parse(document(phases=[phase(**changes)], metrics=[metric]))
    return list(map(str, caught.value.faults))


# --- the plan


def test_the_error_is_split_over_the_checkpoints_before_the_gate_the_gate_and_its_extensions() -> None:
    one = of_gate(launch())
    assert (one.looks, one.certainty, one.tests) == (2 + 1 + 2, 0.99, 2)
    assert launch().phases[0].looks == (300.0, 600.0)
    every = {"extend": "1h", "times": 3, "then": "hold"}
    twice = {"reschedule": "1h", "times": 2, "then": "hold"}
    assert of_gate(launch(gate=gate(onFail=every, onNoData=twice))).looks == 2 + 1 + 3 + 2 + 2
    assert of_gate(launch(checkpoints=[], gate=gate(onUndecided="hold"))).looks == 1


def test_a_checkpoint_at_the_gates_own_instant_is_no_look_of_its_own() -> None:
    assert launch(checkpoints=["10m", "20m"]).phases[0].looks == (600.0,)


def test_where_nobody_knows_when_the_gate_is_every_checkpoint_counts() -> None:
    made = launch(gate={key: value for key, value in gate().items() if key != "after"})
    assert made.phases[0].looks == (300.0, 600.0, 1800.0)
    assert of_gate(made).looks == 3 + 1 + 2


def test_certainty_is_part_of_what_a_criterion_is() -> None:
    sure = launch(gate=gate(criteria=[{"metric": "revenue", "above": "5.8%", "certainty": "95%"}]))
    assert of_gate(sure).key == "revenue above 5.8% (certainty 95%)"
    assert of_gate(sure).certainty == 0.95


def test_with_threshold_its_limit_alone_is_judged_and_its_error_not_asked_for() -> None:
    wanted = {"metric": "revenue", "above": "5.8%", "certainty": "threshold", "for": "10m"}
    made = launch(gate=gate(criteria=[wanted]))
    one = of_gate(made)
    assert (one.key, one.certainty, one.looks) == ("revenue above 5.8% (threshold) for 10m", None, 0)
    assert (one.series.bad, one.window) == ("", 600.0)
    assert [str(said) for said in made.warnings] == [
        "spec.phases[0].gate.criteria[0].certainty: threshold judges by the limit alone, though the standard error is "
        "known: nothing says how sure that is; remove it to have it proven, at a gate"
    ]


def test_what_is_proven_gives_no_warning_and_a_bare_value_one() -> None:
    bare = {**REVENUE, "value": {"query": "revenue", "unit": "percent"}}
    assert launch().warnings == ()
    (said,) = launch(bare).warnings
    assert said.path == "spec.phases[0].gate.criteria[0]"
    assert "judged by its limit alone" in said.message
    assert "value.standardError" in said.message


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"for": "10m"}, ".for: is not needed where the standard error is known"),
        ({"minimum": {"requests": 5}}, ".minimum.requests: counts samples, and each look takes one; remove it"),
        ({"minimum": {"bad": 5}}, ".minimum.bad: counts bad events"),
        ({"quantile": 0.9}, ".quantile: belongs to latencies only"),
        ({"comparedTo": "stable", "ratioBelow": 2}, ".comparedTo: needs counts"),
        ({"above": "200ms"}, ".above: 200ms does not fit the unit percent of revenue"),
    ],
)
def test_what_a_value_at_looks_has_no_use_for_is_refused(wanted: dict[str, Any], said: str) -> None:
    found = faults(gate=gate(criteria=[{"metric": "revenue", "above": "5.8%", **wanted}]))
    assert any(f"spec.phases[0].gate.criteria[0]{said}" in fault for fault in found), found


def test_certainty_without_a_standard_error_says_what_is_missing() -> None:
    bare = {**REVENUE, "value": {"query": "revenue", "unit": "percent"}}
    wanted = {"metric": "revenue", "above": "5.8%", "certainty": "99%"}
    (found,) = faults(metric=bare, gate=gate(criteria=[wanted]))
    assert "give value.standardError of metric revenue, or write certainty: threshold" in found


def test_a_guardrail_cannot_be_proven_at_looks() -> None:
    errors = {"metric": "errors", "below": "2%"}
    (found,) = faults(guardrails=[errors, {"metric": "revenue", "above": "5.8%"}])
    assert found == (
        "spec.phases[0].guardrails[1]: is judged at every tick, and revenue is proven at few planned looks only; write "
        "it under the gate's criteria, or certainty: threshold here"
    )
    allowed = {"metric": "revenue", "above": "5.8%", "certainty": "threshold"}
    assert launch(guardrails=[errors, allowed]).phases[0].guardrails[1].criterion.looks == 0


def test_a_value_at_looks_proves_no_step_good() -> None:
    (found,) = faults(guardrails=[])
    assert "has steps but nothing that proves them good" in found


@pytest.mark.parametrize(("error", "said"), [("x{{pod}}", "unknown placeholder"), ("", "is empty; write"), (2, "text")])
def test_a_standard_error_that_is_no_query_is_refused_at_its_field(error: Any, said: str) -> None:
    found = faults(metric={**REVENUE, "value": {**REVENUE["value"], "standardError": error}})
    assert any("spec.metrics[0].value.standardError" in fault and said in fault for fault in found), found


# --- the fold


def rows(*values: float | None, error: float = 0.1, began: int = BEGAN) -> list[Row]:
    """A row a minute from the second on; None leaves its instant out."""
    instants = enumerate(values, start=1)
    return [Row(began + MINUTE * place, error, value) for place, value in instants if value is not None]


def folded(one: Criterion, found: list[Row], looks: Looks = NO_LOOKS, since: float = BEGAN) -> Fold:
    """The fold of these rows, with the weight in force since then."""
    fold = in_force(one, begin(one, BEGAN, 3600.0), since)
    return advance(one, fold, found, int(found[-1].at) if found else BEGAN, looks)


def verdict(one: Criterion, fold: Fold, now: float, looks: Looks = NO_LOOKS, problem: str = "") -> Verdict:
    """The verdict at that instant."""
    return judge(one, "main", fold, Reading(fold.last, fold.last, problem=problem), now, looks=looks)


def after(*minutes: float, gate: float | None = None) -> Looks:
    """Looks at checkpoints so many minutes after the beginning."""
    planned = tuple(BEGAN + MINUTE * minute for minute in minutes)
    return Looks(planned, None if gate is None else BEGAN + MINUTE * gate)


def test_a_look_takes_the_first_row_at_or_after_its_instant() -> None:
    fold = folded(proven(), rows(*[6.0] * 9), after(2, 4.2))
    assert [row.at - BEGAN for row in fold.window] == [2 * MINUTE, 5 * MINUTE]


def test_a_checkpoint_without_a_row_near_it_is_missed_and_the_gates_look_waits_for_its_row() -> None:
    silence = rows(6.0, *[None] * 8, 6.0, 6.0)
    assert [row.at - BEGAN for row in folded(proven(), silence, after(2, 6)).window] == [10 * MINUTE]
    assert folded(proven(), silence, after(2, 5)).window == ()
    assert [row.at - BEGAN for row in folded(proven(), silence, after(2, gate=3)).window] == [10 * MINUTE]


def test_never_more_rows_are_kept_than_looks_are_planned() -> None:
    fold = folded(proven(looks=3), rows(*[6.0] * 40), after(*range(1, 30)))
    assert [row.at - BEGAN for row in fold.window] == [MINUTE, 2 * MINUTE, 3 * MINUTE]
    assert len(encode(fold)) < 400


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.none() | st.floats(-1e3, 1e3), min_size=1, max_size=40),
    st.lists(st.floats(0, 45), max_size=6),
    st.none() | st.floats(0, 45),
    st.data(),
)
def test_live_replay_and_checkpoint_give_the_same_fold_to_the_last_bit(
    values: list[float | None], checkpoints: list[float], gate: float | None, data: st.DataObject
) -> None:
    one, looks = proven(), after(*sorted(checkpoints), gate=gate)
    found = rows(*values)
    end = BEGAN + MINUTE * len(values)
    fresh = in_force(one, begin(one, BEGAN, 3600.0), BEGAN)
    whole = advance(one, fresh, found, end, looks)
    cut = data.draw(st.integers(0, len(values)))
    through = BEGAN + MINUTE * cut
    half = advance(one, fresh, [row for row in found if row.at <= through], through, looks)
    assert advance(one, decode(encode(half)), found, end, looks) == whole
    live = fresh
    for minute in range(1, len(values) + 1):
        at = BEGAN + MINUTE * minute
        live = advance(one, live, [row for row in found if row.at == at], at, looks)
    assert live == whole
    assert decode(encode(whole)) == whole
    assert len(whole.window) <= one.looks


# --- the verdict


def test_a_value_passes_or_fails_by_standard_errors_beyond_its_limit() -> None:
    one = proven(tests=7)
    to_pass, to_fail = bar_of_looks(one)
    assert to_pass == pytest.approx(norm.isf(0.01 / 5), abs=1e-9)
    assert to_fail == pytest.approx(norm.isf(0.01 / 5 / 7), abs=1e-9)
    for error in (0.01, 0.1, 1.0):
        for distance, outcome in (
            (to_pass + 1e-6, Outcome.PASS),
            (to_pass - 1e-6, Outcome.UNDECIDED),
            (1e-6 - to_fail, Outcome.UNDECIDED),
            (-to_fail - 1e-6, Outcome.FAIL),
        ):
            found = rows(5.8 + distance * error, error=error)
            assert verdict(one, folded(one, found, after(1)), BEGAN + 90).outcome is outcome, (error, distance)
            below = replace(one, side="below")
            mirrored = rows(5.8 - distance * error, error=error)
            assert verdict(below, folded(below, mirrored, after(1)), BEGAN + 90).outcome is outcome


def test_the_newest_look_that_decided_holds() -> None:
    one = proven()
    looks = after(1, 2, 3, 4)
    at_each = [
        verdict(one, folded(one, rows(*values), looks), BEGAN + 60 * len(values) + 30).outcome.value
        for values in ((6.5,), (6.5, 5.9), (6.5, 5.9, 5.0), (6.5, 5.9, 5.0, 5.9))
    ]
    assert at_each == ["pass", "pass", "fail", "fail"]


def test_what_passed_before_the_last_raise_passes_no_more_and_what_failed_goes_on_to_fail() -> None:
    one, looks = proven(), after(1, 2)
    for value, outcome in ((6.5, Outcome.UNDECIDED), (5.0, Outcome.FAIL)):
        fold = in_force(one, folded(one, rows(value), looks), BEGAN + 90)
        assert verdict(one, fold, BEGAN + 100, looks).outcome is outcome
    fold = in_force(one, folded(one, rows(6.5), looks), BEGAN + 90)
    assert "that was before the last raise" in sentence(verdict(one, fold, BEGAN + 100, looks))
    later = advance(one, fold, rows(6.5, 6.5), BEGAN + 120, looks)
    assert verdict(one, later, BEGAN + 130, looks).outcome is Outcome.PASS


def test_from_the_gates_time_on_its_own_look_decides() -> None:
    one, looks = proven(), after(1, gate=3)
    fold = folded(one, rows(6.5, 6.5), looks)
    assert verdict(one, fold, BEGAN + 179, looks).outcome is Outcome.PASS
    waiting = verdict(one, fold, BEGAN + 181, looks)
    assert waiting.outcome is Outcome.UNDECIDED
    assert waiting.looked is not None
    assert waiting.looked.waits
    assert verdict(one, folded(one, rows(6.5, 6.5, 6.5), looks), BEGAN + 200, looks).outcome is Outcome.PASS
    assert verdict(one, folded(one, rows(6.5, 6.5, 5.0), looks), BEGAN + 200, looks).outcome is Outcome.FAIL


def test_a_gate_whose_look_finds_nothing_has_no_data() -> None:
    one, looks = proven(), after(1, gate=3)
    silent = verdict(one, folded(one, rows(6.5), looks), BEGAN + 60 + 10 + 4 * MINUTE + 1, looks)
    assert silent.outcome is Outcome.NO_DATA
    assert sentence(silent).endswith("no samples")
    said = verdict(one, folded(one, rows(6.5), looks), BEGAN + 90, looks, problem="gives NaN")
    assert said.outcome is Outcome.NO_DATA


def test_rows_that_are_not_settled_decide_nothing() -> None:
    one, looks = proven(), after(1, 2)
    fold = folded(one, rows(5.9), looks)
    tail = Reading(fold.last, fold.last, (), (Row(BEGAN + 120, 0.1, 1.0),))
    assert judge(one, "main", fold, tail, BEGAN + 125, looks=looks).outcome is Outcome.UNDECIDED


# --- how often it is wrong


def at_limit(rng: np.random.Generator, runs: int, times: tuple[float, ...]) -> np.ndarray:
    """Estimates in standard errors that are exactly at the limit: a mean over all that came in up to each time."""
    steps = np.diff(np.concatenate(([0.0], times)))
    return np.asarray(np.cumsum(rng.normal(size=(runs, len(times))) * np.sqrt(steps), axis=1) / np.sqrt(times))


SCHEDULES = [
    (1.0,),
    (1.0, 4.0, 8.0, 16.0, 32.0, 48.0, 96.0),
    tuple(float(day) for day in range(1, 13)),
    (1.0, 1e6, 1e12),
]


@pytest.mark.parametrize("times", SCHEDULES)
@pytest.mark.parametrize("alpha", [0.2, 0.01, 1e-4])
def test_over_all_looks_a_value_at_its_limit_is_misjudged_no_more_often_than_promised(
    times: tuple[float, ...], alpha: float
) -> None:
    one = proven(looks=len(times), certainty=1 - alpha)
    bar, _ = bar_of_looks(one)
    share = np.sqrt(np.minimum.outer(times, times) / np.maximum.outer(times, times))
    stays = multivariate_normal(cov=share, allow_singular=True, seed=7).cdf(np.full(len(times), bar))
    wrong = 1 - float(np.squeeze(stays))
    assert wrong <= alpha * 1.02
    # And no more is given away than looks with nothing in common leave: the split is not made twice.
    independent = 1 - norm.cdf(bar) ** len(times)
    assert independent == pytest.approx(1 - (1 - alpha / len(times)) ** len(times), rel=1e-6)
    assert independent > alpha * 0.85


Judge = Callable[[Criterion, tuple[Row, ...]], str]


def as_it_is(one: Criterion, window: tuple[Row, ...]) -> str:
    """What the newest look says that decided."""
    return decided(window, one.limit, one.side, BEGAN, *bar_of_looks(one))[0]


def unsplit(one: Criterion, window: tuple[Row, ...]) -> str:
    """Each look may err as if it were the only one."""
    return decided(window, one.limit, one.side, BEGAN, *bar_of_looks(replace(one, looks=1)))[0]


def two_sided(one: Criterion, window: tuple[Row, ...]) -> str:
    """As wide as would do for an error of twice alpha."""
    wide = replace(one, certainty=1 - 2 * (1 - (one.certainty or 0.0)))
    return decided(window, one.limit, one.side, BEGAN, *bar_of_looks(wide))[0]


def ever_wrong(judged: Judge, runs: int = 4000, alpha: float = 0.05, tests: int = 1) -> tuple[int, int]:
    """Of runs at the very limit with looks that have nothing in common, how many ever fail, and ever pass."""
    rng = np.random.default_rng(11)
    one = proven(looks=7, certainty=1 - alpha, tests=tests)
    fails = passes = 0
    for normal in at_limit(rng, runs, tuple(10.0 ** (3 * place) for place in range(7))):
        kept = tuple(Row(BEGAN + MINUTE * place, 0.2, 5.8 + 0.2 * float(z)) for place, z in enumerate(normal, start=1))
        said = {judged(one, kept[:number]) for number in range(1, 8)}
        fails, passes = fails + ("fail" in said), passes + ("pass" in said)
    return fails, passes


def allowed(runs: int, alpha: float) -> int:
    """More than this is not what that alpha gives, once in a thousand."""
    return int(binom.isf(0.001, runs, alpha))


def test_at_the_limit_hardly_any_run_is_ever_misjudged_either_way() -> None:
    fails, passes = ever_wrong(as_it_is)
    assert max(fails, passes) <= allowed(4000, 0.05)
    assert min(fails, passes) > allowed(4000, 0.05) / 2  # it is not vacuous either
    with_others, _ = ever_wrong(as_it_is, tests=10)
    assert with_others <= allowed(4000, 0.005)


@pytest.mark.parametrize("mutant", [unsplit, two_sided])
def test_a_wrong_split_is_noticed(mutant: Judge) -> None:
    assert min(ever_wrong(mutant)) > allowed(4000, 0.05)


def test_far_out_in_the_tail_the_quantile_is_exact() -> None:
    for chance in (0.4, 0.01, 1e-6, 1e-12):
        assert standard_errors(chance) == pytest.approx(norm.isf(chance), rel=1e-9)
    assert beyond(Row(0.0, 0.5, 7.0), 5.8, "above") == pytest.approx(2.4)
    assert beyond(Row(0.0, 0.5, 7.0), 5.8, "below") == pytest.approx(-2.4)


# --- a whole launch


def told(value: Callable[[float], tuple[float, float] | None]) -> Course:
    """The launch with good traffic, and a revenue that is as ``value`` says so many minutes after its phase began."""
    one = course(phases=[phase()], metrics=[REVENUE])

    def traffic(subject: Subject, at: float) -> tuple[float, float] | None:
        began = one.status.phase_started_at or at
        return value((at - began) / MINUTE) if subject.series.kind == "value" else good(subject, at)

    one.traffic = traffic
    return one


def gates(one: Course) -> list[tuple[str, float]]:
    """What was decided at the gate, with the minutes since the phase began."""
    began = one.status.phase_started_at or NOW
    own = (Signal.GATE_MOVED, Signal.GATE_FAILED, Signal.GATE_UNDECIDED, Signal.LAUNCH_PASSED)
    return [(each.signal.value, round((each.at - began) / MINUTE, 1)) for each in one.history if each.signal in own]


def test_a_launch_passes_at_the_gates_own_look() -> None:
    one = told(lambda minute: (0.1, 6.4))
    said = one.until(State.SUCCEEDED)
    (fold,) = [fold for key, fold in one.folds.items() if "revenue" in key]
    began = one.status.phase_started_at or 0.0
    assert [int((row.at - began) // MINUTE) for row in fold.window] == [5, 10, 20]
    assert said.at - began >= 20 * MINUTE + 10
    assert "all phases passed" in said.message
    assert one.status.criteria[-1].value == "6.4%"


def test_an_undecided_gate_is_put_off_when_its_look_is_over_and_passes_at_a_later_one() -> None:
    one = told(lambda minute: (0.4 if minute < 25 else 0.1, 6.4))
    one.until(State.SUCCEEDED)
    (moved, late), (passed, end) = [each for each in gates(one) if each[1] < 40][:2]
    assert (moved, passed) == ("GateMoved", "LaunchPassed")
    assert 20 < late < 22
    assert 30 < end < 32
    message = next(each.message for each in one.history if each.signal is Signal.GATE_MOVED)
    assert "6.40% +- 0.40% at the look of" in message
    assert "would pass" in message


def test_a_gate_that_stays_undecided_is_held_and_a_retry_looks_again() -> None:
    one = told(lambda minute: (0.4 if minute < 90 else 0.1, 6.4))
    one.until(State.HELD)
    assert [name for name, _ in gates(one)][:2] == ["GateMoved", "GateMoved"]
    assert one.status.hold is not None
    assert "(5 of 5 looks)" in one.status.hold.message
    assert "no look is left; retry begins anew" in one.status.hold.message
    one.run(300)
    assert one.status.state is State.HELD
    one.annotations["retry"] = "the estimate is better now"
    one.until(State.SUCCEEDED, ticks=60)


def test_a_value_that_is_gone_at_the_gate_is_no_data_until_it_is_back() -> None:
    one = told(lambda minute: None if 12 < minute < 40 else (0.1, 6.4))
    one.until(State.HELD)
    assert "no data" in one.status.message
    one.until(State.SUCCEEDED)
    began = one.status.phase_started_at or 0.0
    assert one.history[-1].at - began > 40 * MINUTE


def test_a_value_below_its_limit_fails_at_the_gate_and_not_before() -> None:
    one = told(lambda minute: (0.1, 5.0))
    said = one.until(State.HELD)
    assert said.signal is Signal.GATE_FAILED
    assert said.at - (one.status.phase_started_at or 0.0) > 20 * MINUTE
    assert "failed: 5.00% +- 0.10%, proven at the look of" in said.message
    assert "(3 of 5 looks)" in said.message


def test_a_gate_without_an_instant_is_looked_at_when_its_last_step_is_over() -> None:
    undated = gate(onUndecided="hold")
    del undated["after"]
    one = course(phases=[phase(checkpoints=[], gate=undated)], metrics=[REVENUE])
    one.traffic = lambda subject, at: (0.1, 6.4) if subject.series.kind == "value" else good(subject, at)
    one.until_weight(500)
    (step,) = one.status.targets
    assert step.in_force_at is not None
    running = one.plan.phases[0] if isinstance(one.plan, Plan) else None
    assert running is not None
    assert looks_of(running, one.status) == Looks((), step.in_force_at + 30.0)
    one.until(State.SUCCEEDED)


# --- words


def says(value: float | None, now: float, at: Looks, outcome: Outcome, **usual: Any) -> str:
    """The sentence, without its head."""
    one = proven(**usual)
    found = rows(*([value] * int((now - BEGAN) // MINUTE)), error=0.12)
    said = verdict(one, folded(one, found, at), now, at)
    assert said.outcome is outcome
    assert sentence(said).startswith("revenue above 5.8% (main): ")
    return sentence(said).partition(": ")[2]


def test_every_verdict_says_its_look_and_an_open_one_what_would_settle_it() -> None:
    planned = after(1, 4, gate=9)
    soon = BEGAN + 90
    assert says(6.31, soon, planned, Outcome.PASS) == (
        "passes: 6.31% +- 0.12%, proven at the look of 2023-11-14 22:15 UTC (1 of 5 looks)"
    )
    assert says(5.0, soon, planned, Outcome.FAIL).startswith("failed: 5.00% +- 0.12%, proven at the look of")
    assert says(6.0, soon, planned, Outcome.UNDECIDED) == (
        "6.00% +- 0.12% at the look of 2023-11-14 22:15 UTC (1 of 5 looks); 6.15% or more would pass, or +- 0.069%; "
        "next look at 2023-11-14 22:18 UTC"
    )
    assert "5.45% or less would pass; next look" in says(5.9, soon, planned, Outcome.UNDECIDED, side="below")
    assert says(None, BEGAN + 30, planned, Outcome.UNDECIDED) == (
        "not looked at yet: the first of 5 looks is at 2023-11-14 22:15 UTC"
    )
    assert says(None, BEGAN + 30, Looks(), Outcome.UNDECIDED, looks=1).endswith(
        "first of 1 look is when its gate is judged"
    )
    assert says(6.0, BEGAN + 61 * 4, after(1, 2, 3), Outcome.UNDECIDED, looks=3).endswith(
        "no look is left; retry begins anew"
    )
    over = after(0, 1, gate=2)
    assert says(6.0, BEGAN + 150, over, Outcome.UNDECIDED).endswith("next look when its gate is put off, or with retry")
    waiting = verdict(proven(), folded(proven(), rows(6.0)), BEGAN + 90, after(gate=1.2))
    assert sentence(waiting).endswith("not looked at yet: the look at its gate waits for its sample to settle")
    assert measured(verdict(proven(), folded(proven(), rows(6.31), after(1)), soon)) == "6.31%"


def test_numbers_are_shown_as_exactly_as_they_are_known() -> None:
    one = proven(limit=100.0, limit_text="100", side="above", looks=1)
    found = [Row(BEGAN + MINUTE, 23.0, 1234.5678)]
    assert ": passes: 1,235 +- 23, proven" in sentence(verdict(one, folded(one, found, after(1)), BEGAN + 90))
    found = [Row(BEGAN + MINUTE, 0.00123, 101.0)]
    assert ": passes: 101.0000 +- 0.0012, proven" in sentence(verdict(one, folded(one, found, after(1)), BEGAN + 90))


def test_validate_says_how_many_looks_there_are_and_what_each_must_find() -> None:
    made = launch(checkpoints=["5m", "10m"])
    words = "gate of phase ramp: revenue above 5.8%: 5 looks, each at 99.8%: a value 2.88 standard errors beyond the "
    assert any(each.sentence.startswith(words) for each in forecasts(made, Traffic({"main": 100.0})))
    assert any(each.sentence.startswith(words) for each in needs(made))
    once = launch(checkpoints=[], gate=gate(onUndecided="hold"))
    assert any("one look at 99%: a value 2.33 standard errors" in each.sentence for each in needs(once))


# --- simulated


def simulated(revenue: Any, **changes: Any) -> Outcomes:
    """The plan's simulation with this revenue, in two regions."""
    both = {"targets": [target("east"), target("west")]}
    written = document(phases=[phase(**changes)], metrics=[REVENUE], **both)
    made = parse(written)
    world = {"seed": 7, "requests": "100/s", "canary": {"errors": "0.1%"}, "metrics": {"revenue": revenue}}
    return simulate(written, made, read_scenario(world, made))


def test_a_simulated_launch_looks_when_the_plan_says() -> None:
    found = simulated([{"from": "0s", "value": 6.4, "error": 0.5}, {"from": "22m", "error": 0.1}])
    assert found.outcome == "Succeeded"
    (moved,) = [made.reason for made in found.decisions if made.signal == "GateMoved"]
    assert "6.40% +- 0.50% at the look of" in moved
    assert simulated({"value": 5.0, "error": 0.1}).outcome == "Held"


def test_a_scenario_that_gives_no_standard_error_is_told_what_to_write() -> None:
    for revenue, said in (
        (
            6.4,
            "metrics.revenue: says no standard error, and the plan asks for it; write revenue: {value: 6.1, error: 0.2}",
        ),
        ({"value": 6.4, "error": 0}, "metrics.revenue[0].error: is 0; write a standard error above 0, such as 0.2"),
        ({"value": 6.4, "error": True}, "metrics.revenue[0].error: is true; write a standard error above 0"),
        ({"error": 0.2}, "metrics.revenue: says no value; write {from: 0s, value: 6.1, error: 0.2}"),
    ):
        with pytest.raises(InvalidScenarioError) as caught:
            simulated(revenue)
        assert any(said in str(fault) for fault in caught.value.faults), caught.value.faults


def test_no_look_is_known_before_a_phase_begins() -> None:
    one = course(phases=[phase()], metrics=[REVENUE])
    assert isinstance(one.plan, Plan)
    assert looks_of(one.plan.phases[0], one.status) == NO_LOOKS
    assert NO_LOOKS.next_after(-inf) is None
