"""Incidents are counted from the start of a phase; what nobody could see is neither none nor some."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.alerts import Alert
from controller.core.criteria import resolve
from controller.core.evidence import Criterion, Fold, Outcome, Verdict
from controller.core.fold_text import decode, encode
from controller.core.normal_form import OWN_ALERTS
from controller.core.plan import InvalidPlanError, Plan, parse
from controller.core.series import Reading, RecordedForm, Row
from controller.core.spec import GateCriterion
from controller.core.verdicts import advance, begin, in_force, judge
from controller.core.words import measured, sentence
from controller.core.world import LaunchKey
from tests.core.builders import document, ramp

T0 = 1_700_000_010.0  # 22:13:30 UTC, a multiple of 30
STEP = 30


def incidents(at_most: int = 0, **fields: Any) -> Criterion:
    """The criterion as a plan would have it."""
    written = GateCriterion.model_validate({"incidents": "critical", "atMost": at_most, **fields})
    return resolve(written, {}, RecordedForm())


def rows(*counts: tuple[float, float] | None, start: float = T0) -> tuple[Row, ...]:
    """Rows of how many fire and how many of them began, the first at ``start``; None leaves its instant out."""
    return tuple(Row(start + place * STEP, *count) for place, count in enumerate(counts) if count is not None)


def folded(wanted: Criterion, *counts: tuple[float, float] | None) -> Fold:
    return advance(wanted, begin(wanted, T0, 3600), rows(*counts), int(T0) + (len(counts) - 1) * STEP)


def verdict(
    wanted: Criterion, *counts: tuple[float, float] | None, tail: tuple[Row, ...] = (), late: float = 0.0
) -> Verdict:
    """The verdict as soon as the last of the rows has settled, or ``late`` seconds later."""
    fold = folded(wanted, *counts)
    return judge(wanted, "", fold, Reading(fold.last, fold.last, (), tail), fold.last + STEP + late)


NONE = (0.0, 0.0)
FLOW = st.one_of(st.none(), st.tuples(st.integers(0, 3), st.integers(0, 3)).map(lambda n: (float(sum(n)), float(n[0]))))


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(FLOW, min_size=1, max_size=40),
    cuts=st.lists(st.integers(0, 39), max_size=6),
    outage=st.integers(0, 25),
)
def test_live_replay_and_checkpoint_give_the_same_fold(
    counts: list[tuple[float, float] | None], cuts: list[int], outage: int
) -> None:
    wanted = incidents(2)
    every = rows(*counts, *[None] * outage, *counts)
    last = int(T0) + (2 * len(counts) + outage) * STEP

    def walk(stops: set[int], *, stored: bool) -> Fold:
        fold = begin(wanted, T0, 3600)
        for stop in sorted(stops):
            fold = advance(wanted, fold, every, int(T0) + stop * STEP)
            fold = in_force(wanted, fold, fold.last)
            fold = decode(encode(fold)) if stored else fold
        return advance(wanted, fold, every, last)

    live = walk(set(range(len(counts))), stored=False)
    assert live == walk(set(), stored=False) == walk({cut % (2 * len(counts)) for cut in cuts}, stored=True)
    assert decode(encode(live)) == live


def test_what_is_open_when_the_phase_begins_counts_and_what_goes_on_counts_once() -> None:
    assert verdict(incidents(), (2, 0), (2, 0), (1, 0), NONE).x == 2
    assert verdict(incidents(), NONE, (1, 1), (1, 0), NONE, (2, 2)).x == 3


def test_an_alert_that_came_too_late_for_its_row_counts_once_it_is_seen() -> None:
    assert verdict(incidents(), NONE, (1, 0), (1, 0)).outcome is Outcome.FAIL
    assert verdict(incidents(2), NONE, (1, 1), (2, 0), (2, 0)).x == 2


@pytest.mark.parametrize(
    ("at_most", "counts", "outcome"),
    [
        (0, (NONE,), Outcome.PASS),
        (0, (NONE, (1, 1), NONE, NONE), Outcome.FAIL),
        (1, (NONE, (1, 1), NONE, NONE), Outcome.PASS),
        (1, ((1, 0), (2, 1)), Outcome.FAIL),
        (0, (None,), Outcome.UNDECIDED),
        (0, (NONE, *[None] * 6), Outcome.NO_DATA),
        (0, (NONE, *[None] * 10, NONE), Outcome.PASS),
        (0, (NONE, *[None] * 11, NONE, NONE), Outcome.NO_DATA),
        (0, (*[None] * 11, NONE, NONE), Outcome.NO_DATA),
        (0, (NONE, *[None] * 11, NONE, (1, 1)), Outcome.FAIL),
    ],
)
def test_more_than_allowed_fails_and_fewer_pass_where_there_is_proof(
    at_most: int, counts: tuple[tuple[float, float] | None, ...], outcome: Outcome
) -> None:
    assert verdict(incidents(at_most), *counts).outcome is outcome


def test_the_tail_fails_at_once_and_passes_nothing() -> None:
    found = verdict(incidents(), NONE, tail=(Row(T0 + 40, 1, 1),))
    assert (found.outcome, found.tail, found.starts) == (Outcome.FAIL, True, (T0 + 40,))
    found = verdict(incidents(), None, tail=(Row(T0 + 40, 0, 0),))
    assert (found.outcome, found.waited) == (Outcome.UNDECIDED, 0.0)


def test_a_raise_forgives_no_incident() -> None:
    wanted = incidents()
    fold = folded(wanted, NONE, (1, 1), NONE)
    assert in_force(wanted, fold, T0 + 3 * STEP) == fold


def test_only_the_first_beginnings_are_kept_and_the_longest_gap() -> None:
    wanted = incidents()
    counts = [NONE, *[(1.0, 1.0)] * 9, *[None] * 12, NONE, *[None] * 20, NONE, *[None] * 15, NONE]
    fold = folded(wanted, *counts)
    assert [row.at for row in fold.window] == [T0 + place * STEP for place in range(1, 4)]
    assert fold.gap == (int(T0) + 22 * STEP, int(T0) + 42 * STEP)
    assert len(encode(fold)) < 500


def test_a_gap_is_no_data_for_as_long_as_it_was() -> None:
    found = verdict(incidents(), NONE, *[None] * 40, NONE)
    assert found.problem == "no proof for 2023-11-14 22:13-22:33 UTC"
    assert found.silent == 40 * STEP
    assert sentence(found) == "critical incidents: no data for 20m: no proof for 2023-11-14 22:13-22:33 UTC"


@pytest.mark.parametrize(
    ("at_most", "counts", "words"),
    [
        (0, (NONE, NONE), "no critical incidents since 2023-11-14 22:13 UTC"),
        (1, (NONE, NONE), "no critical incidents since 2023-11-14 22:13 UTC, at most 1 is allowed"),
        (2, ((1, 0), NONE), "1 critical incident since 2023-11-14 22:13 UTC, at most 2 are allowed"),
        (
            0,
            (NONE, (1, 1), NONE, (1, 1)),
            "2 critical incidents, none is allowed: seen to begin at 2023-11-14 22:14 UTC and 2023-11-14 22:15 UTC",
        ),
        (0, (None,), "critical incidents: not counted yet; the next count settles it"),
        (
            0,
            (NONE, *[None] * 8),
            "critical incidents: no data for 4m30s: no proof that Prometheus evaluated alerts",
        ),
    ],
)
def test_the_sentence_says_how_many_and_since_when(
    at_most: int, counts: tuple[tuple[float, float] | None, ...], words: str
) -> None:
    assert sentence(verdict(incidents(at_most), *counts)) == words


def test_the_value_is_the_number_of_incidents() -> None:
    assert measured(verdict(incidents(), NONE, (1, 1))) == "1"
    assert measured(verdict(incidents(), NONE)) == "0"
    assert measured(verdict(incidents(), None)) == "-"


def test_what_a_gate_says_becomes_a_selector_and_a_name() -> None:
    found = incidents(1, matchers=['tier!="3"', 'team="learning"', "team=learning"])
    assert found.key == 'critical incidents at most 1 where team="learning", tier!="3"'
    assert found.series.total == 'ALERTS{alertstate="firing",severity="critical",team="learning",tier!="3"}'
    assert (found.at_most, found.series.interval, found.series.settle) == (1, 30, 30.0)


def test_long_conditions_are_cut_in_the_name_and_still_tell_criteria_apart() -> None:
    keys = {incidents(matchers=[f'team="{"x" * 500}{last}"']).key for last in "ab"}
    assert len(keys) == 2
    assert max(map(len, keys)) < 130


def test_the_own_alerts_carry_what_they_are_told_apart_by() -> None:
    alert = Alert("LaunchHeld", "warning", LaunchKey("prod", "shop"), T0, "", "", "", "")
    assert OWN_ALERTS[0] == 'component="launch",launch!=""'
    assert (alert.labels["component"], alert.labels["launch"]) == ("launch", "shop")


def plan_of(*criteria: dict[str, Any]) -> Plan:
    return parse(document(phases=[ramp(gate={"criteria": list(criteria)})]))


def faults_of(*criteria: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidPlanError) as refused:
        plan_of(*criteria)
    return [str(fault) for fault in refused.value.faults]


HERE = "spec.phases[0].gate.criteria[0]"
GOOD = {"incidents": "critical", "atMost": 0}


def test_a_gate_may_ask_for_incidents() -> None:
    gate = plan_of({**GOOD, "matchers": ['team="learning"']}, {**GOOD, "incidents": "page"}).phases[0].gate
    assert gate is not None
    assert [one.key for one in gate.criteria] == [
        'critical incidents at most 0 where team="learning"',
        "page incidents at most 0",
    ]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"atMost": None}, f"{HERE}.atMost: is missing; write atMost: 0"),
        ({"below": "1%"}, f"{HERE}.below: is a limit of a share; incidents are counted: write atMost: 0"),
        ({"above": "1%"}, f"{HERE}.above: is a limit of a share"),
        ({"quantile": 0.9}, f"{HERE}.quantile: belongs to latencies only"),
        ({"certainty": "99%"}, f"{HERE}.certainty: belongs to shares"),
        ({"minimum": {"bad": 1}}, f"{HERE}.minimum: belongs to shares"),
        ({"for": "10m"}, f"{HERE}.for: belongs to shares"),
        ({"comparedTo": "stable"}, f"{HERE}.comparedTo: belongs to shares of requests"),
        ({"incidents": "critical|page"}, f"{HERE}.incidents: critical|page is no severity"),
        ({"matchers": ['a="b"', "learning"]}, f"{HERE}.matchers[1]: is no condition on a label"),
        ({"matchers": ['a="b"', 'a="c"']}, f"{HERE}.matchers[1]: can never hold together with a="),
        ({"metric": "errors"}, f"{HERE}: is of a metric and of incidents"),
    ],
)
def test_what_does_not_fit_incidents_is_refused_where_it_stands(fields: dict[str, Any], fault: str) -> None:
    written = {name: value for name, value in {**GOOD, **fields}.items() if value is not None}
    assert any(found.startswith(fault) for found in faults_of(written)), faults_of(written)


def test_the_count_of_shares_is_refused() -> None:
    assert any(
        ".atMost: counts restarts and incidents" in fault
        for fault in faults_of({"metric": "errors", "below": "1%", "atMost": 2})
    )


def test_matchers_without_incidents_are_refused() -> None:
    found = faults_of({"metric": "errors", "below": "1%", "matchers": ['a="b"']})
    assert found == [f"{HERE}.matchers: say which incidents count, and this criterion is of none; remove them"]


def test_the_same_incidents_twice_are_refused() -> None:
    found = faults_of({**GOOD, "matchers": ['a="b"']}, {**GOOD, "matchers": ["a=b"]})
    assert "says the same as criteria[0]" in found[0]


def test_a_fold_of_another_kind_is_stored_as_before() -> None:
    fold = replace(folded(incidents()), window=(), gap=(0, 0))
    assert len(encode(fold).split(" ")) == 20
